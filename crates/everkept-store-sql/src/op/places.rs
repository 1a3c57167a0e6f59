//! Turns and messages by their place in the log, inherited ones included.
//!
//! Never shows of a parent what came after the cut.

use super::{
    Stop,
    commit::role_of,
    parse,
    segments::{OPEN, Segment, segments},
};
use crate::tx::{Row, Tx, int};
use everkept_core::{MessageId, MessageRecord, SessionId, TurnId, TurnRecord};
use everkept_store::PlaceQuery;
use uuid::Uuid;

pub async fn turn<T: Tx>(tx: &mut T, turn: TurnId) -> Result<Option<TurnRecord>, Stop> {
    let row = tx.rows("SELECT log, place, record FROM turn WHERE id = $1", &[(&turn).into()]).await?.pop();
    row.map(|row| row.session(0).and_then(|log| read_turn(row, log))).transpose()
}

pub async fn turns<T: Tx>(tx: &mut T, query: &PlaceQuery) -> Result<Vec<TurnRecord>, Stop> {
    let forward = "SELECT log, place, record FROM turn WHERE log = $1 AND place > $2 AND place < $3
        AND ($4 = 1 OR ended_seq <= $5) ORDER BY place LIMIT $6";
    let backward = "SELECT log, place, record FROM turn WHERE log = $1 AND place > $2 AND place < $3
        AND ($4 = 1 OR ended_seq <= $5) ORDER BY place DESC LIMIT $6";
    let rows = page(tx, query, if query.backward { backward } else { forward }).await?;
    rows.into_iter().map(|(_, row)| read_turn(row, query.session)).collect()
}

pub async fn messages<T: Tx>(tx: &mut T, query: &PlaceQuery) -> Result<Vec<MessageRecord>, Stop> {
    let forward = "SELECT log, place, id, turn, role, last_seq FROM message WHERE log = $1 AND place > $2 AND place < $3
        AND ($4 = 1 OR place <= $5) ORDER BY place LIMIT $6";
    let backward = "SELECT log, place, id, turn, role, last_seq FROM message WHERE log = $1 AND place > $2 AND place < $3
        AND ($4 = 1 OR place <= $5) ORDER BY place DESC LIMIT $6";
    let rows = page(tx, query, if query.backward { backward } else { forward }).await?;
    rows.into_iter().map(|(segment, row)| read_message(row, query.session, segment.to)).collect()
}

/// The rows of a page through all segments, oldest first, each with its segment.
async fn page<T: Tx>(tx: &mut T, query: &PlaceQuery, sql: &str) -> Result<Vec<(Segment, Row)>, Stop> {
    let limit = u64::from(query.limit);
    let mut segments = segments(tx, query.session).await?;
    if query.backward {
        segments.reverse();
    }
    let mut found = Vec::new();
    for segment in segments {
        let missing = limit - found.len() as u64;
        if missing == 0 {
            break;
        }
        let after = query.after.unwrap_or(0).max(segment.from);
        let before = query.before.unwrap_or(OPEN);
        let own = segment.to == OPEN;
        let args = [(&segment.log).into(), int(after), int(before), own.into(), int(segment.to), int(missing)];
        found.extend(tx.rows(sql, &args).await?.into_iter().map(|row| (segment, row)));
    }
    if query.backward {
        found.reverse();
    }
    Ok(found)
}

pub fn read_turn(mut row: Row, session: SessionId) -> Result<TurnRecord, Stop> {
    let place = row.number(1)?;
    parse(&row.blob(2)?, session, place)
}

/// A message as it stood at `to`, for one that is read up to there.
pub fn read_message(mut row: Row, session: SessionId, to: u64) -> Result<MessageRecord, Stop> {
    let first_seq = row.number(1)?;
    let last_seq = row.optional_int(5)?.map(i64::unsigned_abs);
    let role = role_of(&row.text(4)?).ok_or(Stop::Corrupt(session, first_seq))?;
    Ok(MessageRecord {
        id: MessageId(Uuid::from_bytes(row.fixed(2)?)),
        turn: row.optional_fixed(3)?.map(|bytes| TurnId(Uuid::from_bytes(bytes))),
        role,
        first_seq,
        last_seq: if to == OPEN { last_seq } else { Some(last_seq.unwrap_or(to).min(to)) },
    })
}
