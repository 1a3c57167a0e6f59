//! The demo agent, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod demo;
