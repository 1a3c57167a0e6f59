//! The core as its users call it.

mod again;
mod contexts;
mod hear;
mod intake;
mod limits;
mod queue;
mod support;
