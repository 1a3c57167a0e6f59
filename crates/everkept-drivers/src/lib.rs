//! Real agents, one folder each, and the keeper that every one of their processes runs under.
//!
//! A driver turns an agent's own protocol into the words all drivers share and hands the bytes over as they came.
//! Never: the store, a door, or a decision about the conversation.

pub mod acp;
mod calls;
pub mod claude;
pub mod codex;
mod environment;
mod hold;
mod json;
pub mod keeper;
mod known;
pub mod model;
mod process;
mod rpc;
mod running;
mod setup;
mod transcript;
mod words;

pub use hold::Holds;
pub use known::{Known, Speaks, known};
pub use process::{Keeper, OPEN_WITHIN, Program};
pub use setup::{McpServer, Setup, Subagent};
