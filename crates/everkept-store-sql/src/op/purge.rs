//! Takes out of the trash for good what nothing is kept for any more.
//!
//! Never a session whose stated time is not over, or one that a fork is still read from; and never half of one to be seen:
//! the first step makes it gone, the next ones take the rest away, after a restart too.

use super::{Stop, commit::state_word};
use crate::tx::{Tx, int};
use everkept_core::{SessionId, SessionState, Timestamp};

/// Rows of a kind that are taken away in one transaction.
const PIECE: u64 = 512;

/// How far a purge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purged {
    NotDue,
    More,
    Done,
}

const IS_DUE: &str = "deleted = 1 AND purge_at <= $1 AND state = $2 AND NOT EXISTS (SELECT 1 FROM log WHERE fork_of = session.id)";

pub async fn due<T: Tx>(tx: &mut T, now: Timestamp, limit: u32) -> Result<Vec<SessionId>, Stop> {
    let mut rows = tx.rows("SELECT log FROM purging ORDER BY log LIMIT $1", &[int(limit.into())]).await?;
    let sql = format!("SELECT id FROM session WHERE {IS_DUE} ORDER BY purge_at LIMIT $3");
    let missing = u64::from(limit).saturating_sub(rows.len() as u64);
    rows.extend(tx.rows(&sql, &[now.into(), state_word(SessionState::Idle).into(), int(missing)]).await?);
    rows.iter().map(|row| row.session(0)).collect()
}

/// One piece of a purge.
pub async fn purge<T: Tx>(tx: &mut T, session: SessionId, now: Timestamp) -> Result<Purged, Stop> {
    let begun = tx.rows("SELECT log FROM purging WHERE log = $1", &[(&session).into()]).await?;
    if begun.is_empty() {
        let sql = format!("SELECT id FROM session WHERE {IS_DUE} AND id = $3");
        let due = tx.rows(&sql, &[now.into(), state_word(SessionState::Idle).into(), (&session).into()]).await?;
        if due.is_empty() {
            return Ok(Purged::NotDue);
        }
        tx.exec("INSERT INTO purging (log) VALUES ($1)", &[(&session).into()]).await?;
        for gone in [
            "DELETE FROM session WHERE id = $1",
            "DELETE FROM log WHERE session = $1",
            "DELETE FROM owed WHERE session = $1",
            "DELETE FROM question WHERE session = $1",
            "DELETE FROM answer WHERE session = $1",
        ] {
            tx.exec(gone, &[(&session).into()]).await?;
        }
        return Ok(Purged::More);
    }
    let mut taken = take_blobs(tx, session).await?;
    for rest in [
        "DELETE FROM event WHERE log = $1 AND seq IN (SELECT seq FROM event WHERE log = $1 LIMIT $2)",
        "DELETE FROM turn WHERE log = $1 AND place IN (SELECT place FROM turn WHERE log = $1 LIMIT $2)",
        "DELETE FROM usage WHERE log = $1 AND place IN (SELECT place FROM usage WHERE log = $1 LIMIT $2)",
        "DELETE FROM message WHERE log = $1 AND place IN (SELECT place FROM message WHERE log = $1 LIMIT $2)",
        "DELETE FROM raw WHERE session = $1 AND (turn, place) IN (SELECT turn, place FROM raw WHERE session = $1 LIMIT $2)",
    ] {
        taken += tx.exec(rest, &[(&session).into(), int(PIECE)]).await?;
    }
    if taken > 0 {
        return Ok(Purged::More);
    }
    tx.exec("DELETE FROM purging WHERE log = $1", &[(&session).into()]).await?;
    Ok(Purged::Done)
}

/// A blob goes with the last session that brought it.
async fn take_blobs<T: Tx>(tx: &mut T, session: SessionId) -> Result<u64, Stop> {
    let rows = tx.rows("SELECT blob FROM blob_session WHERE session = $1 LIMIT $2", &[(&session).into(), int(PIECE)]).await?;
    for row in &rows {
        let blob = everkept_core::TextDigest(row.fixed(0)?);
        tx.exec("DELETE FROM blob_session WHERE blob = $1 AND session = $2", &[(&blob).into(), (&session).into()]).await?;
        tx.exec("DELETE FROM blob WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM blob_session WHERE blob = $1)", &[(&blob).into()]).await?;
    }
    Ok(rows.len() as u64)
}
