//! The orders a session takes, from people and from what its effects brought back.
//!
//! A command carries every fresh id and every outside fact that deciding it needs.

use crate::{
    AgentName, AgentRaw, AgentSessionBecause, AgentSessionId, ExpiredBecause, FileKept, FilePutBack, Json, KnownAgents, MessageId,
    ModelName, NewPart, Parent, Payload, QuestionId, QuestionKind, QuestionOption, Resource, Role, SessionId, Thread, Timestamp,
    ToolStatus, TurnEnd, TurnError, TurnId, Unseen, Usage,
};

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    CreateSession(CreateSession),
    UpdateSession(UpdateSession),
    /// A fork goes by this session's thread from now on.
    ReleaseThread,
    DeleteSession {
        /// How long it stays in the trash at least, in milliseconds; for ever when no time is stated.
        keep_ms: Option<u64>,
    },
    RestoreSession,
    ClearContext,
    /// Hides the named turn and all after it; the last turn when none is named.
    Revert {
        turn: Option<TurnId>,
    },
    Unrevert,
    RemoveRule {
        rule: QuestionId,
    },
    SubmitTurn(SubmitTurn),
    /// An outside loop says what was said; no agent runs.
    RecordMessages {
        messages: Vec<NewMessage>,
    },
    EditTurn(EditTurn),
    /// Takes a queued turn back.
    DropTurn {
        turn: TurnId,
    },
    CancelTurn {
        turn: TurnId,
    },
    RetryTurn(AgainTurn),
    /// Takes a dead letter up, perhaps with another request.
    RetryLetter {
        again: AgainTurn,
        request: Option<(MessageId, Vec<NewPart>)>,
    },
    /// Puts a dead letter away.
    DismissLetter {
        turn: TurnId,
    },
    RedoTurn(AgainTurn),
    ContinueTurn(AgainTurn),
    AnswerQuestion(AnswerQuestion),
    ExpireQuestion {
        question: QuestionId,
        because: ExpiredBecause,
    },
    /// The agent is ready: claim the turn.
    BeginTurn(BeginTurn),
    /// The turn's agent session was copied.
    KeepAgentSession(KeepAgentSession),
    /// The turn's agent session was given back to its agent.
    PutBackAgentSession(PutBackAgentSession),
    /// What the agent said during the turn.
    HearAgent {
        turn: TurnId,
        said: Vec<Said>,
    },
    EndTurn(EndTurn),
    /// The turn came to nothing: what its agent's configuration says follows.
    FailTurn(FailTurn),
    /// Nothing of ours runs this session's claimed turn any more.
    SettleTurn {
        /// Why, as the turn's reason.
        reason: &'static str,
        /// What happened, for people.
        message: String,
        /// The review question's id.
        question: QuestionId,
        expires_at: Option<Timestamp>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateSession {
    pub session: SessionId,
    pub title: Option<String>,
    pub resource: Option<Resource>,
    pub thread: Option<Thread>,
    pub directory: String,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    /// Pinned at once for `agent`, or for the default agent.
    pub agent_session: Option<AgentSessionId>,
    pub parent: Option<Parent>,
    pub metadata: Option<Json>,
    pub known: KnownAgents,
}

/// `None` leaves a value, `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateSession {
    pub title: Option<Option<String>>,
    pub agent: Option<Option<AgentName>>,
    pub model: Option<Option<ModelName>>,
    pub metadata: Option<Json>,
    pub archived: Option<bool>,
    /// Refuses an agent that is not configured, when given.
    pub known: Option<KnownAgents>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SubmitTurn {
    pub turn: TurnId,
    /// Messages of the same conversation that were not kept yet, oldest first.
    pub earlier: Vec<NewMessage>,
    pub message: MessageId,
    pub parts: Vec<NewPart>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub agent_session: Option<AgentSessionId>,
    pub if_busy: IfBusy,
    pub known: KnownAgents,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    pub id: MessageId,
    pub role: Role,
    pub parts: Vec<NewPart>,
}

/// What a message does that comes while a turn runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IfBusy {
    #[default]
    Queue,
    Reject,
    /// Cancels the running turn and comes next.
    Interrupt,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EditTurn {
    pub turn: TurnId,
    /// The new request: its message's id and parts.
    pub request: Option<(MessageId, Vec<NewPart>)>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub known: KnownAgents,
}

/// Retry, redo or continue `turn` as `by`.
#[derive(Debug, Clone, PartialEq)]
pub struct AgainTurn {
    pub turn: TurnId,
    pub by: TurnId,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub known: KnownAgents,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AnswerQuestion {
    pub question: QuestionId,
    pub option: String,
    pub note: Option<String>,
    /// The turn that a review's answer may begin.
    pub turn: TurnId,
    pub known: KnownAgents,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BeginTurn {
    pub turn: TurnId,
    pub agent_session: AgentSessionId,
    pub because: AgentSessionBecause,
    /// What goes along, because the agent session does not hold it.
    pub given: Unseen,
    pub model_set: Option<bool>,
}

/// What was copied of the agent session that `turn` ran on, after the turn's end.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepAgentSession {
    pub turn: TurnId,
    pub agent_session: AgentSessionId,
    pub files: Vec<FileKept>,
}

/// What an agent was given back of a session, so that `turn` can go on with it.
#[derive(Debug, Clone, PartialEq)]
pub struct PutBackAgentSession {
    pub turn: TurnId,
    pub agent_session: AgentSessionId,
    pub files: Vec<FilePutBack>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndTurn {
    pub turn: TurnId,
    pub end: TurnEnd,
    pub reason: String,
    pub error: Option<TurnError>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FailTurn {
    pub turn: TurnId,
    pub failure: TurnFailure,
    /// The turn that may follow.
    pub by: TurnId,
    pub known: KnownAgents,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TurnFailure {
    /// No agent was opened, and none was given anything.
    Opening {
        error: TurnError,
        /// The same again may work.
        again: bool,
        /// It cannot work sooner.
        not_before: Option<Timestamp>,
    },
    /// Its agent was given the request.
    Prompt { end: FailedEnd, reason: String, error: TurnError },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedEnd {
    Failed,
    TimedOut,
}

/// One thing an agent said, in the words all drivers share.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// `message` is the agent's own name for the message; a new name begins a new message.
    Text {
        message: Option<String>,
        text: String,
    },
    Reasoning {
        message: Option<String>,
        text: String,
    },
    ToolStarted {
        call: String,
        name: String,
        title: Option<String>,
        status: ToolStatus,
        input: Option<Payload>,
    },
    /// An unknown call is begun by it.
    ToolUpdated {
        call: String,
        status: Option<ToolStatus>,
        title: Option<String>,
        input: Option<Payload>,
        output: Option<Payload>,
    },
    Plan {
        entries: Payload,
    },
    /// What the turn cost so far.
    Usage(Usage),
    /// What one request to the model used, which made this message, or the one that is being written.
    MessageUsage {
        message: Option<String>,
        usage: Usage,
    },
    FileChanges(Json),
    Compacting(bool),
    /// The agent announced a session id.
    AgentSession(AgentSessionId),
    Asked(Asked),
    /// The agent took its question back.
    Withdrew {
        request: String,
    },
    Raw(AgentRaw),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// A fresh id. Drivers leave it to the engine and put a derived one here.
    pub question: QuestionId,
    pub kind: QuestionKind,
    pub title: String,
    pub call: Payload,
    /// SHA-256 of the call's JSON, taken before it may have become a blob.
    pub digest: crate::TextDigest,
    /// The agent's own id of its request, to answer with.
    pub request: String,
    pub options: Vec<QuestionOption>,
    pub expires_at: Option<Timestamp>,
}
