//! The core as its users call it.

mod again;
mod contexts;
mod events;
mod hear;
mod intake;
mod limits;
mod queue;
mod support;
