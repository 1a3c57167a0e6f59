//! What doors ask for, in plain data, before ids and facts are added to make it a command.

use bytes::Bytes;
use everkept_core::{
    AgentName, AgentSessionId, Breaker, BreakerState, Cut, IfBusy, Json, Message, MessageId, ModelName, Parent, Part, Question, QuestionId,
    Resource, Role, Session, SessionId, TextDigest, Thread, Turn, TurnId, UpdateSession,
};

#[derive(Debug, Clone, Default)]
pub struct NewSession {
    pub title: Option<String>,
    pub resource: Option<Resource>,
    pub thread: Option<Thread>,
    /// None: a private folder of its own.
    pub directory: Option<String>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub agent_session: Option<AgentSessionId>,
    /// A session this one belongs to (kind `child`).
    pub parent: Option<Parent>,
    pub metadata: Option<Json>,
}

/// An order to one session.
#[derive(Debug, Clone)]
pub enum Order {
    Update(UpdateSession),
    Delete,
    Restore,
    Clear,
    Revert {
        turn: Option<TurnId>,
    },
    Unrevert,
    RemoveRule {
        rule: QuestionId,
    },
    Fork(NewFork),
    Submit(NewTurn),
    /// An outside loop's messages. With `history` they are the whole conversation and only what is new is stored.
    Record {
        messages: Vec<MessageIn>,
        history: bool,
    },
    Edit {
        turn: TurnId,
        input: Option<Vec<PartIn>>,
        agent: Option<AgentName>,
        model: Option<ModelName>,
    },
    Drop {
        turn: TurnId,
    },
    Cancel {
        turn: TurnId,
    },
    Retry {
        turn: TurnId,
        agent: Option<AgentName>,
        model: Option<ModelName>,
    },
    /// Takes a dead letter up, perhaps with another request.
    RetryLetter {
        turn: TurnId,
        input: Option<Vec<PartIn>>,
    },
    /// Puts a dead letter away.
    DismissLetter {
        turn: TurnId,
    },
    Redo {
        turn: TurnId,
        agent: Option<AgentName>,
        model: Option<ModelName>,
    },
    Continue {
        turn: TurnId,
        agent: Option<AgentName>,
        model: Option<ModelName>,
    },
    Answer {
        question: QuestionId,
        option: String,
        note: Option<String>,
    },
}

#[derive(Debug, Clone, Default)]
pub struct NewFork {
    pub at: Option<Cut>,
    pub title: Option<String>,
    pub thread: Option<Thread>,
    pub agent: Option<AgentName>,
    pub directory: Option<String>,
}

#[derive(Debug, Clone)]
pub struct NewTurn {
    pub intake: Intake,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub agent_session: Option<AgentSessionId>,
    pub if_busy: IfBusy,
}

#[derive(Debug, Clone)]
pub enum Intake {
    /// Just the new message.
    Input(Vec<PartIn>),
    /// New messages, the last of them the user's; all are stored.
    Messages(Vec<MessageIn>),
    /// The whole conversation as the sender has it.
    History { messages: Vec<MessageIn>, if_edited: IfEdited },
}

/// What happens when an earlier message of the conversation differs from the one that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfEdited {
    Refuse,
    /// The turn goes to a fork, which takes the session's thread over.
    Fork,
}

#[derive(Debug, Clone)]
pub struct MessageIn {
    pub role: Role,
    pub parts: Vec<PartIn>,
}

#[derive(Debug, Clone)]
pub enum PartIn {
    Text(String),
    File { name: Option<String>, media_type: String, bytes: Bytes },
}

/// What an order led to. It is durable.
#[derive(Debug, Clone)]
pub enum Reply {
    Session(Session),
    /// The turn as it was when the order was done (queued, for a new one).
    Turn(Turn),
    Context {
        session: SessionId,
        context: u32,
    },
    Question(Question),
    /// The messages that were new, in order, and the number of the last event.
    Recorded {
        session: SessionId,
        messages: Vec<MessageId>,
        seq: u64,
    },
    Done,
}

/// An idempotency key and how the answer to the order is kept with its effect.
#[derive(Debug, Clone)]
pub struct Keyed {
    pub key: String,
    /// Of method, full path and body.
    pub digest: TextDigest,
    /// Status and body, as they will be given again.
    pub render: fn(&Reply) -> (u16, Vec<u8>),
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a request, and nearly always the large one")]
pub enum Answered {
    Fresh(Reply),
    /// The same request was answered before: that answer again, whole.
    Kept {
        status: u16,
        body: Bytes,
    },
}

/// A session as it was after event `cursor`; with the events after it, as it is.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub session: Session,
    /// The newest ones, oldest first.
    pub messages: Vec<Message>,
    pub has_more: bool,
    pub turns: Vec<Turn>,
    pub questions: Vec<Question>,
    pub cursor: u64,
}

/// A message and its place in the log, to page by.
#[derive(Debug, Clone)]
pub struct PlacedMessage {
    pub place: u64,
    pub message: Message,
}

#[derive(Debug, Clone)]
pub struct PlacedTurn {
    pub place: u64,
    pub turn: Turn,
}

/// A turn that was given up, with what was asked for.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub turn: Turn,
    pub input: Vec<Part>,
}

/// What has gone wrong with an agent and a model, and what follows from that.
#[derive(Debug, Clone)]
pub struct BreakerCard {
    pub breaker: Breaker,
    pub state: BreakerState,
    /// The turn that finds out whether it works again.
    pub probe: Option<TurnId>,
}

/// One agent, for people to see.
#[derive(Debug, Clone)]
pub struct AgentCard {
    pub name: AgentName,
    pub is_default: bool,
    pub model: Option<ModelName>,
    pub abilities: crate::Abilities,
    /// It runs on another machine.
    pub remote: bool,
    /// A turn need not wait for it.
    pub connected: bool,
}

/// What a session adds up to.
#[derive(Debug, Clone)]
pub struct Summary {
    pub session: Session,
    pub events: u64,
    pub messages: u64,
    pub turns: u64,
    /// Events per kind, by kind.
    pub kinds: Vec<(String, u64)>,
    pub contexts: Vec<ContextSummary>,
}

#[derive(Debug, Clone)]
pub struct ContextSummary {
    pub context: u32,
    pub turns: u64,
    pub events: u64,
    pub first_at: everkept_core::Timestamp,
    pub last_at: everkept_core::Timestamp,
}
