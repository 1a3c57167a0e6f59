//! The core as its users call it.

mod again;
mod support;
