//! The engine on a memory store and the demo agent, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken;
mod continuity;
mod failpoints;
mod fleet;
mod intake;
mod kept;
mod odd;
mod power;
mod resilience;
mod tokens;
mod trash;
mod turns;
mod world;
