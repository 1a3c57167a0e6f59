//! The places where the engine stands between a commit and what follows from it.
//!
//! A server passes them. A test is told of each through [`Failpoints`] and may stop there for good (a kill), for a while (a
//! stall), or have what follows fail. Never: anything that a server without a test would do differently.

use crate::runtime::BoxFuture;
use everkept_core::SessionId;
use everkept_store::{Problem, StoreFault};

macro_rules! places {
    ($($(#[$about:meta])* $name:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failpoint {
            $($(#[$about])* $name,)*
        }

        impl Failpoint {
            pub const ALL: &[Failpoint] = &[$(Failpoint::$name),*];
        }
    };
}

places! {
    /// The server's start is noted; no session that is owed something was woken.
    Booted,
    /// A session's log was taken over; what nobody runs any more is not settled.
    Taken,
    /// That is settled; nothing that is owed was begun.
    Settled,
    /// Events are durable; the session's task does not know it.
    Committed,
    /// Readers were shown them; nothing was done about them.
    Shown,
    /// All that follows was begun; whoever asked has no answer.
    Answer,
    /// A turn is queued; it is not known what to open for it.
    RunTurn,
    /// That is known; no agent was asked.
    OpenAgent,
    /// An agent is open; the session does not know it.
    AgentOpened,
    /// A try of an agent is over; its breaker does not know how it went.
    KeepBreaker,
    /// The agent was not told the turn's model.
    SetModel,
    /// The turn is claimed; the agent was not given the prompt.
    Prompt,
    /// The agent was given the prompt; nothing it said was heard.
    Prompted,
    /// A cancel is durable; the agent was not told.
    Cancel,
    /// The agent was told to stop; it was not waited for.
    CancelTold,
    /// An answer to a question is durable; the agent was not given it.
    AnswerAgent,
    /// A question that no event can hold was left out; the agent was not told no.
    Deny,
    /// An agent that serves no longer still runs.
    EndAgent,
    /// A turn has ended; its deltas are not packed.
    Pack,
    /// A turn has ended; what its agent wrote of it is not copied.
    Copy,
    /// Something was said; it is not in the full-text index.
    Index,
    /// A fork is durable with its first turn; nobody runs it.
    WakeFork,
    /// A token's change is durable; what is remembered of tokens is older.
    TokenChanged,
    /// The server ends; what the session runs is not settled.
    Stop,
    /// The session's task is about to end; mail still comes to it.
    Leave,
    /// It takes no mail any more; what came was not handed on.
    HandOn,
}

impl Failpoint {
    /// Whether what follows can fail without the whole server. Where it cannot, it is done in memory alone or the answer
    /// to it is nobody's.
    pub fn can_fail(self) -> bool {
        match self {
            Failpoint::Booted
            | Failpoint::Taken
            | Failpoint::Committed
            | Failpoint::RunTurn
            | Failpoint::OpenAgent
            | Failpoint::AgentOpened
            | Failpoint::KeepBreaker
            | Failpoint::SetModel
            | Failpoint::Prompt
            | Failpoint::Cancel
            | Failpoint::AnswerAgent
            | Failpoint::Deny
            | Failpoint::Pack
            | Failpoint::Copy
            | Failpoint::Index
            | Failpoint::Stop => true,
            // The next thing done fails at a place of its own.
            Failpoint::Settled | Failpoint::Shown | Failpoint::WakeFork => false,
            // Whoever would be told is a caller, an agent or a letter, which may be gone: then nothing is done.
            Failpoint::Answer | Failpoint::Prompted | Failpoint::CancelTold | Failpoint::Leave | Failpoint::HandOn => false,
            // A process is let go, and a memory is forgotten.
            Failpoint::EndAgent | Failpoint::TokenChanged => false,
        }
    }
}

/// What follows is to fail here as it would by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Injected;

/// The fault of a store that is not at its end.
pub(crate) fn no_space(doing: &str) -> StoreFault {
    StoreFault { problem: Problem::Full, doing: doing.into(), may_have_happened: false }
}

/// Told of every place that is reached, and how to go on there.
pub trait Failpoints: Send + Sync {
    /// `session` is none for what belongs to the whole server. An answer of [`Injected`] is only for places that can fail.
    fn reach(&self, place: Failpoint, session: Option<SessionId>) -> BoxFuture<'static, Result<(), Injected>>;
}
