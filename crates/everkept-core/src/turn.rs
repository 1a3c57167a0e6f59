//! A turn: one request and its response, and the one end it comes to.

use crate::{AgentName, AgentSessionId, MessageId, ModelName, SessionId, Timestamp, TurnId, Usage};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub id: TurnId,
    pub session: SessionId,
    pub context: u32,
    pub state: TurnState,
    /// Why it ended, as a word: `end_turn`, `user_cancelled`, `server_crashed`, `silent_agent` ...
    pub reason: Option<String>,
    pub agent: AgentName,
    pub agent_because: AgentBecause,
    pub model: Option<ModelName>,
    pub model_because: ModelBecause,
    /// 1 for the first try of its request message, one more for each retry and redo.
    pub attempt: u32,
    /// The turn whose answer this one goes on with.
    pub continues: Option<TurnId>,
    /// The agent session asked for with this turn.
    pub agent_session: Option<AgentSessionId>,
    /// Absent for a turn the agent began by itself.
    pub request_message: Option<MessageId>,
    pub response_messages: Vec<MessageId>,
    /// Somebody asked for its end and the agent has been told.
    pub cancelling: bool,
    #[serde(default, skip_serializing_if = "Tries::is_none")]
    pub tries: Tries,
    pub queued_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub usage: Option<Usage>,
    pub error: Option<TurnError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    Queued,
    Running,
    Waiting,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    Interrupted,
    DeadLettered,
}

impl TurnState {
    pub fn is_open(self) -> bool {
        match self {
            TurnState::Queued | TurnState::Running | TurnState::Waiting => true,
            TurnState::Completed
            | TurnState::Failed
            | TurnState::Cancelled
            | TurnState::TimedOut
            | TurnState::Interrupted
            | TurnState::DeadLettered => false,
        }
    }
}

/// The only ways a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnEnd {
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    Interrupted,
    DeadLettered,
}

impl From<TurnEnd> for TurnState {
    fn from(end: TurnEnd) -> Self {
        match end {
            TurnEnd::Completed => TurnState::Completed,
            TurnEnd::Failed => TurnState::Failed,
            TurnEnd::Cancelled => TurnState::Cancelled,
            TurnEnd::TimedOut => TurnState::TimedOut,
            TurnEnd::Interrupted => TurnState::Interrupted,
            TurnEnd::DeadLettered => TurnState::DeadLettered,
        }
    }
}

/// What the server has tried for a turn without being asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// How often the turn's agent could not be opened.
    pub opening: u32,
    /// How often its agent had been given the request in vain.
    pub prompts: u32,
    /// How far down the list of fallbacks it is.
    pub fallbacks: u32,
    /// It does not begin before.
    #[serde(with = "crate::time::rfc3339_or_null")]
    pub not_before: Option<Timestamp>,
}

impl Tries {
    pub fn is_none(&self) -> bool {
        *self == Tries::default()
    }

    /// Whether the turn takes the place of one that failed, which nobody but the agent's configuration asked for.
    pub fn is_another(&self) -> bool {
        self.prompts > 0 || self.fallbacks > 0
    }
}

/// What went wrong, and whether the agent may have acted all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnError {
    pub code: String,
    pub message: String,
    pub may_have_happened: bool,
}

/// Which rule chose a turn's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentBecause {
    Input,
    Session,
    Default,
    /// The session's agent is no longer configured, so the default stood in.
    SessionAgentGone,
    /// The agent asked for failed, and its configuration names this one in its place.
    Fallback,
}

/// Which rule chose a turn's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelBecause {
    Input,
    Session,
    Agent,
    LastUsed,
    /// Nobody named one: the agent uses its own.
    Unset,
    /// What was asked for failed, and the agent's configuration names this one in its place.
    Fallback,
}

/// Why turns end that no agent ended.
pub const REASON_DROPPED: &str = "dropped";
pub const REASON_CANCELLED: &str = "cancelled";
/// The session was forked while the turn waited: it goes on in the parent only.
pub const REASON_FORKED: &str = "forked";
pub const REASON_SERVER_CRASHED: &str = "server_crashed";
pub const REASON_SERVER_STOPPED: &str = "server_stopped";
pub const REASON_AGENT_ERROR: &str = "agent_error";
pub const REASON_AGENT_EXITED: &str = "agent_exited";
pub const REASON_AGENT_SILENT: &str = "agent_silent";
/// It said much, and nothing that got its turn on.
pub const REASON_AGENT_CHATTERING: &str = "agent_chattering";
pub const REASON_TOOL_OVERDUE: &str = "tool_overdue";
pub const REASON_TURN_OVERDUE: &str = "turn_overdue";
pub const REASON_SESSION_OVERDUE: &str = "session_overdue";
/// Its agent and model failed too often to be tried now.
pub const REASON_BREAKER_OPEN: &str = "breaker_open";
pub const REASON_START_FAILED: &str = "agent_start_failed";
