//! The core as its users call it.

mod again;
mod contexts;
mod queue;
mod support;
