//! What has to hold after a restart, whatever happened before it.
//!
//! Never: knowledge of a scenario.

use super::server::{Note, Past, Recording, Request, Server, What, rendered, run};
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{Store, StoredEvent, decode, verify};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub type Held = Result<(), String>;

/// Starts the server on what is left, lets it settle, and holds it against everything that was noted.
pub fn recover(past: Past) -> Result<Recording, String> {
    let (held, recording) = run(past, |_| {}, recovered);
    held.map(|()| recording)
}

pub async fn recovered(server: &Server) -> Held {
    server.start().await.map_err(|ended| format!("does not start: {ended:?}"))?;
    seen_is_kept(server).await?;
    tokens_are_kept(server).await?;
    for session in server.store().all_sessions(None, 1_000).await.map_err(|fault| fault.to_string())? {
        // One in the trash has no readers.
        let _ = server.tail(session).await;
    }
    answers_are_kept(server).await?;
    settle(server).await
}

/// Lets everything come to its end, and looks at all of it.
pub async fn settle(server: &Server) -> Held {
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    server.read_all().await.map_err(|ended| format!("cannot be read: {ended:?}"))?;
    seen_is_kept(server).await?;
    let logs = logs(server).await?;
    turns_end_once(&logs)?;
    prompts_are_given_once(server, &logs, !purged(server).await?.is_empty())?;
    effects_are_single(server, &logs)?;
    backups_hold(server).await?;
    if let Some(broken) = server.witness.all().into_iter().find_map(|note| if let Note::Broken(what) = note { Some(what) } else { None }) {
        return Err(broken);
    }
    let report = verify(&*server.store(), &mut |_| {}).await.map_err(|fault| format!("verify: {fault}"))?;
    if report.damages.is_empty() { Ok(()) } else { Err(format!("damage: {:?}", report.damages)) }
}

pub async fn log(store: &dyn Store, session: SessionId) -> Result<Vec<StoredEvent>, String> {
    let query = EventsQuery { session: Some(session), limit: 1_000_000, ..EventsQuery::default() };
    store.events(query).await.map_err(|fault| format!("{session} cannot be read: {fault}"))
}

/// D1, D3: with the same number and the same bytes.
pub async fn seen_is_kept(server: &Server) -> Held {
    let mut logs = BTreeMap::new();
    let purged = purged(server).await?;
    for session in server.sessions_noted() {
        logs.insert(session, log(&*server.store(), session).await?);
    }
    for note in server.witness.all() {
        if let Note::Seen(session, seq, bytes) = note
            && !purged.contains(&session)
        {
            let kept = logs[&session].get(seq as usize - 1);
            if kept.is_none_or(|kept| kept.bytes != bytes || kept.seq != seq) {
                return Err(format!("D3: event {seq} of {session} was seen and is now {kept:?}, not {bytes:?}"));
            }
        }
    }
    Ok(())
}

/// D8: nothing of them is to be seen.
async fn purged(server: &Server) -> Result<BTreeSet<SessionId>, String> {
    let purged = server.purged().await.map_err(|ended| format!("cannot be read: {ended:?}"))?;
    for session in &purged {
        let left = log(&*server.store(), *session).await?;
        if !left.is_empty() {
            return Err(format!("D8: {session} is purged and still has {} events", left.len()));
        }
    }
    Ok(purged)
}

async fn tokens_are_kept(server: &Server) -> Held {
    let mut latest = BTreeMap::new();
    for note in server.witness.all() {
        if let Note::Token(token) = note {
            latest.insert(token.id, token);
        }
    }
    for token in latest.into_values() {
        let kept = server.engine().token_by_hash(token.secret_hash).await.map_err(|failure| failure.to_string())?;
        // A revocation that was not acknowledged may have happened all the same.
        let same = kept.clone().map(|kept| everkept_store::Token { revoked_at: token.revoked_at, ..kept });
        if same.as_ref() != Some(&token) || (token.revoked_at.is_some() && kept.as_ref().is_none_or(|kept| kept.revoked_at.is_none())) {
            return Err(format!("D1: token {token:?} is now {kept:?}"));
        }
    }
    Ok(())
}

/// O3: each request is sent again, and again.
async fn answers_are_kept(server: &Server) -> Held {
    let notes = server.witness.all();
    let answered =
        |key: &str| notes.iter().find_map(|note| if let Note::Answered(k, body) = note { (k == key).then_some(body) } else { None });
    let mut sent = BTreeSet::new();
    let today = notes.iter().rposition(|note| matches!(note, Note::Later)).unwrap_or(0);
    for note in &notes[today..] {
        let Note::Asked(request) = note else { continue };
        if !sent.insert(request.key.clone()) {
            continue;
        }
        let first = match (server.send(request).await, answered(&request.key)) {
            // What is in the trash is not there, not even its answers.
            (Err(Failure::Refused(Refusal::SessionNotFound)), Some(_)) if in_trash(server, &notes).await => continue,
            (Ok(Answered::Kept { body, .. }), Some(known)) if body == *known => body,
            (other, Some(known)) => return Err(format!("O3: {} was answered {known:?} and now {other:?}", request.key)),
            (Ok(Answered::Kept { body, .. }), None) => body,
            (Ok(Answered::Fresh(reply)), None) => {
                let body = rendered(&reply);
                server.witness.note(Note::Answered(request.key.clone(), body.clone()));
                body
            }
            // Things may have gone on without it.
            (Err(Failure::Refused(_)), None) => continue,
            (Err(failure), None) => return Err(format!("{} is not done: {failure}", request.key)),
        };
        match server.send(request).await {
            Ok(Answered::Kept { body, .. }) if body == first => {}
            Err(Failure::Refused(Refusal::SessionNotFound)) if in_trash(server, &notes).await => {}
            other => return Err(format!("O3: {} was answered {first:?} and again {other:?}", request.key)),
        }
    }
    Ok(())
}

async fn in_trash(server: &Server, notes: &[Note]) -> bool {
    let deletes = notes.iter().any(|note| matches!(note, Note::Asked(request) if request.key.starts_with("delete")));
    let trash = SessionsQuery { deleted: true, limit: 1, ..SessionsQuery::default() };
    deletes && server.store().count_sessions(trash).await.is_ok_and(|count| count > 0)
}

/// The events that every session made itself, once O1 is looked at.
async fn logs(server: &Server) -> Result<BTreeMap<SessionId, Vec<Event>>, String> {
    let store = server.store();
    let mut logs = BTreeMap::new();
    for session in store.all_sessions(None, 1_000).await.map_err(|fault| fault.to_string())? {
        let mut own = Vec::new();
        for (n, stored) in (1..).zip(log(&*store, session).await?) {
            let (seq, event) = decode(&stored.bytes).map_err(|error| format!("event {n} of {session}: {error}"))?;
            if (stored.seq, seq) != (n, n) {
                return Err(format!("O1: event {n} of {session} has the numbers {} and {seq}", stored.seq));
            }
            if event.session == session {
                own.push(event);
            }
        }
        logs.insert(session, own);
    }
    Ok(logs)
}

fn turns_end_once(logs: &BTreeMap<SessionId, Vec<Event>>) -> Held {
    for (session, events) in logs {
        let turns = |is: fn(&Body) -> bool| events.iter().filter(move |event| is(&event.body)).filter_map(|event| event.turn);
        for turn in turns(|body| matches!(body, Body::TurnQueued(_))) {
            let ends = turns(|body| matches!(body, Body::TurnEnded(_))).filter(|ended| *ended == turn).count();
            if ends != 1 {
                return Err(format!("O6: turn {turn} of {session} has {ends} ends"));
            }
        }
    }
    Ok(())
}

/// O5, and none that is not stored (D2).
fn prompts_are_given_once(server: &Server, logs: &BTreeMap<SessionId, Vec<Event>>, purged: bool) -> Held {
    let mut given = BTreeSet::new();
    for note in server.witness.all() {
        let Note::Prompted(turn) = note else { continue };
        if !given.insert(turn) {
            return Err(format!("O5: turn {turn} was prompted twice"));
        }
        let started = |event: &Event| event.turn == Some(turn) && matches!(event.body, Body::TurnStarted(_));
        if !purged && !logs.values().flatten().any(started) {
            return Err(format!("D2: turn {turn} was prompted and is not in the log"));
        }
    }
    Ok(())
}

/// O3, seen from the effects: no title and no user's text is there more often than it was asked for.
fn effects_are_single(server: &Server, logs: &BTreeMap<SessionId, Vec<Event>>) -> Held {
    let keys: BTreeSet<String> = server
        .witness
        .all()
        .into_iter()
        .filter_map(|note| if let Note::Asked(request) = note { Some(request.key) } else { None })
        .collect();
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for event in logs.values().flatten() {
        match &event.body {
            Body::SessionCreated(data) => {
                let title = data.title.clone().unwrap_or_default();
                *found.entry(format!("create {title}")).or_default() += 1;
            }
            Body::MessageAdded(data) if data.role == Role::User => {
                for part in &data.parts {
                    if let AddedPart::Text { text, .. } = part {
                        *found.entry(text.clone()).or_default() += 1;
                    }
                }
            }
            _ => {}
        }
    }
    if let Some((text, count)) = found.into_iter().find(|(text, count)| *count > 1 && keys.contains(text)) {
        return Err(format!("O3: {text} has {count} effects"));
    }
    let asked: BTreeSet<String> = server.witness.all().into_iter().filter_map(asks_for_a_fork).collect();
    // What was seen before anything was asked was there before.
    let before = server.witness.all().into_iter().take_while(|note| !matches!(note, Note::Asked(_)));
    let before: BTreeSet<SessionId> =
        before.filter_map(|note| if let Note::Seen(session, ..) = note { Some(session) } else { None }).collect();
    let made = logs.iter().filter(|(session, _)| !before.contains(session)).flat_map(|(_, events)| events);
    let forks = made.filter(|event| matches!(event.body, Body::SessionForked(_))).count();
    if forks > asked.len() {
        return Err(format!("O3: {asked:?} made {forks} forks"));
    }
    Ok(())
}

fn asks_for_a_fork(note: Note) -> Option<String> {
    let Note::Asked(Request { key, what }) = note else { return None };
    let order = match what {
        What::Create(_) => return None,
        What::Order(_, order) | What::Thread(_, _, order) => order,
    };
    let forks = match order {
        Order::Fork(_) => true,
        Order::Submit(new) => matches!(new.intake, Intake::History { if_edited: IfEdited::Fork, .. }),
        _ => false,
    };
    forks.then_some(key)
}

/// R6: a copy that was acknowledged is whole, and has what was seen before it was.
async fn backups_hold(server: &Server) -> Held {
    let notes = server.witness.all();
    for (at, note) in notes.iter().enumerate() {
        let Note::Backup(name) = note else { continue };
        let image = server.disk().image().of_one(name, "everkept.db").ok_or("R6: the backup is gone")?;
        let before = notes[..at].iter().filter(|note| matches!(note, Note::Seen(..))).cloned().collect();
        let past = Past { image, notes: before, starts: 1_000 };
        // A runtime inside a runtime has to be on a thread of its own.
        let checked = std::thread::spawn(move || {
            let (held, _) = run(
                past,
                |_| {},
                async |copy: &Server| {
                    copy.start().await.map_err(|ended| format!("R6: the backup does not start: {ended:?}"))?;
                    seen_is_kept(copy).await?;
                    let report = verify(&*copy.store(), &mut |_| {}).await.map_err(|fault| fault.to_string())?;
                    if report.damages.is_empty() { Ok(()) } else { Err(format!("R6: {:?}", report.damages)) }
                },
            );
            held
        });
        checked.join().map_err(|_| "the check of the backup panicked".to_owned())??;
    }
    Ok(())
}
