//! The drivers, seen from outside: bytes in and events out, and whole agents under a real keeper.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod acp;
mod adapters;
mod claude;
mod claude_said;
mod codex;
mod codex_said;
mod keeper;
mod model;
mod opencode;
mod scripted;
mod scripted_claude;
mod scripted_codex;
mod setup;
mod support;
mod transcript;
mod upgrade;
mod world;
