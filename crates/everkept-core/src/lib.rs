//! What a session, a turn, an event and a question *are*, and the rules by which they change.
//!
//! `decide(&state, command, now)` may say no and changes nothing; `apply(&mut state, &event)` cannot
//! fail and is the only way state changes; `owed(&state)` is what the world is due because of it.
//! Live work, replay and recovery all go through the same `apply`.
//!
//! Never: I/O, a clock, randomness, async, or an iteration order that depends on a hash.

mod align;
mod apply;
mod breaker;
mod command;
mod decide;
mod event;
mod fork;
mod id;
mod json;
mod kept;
mod message;
mod names;
mod owed;
mod policy;
mod question;
mod record;
mod refusal;
mod resolve;
mod session;
mod state;
mod text;
mod time;
mod transcript;
mod turn;
mod usage;
mod watch;

pub use align::{Aligned, SentMessage, align};
pub use breaker::{Admission, Breaker, BreakerState, Probe, Verdict};
pub use command::*;
pub use decide::decide;
pub use event::*;
pub use fork::{Cut, Fork, Forked, child_shell, fork};
pub use id::*;
pub use json::Json;
pub use kept::{KeptFile, KeptSession};
pub use message::*;
pub use names::*;
pub use owed::{Effect, Owed, effects, owed};
pub use policy::{OPENINGS, wait};
pub use question::*;
pub use record::{MessageRecord, Record, TurnRecord, UsageRecord, records};
pub use refusal::Refusal;
pub use resolve::{Fallback, KnownAgent, KnownAgents, resolve_agent, resolve_model};
pub use session::*;
pub use state::{AgentThread, MAX_RUNS, MessageEntry, State, TurnEntry, Unseen};
pub(crate) use text::json_len;
pub use text::{TextDigest, digest_of, split_text};
pub use transcript::Fold;
pub use turn::*;
pub use usage::{Price, Prices, Usage};
pub use watch::{Finding, Limits, Overdue, Watch};

/// The largest event, as stored, in bytes; what a text or a tool's data brings beyond it is split or kept as a blob.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// The most text one `part.delta` carries, in bytes; chosen so that its JSON, escaped, stays an event.
pub const MAX_DELTA_BYTES: usize = 10 * 1024;
/// The most turns that wait in one session's queue.
pub const MAX_QUEUE: usize = 1_000;
