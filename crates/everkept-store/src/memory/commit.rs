//! One atomic step: everything is checked first, and then nothing can fail.
//!
//! Never changes anything on the way to a refusal.

use super::{Kept, Log};
use crate::{CHAIN_START, Commit, CommitFault, LogWrite, StoredEvent, encode};
use everkept_core::{Body, Record, Resource, Session, SessionId, SessionState, Thread, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

impl Kept {
    pub fn commit(&mut self, commit: Commit) -> Result<Vec<Vec<StoredEvent>>, CommitFault> {
        let now = self.wall.max(commit.wall);
        if let Some(answer) = &commit.answer {
            let held = self.answers.get(&(answer.principal.clone(), answer.key.clone()));
            if let Some(held) = held.filter(|held| held.is_kept_at(now)) {
                return Err(CommitFault::KeyUsed(Box::new(held.clone())));
            }
        }
        self.check_heads(&commit.writes)?;
        self.check_threads(&commit.writes)?;
        let first = commit.writes.first().map(|write| write.session);
        let stored = commit.writes.into_iter().map(|write| self.append(write)).collect();
        if let Some(answer) = commit.answer {
            self.answers.insert((answer.principal.clone(), answer.key.clone()), answer);
        }
        for (blob, bytes) in commit.blobs {
            self.blobs.entry(blob.id.0).or_insert(bytes);
            self.blob_sessions.extend(first.map(|session| (blob.id.0, session)));
        }
        if let Some(raw) = commit.raw {
            self.raw.entry((raw.session, raw.turn)).or_default().extend_from_slice(&raw.bytes);
        }
        self.wall = now;
        Ok(stored)
    }

    /// Whether a session in the trash is needed by nobody any more.
    pub fn is_due(&self, session: SessionId, now: Timestamp) -> bool {
        let over = self.sessions.get(&session).is_some_and(|held| {
            held.deleted_at.is_some() && held.state == SessionState::Idle && held.purge_at.is_some_and(|purge_at| purge_at <= now)
        });
        over && !self.logs.values().any(|log| log.parent == Some(session))
    }

    pub fn purge(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.logs.remove(&session);
        self.turns.retain(|_, (of, _)| *of != session);
        self.questions.retain(|_, of| *of != session);
        self.answers.retain(|_, answer| answer.session != Some(session));
        self.raw.retain(|(of, _), _| *of != session);
        self.blob_sessions.retain(|(_, of)| *of != session);
        let held: BTreeSet<[u8; 32]> = self.blob_sessions.iter().map(|(blob, _)| *blob).collect();
        self.blobs.retain(|blob, _| held.contains(blob));
    }

    fn check_heads(&self, writes: &[LogWrite]) -> Result<(), CommitFault> {
        let mut heads: BTreeMap<SessionId, (u64, u64)> = BTreeMap::new();
        for write in writes {
            let conflict = CommitFault::Conflict { session: write.session };
            let held = heads.get(&write.session).copied();
            let held = held.or_else(|| self.logs.get(&write.session).map(|log| (log.head().seq, log.fence)));
            let head = match (held, write.fork_of) {
                (Some((head, fence)), None) if fence == write.fence => head,
                (None, None) => 0,
                (None, Some((parent, cut))) => {
                    let held = heads.get(&parent).copied().or_else(|| self.logs.get(&parent).map(|log| (log.head().seq, log.fence)));
                    if held.is_none_or(|(head, _)| head < cut) {
                        return Err(conflict);
                    }
                    cut
                }
                (Some(_), _) => return Err(conflict),
            };
            if head != write.expected_head {
                return Err(conflict);
            }
            heads.insert(write.session, (head + write.events.len() as u64, write.fence));
        }
        Ok(())
    }

    /// As the step leaves it, no pair may name two sessions.
    fn check_threads(&self, writes: &[LogWrite]) -> Result<(), CommitFault> {
        let mut after: BTreeMap<SessionId, Option<(Resource, Thread)>> = BTreeMap::new();
        for write in writes {
            for record in &write.records {
                if let Record::Session(session) = record {
                    after.insert(session.id, live_pair(session));
                }
            }
        }
        for (id, pair) in &after {
            let Some(pair) = pair else { continue };
            let held = self.threads.get(pair).filter(|held| !after.contains_key(held));
            let twin = || after.iter().find(|(other, twin)| *other != id && twin.as_ref() == Some(pair)).map(|(other, _)| other);
            if let Some(other) = held.or_else(twin) {
                return Err(CommitFault::ThreadTaken(*other));
            }
        }
        Ok(())
    }

    fn append(&mut self, write: LogWrite) -> Vec<StoredEvent> {
        let cut = write.fork_of.map_or(0, |(_, cut)| cut);
        let start = write.fork_of.and_then(|(parent, cut)| self.chain(parent, cut)).unwrap_or(CHAIN_START);
        let parent = write.fork_of.map(|(parent, _)| parent);
        let log = self.logs.entry(write.session).or_insert_with(|| Log::new(write.fence, parent, cut, start));
        let mut answer = Vec::with_capacity(write.events.len());
        let mut asked = BTreeMap::new();
        for event in write.events {
            let seq = log.head().seq + 1;
            if let Body::QuestionAsked(data) = &event.body {
                asked.insert(data.question, seq);
            }
            let stored = StoredEvent { seq, kind: event.body.kind(), bytes: encode(&event, seq).into() };
            answer.push(stored.clone());
            log.append(stored, event);
        }
        for record in write.records {
            match record {
                Record::Session(session) => {
                    let id = session.id;
                    if let Some(pair) = self.sessions.get(&id).and_then(live_pair)
                        && self.threads.get(&pair) == Some(&id)
                    {
                        self.threads.remove(&pair);
                    }
                    if let Some(pair) = live_pair(&session) {
                        self.threads.insert(pair, id);
                    }
                    self.sessions.insert(id, session);
                }
                // A row of an inherited turn or message stands in the log it was written to.
                Record::Turn(turn) if turn.queued_seq > log.cut => {
                    self.turns.insert(turn.turn.id, (write.session, turn.queued_seq));
                    log.turns.insert(turn.queued_seq, turn);
                }
                Record::Message(message) if message.first_seq > log.cut => {
                    log.messages.insert(message.first_seq, message);
                }
                Record::Usage(usage) if usage.queued_seq > log.cut => {
                    log.usage.insert(usage.queued_seq, usage);
                }
                Record::Turn(_) | Record::Message(_) | Record::Usage(_) => {}
                Record::Question(question) => {
                    if let Some(place) = asked.get(&question.id).copied().or_else(|| log.place_of(question.id)) {
                        self.questions.insert(question.id, write.session);
                        log.questions.insert(place, question);
                    }
                }
                Record::Owed(owed) => log.owed = owed,
            }
        }
        answer
    }
}

fn live_pair(session: &Session) -> Option<(Resource, Thread)> {
    if session.deleted_at.is_some() {
        return None;
    }
    session.resource.clone().zip(session.thread.clone())
}
