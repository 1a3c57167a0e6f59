//! Turns on the wire, and the bodies that begin, edit and repeat them.
//!
//! Never: a guess at what a sender meant; a body says `input` or `messages`, not both.

use crate::{Input, MessageIn, Part, Usage, words::words};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One request and its response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    pub id: String,
    pub session: String,
    pub context: u32,
    pub state: TurnState,
    /// Why it ended, as a word.
    pub reason: Option<String>,
    pub agent: String,
    pub agent_because: AgentBecause,
    pub model: Option<String>,
    pub model_because: ModelBecause,
    /// 1 for the first try of its request message.
    pub attempt: u32,
    /// The turn whose answer this one goes on with.
    pub continues: Option<String>,
    /// The agent session asked for with this turn.
    pub agent_session: Option<String>,
    /// Null for a turn the agent began by itself.
    pub request_message: Option<String>,
    pub response_messages: Vec<String>,
    /// Somebody asked for its end.
    pub cancelling: bool,
    /// What was tried without being asked for.
    pub tries: Tries,
    /// The newer attempt whose answer counts instead.
    pub superseded_by: Option<String>,
    /// A revert hides it.
    pub reverted: bool,
    #[schema(format = DateTime)]
    pub queued_at: String,
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    #[schema(format = DateTime)]
    pub ended_at: Option<String>,
    pub usage: Option<Usage>,
    pub error: Option<TurnError>,
}

words! {
    TurnState {
        Queued = "queued",
        Running = "running",
        /// On a question.
        Waiting = "waiting",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
        TimedOut = "timed_out",
        Interrupted = "interrupted",
        DeadLettered = "dead_lettered",
    }

    AgentBecause {
        Input = "input",
        Session = "session",
        Default = "default",
        /// The session's agent is no longer configured, so the default stood in.
        SessionAgentGone = "session_agent_gone",
        /// The agent asked for failed, and its configuration names this one in its place.
        Fallback = "fallback",
    }

    ModelBecause {
        Input = "input",
        Session = "session",
        Agent = "agent",
        LastUsed = "last_used",
        /// Nobody named one: the agent uses its own.
        Unset = "unset",
        /// What was asked for failed, and the agent's configuration names this one in its place.
        Fallback = "fallback",
    }
}

impl TurnState {
    pub fn is_open(self) -> bool {
        everkept_core::TurnState::from(self).is_open()
    }
}

/// What the server has tried for a turn by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tries {
    /// How often its agent could not be opened.
    pub opening: u32,
    /// How often its agent had been given the request in vain.
    pub prompts: u32,
    /// How far down its agent's list of fallbacks it is.
    pub fallbacks: u32,
    /// It does not begin before.
    #[schema(format = DateTime)]
    pub not_before: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TurnError {
    pub code: String,
    pub message: String,
    /// The agent may have acted all the same.
    pub may_have_happened: bool,
}

/// What a message does that comes while a turn runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfBusy {
    #[default]
    Queue,
    Reject,
    /// Cancels the running turn and comes next.
    Interrupt,
}

/// A new turn: `input` is the new message, `messages` are several, the last of them the user's.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitTurn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<MessageIn>>,
    /// `messages` are the whole conversation: only what is new is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Pinned when none is; another one is used for this turn only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    #[serde(default)]
    pub if_busy: IfBusy,
}

/// Changes a turn that has not begun.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditTurn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A turn that was given up, until somebody takes it up again or puts it away.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Why it was given up is its `reason` and `error`; how often it was tried, its `attempt` and `tries`.
    pub turn: Turn,
    /// What was asked for.
    pub input: Vec<Part>,
}

/// Takes a dead letter up, perhaps with another request.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryDeadLetter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
}

/// Retry, redo or continue, perhaps with another agent or model.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgainTurn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}
