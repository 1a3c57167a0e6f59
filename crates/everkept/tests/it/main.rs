//! The real binary: real kills, real sockets, real processes, a real browser.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod agents;
mod bench;
mod browser;
mod canary;
mod claude;
mod cli;
mod codex;
mod continuity;
mod dependencies;
mod descriptors;
mod docs;
mod faults;
mod hold;
mod hostile;
mod kills;
mod models;
mod opencode;
mod portable;
mod questions;
mod real;
mod relay;
mod requirements;
mod resilience;
mod strangers;
mod transcripts;
mod usage;
mod vendor;
