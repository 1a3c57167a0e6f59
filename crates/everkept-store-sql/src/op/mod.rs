//! The operations of the store, each one body of statements that every engine runs.
//!
//! Never: an engine's own SQL, or a count kept anywhere but in the rows.

mod answers;
mod blobs;
mod boot;
mod breakers;
mod commit;
mod events;
mod letters;
mod pack;
mod places;
mod purge;
mod questions;
mod rows;
mod segments;
mod sessions;
mod tokens;
mod usage;

pub use answers::kept_answer;
pub use blobs::{blob, blob_sessions, raw};
pub use boot::{boot, forget_expired, latest_wall, note_wall};
pub use breakers::{breakers, put_breaker};
pub use commit::commit;
pub use events::{chain_at, chains, events, lines, own_events};
pub use letters::dead_letters;
pub use pack::pack;
pub use places::{messages, turn, turns};
pub use purge::{Purged, due, purge};
pub use questions::{question, questions};
pub use rows::rows;
pub use sessions::{all_sessions, children, count_sessions, head, owed, session, session_of_thread, sessions, take};
pub use tokens::{put_token, revoke_token, token, tokens};
pub use usage::sums as usage_sums;

use crate::tx::SqlFault;
use everkept_core::SessionId;
use everkept_store::KeptAnswer;
use serde::{Serialize, de::DeserializeOwned};

/// Why an operation went no further; its transaction is given up.
#[derive(Debug)]
pub enum Stop {
    Conflict(SessionId),
    KeyUsed(Box<KeptAnswer>),
    ThreadTaken(SessionId),
    /// What stands at this place of the session is damaged; 0 is the session's own row.
    Corrupt(SessionId, u64),
    /// An event that is larger than events are.
    Oversized(usize),
    Sql(SqlFault),
}

impl From<SqlFault> for Stop {
    fn from(fault: SqlFault) -> Self {
        Stop::Sql(fault)
    }
}

/// A row's JSON.
fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("our own rows have string keys only")
}

/// Reads a row's JSON; what cannot be read is damage at `place` of `session`.
fn parse<T: DeserializeOwned>(bytes: &[u8], session: SessionId, place: u64) -> Result<T, Stop> {
    serde_json::from_slice(bytes).map_err(|_| Stop::Corrupt(session, place))
}
