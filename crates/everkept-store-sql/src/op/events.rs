//! Reading events back: in order, unpacked, and checked.
//!
//! Never returns bytes that do not fit their checksum.

use super::{
    Stop,
    segments::{OPEN, Segment, segments},
};
use crate::{
    packed,
    tx::{Arg, Row, Tx, int},
};
use bytes::Bytes;
use everkept_core::{Body, SessionId};
use everkept_store::{CHAIN_START, Chain, EventsQuery, StoredEvent, link, sum};
use std::fmt::Write;

/// How many rows are read at a time.
const PIECE: u64 = 512;

pub async fn events<T: Tx>(tx: &mut T, query: &EventsQuery) -> Result<Vec<StoredEvent>, Stop> {
    let Some(session) = query.session else { return Ok(Vec::new()) };
    let after = query.after.max(first_of_turn(tx, query).await?);
    let until = query.until.unwrap_or(u64::MAX);
    let mut found = Found { session, events: Vec::new(), limit: query.limit as usize };
    for segment in segments(tx, session).await? {
        let from = segment.from.max(after);
        let to = segment.to.min(until);
        if from < to && !found.is_full() {
            read_segment(tx, query, Segment { from, to, ..segment }, &mut found).await?;
        }
    }
    Ok(found.events)
}

/// The events that stand in the session's own log, without what it inherited.
pub async fn own_events<T: Tx>(tx: &mut T, session: SessionId, query: &EventsQuery) -> Result<Vec<StoredEvent>, Stop> {
    let mut found = Found { session, events: Vec::new(), limit: query.limit as usize };
    let segment = Segment { log: session, from: query.after, to: query.until.unwrap_or(OPEN).min(OPEN) };
    read_segment(tx, query, segment, &mut found).await?;
    Ok(found.events)
}

/// A turn's events begin where it was queued; what came before need not be looked at.
async fn first_of_turn<T: Tx>(tx: &mut T, query: &EventsQuery) -> Result<u64, Stop> {
    let Some(turn) = &query.turn else { return Ok(0) };
    let rows = tx.rows("SELECT place FROM turn WHERE id = $1", &[turn.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.number(0).map(|place| place.saturating_sub(1)))
}

async fn read_segment<T: Tx>(tx: &mut T, query: &EventsQuery, segment: Segment, found: &mut Found) -> Result<(), Stop> {
    let sql = sql_for(query);
    let mut from = segment.from;
    while !found.is_full() {
        let piece = PIECE.min(found.missing());
        let mut args = vec![(&segment.log).into(), int(from), int(segment.to), int(piece)];
        args.extend(query.kinds.iter().map(|kind| Arg::Text(kind)));
        args.extend(query.turn.as_ref().map(Arg::from));
        args.extend(query.context.map(|context| Arg::Int(context.into())));
        let rows = tx.rows(&sql, &args).await?;
        let last_piece = (rows.len() as u64) < piece;
        for row in rows {
            if found.is_full() {
                return Ok(());
            }
            let row = EventRow::read(row)?;
            let last = row.seq;
            row.unpack(&segment, found)?;
            from = last;
        }
        if last_piece {
            break;
        }
    }
    Ok(())
}

fn sql_for(query: &EventsQuery) -> String {
    // A packed row is found by its last event, which may lie behind the end that was asked for; no row after it counts.
    let mut sql = "SELECT seq, count, kind, sum, body FROM event WHERE log = $1 AND seq > $2
        AND seq <= COALESCE((SELECT MIN(seq) FROM event WHERE log = $1 AND seq >= $3), $3) AND seq - count < $3"
        .to_owned();
    let mut number = 4;
    if !query.kinds.is_empty() {
        sql.push_str(" AND kind IN (");
        for at in 0..query.kinds.len() {
            number += 1;
            write!(sql, "{}${number}", if at == 0 { "" } else { ", " }).expect("writing to a String cannot fail");
        }
        sql.push(')');
    }
    if query.turn.is_some() {
        number += 1;
        write!(sql, " AND turn = ${number}").expect("writing to a String cannot fail");
    }
    if query.context.is_some() {
        number += 1;
        write!(sql, " AND context = ${number}").expect("writing to a String cannot fail");
    }
    sql.push_str(" ORDER BY seq LIMIT $4");
    sql
}

struct Found {
    session: SessionId,
    events: Vec<StoredEvent>,
    limit: usize,
}

impl Found {
    fn missing(&self) -> u64 {
        (self.limit - self.events.len()) as u64
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit
    }
}

struct EventRow {
    seq: u64,
    count: u64,
    kind: String,
    sum: i64,
    body: Vec<u8>,
}

impl EventRow {
    fn read(mut row: Row) -> Result<Self, Stop> {
        Ok(EventRow { seq: row.number(0)?, count: row.number(1)?, kind: row.text(2)?, sum: row.int(3)?, body: row.blob(4)? })
    }

    /// Adds those of the row's events that lie in the segment and still fit.
    fn unpack(self, segment: &Segment, found: &mut Found) -> Result<(), Stop> {
        let first = (self.seq + 1).saturating_sub(self.count);
        let corrupt = Stop::Corrupt(found.session, first.max(segment.from + 1));
        let known = Body::KINDS.iter().find(|kind| **kind == self.kind);
        let Some(&kind) = known.filter(|_| i64::from_be_bytes(sum(&self.body)) == self.sum) else { return Err(corrupt) };
        if self.count == 1 {
            found.events.push(StoredEvent { seq: self.seq, kind, bytes: self.body.into() });
            return Ok(());
        }
        let bodies = packed::unpack(&self.body, first).filter(|bodies| bodies.len() as u64 == self.count).ok_or(corrupt)?;
        let wanted = (first..).zip(bodies).filter(|(seq, _)| *seq > segment.from && *seq <= segment.to);
        let missing = found.limit - found.events.len();
        found.events.extend(wanted.take(missing).map(|(seq, bytes)| StoredEvent { seq, kind, bytes: Bytes::from(bytes) }));
        Ok(())
    }
}

/// The kept chains after `after`, and at the end of the log the one it goes on from.
pub async fn chains<T: Tx>(tx: &mut T, session: SessionId, after: u64, limit: u64) -> Result<Vec<(u64, Chain)>, Stop> {
    let sql = "SELECT seq, chain FROM event WHERE log = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
    let mut found = Vec::new();
    for segment in segments(tx, session).await? {
        let missing = limit - found.len() as u64;
        let args = [(&segment.log).into(), int(segment.from.max(after)), int(segment.to), int(missing)];
        for row in tx.rows(sql, &args).await? {
            found.push((row.number(0)?, row.fixed(1)?));
        }
    }
    if (found.len() as u64) < limit {
        for row in tx.rows("SELECT head, chain FROM log WHERE session = $1", &[(&session).into()]).await? {
            found.push((row.number(0)?, row.fixed(1)?));
        }
    }
    Ok(found)
}

/// The chain after event `seq` of a session, `CHAIN_START` before its first.
pub async fn chain_at<T: Tx>(tx: &mut T, session: SessionId, seq: u64) -> Result<Option<Chain>, Stop> {
    let segments = segments(tx, session).await?;
    if seq == 0 {
        return Ok((!segments.is_empty()).then_some(CHAIN_START));
    }
    let Some(at) = segments.iter().position(|segment| segment.from < seq && seq <= segment.to) else { return Ok(None) };
    let log = &segments[at].log;
    let sql = "SELECT seq, count, chain, body FROM event WHERE log = $1 AND seq >= $2 ORDER BY seq LIMIT 1";
    let Some(mut row) = tx.rows(sql, &[log.into(), int(seq)]).await?.pop() else { return Ok(None) };
    let (last, count) = (row.number(0)?, row.number(1)?);
    if last == seq {
        return row.fixed(2).map(Some);
    }
    let first = (last + 1).saturating_sub(count);
    if first > seq {
        return Ok(None);
    }
    // Inside a packed row it is worked out from the row before, in the same log: none begins with a delta.
    let sql = "SELECT chain FROM event WHERE log = $1 AND seq < $2 ORDER BY seq DESC LIMIT 1";
    let before = tx.rows(sql, &[log.into(), int(first)]).await?.pop();
    let mut chain = before.map_or(Ok(CHAIN_START), |row| row.fixed(0))?;
    let bodies = packed::unpack(&row.blob(3)?, first).ok_or(Stop::Corrupt(session, seq))?;
    for (_, bytes) in (first..=seq).zip(&bodies) {
        (_, chain) = link(&chain, bytes);
    }
    Ok(Some(chain))
}
