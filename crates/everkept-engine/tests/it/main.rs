//! The engine on a memory store and the demo agent, in virtual time.

mod continuity;
mod fleet;
mod intake;
mod turns;
mod world;
