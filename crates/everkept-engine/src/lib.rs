//! Performs what the core decides: one task owns each session, commits its events, then acts on them.
//!
//! Never: an answer, not even a refusal, before the events it rests on are durable; an effect before its commit; a
//! clock, an id or a task of its own making (all are handed in, so that a whole server can be simulated).

mod actor;
mod agent_host;
mod agents;
mod breakers;
mod caller;
mod failpoint;
mod failure;
mod handle;
mod hub;
mod inner;
mod kept;
mod known_tokens;
mod orders;
mod reads;
mod runtime;
mod settings;
mod sweep;
mod tail;
mod upkeep;

pub use agents::AgentEntry;
pub use caller::{Access, Caller};
pub use failpoint::{Failpoint, Failpoints, Injected};
pub use failure::Failure;
pub use handle::{Engine, Parts, Stop};
pub use hub::{Frame, Hint};
pub use orders::*;
pub use runtime::{Clock, Ids, Runtime, Spawner, TokioRuntime};
pub use settings::Settings;
pub use tail::Tail;

pub use everkept_agent::Abilities;
pub use everkept_agent::remote::{Broken, Claim, Link, PIECE_BYTES, RemoteAgent};
pub use everkept_store::{
    DAY_MICROS, EventsQuery, KeptAnswer, LettersQuery, Lines, Page, PlaceQuery, Problem, QuestionsQuery, SessionsQuery, StoreFault,
    StoredEvent, Token, UsageBy, UsageQuery, UsageSum,
};
