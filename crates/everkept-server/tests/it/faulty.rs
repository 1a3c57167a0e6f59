//! The memory store with a fault at hand.

use bytes::Bytes;
use everkept_core::{
    Effect, MessageRecord, Question, QuestionId, Record, Resource, Session, SessionId, TextDigest, Thread, Timestamp, TokenId, TurnId,
    TurnRecord,
};
use everkept_store::*;
use std::sync::Mutex;

#[derive(Default)]
pub struct FaultyStore {
    inner: MemoryStore,
    problem: Mutex<Option<Problem>>,
}

impl FaultyStore {
    /// What every commit comes to from now on; nothing of it is written.
    pub fn break_commits(&self, problem: Option<Problem>) {
        *self.problem.lock().unwrap() = problem;
    }
}

macro_rules! passed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
            self.inner.$name($($argument),*)
        }
    )*};
}

impl Store for FaultyStore {
    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault> {
        let problem = self.problem.lock().unwrap().clone();
        match problem {
            None => self.inner.commit(commit),
            Some(problem) => {
                let fault = StoreFault { problem, doing: "commit to /secret/place".into(), may_have_happened: false };
                Box::pin(async { Err(fault.into()) })
            }
        }
    }

    passed_on! {
        fn boot(wall: Timestamp) -> Boot;
        fn take(session: SessionId) -> Option<Head>;
        fn head(session: SessionId) -> Option<Head>;
        fn events(query: EventsQuery) -> Vec<StoredEvent>;
        fn session(session: SessionId) -> Option<Session>;
        fn session_of_thread(resource: Resource, thread: Thread) -> Option<Session>;
        fn sessions(query: SessionsQuery) -> Page<Session>;
        fn count_sessions(query: SessionsQuery) -> u64;
        fn children(session: SessionId) -> Vec<Session>;
        fn turn(turn: TurnId) -> Option<TurnRecord>;
        fn turns(query: PlaceQuery) -> Vec<TurnRecord>;
        fn messages(query: PlaceQuery) -> Vec<MessageRecord>;
        fn question(question: QuestionId) -> Option<Question>;
        fn questions(query: QuestionsQuery) -> Vec<Question>;
        fn owed() -> Vec<(SessionId, Vec<Effect>)>;
        fn raw(session: SessionId, turn: TurnId, from: u64) -> Bytes;
        fn blob(id: TextDigest) -> Option<Bytes>;
        fn blob_sessions(id: TextDigest) -> Vec<SessionId>;
        fn kept_answer(principal: String, key: String, now: Timestamp) -> Option<KeptAnswer>;
        fn put_token(token: Token) -> ();
        fn token(secret_hash: TextDigest) -> Option<Token>;
        fn tokens() -> Vec<Token>;
        fn revoke_token(token: TokenId, at: Timestamp) -> bool;
        fn pack(session: SessionId, turn: TurnId) -> ();
        fn index() -> bool;
        fn all_sessions(after: Option<SessionId>, limit: u32) -> Vec<SessionId>;
        fn rows(session: SessionId) -> Vec<Record>;
        fn chains(session: SessionId, after: u64, limit: u32) -> Vec<(u64, Chain)>;
        fn backup(to: std::path::PathBuf) -> ();
    }
}
