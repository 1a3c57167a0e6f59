//! The durable facts. A session *is* the list of its events; everything else is read off them.
//!
//! The JSON of `data` is public and is for ever: fields may be added, never renamed or given another meaning.
//! Never: an event that says what somebody wanted. An event says what has happened.

use crate::{
    AgentBecause, AgentName, AgentSessionId, BlobRef, ExpiredBecause, FilePart, Json, MessageId, ModelBecause, ModelName, Parent, PartId,
    Payload, QuestionId, QuestionKind, QuestionOption, Resource, Role, Rule, SessionId, SuccessionCause, TextDigest, TextKind, Thread,
    Timestamp, ToolStatus, Tries, TurnEnd, TurnError, TurnId, Usage,
};
use serde::{Deserialize, Serialize};

/// One fact of one session. Its number is its place in the log and is given when it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub session: SessionId,
    pub turn: Option<TurnId>,
    pub context: u32,
    pub at: Timestamp,
    pub body: Body,
}

macro_rules! events {
    ($($name:ident = $kind:literal),* $(,)?) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Body { $($name($name)),* }

        impl Body {
            /// Every kind there is, as it is written.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            pub fn kind(&self) -> &'static str {
                match self { $(Body::$name(_) => $kind),* }
            }

            /// The JSON object that stands as `data`.
            pub fn data(&self) -> String {
                match self { $(Body::$name(data) => Json::of(data).get().to_owned()),* }
            }

            /// Reads `data` of an event of `kind`; `None` for a kind that is not known.
            pub fn read(kind: &str, data: &str) -> Option<Result<Self, serde_json::Error>> {
                match kind {
                    $($kind => Some(serde_json::from_str(data).map(Body::$name)),)*
                    _ => None,
                }
            }
        }

        $(impl From<$name> for Body {
            fn from(data: $name) -> Self {
                Body::$name(data)
            }
        })*
    };
}

events! {
    SessionCreated = "session.created",
    SessionUpdated = "session.updated",
    SessionForked = "session.forked",
    SessionReverted = "session.reverted",
    SessionArchived = "session.archived",
    SessionDeleted = "session.deleted",
    SessionRestored = "session.restored",
    AgentSessionPinned = "agent_session.pinned",
    AgentSessionSucceeded = "agent_session.succeeded",
    AgentSessionKept = "agent_session.kept",
    AgentSessionPutBack = "agent_session.put_back",
    ContextCleared = "context.cleared",
    TurnQueued = "turn.queued",
    TurnEdited = "turn.edited",
    TurnDelayed = "turn.delayed",
    TurnStarted = "turn.started",
    TurnWaiting = "turn.waiting",
    TurnCancelling = "turn.cancelling",
    TurnRetried = "turn.retried",
    TurnEnded = "turn.ended",
    TurnDismissed = "turn.dismissed",
    MessageAdded = "message.added",
    PartDelta = "part.delta",
    PartCompleted = "part.completed",
    PlanUpdated = "plan.updated",
    ToolStarted = "tool.started",
    ToolUpdated = "tool.updated",
    ToolCompleted = "tool.completed",
    UsageReported = "usage",
    MessageUsed = "message.usage",
    QuestionAsked = "question.asked",
    QuestionAnswered = "question.answered",
    QuestionExpired = "question.expired",
    RuleRemoved = "rule.removed",
    AgentRaw = "agent.raw",
}

impl Body {
    /// Part of a running answer's flow, or of what stands beside it: changes nothing that a list of sessions or turns shows.
    pub fn is_flow(&self) -> bool {
        matches!(
            self,
            Body::PartDelta(_)
                | Body::PartCompleted(_)
                | Body::ToolStarted(_)
                | Body::ToolUpdated(_)
                | Body::ToolCompleted(_)
                | Body::PlanUpdated(_)
                | Body::MessageUsed(_)
                | Body::AgentRaw(_)
                | Body::AgentSessionKept(_)
                | Body::AgentSessionPutBack(_)
        )
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionCreated {
    pub title: Option<String>,
    pub resource: Option<Resource>,
    pub thread: Option<Thread>,
    pub directory: String,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub parent: Option<Parent>,
    pub metadata: Json,
}

/// Only what changed is present; `null` takes a value away.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionUpdated {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub title: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub agent: Option<Option<AgentName>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub model: Option<Option<ModelName>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub thread: Option<Option<Thread>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present_json")]
    pub file_changes: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compacting: Option<bool>,
}

/// Tells `null` (take it away) from absent (leave it).
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// As [`present`], for JSON that may itself be `null`.
fn present_json<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// The child's first own event: its log goes on from the parent's at `parent.seq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionForked {
    pub parent: Parent,
    pub title: Option<String>,
    pub thread: Option<Thread>,
    pub directory: String,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub metadata: Json,
    /// The parent's agent sessions as they stood at the cut: what an agent that can fork would fork.
    pub origins: Vec<ForkOrigin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkOrigin {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
}

/// The first turn that is hidden, or nothing when a revert is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionReverted {
    pub first_hidden: Option<TurnId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionArchived {
    pub archived: bool,
}

/// To the trash, from where it can be restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDeleted {
    /// It is there until then at least; for ever when no time is stated.
    #[serde(default, with = "crate::time::rfc3339_or_null", skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRestored {}

/// The agent's session id for this agent and context, for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSessionPinned {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
    pub because: PinnedBecause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedBecause {
    /// The agent made it and told us.
    Detected,
    /// It was named on creation or with the turn.
    Request,
    /// The agent forked the parent's.
    Forked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSessionSucceeded {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
    pub cause: SuccessionCause,
}

/// What the agent itself has written of its session is kept up to the end of the event's turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSessionKept {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
    /// What was added to each of its files.
    pub files: Vec<FileKept>,
}

/// The pieces of a file from byte `from` on; what was kept before is the file up to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKept {
    /// The agent's own name for it.
    pub file: String,
    pub from: u64,
    pub pieces: Vec<BlobRef>,
}

/// The agent had lost what it had written of its session, and was given what is kept of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSessionPutBack {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
    pub files: Vec<FilePutBack>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePutBack {
    pub file: String,
    pub bytes: u64,
}

/// The event's own context is the new number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextCleared {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnQueued {
    pub request_message: Option<MessageId>,
    pub agent: AgentName,
    pub agent_because: AgentBecause,
    pub model: Option<ModelName>,
    pub model_because: ModelBecause,
    pub attempt: u32,
    pub continues: Option<TurnId>,
    pub agent_session: Option<AgentSessionId>,
    /// Present for a turn that nobody asked for but a policy: it comes before all that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries: Option<Tries>,
}

/// A queued turn was changed before it began; only what changed is present.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnEdited {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_message: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_because: Option<AgentBecause>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub model: Option<Option<ModelName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_because: Option<ModelBecause>,
}

/// The turn's agent could not be opened; it is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnDelayed {
    /// How often that has been so.
    pub tries: u32,
    #[serde(with = "crate::time::rfc3339")]
    pub until: Timestamp,
    pub error: TurnError,
}

/// The prompt is claimed: from here on it is given to the agent at most once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnStarted {
    pub agent_session: AgentSessionId,
    pub agent_session_because: AgentSessionBecause,
    /// How many earlier messages went along, because this agent session did not hold them.
    pub given_messages: u64,
    /// Which ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<GivenMessages>,
    /// Whether the agent took the turn's model, where one was asked for.
    pub model_set: Option<bool>,
}

/// Every message of the conversation, as it stood then, from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenMessages {
    pub first: MessageId,
    pub last: MessageId,
}

/// Where a turn's agent session came from (every resolution is in the log).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentSessionBecause {
    /// Named in the request body.
    Request,
    /// The pinned one, resumed.
    Inherited,
    /// Newly made by the agent and detected.
    Detected,
    /// The pinned one, although the agent does not know it: it is begun again under its id and given the conversation.
    Preserved,
    /// Forked from the parent's.
    Forked,
    /// Made anew because a revert took back what the old one knew.
    Reverted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnWaiting {
    pub question: QuestionId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnCancelling {}

/// The turn of this event has a newer attempt, whose answer counts instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRetried {
    pub by: TurnId,
    pub cause: RetryCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCause {
    Retry,
    Redo,
    /// What the turn was bound to failed; this is asked of the next one on its list.
    Fallback,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnEnded {
    pub state: TurnEnd,
    pub reason: String,
    pub error: Option<TurnError>,
}

/// A dead letter was put away: it is not to be tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnDismissed {}

/// A message with the parts it came with; an answer begins without any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageAdded {
    pub message: MessageId,
    pub role: Role,
    pub parts: Vec<AddedPart>,
    /// The agent's own name for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AddedPart {
    /// A text that is too long for the event follows as deltas of the same part.
    Text {
        id: PartId,
        text: String,
    },
    File(FilePart),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartDelta {
    pub message: MessageId,
    pub part: PartId,
    #[serde(rename = "type")]
    pub kind: TextKind,
    pub text: String,
}

/// Length and digest of the text the part's deltas add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartCompleted {
    pub message: MessageId,
    pub part: PartId,
    pub bytes: u64,
    pub digest: TextDigest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanUpdated {
    /// The agent's own list of entries.
    pub entries: Payload,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolStarted {
    pub message: MessageId,
    pub part: PartId,
    pub call: String,
    pub name: String,
    pub title: Option<String>,
    pub status: ToolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolUpdated {
    pub message: MessageId,
    pub part: PartId,
    pub status: ToolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCompleted {
    pub message: MessageId,
    pub part: PartId,
    /// `completed` or `failed`.
    pub status: ToolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
}

/// What the turn has cost so far; the last one of a turn counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageReported {
    #[serde(flatten)]
    pub usage: Usage,
}

/// What one request to the model used; those that made a message add up. They are part of what the turn cost, not beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageUsed {
    pub message: MessageId,
    #[serde(flatten)]
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionAsked {
    pub question: QuestionId,
    #[serde(rename = "type")]
    pub kind: QuestionKind,
    pub title: String,
    pub call: Payload,
    pub digest: TextDigest,
    pub request: Option<String>,
    pub options: Vec<QuestionOption>,
    #[serde(with = "crate::time::rfc3339_or_null")]
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionAnswered {
    pub question: QuestionId,
    pub option: String,
    pub note: Option<String>,
    /// The standing rule this answer makes.
    pub rule: Option<Rule>,
    /// The standing rule that gave this answer.
    pub by_rule: Option<QuestionId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionExpired {
    pub question: QuestionId,
    pub because: ExpiredBecause,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleRemoved {
    pub rule: QuestionId,
}

/// Something the agent said that no parser of ours takes, verbatim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentRaw {
    /// One JSON value.
    Json(Json),
    /// A text that is not JSON.
    Text(String),
    /// Bytes that are not text, or too many for an event.
    Blob(BlobRef),
}
