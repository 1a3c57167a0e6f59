//! The store that keeps everything in memory: the model the others are compared with.
//!
//! Never fails and never keeps anything beyond its own life.

mod commit;
mod log;
mod read;

use crate::{
    Answer, Boot, Chain, Commit, CommitFault, EventsQuery, Head, KeptAnswer, LettersQuery, Page, PlaceQuery, Problem, QuestionsQuery,
    SessionsQuery, Store, StoreFault, StoredEvent, Token, UsageQuery, UsageSum,
};
use bytes::{Bytes, BytesMut};
use everkept_core::{
    AgentName, Breaker, Effect, MessageRecord, ModelName, Question, QuestionId, Record, Resource, Session, SessionId, TextDigest, Thread,
    Timestamp, TokenId, TurnId, TurnRecord,
};
use log::Log;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most bytes of an agent's output that one read returns.
const RAW_PIECE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    boots: u64,
    wall: Timestamp,
    logs: BTreeMap<SessionId, Log>,
    sessions: BTreeMap<SessionId, Session>,
    /// The session of each pair that is not in the trash.
    threads: BTreeMap<(Resource, Thread), SessionId>,
    /// In whose log a turn stands, and where.
    turns: BTreeMap<TurnId, (SessionId, u64)>,
    questions: BTreeMap<QuestionId, SessionId>,
    answers: BTreeMap<(String, String), KeptAnswer>,
    blobs: BTreeMap<[u8; 32], Bytes>,
    /// Which sessions' steps brought a blob.
    blob_sessions: BTreeSet<([u8; 32], SessionId)>,
    raw: BTreeMap<(SessionId, TurnId), BytesMut>,
    tokens: BTreeMap<TokenId, Token>,
    breakers: BTreeMap<(AgentName, Option<ModelName>), Breaker>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ready<'a, T: Send + 'a, E: Send + 'a>(answer: Result<T, E>) -> Answer<'a, T, E> {
    Box::pin(std::future::ready(answer))
}

impl Store for MemoryStore {
    fn boot(&self, wall: Timestamp) -> Answer<'_, Boot> {
        let mut kept = self.kept();
        kept.boots += 1;
        kept.wall = kept.wall.max(wall);
        ready(Ok(Boot { number: kept.boots, latest_wall: kept.wall }))
    }

    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault> {
        ready(self.kept().commit(commit))
    }

    fn take(&self, session: SessionId) -> Answer<'_, Option<Head>> {
        let head = self.kept().logs.get_mut(&session).map(|log| {
            log.fence += 1;
            log.head()
        });
        ready(Ok(head))
    }

    fn head(&self, session: SessionId) -> Answer<'_, Option<Head>> {
        ready(Ok(self.kept().logs.get(&session).map(Log::head)))
    }

    fn events(&self, query: EventsQuery) -> Answer<'_, Vec<StoredEvent>> {
        ready(Ok(self.kept().events(&query)))
    }

    fn session(&self, session: SessionId) -> Answer<'_, Option<Session>> {
        ready(Ok(self.kept().sessions.get(&session).cloned()))
    }

    fn session_of_thread(&self, resource: Resource, thread: Thread) -> Answer<'_, Option<Session>> {
        let kept = self.kept();
        let id = kept.threads.get(&(resource, thread));
        ready(Ok(id.and_then(|id| kept.sessions.get(id)).cloned()))
    }

    fn sessions(&self, query: SessionsQuery) -> Answer<'_, Page<Session>> {
        ready(Ok(self.kept().sessions(&query)))
    }

    fn count_sessions(&self, query: SessionsQuery) -> Answer<'_, u64> {
        let kept = self.kept();
        ready(Ok(kept.sessions.values().filter(|session| kept.fits(session, &query)).count() as u64))
    }

    fn children(&self, session: SessionId) -> Answer<'_, Vec<Session>> {
        ready(Ok(self.kept().children(session)))
    }

    fn turn(&self, turn: TurnId) -> Answer<'_, Option<TurnRecord>> {
        let kept = self.kept();
        let found = kept.turns.get(&turn).and_then(|(session, place)| kept.logs.get(session)?.turns.get(place));
        ready(Ok(found.cloned()))
    }

    fn turns(&self, query: PlaceQuery) -> Answer<'_, Vec<TurnRecord>> {
        ready(Ok(self.kept().turns(&query)))
    }

    fn messages(&self, query: PlaceQuery) -> Answer<'_, Vec<MessageRecord>> {
        ready(Ok(self.kept().messages(&query)))
    }

    fn dead_letters(&self, query: LettersQuery) -> Answer<'_, Page<TurnRecord>> {
        ready(Ok(self.kept().dead_letters(&query)))
    }

    fn question(&self, question: QuestionId) -> Answer<'_, Option<Question>> {
        ready(Ok(self.kept().question(question)))
    }

    fn usage(&self, query: UsageQuery) -> Answer<'_, Page<UsageSum>> {
        ready(Ok(self.kept().usage(&query)))
    }

    fn questions(&self, query: QuestionsQuery) -> Answer<'_, Vec<Question>> {
        ready(Ok(self.kept().questions(&query)))
    }

    fn owed(&self) -> Answer<'_, Vec<(SessionId, Vec<Effect>)>> {
        let kept = self.kept();
        let due = kept.logs.iter().filter(|(_, log)| !log.owed.is_empty());
        ready(Ok(due.map(|(session, log)| (*session, log.owed.clone())).collect()))
    }

    fn raw(&self, session: SessionId, turn: TurnId, from: u64) -> Answer<'_, Bytes> {
        let kept = self.kept();
        let held: &[u8] = kept.raw.get(&(session, turn)).map_or(&[], |bytes| bytes);
        let rest = usize::try_from(from).ok().and_then(|from| held.get(from..)).unwrap_or(&[]);
        ready(Ok(Bytes::copy_from_slice(&rest[..rest.len().min(RAW_PIECE)])))
    }

    fn blob(&self, id: TextDigest) -> Answer<'_, Option<Bytes>> {
        ready(Ok(self.kept().blobs.get(&id.0).cloned()))
    }

    fn blob_sessions(&self, id: TextDigest) -> Answer<'_, Vec<SessionId>> {
        let kept = self.kept();
        ready(Ok(kept.blob_sessions.iter().filter(|(blob, _)| *blob == id.0).map(|(_, session)| *session).collect()))
    }

    fn kept_answer(&self, principal: String, key: String, now: Timestamp) -> Answer<'_, Option<KeptAnswer>> {
        let kept = self.kept();
        let now = kept.wall.max(now);
        ready(Ok(kept.answers.get(&(principal, key)).filter(|answer| answer.is_kept_at(now)).cloned()))
    }

    fn put_token(&self, token: Token) -> Answer<'_, ()> {
        self.kept().tokens.insert(token.id, token);
        ready(Ok(()))
    }

    fn token(&self, secret_hash: TextDigest) -> Answer<'_, Option<Token>> {
        ready(Ok(self.kept().tokens.values().find(|token| token.secret_hash == secret_hash).cloned()))
    }

    fn tokens(&self) -> Answer<'_, Vec<Token>> {
        let mut tokens: Vec<Token> = self.kept().tokens.values().cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        ready(Ok(tokens))
    }

    fn revoke_token(&self, token: TokenId, at: Timestamp) -> Answer<'_, bool> {
        let mut kept = self.kept();
        let held = kept.tokens.get_mut(&token);
        let found = held.is_some();
        if let Some(held) = held {
            held.revoked_at.get_or_insert(at);
        }
        ready(Ok(found))
    }

    fn put_breaker(&self, breaker: Breaker) -> Answer<'_, ()> {
        let mut kept = self.kept();
        let breaker = Breaker { probe: None, ..breaker };
        let held = kept.breakers.entry((breaker.agent.clone(), breaker.model.clone())).or_insert_with(|| breaker.clone());
        if breaker.version > held.version {
            *held = breaker;
        }
        ready(Ok(()))
    }

    fn breakers(&self) -> Answer<'_, Vec<Breaker>> {
        ready(Ok(self.kept().breakers.values().cloned().collect()))
    }

    fn pack(&self, _session: SessionId, _turn: TurnId) -> Answer<'_, ()> {
        ready(Ok(()))
    }

    fn index(&self) -> Answer<'_, bool> {
        ready(Ok(true))
    }

    fn forget_expired(&self) -> Answer<'_, bool> {
        let mut kept = self.kept();
        let now = kept.wall;
        kept.answers.retain(|_, answer| answer.is_kept_at(now));
        ready(Ok(true))
    }

    fn due(&self, now: Timestamp, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let kept = self.kept();
        let due = kept.sessions.keys().filter(|session| kept.is_due(**session, now));
        ready(Ok(due.take(limit as usize).copied().collect()))
    }

    fn purge(&self, session: SessionId, now: Timestamp) -> Answer<'_, bool> {
        let mut kept = self.kept();
        let due = kept.is_due(session, now);
        if due {
            kept.purge(session);
        }
        ready(Ok(due))
    }

    fn all_sessions(&self, after: Option<SessionId>, limit: u32) -> Answer<'_, Vec<SessionId>> {
        let kept = self.kept();
        let later = kept.logs.keys().filter(|id| after.is_none_or(|after| **id > after));
        ready(Ok(later.take(limit as usize).copied().collect()))
    }

    fn rows(&self, session: SessionId) -> Answer<'_, Vec<Record>> {
        ready(Ok(self.kept().rows(session)))
    }

    fn chains(&self, session: SessionId, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Chain)>> {
        ready(Ok(self.kept().chains(session, after, limit as usize)))
    }

    fn backup(&self, _to: PathBuf) -> Answer<'_, ()> {
        let problem = Problem::Unopenable("what is kept in memory only has no copy".into());
        ready(Err(StoreFault { problem, doing: "make a backup".into(), may_have_happened: false }))
    }
}
