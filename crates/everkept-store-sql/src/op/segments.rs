//! Which logs a session is read from: its own, and its ancestors' up to each cut.
//!
//! Never more than one row per generation: a fork costs the same at any size.

use super::Stop;
use crate::tx::{Tx, session_id};
use everkept_core::SessionId;

/// The events `from + 1 ..= to` of a session stand in `log`; none where `to` is not beyond `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub log: SessionId,
    pub from: u64,
    pub to: u64,
}

/// The end of a session's own segment: it grows.
pub const OPEN: u64 = i64::MAX as u64;

/// Oldest first; nothing for a session that is not there.
pub async fn segments<T: Tx>(tx: &mut T, session: SessionId) -> Result<Vec<Segment>, Stop> {
    let sql = "WITH RECURSIVE line (depth, session, fork_of, fork_seq) AS (
            SELECT 0, session, fork_of, fork_seq FROM log WHERE session = $1
            UNION ALL
            SELECT line.depth + 1, log.session, log.fork_of, log.fork_seq FROM line JOIN log ON log.session = line.fork_of
        ) SELECT session, fork_seq FROM line ORDER BY depth";
    let mut segments = Vec::new();
    let mut to = OPEN;
    for row in tx.rows(sql, &[(&session).into()]).await? {
        let (log, from) = (session_id(row.fixed(0)?), row.number(1)?);
        segments.push(Segment { log, from, to });
        to = to.min(from);
    }
    segments.reverse();
    Ok(segments)
}
