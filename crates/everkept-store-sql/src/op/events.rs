//! Reading events back: in order, unpacked, and checked.
//!
//! Never returns bytes that do not fit their checksum, or passes over a number that is not there.

use super::{
    Stop,
    segments::{OPEN, Segment, segments},
};
use crate::{
    packed,
    tx::{Arg, Columns, Tx, int},
};
use bytes::Bytes;
use everkept_core::{Body, SessionId};
use everkept_store::{CHAIN_START, Chain, EventsQuery, Lines, StoredEvent, fits, link};
use std::{fmt::Write, ops::ControlFlow};

pub async fn events<T: Tx>(tx: &mut T, query: &EventsQuery) -> Result<Vec<StoredEvent>, Stop> {
    Ok(find(tx, query, "").await?.map_or_else(Vec::new, Found::take))
}

pub async fn lines<T: Tx>(tx: &mut T, query: &EventsQuery) -> Result<Lines, Stop> {
    let found = find(tx, query, "\n").await?;
    let lines = |found: Found| Some(Lines { last: found.events.last()?.0, bytes: found.bytes.into() });
    Ok(found.and_then(lines).unwrap_or_else(|| Lines { last: query.after, bytes: Bytes::new() }))
}

async fn find<T: Tx>(tx: &mut T, query: &EventsQuery, end: &'static str) -> Result<Option<Found>, Stop> {
    let Some(session) = query.session else { return Ok(None) };
    let after = query.after.max(first_of_turn(tx, query).await?);
    let until = query.until.unwrap_or(u64::MAX);
    let mut found = Found::new(session, query, end);
    let is_all = query.kinds.is_empty() && query.turn.is_none() && query.context.is_none();
    found.next = is_all.then_some(after + 1);
    for segment in segments(tx, session).await? {
        let from = segment.from.max(after);
        let to = segment.to.min(until);
        if from < to && !found.is_full() {
            read_segment(tx, query, Segment { from, to, ..segment }, &mut found).await?;
        }
    }
    Ok(Some(found))
}

/// The events that stand in the session's own log, without what it inherited.
pub async fn own_events<T: Tx>(tx: &mut T, session: SessionId, query: &EventsQuery) -> Result<Vec<StoredEvent>, Stop> {
    let mut found = Found::new(session, query, "");
    let segment = Segment { log: session, from: query.after, to: query.until.unwrap_or(OPEN).min(OPEN) };
    read_segment(tx, query, segment, &mut found).await?;
    Ok(found.take())
}

/// A turn's events begin where it was queued; what came before need not be looked at.
async fn first_of_turn<T: Tx>(tx: &mut T, query: &EventsQuery) -> Result<u64, Stop> {
    let Some(turn) = &query.turn else { return Ok(0) };
    let rows = tx.rows("SELECT place FROM turn WHERE id = $1", &[turn.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.number(0).map(|place| place.saturating_sub(1)))
}

async fn read_segment<T: Tx>(tx: &mut T, query: &EventsQuery, segment: Segment, found: &mut Found) -> Result<(), Stop> {
    let is_open = segment.to == OPEN;
    let mut args = vec![(&segment.log).into(), int(segment.from)];
    args.extend((!is_open).then(|| int(segment.to)));
    args.extend(query.kinds.iter().map(|kind| Arg::Text(kind)));
    args.extend(query.turn.as_ref().map(Arg::from));
    args.extend(query.context.map(|context| Arg::Int(context.into())));
    let take = |row: &dyn Columns| {
        found.unpack(row, &segment)?;
        Ok(if found.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    tx.each(&sql_for(query, is_open), &args, take).await
}

fn sql_for(query: &EventsQuery, is_open: bool) -> String {
    let mut sql = "SELECT seq, count, kind, sum, body FROM event WHERE log = $1 AND seq > $2".to_owned();
    let mut number = 2;
    if !is_open {
        // A packed row is found by its last event, which may lie behind the end that was asked for; no row after it counts.
        sql.push_str(" AND seq <= COALESCE((SELECT MIN(seq) FROM event WHERE log = $1 AND seq >= $3), $3) AND seq - count < $3");
        number = 3;
    }
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
    sql.push_str(" ORDER BY seq");
    sql
}

struct Found {
    session: SessionId,
    /// Number, kind, and where in `bytes` the event ends.
    events: Vec<(u64, &'static str, usize)>,
    /// All that was found, one after the other: a room for each would cost more than the copying.
    bytes: Vec<u8>,
    /// What stands after each event.
    end: &'static str,
    /// The number that comes next, where none is left out.
    next: Option<u64>,
    limit: usize,
    max_bytes: usize,
    /// The kind of the last row: most are of the same kind as the one before.
    kind: &'static str,
}

impl Found {
    fn new(session: SessionId, query: &EventsQuery, end: &'static str) -> Self {
        let max_bytes = query.max_bytes.unwrap_or(usize::MAX);
        // The last event may go beyond the bound.
        let bytes = Vec::with_capacity(query.max_bytes.map_or(0, |most| most + most / 8));
        Found { session, events: Vec::new(), bytes, end, next: None, limit: query.limit as usize, max_bytes, kind: "" }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes.len() >= self.max_bytes
    }

    /// Adds those of the row's events that lie in the segment and still fit.
    fn unpack(&mut self, row: &dyn Columns, segment: &Segment) -> Result<(), Stop> {
        let (seq, count, kind, kept, body) = (row.number(0)?, row.number(1)?, row.text(2)?, row.int(3)?, row.blob(4)?);
        let first = (seq + 1).saturating_sub(count);
        let corrupt = Stop::Corrupt(self.session, first.max(segment.from + 1));
        if kind != self.kind {
            let Some(known) = Body::KINDS.iter().find(|known| **known == kind) else { return Err(corrupt) };
            self.kind = known;
        }
        if !fits(body, kept.to_be_bytes()) {
            return Err(corrupt);
        }
        if count == 1 {
            return self.add(seq, body);
        }
        let bodies = packed::unpack(body, first).filter(|bodies| bodies.len() as u64 == count).ok_or(corrupt)?;
        for (seq, bytes) in (first..).zip(bodies).filter(|(seq, _)| *seq > segment.from && *seq <= segment.to) {
            if self.is_full() {
                break;
            }
            self.add(seq, &bytes)?;
        }
        Ok(())
    }

    fn add(&mut self, seq: u64, event: &[u8]) -> Result<(), Stop> {
        if let Some(next) = &mut self.next {
            if *next != seq {
                return Err(Stop::Corrupt(self.session, *next));
            }
            *next += 1;
        }
        self.bytes.extend_from_slice(event);
        self.events.push((seq, self.kind, self.bytes.len()));
        self.bytes.extend_from_slice(self.end.as_bytes());
        Ok(())
    }

    fn take(self) -> Vec<StoredEvent> {
        let bytes = Bytes::from(self.bytes);
        let mut from = 0;
        let event = |(seq, kind, to)| StoredEvent { seq, kind, bytes: bytes.slice(std::mem::replace(&mut from, to + self.end.len())..to) };
        self.events.into_iter().map(event).collect()
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
    let Some(at) = segments.iter().position(|segment| seq <= segment.to) else { return Ok(None) };
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
