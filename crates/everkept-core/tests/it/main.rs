//! The core as its users call it.

mod again;
mod queue;
mod support;
