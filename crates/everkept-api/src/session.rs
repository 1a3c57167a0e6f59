//! Sessions on the wire, and the bodies of what is asked of them.
//!
//! Never: what a deleted or hidden thing was; it does not exist for a reader.

use crate::{RawJson, Usage, words::words};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// One durable conversation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Session {
    pub id: String,
    /// A name for file names and addresses, from the title; not unique.
    pub slug: String,
    pub title: Option<String>,
    /// Who owns it; never changes.
    pub resource: Option<String>,
    /// The owner's own name for it.
    pub thread: Option<String>,
    pub directory: String,
    pub agent: Option<String>,
    /// `provider/model`.
    pub model: Option<String>,
    pub state: SessionState,
    /// The how-manieth clean slate, from 0.
    pub context: u32,
    pub parent: Option<Parent>,
    pub agent_sessions: Vec<AgentSession>,
    pub usage: Usage,
    /// The client's own object.
    #[schema(value_type = Object)]
    pub metadata: RawJson,
    /// What the turns changed in files, as the agent summed it up.
    #[schema(value_type = Option<Object>)]
    pub file_changes: Option<RawJson>,
    pub rules: Vec<Rule>,
    /// The first turn that a revert hides.
    pub revert: Option<String>,
    /// Since when the agent has been compacting what it holds.
    #[schema(format = DateTime)]
    pub compacting_at: Option<String>,
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
    /// Since when it has been in the trash; listed with `deleted=true` only.
    #[schema(format = DateTime)]
    pub deleted_at: Option<String>,
    /// Until then it can be restored; null when it stays in the trash.
    #[schema(format = DateTime)]
    pub purge_at: Option<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
}

words! {
    SessionState { Idle = "idle", Running = "running", Waiting = "waiting" }

    ParentKind {
        /// Shares the parent's events up to the cut.
        Fork = "fork",
        /// Belongs to the parent and shares nothing.
        Child = "child",
    }

    SuccessionCause {
        /// The agent itself announced a new id.
        Agent = "agent",
        /// A turn named another id; it was used for that turn only.
        Explicit = "explicit",
        /// A revert took back what the agent knew.
        Revert = "revert",
    }
}

/// Where a session comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Parent {
    pub kind: ParentKind,
    pub session: String,
    /// The last event of the parent that it comes after.
    pub seq: u64,
}

/// The agent's own session for one agent and context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentSession {
    pub agent: String,
    pub context: u32,
    /// Pinned for ever.
    pub first: String,
    pub current: String,
    pub successors: Vec<Successor>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Successor {
    pub id: String,
    pub cause: SuccessionCause,
    pub turn: Option<String>,
    #[schema(format = DateTime)]
    pub at: String,
}

/// A standing answer to one exact call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// The question whose answer made it.
    pub id: String,
    pub agent: String,
    /// SHA-256 of the call.
    pub digest: String,
    pub title: String,
    #[schema(format = DateTime)]
    pub created_at: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// Where the agent works; without one, a private folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A session the agent has already; pinned at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// The session this one belongs to, as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<RawJson>,
}

/// Only what is present changes; null takes a value away.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSession {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub title: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub agent: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    pub model: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Takes the place of all there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<RawJson>,
}

/// Tells null (take it away) from absent (leave it).
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSession {
    /// After which turn or event; as late as can be without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<ForkPoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The parent's without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

/// A turn's id or an event's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ForkPoint {
    Turn(String),
    Seq(u64),
}

impl<'de> Deserialize<'de> for ForkPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ForkPointVisitor)
    }
}

struct ForkPointVisitor;

impl serde::de::Visitor<'_> for ForkPointVisitor {
    type Value = ForkPoint;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a turn id or an event number")
    }

    fn visit_str<E>(self, text: &str) -> Result<ForkPoint, E> {
        Ok(ForkPoint::Turn(text.to_owned()))
    }

    fn visit_u64<E>(self, seq: u64) -> Result<ForkPoint, E> {
        Ok(ForkPoint::Seq(seq))
    }
}

/// Hides a turn and all after it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertSession {
    /// The last turn without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
}

/// The body of an order that needs no words: `{}`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The number of the new clean slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    pub context: u32,
}

/// A session as it was after event `cursor`; with the events after it, as it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    pub session: Session,
    /// The newest ones, oldest first.
    pub messages: Vec<crate::Message>,
    /// There are older messages.
    pub has_more: bool,
    pub turns: Vec<crate::Turn>,
    pub questions: Vec<crate::Question>,
    pub cursor: u64,
}

/// One session of a family of forks, as `/forks` shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ForkTree {
    pub id: String,
    pub title: Option<String>,
    pub parent: Option<Parent>,
    #[schema(format = DateTime)]
    pub updated_at: String,
    #[schema(no_recursion)]
    pub children: Vec<ForkTree>,
}

/// Something changed in a session; not replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hint {
    pub session: String,
    pub seq: u64,
    pub state: SessionState,
}
