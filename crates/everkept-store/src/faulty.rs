//! The memory store with faults at hand: what a commit comes to can be chosen.
//!
//! Never in a server: it is here so that every crate above the store tests the same faults.

use crate::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

/// What a commit waits for before it is one: a disk's time.
pub type Pace = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

#[derive(Default)]
pub struct FaultyStore {
    inner: MemoryStore,
    faults: Mutex<Faults>,
    pace: Mutex<Option<Pace>>,
    takes: AtomicU64,
    slow: AtomicBool,
    lost: AtomicBool,
}

#[derive(Default)]
struct Faults {
    problem: Option<Problem>,
    full_for: u64,
}

impl FaultyStore {
    /// What every commit comes to from now on; nothing of it is written.
    pub fn break_commits(&self, problem: Option<Problem>) {
        self.faults().problem = problem;
    }

    /// The next `commits` find no space.
    pub fn fill_for(&self, commits: u64) {
        self.faults().full_for = commits;
    }

    /// How many commits are still to find no space.
    pub fn still_full_for(&self) -> u64 {
        self.faults().full_for
    }

    /// From now on no blob is there.
    pub fn lose_blobs(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// Every commit from now on takes as long as this.
    pub fn pace_commits(&self, pace: Pace) {
        *self.pace.lock().expect("nobody panics while setting the pace") = Some(pace);
    }

    /// How often a log was taken over.
    pub fn takes(&self) -> u64 {
        self.takes.load(Ordering::SeqCst)
    }

    /// From now on whoever asks is kept waiting once before it is looked at and once after it is done.
    pub fn slow_down(&self) {
        self.slow.store(true, Ordering::SeqCst);
    }

    async fn wait(&self) {
        let mut waited = !self.slow.load(Ordering::SeqCst);
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("nobody panics while choosing a fault")
    }

    fn next_fault(&self) -> Option<Problem> {
        let mut faults = self.faults();
        if faults.full_for > 0 {
            faults.full_for -= 1;
            return Some(Problem::Full);
        }
        faults.problem.clone()
    }
}

macro_rules! passed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
            Box::pin(async move {
                self.wait().await;
                let answer = self.inner.$name($($argument),*).await;
                self.wait().await;
                answer
            })
        }
    )*};
}

impl Store for FaultyStore {
    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault> {
        let fault = self.next_fault();
        let pace = self.pace.lock().expect("nobody panics while setting the pace").clone();
        Box::pin(async move {
            self.wait().await;
            if let Some(pace) = pace {
                pace().await;
            }
            let answer = match fault {
                None => self.inner.commit(commit).await,
                Some(problem) => {
                    let may_have_happened = problem != Problem::Full;
                    Err(StoreFault { problem, doing: "commit to /secret/place".into(), may_have_happened }.into())
                }
            };
            self.wait().await;
            answer
        })
    }

    fn take(&self, session: SessionId) -> Answer<'_, Option<Head>> {
        self.takes.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.wait().await;
            let answer = self.inner.take(session).await;
            self.wait().await;
            answer
        })
    }

    fn blob(&self, id: TextDigest) -> Answer<'_, Option<Bytes>> {
        Box::pin(async move {
            self.wait().await;
            if self.lost.load(Ordering::SeqCst) { Ok(None) } else { self.inner.blob(id).await }
        })
    }

    passed_on! {
        fn boot(wall: Timestamp) -> Boot;
        fn head(session: SessionId) -> Option<Head>;
        fn events(query: EventsQuery) -> Vec<StoredEvent>;
        fn lines(query: EventsQuery) -> Lines;
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
        fn dead_letters(query: LettersQuery) -> Page<TurnRecord>;
        fn put_breaker(breaker: Breaker) -> ();
        fn breakers() -> Vec<Breaker>;
        fn usage(query: UsageQuery) -> Page<UsageSum>;
        fn owed() -> Vec<(SessionId, Vec<Effect>)>;
        fn raw(session: SessionId, turn: TurnId, from: u64) -> Bytes;
        fn blob_sessions(id: TextDigest) -> Vec<SessionId>;
        fn kept_answer(principal: String, key: String, now: Timestamp) -> Option<KeptAnswer>;
        fn put_token(token: Token) -> ();
        fn token(secret_hash: TextDigest) -> Option<Token>;
        fn tokens() -> Vec<Token>;
        fn revoke_token(token: TokenId, at: Timestamp) -> bool;
        fn pack(session: SessionId, turn: TurnId) -> ();
        fn index() -> bool;
        fn forget_expired() -> bool;
        fn due(now: Timestamp, limit: u32) -> Vec<SessionId>;
        fn purge(session: SessionId, now: Timestamp) -> bool;
        fn all_sessions(after: Option<SessionId>, limit: u32) -> Vec<SessionId>;
        fn rows(session: SessionId) -> Vec<Record>;
        fn chains(session: SessionId, after: u64, limit: u32) -> Vec<(u64, Chain)>;
        fn backup(to: std::path::PathBuf) -> ();
    }
}
