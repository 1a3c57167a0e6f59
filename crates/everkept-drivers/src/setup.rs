//! What an agent is set up with whenever a session of it is opened, a new one or another.
//!
//! An agent can be told only part of it ([`Speaks::not_told`](crate::Speaks::not_told)); whoever reads the configuration refuses the rest.
//! Never: in the arguments of a process what may hold a secret. Every user of the machine can read those.

use std::{collections::BTreeMap, num::NonZeroU32};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Said in addition to what the agent tells its model by itself.
    pub system_prompt: Option<String>,
    pub subagents: BTreeMap<String, Subagent>,
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Of one prompt, how many answers the model may give.
    pub max_turns: Option<NonZeroU32>,
    /// Of the ways to work that the agent offers, the one to work in.
    pub mode: Option<String>,
}

/// Another prompt and fewer tools, for tasks that the agent hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subagent {
    /// When it is to be used.
    pub description: String,
    pub prompt: String,
    /// All that the agent has, where none are named.
    pub tools: Option<Vec<String>>,
    pub model: Option<String>,
}

/// A server of the Model Context Protocol, for the agent to start or to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpServer {
    Process { command: String, args: Vec<String>, env: BTreeMap<String, String> },
    Http { url: String, headers: BTreeMap<String, String> },
}
