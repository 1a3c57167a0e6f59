//! Agents, as people see them.
//!
//! Never: how one is started, which may hold secrets.

use crate::words::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    pub name: String,
    /// Used where neither the turn nor the session names one.
    pub default: bool,
    /// `provider/model`, from its configuration.
    pub model: Option<String>,
    pub abilities: Abilities,
    /// It runs on another machine, behind a relay.
    #[serde(default)]
    pub remote: bool,
    /// It can be begun now; without its relay a turn waits for a while and then fails.
    #[serde(default)]
    pub connected: bool,
}

/// What it can do; for each lack there is a way to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Abilities {
    pub resume: bool,
    pub fork: bool,
    pub cancel: bool,
    pub ask_permission: bool,
    pub set_model: bool,
    pub report_usage: bool,
    pub remember: bool,
    /// What the agent itself writes of a session is kept, and put back where it was lost.
    #[serde(default)]
    pub transcript: bool,
}

/// How often an agent has failed with a model since it last worked, and whether turns are sent there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Breaker {
    pub agent: String,
    /// Null: the agent's own.
    pub model: Option<String>,
    pub state: BreakerState,
    /// In a row.
    pub failures: u32,
    /// How often it opened since it last worked; each time it stays open for longer.
    pub openings: u32,
    /// No turn is sent there before.
    #[schema(format = DateTime)]
    pub open_until: Option<String>,
    /// The one turn that finds out whether it works again.
    pub probe: Option<String>,
}

words! {
    BreakerState {
        Closed = "closed",
        Open = "open",
        /// Its time is over: one turn at a time is let through.
        HalfOpen = "half_open",
    }
}

/// The server is there and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub status: String,
    pub version: String,
}
