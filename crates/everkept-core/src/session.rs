//! A session: one durable conversation, as a reader sees it.

use crate::{
    AgentName, AgentSessionId, Json, MessageId, ModelName, QuestionId, Resource, SessionId, TextDigest, Thread, Timestamp, TurnId, Usage,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub title: Option<String>,
    pub resource: Option<Resource>,
    pub thread: Option<Thread>,
    pub directory: String,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub state: SessionState,
    pub context: u32,
    pub parent: Option<Parent>,
    pub agent_sessions: Vec<AgentSession>,
    pub usage: Usage,
    /// A JSON object of the client's own.
    pub metadata: Json,
    /// What the turns changed in files, as the agent summed it up.
    pub file_changes: Option<Json>,
    pub rules: Vec<Rule>,
    /// The first turn that a revert hides; nothing when none is in force.
    pub revert: Option<TurnId>,
    /// Turns whose answers do not count: superseded by a newer attempt, or reverted.
    pub hidden: Vec<HiddenTurn>,
    /// Request messages that an edit of their queued turn replaced.
    pub replaced: Vec<MessageId>,
    pub compacting_at: Option<Timestamp>,
    pub archived_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
    /// When it may be taken out of the trash for good; nothing when it stays there.
    pub purge_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A turn that is kept but no longer part of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenTurn {
    pub turn: TurnId,
    /// The newer attempt that shares its request message; without one the request message is hidden too.
    pub by: Option<TurnId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    Idle,
    Running,
    Waiting,
}

/// Where a session comes from: the parent's log up to and including `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub kind: ParentKind,
    pub session: SessionId,
    pub seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentKind {
    /// Shares the parent's events up to the cut.
    Fork,
    /// Belongs to the parent (a sub-agent's session) and shares nothing.
    Child,
}

/// The agent's own session for one agent and context: the first id for ever, and the ids that came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSession {
    pub agent: AgentName,
    pub context: u32,
    pub first: AgentSessionId,
    pub current: AgentSessionId,
    pub successors: Vec<Successor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub id: AgentSessionId,
    pub cause: SuccessionCause,
    pub turn: Option<TurnId>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessionCause {
    /// The agent itself announced a new id.
    Agent,
    /// A turn named another id, or its agent went on from the named one to this; it was used for that turn only.
    Explicit,
    /// A revert took back what the agent knew, so it was given the kept history afresh.
    Revert,
}

/// A standing answer to one exact call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The question whose answer made it.
    pub id: QuestionId,
    pub agent: AgentName,
    pub digest: TextDigest,
    pub title: String,
    #[serde(with = "crate::time::rfc3339")]
    pub created_at: Timestamp,
}
