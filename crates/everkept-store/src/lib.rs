//! What the engine asks of a database: append events and rows in one step, and read them back in order.
//!
//! A store numbers events, links and checks them, and keeps the rows it is handed. It never interprets them.
//! Never: shows a reader an event that a crash can take back, or numbers one outside the transaction that keeps it.

mod chain;
pub mod conformance;
mod faulty;
mod memory;
mod stored;
mod verify;
mod words;

pub use chain::{CHAIN_START, Chain, Sum, fits, link, sum};
pub use faulty::{FaultyStore, Pace};
pub use memory::MemoryStore;
pub use stored::{Lines, StoredEvent, decode, encode};
pub use verify::{Damage, Place, Report, verify};
pub use words::{matches, words};

use bytes::Bytes;
use everkept_core::{
    AgentName, BlobRef, Breaker, Effect, Event, MessageRecord, ModelName, Question, QuestionId, Record, Resource, Session, SessionId,
    SessionState, TextDigest, Thread, Timestamp, TokenId, TurnId, TurnRecord, Usage,
};
use std::{future::Future, pin::Pin};

pub type Answer<'a, T, E = StoreFault> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

pub trait Store: Send + Sync {
    /// Notes in the log that a server starts now, synced, before anything is served (promise D4).
    fn boot(&self, wall: Timestamp) -> Answer<'_, Boot>;

    /// All of it or none of it, durable when it answers.
    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault>;

    /// Takes the session's log for a new owner: later commits with an older fence conflict.
    fn take(&self, session: SessionId) -> Answer<'_, Option<Head>>;

    fn head(&self, session: SessionId) -> Answer<'_, Option<Head>>;
    /// Oldest first, through all segments of a fork. A damaged event fails every query that would return it, by its
    /// number; queries that leave it out go on.
    fn events(&self, query: EventsQuery) -> Answer<'_, Vec<StoredEvent>>;
    /// The same events, as text with a line for each.
    fn lines(&self, query: EventsQuery) -> Answer<'_, Lines> {
        Box::pin(async move {
            let after = query.after;
            Ok(Lines::of(&self.events(query).await?, after))
        })
    }

    /// Also one in the trash.
    fn session(&self, session: SessionId) -> Answer<'_, Option<Session>>;
    /// The one session of the pair that is not in the trash.
    fn session_of_thread(&self, resource: Resource, thread: Thread) -> Answer<'_, Option<Session>>;
    /// Newest activity first; ties by id, descending.
    fn sessions(&self, query: SessionsQuery) -> Answer<'_, Page<Session>>;
    /// How many sessions the query's filters match, pages aside.
    fn count_sessions(&self, query: SessionsQuery) -> Answer<'_, u64>;
    /// Sessions whose parent this is (forks and children), oldest first, the trash left out.
    fn children(&self, session: SessionId) -> Answer<'_, Vec<Session>>;

    /// The turn and the session it was made in.
    fn turn(&self, turn: TurnId) -> Answer<'_, Option<TurnRecord>>;
    /// Oldest first by place in the log, inherited ones included.
    fn turns(&self, query: PlaceQuery) -> Answer<'_, Vec<TurnRecord>>;
    /// Oldest first by place in the log, inherited ones included.
    fn messages(&self, query: PlaceQuery) -> Answer<'_, Vec<MessageRecord>>;

    /// Turns that were given up and that nobody has taken up since, newest first; ties by id, descending. The trash is left out.
    fn dead_letters(&self, query: LettersQuery) -> Answer<'_, Page<TurnRecord>>;

    fn question(&self, question: QuestionId) -> Answer<'_, Option<Question>>;
    /// All questions of a session by place, or of all sessions outside the trash by the time they were asked.
    fn questions(&self, query: QuestionsQuery) -> Answer<'_, Vec<Question>>;

    /// What turns cost, added up; each turn once, the trash included. Newest day first, then by owner, agent, model, session.
    fn usage(&self, query: UsageQuery) -> Answer<'_, Page<UsageSum>>;

    /// Sessions that are owed something, and what.
    fn owed(&self) -> Answer<'_, Vec<(SessionId, Vec<Effect>)>>;

    /// The bytes an agent sent in a turn, in order, from byte `from` on, at most about 64 KiB at a time.
    fn raw(&self, session: SessionId, turn: TurnId, from: u64) -> Answer<'_, Bytes>;
    fn blob(&self, id: TextDigest) -> Answer<'_, Option<Bytes>>;
    /// The sessions whose commits brought the blob (the first write's session of each): who may see it is decided by them.
    fn blob_sessions(&self, id: TextDigest) -> Answer<'_, Vec<SessionId>>;

    fn kept_answer(&self, principal: String, key: String, now: Timestamp) -> Answer<'_, Option<KeptAnswer>>;

    fn put_token(&self, token: Token) -> Answer<'_, ()>;
    fn token(&self, secret_hash: TextDigest) -> Answer<'_, Option<Token>>;
    fn tokens(&self) -> Answer<'_, Vec<Token>>;
    /// False when there is no such token.
    fn revoke_token(&self, token: TokenId, at: Timestamp) -> Answer<'_, bool>;

    /// Keeps the breaker in the place of an older one of its agent and model; a newer one stays.
    fn put_breaker(&self, breaker: Breaker) -> Answer<'_, ()>;
    /// By agent and model.
    fn breakers(&self) -> Answer<'_, Vec<Breaker>>;

    /// Packs the deltas of an ended turn into one row per part. What is read stays the same to the byte.
    fn pack(&self, session: SessionId, turn: TurnId) -> Answer<'_, ()>;
    /// Brings the full-text index up to date, a bounded piece at a time; true when nothing is left.
    fn index(&self) -> Answer<'_, bool>;
    /// Forgets a piece of the kept answers whose time is over; true when none is left.
    fn forget_expired(&self) -> Answer<'_, bool>;
    /// Sessions in the trash whose stated time was over at `now` and that no fork is read from, and those whose purge was
    /// cut short.
    fn due(&self, now: Timestamp, limit: u32) -> Answer<'_, Vec<SessionId>>;
    /// Takes a session and all that is kept of it away for good; false when it is not [`due`](Store::due).
    fn purge(&self, session: SessionId, now: Timestamp) -> Answer<'_, bool>;

    /// Every session there is, the trash included, by id; for `verify`.
    fn all_sessions(&self, after: Option<SessionId>, limit: u32) -> Answer<'_, Vec<SessionId>>;
    /// Everything kept beside the events of one session, for `verify` to compare.
    fn rows(&self, session: SessionId) -> Answer<'_, Vec<Record>>;
    /// The kept hash chain after each event from `after` on, in order, for `verify` to compare. A packed row has only that
    /// of its last event. At the end of the log the chain that the next event will go on from follows, under the head's number.
    fn chains(&self, session: SessionId, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Chain)>>;
    /// A consistent copy of everything, made while the store goes on.
    fn backup(&self, to: std::path::PathBuf) -> Answer<'_, ()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// How often a server was started on this data, this time included.
    pub number: u64,
    /// The latest wall time ever persisted: expiry never goes by an earlier one.
    pub latest_wall: Timestamp,
}

/// One atomic step.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub writes: Vec<LogWrite>,
    /// Kept with it; a key that is held already makes the whole step a [`CommitFault::KeyUsed`].
    pub answer: Option<KeptAnswer>,
    pub blobs: Vec<(BlobRef, Bytes)>,
    pub raw: Option<Raw>,
    pub wall: Timestamp,
}

/// Events for one session's log, and the rows they change.
#[derive(Debug, Clone)]
pub struct LogWrite {
    pub session: SessionId,
    /// The number of the last event the writer has seen; another one held is a conflict.
    pub expected_head: u64,
    pub fence: u64,
    /// Present for a log that begins as a fork: it goes on from `seq` of the parent's.
    pub fork_of: Option<(SessionId, u64)>,
    pub events: Vec<Event>,
    pub records: Vec<Record>,
}

#[derive(Debug, Clone)]
pub struct Raw {
    pub session: SessionId,
    pub turn: TurnId,
    pub bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub fence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    pub principal: String,
    pub key: String,
    /// Of method, full path and body.
    pub digest: TextDigest,
    pub status: u16,
    pub body: Bytes,
    /// None: as long as the session.
    pub expires_at: Option<Timestamp>,
    pub session: Option<SessionId>,
}

impl KeptAnswer {
    /// Whether the key still stands for this answer at `now`.
    pub fn is_kept_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires| expires > now)
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventsQuery {
    pub session: Option<SessionId>,
    pub after: u64,
    /// Up to and including; none is to the end.
    pub until: Option<u64>,
    pub limit: u32,
    /// The answer ends with the event that makes it so many bytes or more; none is as many as there are.
    pub max_bytes: Option<usize>,
    /// Empty: all kinds.
    pub kinds: Vec<String>,
    pub turn: Option<TurnId>,
    pub context: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionsQuery {
    pub resource: Option<Resource>,
    pub thread: Option<Thread>,
    /// Only sessions that have a thread.
    pub with_thread: bool,
    pub agent: Option<AgentName>,
    pub state: Option<SessionState>,
    /// None: both.
    pub archived: Option<bool>,
    /// True: only the trash. False: all but the trash.
    pub deleted: bool,
    /// Words that title or messages have.
    pub search: Option<String>,
    /// The last one of the page before: its activity and id.
    pub before: Option<(Timestamp, SessionId)>,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
}

/// Rows by their place in the log: forward from `after`, or backward from `before` (the newest when neither is given
/// and `backward` is set). Answers are always oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceQuery {
    pub session: SessionId,
    pub after: Option<u64>,
    pub before: Option<u64>,
    pub backward: bool,
    pub limit: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuestionsQuery {
    pub session: Option<SessionId>,
    pub resource: Option<Resource>,
    pub open_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct LettersQuery {
    pub session: Option<SessionId>,
    pub resource: Option<Resource>,
    /// The last one of the page before: when it was given up, and its id.
    pub before: Option<(Timestamp, TurnId)>,
    pub limit: u32,
}

/// A day, in the microseconds of a timestamp.
pub const DAY_MICROS: i64 = 86_400_000_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageQuery {
    pub session: Option<SessionId>,
    pub resource: Option<Resource>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    /// Of turns that began then or later.
    pub from: Option<Timestamp>,
    /// Of turns that began before.
    pub to: Option<Timestamp>,
    /// What is told apart; nothing is one sum of all.
    pub by: UsageBy,
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageBy {
    pub day: bool,
    pub resource: bool,
    pub agent: bool,
    pub model: bool,
    pub session: bool,
}

/// One sum. What was not asked to be told apart is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageSum {
    /// Days since 1970-01-01, UTC.
    pub day: Option<i64>,
    pub resource: Option<Resource>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub session: Option<SessionId>,
    pub turns: u64,
    /// Those among them with a part whose cost nobody knows.
    pub turns_without_cost: u64,
    pub usage: Usage,
    /// The part of the cost that was reckoned from prices.
    pub reckoned_usd_micros: Option<u64>,
}

/// One access token. The secret itself is never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub secret_hash: TextDigest,
    /// `admin`, `resource`, `relay`, `recall`, `cookie`, `login`; the server's words, opaque here.
    pub kind: String,
    /// What it is bound to, for kinds that are.
    pub name: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// Why a commit changed nothing, or may have.
#[derive(Debug, thiserror::Error)]
pub enum CommitFault {
    #[error("the log of session {session} has moved on or has another owner")]
    Conflict { session: SessionId },
    #[error("the idempotency key is in use")]
    KeyUsed(Box<KeptAnswer>),
    #[error("thread and resource belong to session {0}")]
    ThreadTaken(SessionId),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The database did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {problem}")]
pub struct StoreFault {
    pub problem: Problem,
    pub doing: String,
    pub may_have_happened: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No space: nothing was written, and it may work again later (promise D5).
    #[error("no space is left for the database")]
    Full,
    /// Storage reported an error: nothing more may be acknowledged until a new start (promise D4).
    #[error("storage failed: {0}")]
    Failed(String),
    #[error("event {seq} of session {session} is damaged")]
    Corrupt { session: SessionId, seq: u64 },
    #[error("the database was written by a newer version ({found}, this one knows {known})")]
    Newer { found: u32, known: u32 },
    #[error("the database is in use by another server")]
    Locked,
    #[error("the database cannot be written: {0}")]
    ReadOnly(String),
    #[error("the database cannot be opened: {0}")]
    Unopenable(String),
}
