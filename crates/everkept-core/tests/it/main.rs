//! The core as its users call it.

mod again;
mod breaker;
mod contexts;
mod events;
mod fail;
mod hear;
mod intake;
mod kept;
mod limits;
mod machine;
mod queue;
mod support;
mod usage;
mod watch;
