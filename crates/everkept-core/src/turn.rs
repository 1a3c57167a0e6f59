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
}

/// Why turns end that no agent ended.
pub const REASON_DROPPED: &str = "dropped";
pub const REASON_CANCELLED: &str = "cancelled";
/// The session was forked while the turn waited: it goes on in the parent only.
pub const REASON_FORKED: &str = "forked";
pub const REASON_SERVER_CRASHED: &str = "server_crashed";
pub const REASON_SERVER_STOPPED: &str = "server_stopped";
pub const REASON_AGENT_EXITED: &str = "agent_exited";
pub const REASON_AGENT_SILENT: &str = "agent_silent";
pub const REASON_START_FAILED: &str = "agent_start_failed";
