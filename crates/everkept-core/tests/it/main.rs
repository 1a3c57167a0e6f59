//! The core as its users call it.

mod again;
mod contexts;
mod events;
mod hear;
mod intake;
mod limits;
mod machine;
mod queue;
mod support;
