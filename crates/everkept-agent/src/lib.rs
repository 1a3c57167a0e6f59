//! What every agent is to the engine: something that opens an agent session, takes orders and says things.
//!
//! An agent states what it can do as data ([`Abilities`]); for each lack the engine has a stated way to do without.
//! Never: a store, a door, or a decision about the conversation. An agent reports; the core decides.

pub mod conformance;
pub mod demo;
mod exact;
pub mod remote;
mod transcript;

pub use transcript::{Kept, PIECE_BYTES, Piece, SoFar, Transcripts, Whole};

pub use exact::digest_of_call;

use bytes::Bytes;
use everkept_core::{AgentName, AgentSessionId, Message, ModelName, Said, TurnId};
use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Agents by their configured names.
pub type Agents = std::collections::BTreeMap<AgentName, Arc<dyn Agent>>;
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Outputs an agent may have waiting before it is held back; back-pressure, never loss.
pub const OUTPUT_QUEUE: usize = 256;
/// Orders an agent may have waiting. More than a turn ever has open.
pub const ORDER_QUEUE: usize = 64;

/// One configured agent.
pub trait Agent: Send + Sync {
    /// What is known before the agent runs; [`Opened`] has what it said itself.
    fn abilities(&self) -> Abilities;

    /// Where it works. Directories of another machine are not looked for on this one.
    fn place(&self) -> Place {
        Place::Here
    }

    /// What it writes down of its sessions by itself; none where it does not, or where nobody knows how.
    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        None
    }

    /// Starts what must be started and opens an agent session. Nothing is prompted.
    ///
    /// Dropping the future gives up and leaves nothing running.
    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>>;

    /// What is left of a turn that an earlier server gave to this agent and saw no end of. Told once.
    fn left_of(&self, _turn: TurnId) -> BoxFuture<Left> {
        Box::pin(async { Left::Nothing })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Here,
    /// On another machine, from which it dials in.
    Elsewhere {
        connected: bool,
    },
}

/// What an agent can do. Where it cannot, the engine degrades as each line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Abilities {
    /// Else each process begins an agent session of its own and is given the conversation as context.
    pub resume: bool,
    /// Else a fork begins a new agent session and is given the conversation as context.
    pub fork: bool,
    /// Else a cancel ends the process.
    pub cancel: bool,
    /// Else the agent decides by itself what its tools may do.
    pub ask_permission: bool,
    /// Else a turn's model is recorded but not set.
    pub set_model: bool,
    /// Else usage is absent.
    pub report_usage: bool,
    /// Else what is opened knows nothing of what was said under its id, and is given the conversation as context.
    pub remember: bool,
    /// Else what the agent itself writes of a session is not kept, and a session that it loses is lost.
    pub transcript: bool,
}

/// What to open.
#[derive(Debug, Clone)]
pub struct Open {
    /// The session's directory; exists.
    pub directory: PathBuf,
    pub session: OpenSession,
    pub model: Option<ModelName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenSession {
    New,
    /// Only an agent that can resume is asked to.
    Resume(AgentSessionId),
    /// Only an agent that can fork is asked to.
    Fork(AgentSessionId),
}

/// A running agent with an open agent session.
#[derive(Debug)]
pub struct Opened {
    pub agent_session: AgentSessionId,
    /// What the agent itself said it can do.
    pub abilities: Abilities,
    /// Whether the model asked for was set; none when none was asked for.
    pub model_set: Option<bool>,
    pub connection: Connection,
}

/// What an earlier server left of a turn.
pub enum Left {
    Nothing,
    /// The agent outlived its server, and cannot be gone on with; why.
    Lost(String),
    Running(Held),
}

/// An agent that outlived the server before this one and answers on.
pub struct Held {
    /// Goes on where that server was, given how many bytes are kept of the turn: what comes after them is said, as if
    /// that server had never gone, and orders are taken once it is.
    pub go_on: Box<dyn FnOnce(u64) -> Connection + Send>,
}

/// The two ends of a running agent. Dropping `orders` ends the agent and all it started.
#[derive(Debug)]
pub struct Connection {
    pub orders: mpsc::Sender<Order>,
    /// Ends when the agent is gone.
    pub output: mpsc::Receiver<Output>,
}

#[derive(Debug)]
pub enum Order {
    /// One at a time: the next comes only after the last one's [`Output::Done`].
    Prompt(Prompt),
    /// Ends the running prompt; its `Done` still comes. Harmless when nothing runs.
    Cancel,
    /// The answer to a question, by the agent's own ids; no option means no.
    Answer {
        request: String,
        option: Option<String>,
    },
    SetModel {
        model: ModelName,
        done: oneshot::Sender<bool>,
    },
    /// For agents that can outlive the server; all others do nothing about it.
    Hold(Hold),
}

/// What an agent that can outlive the server has to know for it.
#[derive(Debug)]
pub enum Hold {
    /// The next prompt's turn is to be held: how many bytes are kept of it by now, and how many were taken of all that
    /// this connection said.
    Turn { kept: u64, taken: u64 },
    /// The turn's end is durable.
    Over,
    /// The server goes. Answered once another can take the turn over; what is not answered ends with this server.
    HandOver { done: oneshot::Sender<()> },
}

#[derive(Debug, Clone)]
pub struct Prompt {
    pub turn: TurnId,
    pub parts: Vec<PromptPart>,
    /// Earlier messages that this agent session does not hold, oldest first.
    pub history: Vec<Message>,
}

#[derive(Debug, Clone)]
pub enum PromptPart {
    Text(String),
    File { name: Option<String>, media_type: String, bytes: Bytes },
}

#[derive(Debug)]
pub enum Output {
    /// Something that was said, with the bytes it was said in. Bytes nothing was made of come with an empty `said`.
    Said { raw: Bytes, said: Vec<Said> },
    /// The running prompt has ended.
    Done { raw: Bytes, done: Done },
    /// The last thing ever said by an agent that did not end by order.
    Gone(AgentFault),
}

/// How a prompt ended, in the agent's own judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// `reason` is the agent's own word (`end_turn`, `max_tokens`, `refusal` ...).
    Completed {
        reason: String,
    },
    Cancelled,
    Failed {
        code: String,
        message: String,
    },
}

/// An agent did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {message}")]
pub struct AgentFault {
    pub kind: AgentFaultKind,
    /// What was being done, as `starting "opencode acp"`.
    pub doing: String,
    pub message: String,
    /// The same again may work.
    pub retryable: bool,
    /// The agent may have acted on it all the same.
    pub may_have_happened: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentFaultKind {
    /// The command is not there or cannot be run.
    CannotStart,
    /// It ended by itself.
    Exited,
    /// It said something that its protocol does not allow.
    Protocol,
    /// It knows no session of that id.
    UnknownSession,
    /// It said no.
    Refused,
    TimedOut,
}
