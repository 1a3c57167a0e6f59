//! The demo agent, seen from outside, here and over a link.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod demo;
mod errands;
mod remote;
