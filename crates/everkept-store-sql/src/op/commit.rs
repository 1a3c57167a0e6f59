//! One atomic step: events numbered and linked, rows replaced, what goes with them.
//!
//! Never counts outside the transaction: head, fence and chain are read in it, and compared again as they are written.

use super::{Stop, answers::keep_answer, blobs, events::chain_at, json, usage};
use crate::tx::{Arg, Tx, int};
use everkept_core::{
    Body, Effect, Event, MAX_EVENT_BYTES, MessageRecord, Question, QuestionId, Record, Role, Session, SessionState, TurnRecord,
};
use everkept_store::{CHAIN_START, Chain, Commit, LogWrite, StoredEvent, encode, link};

pub async fn commit<T: Tx>(tx: &mut T, commit: &Commit) -> Result<Vec<Vec<StoredEvent>>, Stop> {
    if let Some(answer) = &commit.answer {
        keep_answer(tx, answer, commit.wall).await?;
    }
    let mut stored = Vec::with_capacity(commit.writes.len());
    for write in &commit.writes {
        stored.push(append(tx, write).await?);
    }
    // Who gives a thread up comes before who takes it.
    for takes in [false, true] {
        for write in &commit.writes {
            for record in &write.records {
                if let Record::Session(session) = record
                    && holds_thread(session) == takes
                {
                    put_session(tx, session, &write.events).await?;
                }
            }
        }
    }
    for (blob, bytes) in &commit.blobs {
        blobs::put_blob(tx, blob.id, bytes, commit.writes.first().map(|write| write.session)).await?;
    }
    if let Some(raw) = &commit.raw {
        blobs::put_raw(tx, raw).await?;
    }
    Ok(stored)
}

/// A log as it stands before a write.
struct Held {
    head: u64,
    chain: Chain,
    /// The last inherited event.
    cut: u64,
    new: bool,
}

async fn append<T: Tx>(tx: &mut T, write: &LogWrite) -> Result<Vec<StoredEvent>, Stop> {
    let held = hold(tx, write).await?;
    let mut chain = held.chain;
    let mut stored = Vec::with_capacity(write.events.len());
    let mut asked = Vec::new();
    for (seq, event) in (held.head + 1..).zip(&write.events) {
        let bytes = encode(event, seq);
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(Stop::Oversized(bytes.len()));
        }
        let sum;
        (sum, chain) = link(&chain, &bytes);
        put_event(tx, write, event, seq, i64::from_be_bytes(sum), &chain, &bytes).await?;
        if let Body::QuestionAsked(data) = &event.body {
            asked.push((data.question, seq));
        }
        stored.push(StoredEvent { seq, kind: event.body.kind(), bytes: bytes.into() });
    }
    let head = held.head + write.events.len() as u64;
    put_log(tx, write, &held, head, &chain).await?;
    for record in &write.records {
        match record {
            // All sessions are put at the end.
            Record::Session(_) => {}
            // A row of an inherited turn or message stands in the log it was written to.
            Record::Turn(turn) if turn.queued_seq > held.cut => put_turn(tx, write, turn).await?,
            Record::Message(message) if message.first_seq > held.cut => put_message(tx, write, message).await?,
            Record::Usage(used) if used.queued_seq > held.cut => usage::put(tx, write.session, used).await?,
            Record::Turn(_) | Record::Message(_) | Record::Usage(_) => {}
            Record::Question(question) => put_question(tx, write, question, &asked).await?,
            Record::Owed(effects) => put_owed(tx, write, effects).await?,
        }
    }
    Ok(stored)
}

async fn hold<T: Tx>(tx: &mut T, write: &LogWrite) -> Result<Held, Stop> {
    let conflict = Stop::Conflict(write.session);
    let sql = "SELECT head, fence, chain, fork_seq FROM log WHERE session = $1";
    let row = tx.rows(sql, &[(&write.session).into()]).await?.pop();
    let held = match (row, &write.fork_of) {
        (Some(row), None) if row.number(1)? == write.fence => {
            Held { head: row.number(0)?, chain: row.fixed(2)?, cut: row.number(3)?, new: false }
        }
        (Some(_), _) => return Err(conflict),
        (None, None) => Held { head: 0, chain: CHAIN_START, cut: 0, new: true },
        (None, Some((parent, cut))) => match chain_at(tx, *parent, *cut).await? {
            Some(chain) => Held { head: *cut, chain, cut: *cut, new: true },
            None => return Err(conflict),
        },
    };
    if held.head == write.expected_head { Ok(held) } else { Err(conflict) }
}

async fn put_event<T: Tx>(
    tx: &mut T,
    write: &LogWrite,
    event: &Event,
    seq: u64,
    sum: i64,
    chain: &Chain,
    bytes: &[u8],
) -> Result<(), Stop> {
    let sql = "INSERT INTO event (log, seq, count, kind, turn, context, sum, chain, body) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)";
    let args = [
        (&write.session).into(),
        int(seq),
        event.body.kind().into(),
        event.turn.as_ref().into(),
        Arg::Int(event.context.into()),
        Arg::Int(sum),
        Arg::Blob(chain),
        Arg::Blob(bytes),
    ];
    tx.exec(sql, &args).await?;
    Ok(())
}

async fn put_log<T: Tx>(tx: &mut T, write: &LogWrite, held: &Held, head: u64, chain: &Chain) -> Result<(), Stop> {
    if held.new {
        let sql = "INSERT INTO log (session, head, fence, chain, fork_of, fork_seq) VALUES ($1, $2, $3, $4, $5, $6)";
        let parent = write.fork_of.as_ref().map(|(parent, _)| parent);
        let args = [(&write.session).into(), int(head), int(write.fence), Arg::Blob(chain), parent.into(), int(held.cut)];
        tx.exec(sql, &args).await?;
        return Ok(());
    }
    let sql = "UPDATE log SET head = $2, chain = $3 WHERE session = $1 AND head = $4 AND fence = $5";
    let args = [(&write.session).into(), int(head), Arg::Blob(chain), int(held.head), int(write.fence)];
    match tx.exec(sql, &args).await? {
        0 => Err(Stop::Conflict(write.session)),
        _ => Ok(()),
    }
}

fn holds_thread(session: &Session) -> bool {
    session.deleted_at.is_none() && session.resource.is_some() && session.thread.is_some()
}

async fn put_session<T: Tx>(tx: &mut T, session: &Session, events: &[Event]) -> Result<(), Stop> {
    let resource = session.resource.as_ref().map(|resource| resource.as_str());
    let thread = session.thread.as_ref().map(|thread| thread.as_str());
    if holds_thread(session) && events.iter().any(may_take_thread) {
        let sql = "SELECT id FROM session WHERE resource = $1 AND thread = $2 AND deleted = 0 AND id <> $3";
        if let Some(row) = tx.rows(sql, &[resource.into(), thread.into(), (&session.id).into()]).await?.first() {
            return Err(Stop::ThreadTaken(row.session(0)?));
        }
    }
    let sql =
        "INSERT INTO session (id, resource, thread, agent, state, archived, deleted, updated_at, created_at, parent, purge_at, record)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (id) DO UPDATE SET thread = excluded.thread, agent = excluded.agent, state = excluded.state,
            archived = excluded.archived, deleted = excluded.deleted, updated_at = excluded.updated_at,
            purge_at = excluded.purge_at, record = excluded.record";
    let record = json(session);
    let args = [
        (&session.id).into(),
        resource.into(),
        thread.into(),
        session.agent.as_ref().map(|agent| agent.as_str()).into(),
        state_word(session.state).into(),
        session.archived_at.is_some().into(),
        session.deleted_at.is_some().into(),
        session.updated_at.into(),
        session.created_at.into(),
        session.parent.as_ref().map(|parent| &parent.session).into(),
        session.purge_at.into(),
        Arg::Blob(&record),
    ];
    tx.exec(sql, &args).await?;
    Ok(())
}

fn may_take_thread(event: &Event) -> bool {
    match &event.body {
        Body::SessionCreated(_) | Body::SessionForked(_) | Body::SessionRestored(_) => true,
        body => matches!(body, Body::SessionUpdated(data) if data.thread.is_some()),
    }
}

pub fn state_word(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "idle",
        SessionState::Running => "running",
        SessionState::Waiting => "waiting",
    }
}

async fn put_turn<T: Tx>(tx: &mut T, write: &LogWrite, turn: &TurnRecord) -> Result<(), Stop> {
    let sql = "INSERT INTO turn (log, place, id, ended_seq, letter_at, record) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (log, place) DO UPDATE SET ended_seq = excluded.ended_seq, letter_at = excluded.letter_at, record = excluded.record";
    let record = json(turn);
    let args = [
        (&write.session).into(),
        int(turn.queued_seq),
        (&turn.turn.id).into(),
        turn.ended_seq.map(int).into(),
        turn.turn.ended_at.filter(|_| turn.dead_letter).into(),
        Arg::Blob(&record),
    ];
    tx.exec(sql, &args).await?;
    Ok(())
}

async fn put_message<T: Tx>(tx: &mut T, write: &LogWrite, message: &MessageRecord) -> Result<(), Stop> {
    let sql = "INSERT INTO message (log, place, id, turn, role, last_seq) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (log, place) DO UPDATE SET last_seq = excluded.last_seq";
    let args = [
        (&write.session).into(),
        int(message.first_seq),
        Arg::Blob(message.id.0.as_bytes()),
        message.turn.as_ref().into(),
        role_word(message.role).into(),
        message.last_seq.map(int).into(),
    ];
    tx.exec(sql, &args).await?;
    Ok(())
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    }
}

pub fn role_of(word: &str) -> Option<Role> {
    [Role::User, Role::Assistant, Role::System].into_iter().find(|role| role_word(*role) == word)
}

async fn put_question<T: Tx>(tx: &mut T, write: &LogWrite, question: &Question, asked: &[(QuestionId, u64)]) -> Result<(), Stop> {
    let record = json(question);
    let state = super::questions::state_word(question.state);
    let Some((_, place)) = asked.iter().find(|(id, _)| *id == question.id) else {
        let sql = "UPDATE question SET state = $2, record = $3 WHERE id = $1";
        tx.exec(sql, &[(&question.id).into(), state.into(), Arg::Blob(&record)]).await?;
        return Ok(());
    };
    let sql = "INSERT INTO question (session, place, id, state, asked_at, record) VALUES ($1, $2, $3, $4, $5, $6)";
    let args = [(&write.session).into(), int(*place), (&question.id).into(), state.into(), question.asked_at.into(), Arg::Blob(&record)];
    tx.exec(sql, &args).await?;
    Ok(())
}

async fn put_owed<T: Tx>(tx: &mut T, write: &LogWrite, effects: &[Effect]) -> Result<(), Stop> {
    if effects.is_empty() {
        tx.exec("DELETE FROM owed WHERE session = $1", &[(&write.session).into()]).await?;
        return Ok(());
    }
    let sql = "INSERT INTO owed (session, effects) VALUES ($1, $2) ON CONFLICT (session) DO UPDATE SET effects = excluded.effects";
    tx.exec(sql, &[(&write.session).into(), Arg::Blob(&json(&effects))]).await?;
    Ok(())
}
