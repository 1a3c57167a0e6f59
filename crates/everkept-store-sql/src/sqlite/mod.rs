//! The store in an embedded SQLite database: one writer with group commit, a few readers.
//!
//! Never answers a write before it is synced, and nothing at all once storage has failed.

mod backup;
mod cache;
mod executor;
mod fault;
mod files;
mod open;
mod readers;
mod schema;
mod search;
#[cfg(test)]
mod tests;
mod writer;

use crate::op::{self, Purged, Stop};
pub use backup::backup;
use bytes::Bytes;
use everkept_core::{
    Breaker, Effect, MessageRecord, Question, QuestionId, Record, Resource, Session, SessionId, TextDigest, Thread, Timestamp, TokenId,
    TurnId, TurnRecord,
};
use everkept_store::{
    Answer, Boot, Chain, Commit, CommitFault, EventsQuery, Head, KeptAnswer, LettersQuery, Lines, Page, PlaceQuery, Problem,
    QuestionsQuery, SessionsQuery, Store, StoreFault, StoredEvent, Token, UsageQuery, UsageSum,
};
use executor::{SqliteTx, answer};
use fault::{Health, not_done, store_fault};
pub use files::Files;
use files::SystemFiles;
use futures::FutureExt;
use open::WriteBack;
use search::{Behind, Changed, Indexer};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Write, Writer};

/// The version of SQLite that is built in.
pub fn version() -> &'static str {
    rusqlite::version()
}

/// The most writes that wait for the writer; more of them wait for a place in the queue.
const WRITE_QUEUE: usize = 1_024;
/// The most reads that wait for a reader.
const READ_QUEUE: usize = 1_024;

/// The most pieces of indexing that wait for their turn.
const INDEX_QUEUE: usize = 64;

/// Something for the thread that indexes, which answers by itself.
type Indexing = Box<dyn FnOnce(&mut Indexer, &Health) + Send>;

/// Who executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One thread that writes and `readers` threads that read.
    Threads { readers: usize },
    /// The caller's own thread, inside the call: every answer is there at once.
    Inline,
}

/// Everything the server keeps, in one file.
pub struct SqliteStore {
    directory: PathBuf,
    files: Arc<dyn Files>,
    health: Arc<Health>,
    behind: Arc<Behind>,
    runner: Runner,
}

enum Runner {
    Threads(Threads),
    Inline(Box<Inline>),
}

/// The indexer goes first, so that the writer is the one to close the database.
struct Inline {
    indexer: Mutex<Indexer>,
    writer: Mutex<Writer>,
}

struct Threads {
    /// Both senders are taken away when the store closes.
    writes: Option<mpsc::Sender<Box<dyn Job>>>,
    reads: Arc<readers::Queue>,
    indexing: Option<mpsc::Sender<Indexing>>,
    indexer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
    backups: Mutex<Vec<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the database in `directory`, or makes one there. `boot` is to come next, before anything is served.
    pub fn open(directory: &Path, mode: Mode) -> Result<SqliteStore, StoreFault> {
        Self::open_on(directory, mode, Arc::new(SystemFiles))
    }

    /// The same on other files than the system's.
    pub fn open_on(directory: &Path, mode: Mode, files: Arc<dyn Files>) -> Result<SqliteStore, StoreFault> {
        Self::start(directory, mode, files, WriteBack::Yes)
    }

    /// Opens without writing back what may not be on disk: only for the test that shows what a start has to do that for.
    #[doc(hidden)]
    pub fn open_without_write_back(directory: &Path, files: Arc<dyn Files>) -> Result<SqliteStore, StoreFault> {
        Self::start(directory, Mode::Inline, files, WriteBack::No)
    }

    fn start(directory: &Path, mode: Mode, files: Arc<dyn Files>, write_back: WriteBack) -> Result<SqliteStore, StoreFault> {
        let health = Arc::new(Health::default());
        let connection = open::open_writer(directory, &*files, write_back)?;
        let writer = Writer::new(connection, directory, Arc::clone(&health))?;
        let behind = Arc::new(Behind::default());
        let indexer = Indexer::open(directory, Arc::clone(&files), Arc::clone(&behind))?;
        let runner = match mode {
            Mode::Inline => Runner::Inline(Box::new(Inline { indexer: Mutex::new(indexer), writer: Mutex::new(writer) })),
            Mode::Threads { readers } => {
                Runner::Threads(Threads::start(directory, &*files, writer, (indexer, Arc::clone(&health)), readers.max(1))?)
            }
        };
        Ok(SqliteStore { directory: directory.to_owned(), files, health, behind, runner })
    }

    /// Lets the file grow to so many pages of 4 KiB and no further, but never below what it has; none is no limit. Beyond
    /// it the store is as full as its disk would be.
    pub fn limit_pages(&self, pages: Option<u32>) -> Answer<'_, ()> {
        self.put(|| "limit the size of the database".into(), move |tx| answer(open::limit_pages(tx, pages)))
    }

    fn write<R: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Send + 'static,
        wall: Option<Timestamp>,
        body: impl Fn(&mut SqliteTx<'_>) -> Result<R, Stop> + Send + 'static,
    ) -> Answer<'_, R, CommitFault> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Write { doing, wall, body, said: None, reply });
        match &self.runner {
            Runner::Inline(inline) => {
                let mut writer = held(&inline.writer);
                writer.write(&mut vec![job]);
                writer.checkpoint(true);
                let answer = answer.now_or_never().and_then(Result::ok).unwrap_or_else(|| Err(gone()));
                Box::pin(std::future::ready(answer))
            }
            Runner::Threads(threads) => Box::pin(async move {
                let Some(writes) = &threads.writes else { return Err(gone()) };
                if writes.send(job).await.is_err() {
                    return Err(gone());
                }
                answer.await.unwrap_or_else(|_| Err(gone()))
            }),
        }
    }

    /// A write that no rule of the store refuses.
    fn put<R: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Clone + Send + 'static,
        body: impl Fn(&mut SqliteTx<'_>) -> Result<R, Stop> + Send + 'static,
    ) -> Answer<'_, R> {
        let written = self.write(doing.clone(), None, body);
        Box::pin(written.map(move |answer| answer.map_err(|fault| store_fault(fault, &doing()))))
    }

    /// A read that may go through the full-text index, which one connection has open.
    fn search<R: Send + 'static>(
        &self,
        doing: &'static str,
        query: SessionsQuery,
        body: impl Fn(&mut SqliteTx<'_>, &SessionsQuery) -> Result<R, Stop> + Send + 'static,
    ) -> Answer<'_, R> {
        if query.search.is_none() {
            return self.read(move || doing.into(), move |tx| body(tx, &query));
        }
        self.index_by(move |indexer, health| indexer.search(health, doing, |tx| body(tx, &query)))
    }

    fn index_by<R: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Indexer, &Health) -> Result<R, StoreFault> + Send + 'static,
    ) -> Answer<'_, R> {
        match &self.runner {
            Runner::Inline(inline) => {
                let mut indexer = held(&inline.indexer);
                Box::pin(std::future::ready(body(&mut indexer, &self.health)))
            }
            Runner::Threads(threads) => {
                let (reply, answer) = oneshot::channel();
                let step: Indexing = Box::new(move |indexer, health| {
                    // Nobody waits any more: what was indexed stays so.
                    let _ = reply.send(body(indexer, health));
                });
                Box::pin(async move {
                    let Some(indexing) = &threads.indexing else { return Err(closed()) };
                    if indexing.send(step).await.is_err() {
                        return Err(closed());
                    }
                    answer.await.unwrap_or_else(|_| Err(closed()))
                })
            }
        }
    }

    fn read<R: Send + 'static>(
        &self,
        doing: impl Fn() -> String + Send + 'static,
        body: impl FnOnce(&mut SqliteTx<'_>) -> Result<R, Stop> + Send + 'static,
    ) -> Answer<'_, R> {
        match &self.runner {
            Runner::Inline(inline) => {
                let writer = held(&inline.writer);
                let found = readers::read(&writer.connection, &self.directory, &self.health, doing, body);
                Box::pin(std::future::ready(found))
            }
            Runner::Threads(threads) => {
                let (reply, answer) = oneshot::channel();
                let (directory, health) = (self.directory.clone(), Arc::clone(&self.health));
                let read: readers::Read = Box::new(move |connection| {
                    // Nobody waits any more: nothing was changed.
                    let _ = reply.send(readers::read(connection, &directory, &health, doing, body));
                });
                Box::pin(async move {
                    if !threads.reads.put(read).await {
                        return Err(closed());
                    }
                    answer.await.unwrap_or_else(|_| Err(closed()))
                })
            }
        }
    }
}

impl Threads {
    fn start(
        directory: &Path,
        files: &dyn Files,
        writer: Writer,
        (mut indexer, health): (Indexer, Arc<Health>),
        readers: usize,
    ) -> Result<Self, StoreFault> {
        let (writes, jobs) = mpsc::channel(WRITE_QUEUE);
        let (indexing, mut steps) = mpsc::channel::<Indexing>(INDEX_QUEUE);
        let mut threads = Threads {
            writes: Some(writes),
            reads: Arc::new(readers::Queue::new(READ_QUEUE)),
            indexing: Some(indexing),
            indexer: None,
            readers: Vec::new(),
            writer: None,
            backups: Mutex::new(Vec::new()),
        };
        let step = move || {
            while let Some(step) = steps.blocking_recv() {
                step(&mut indexer, &health);
            }
        };
        threads.indexer = Some(spawn("store-indexer", step)?);
        for _ in 0..readers {
            let connection = open::open_reader(directory, files)?;
            let reads = Arc::clone(&threads.reads);
            threads.readers.push(spawn("store-reader", move || reads.serve(&connection))?);
        }
        threads.writer = Some(spawn("store-writer", move || writer.serve(jobs))?);
        Ok(threads)
    }
}

impl Drop for Threads {
    /// The readers first, so that the writer is the one to close the file.
    fn drop(&mut self) {
        self.reads.close();
        self.indexing = None;
        let backups = self.backups.get_mut().unwrap_or_else(PoisonError::into_inner);
        backups.drain(..).chain(self.readers.drain(..)).chain(self.indexer.take()).for_each(join);
        self.writes = None;
        self.writer.take().into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store panicked");
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreFault> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
    spawned.map_err(|error| not_done(Problem::Unopenable(error.to_string()), "start a thread of the store"))
}

fn reading_events(session: Option<SessionId>) -> String {
    session.map_or_else(|| "read events".to_owned(), |session| format!("read events of session {session}"))
}

fn held<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer ended without an answer: what it was at may be done.
fn gone() -> CommitFault {
    let problem = Problem::Failed("the writer is gone".into());
    StoreFault { problem, doing: "write".into(), may_have_happened: true }.into()
}

fn closed() -> StoreFault {
    not_done(Problem::Failed("the readers are gone".into()), "read")
}

impl Store for SqliteStore {
    fn boot(&self, wall: Timestamp) -> Answer<'_, Boot> {
        self.put(|| "note the start".into(), move |tx| answer(op::boot(tx, wall)))
    }

    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault> {
        let session = commit.writes.first().map(|write| write.session);
        let doing = move || session.map_or_else(|| "commit".to_owned(), |session| format!("commit to session {session}"));
        let sessions = commit.writes.iter().map(|write| write.session).collect();
        let changed = Changed { sessions, behind: Arc::clone(&self.behind) };
        self.write(doing, Some(commit.wall), move |tx| {
            let _goes_with_it = &changed;
            answer(op::commit(tx, &commit))
        })
    }

    fn take(&self, session: SessionId) -> Answer<'_, Option<Head>> {
        self.put(move || format!("take session {session}"), move |tx| answer(op::take(tx, session)))
    }

    fn head(&self, session: SessionId) -> Answer<'_, Option<Head>> {
        self.read(move || format!("read the head of session {session}"), move |tx| answer(op::head(tx, session)))
    }

    fn events(&self, query: EventsQuery) -> Answer<'_, Vec<StoredEvent>> {
        let session = query.session;
        self.read(move || reading_events(session), move |tx| answer(op::events(tx, &query)))
    }

    fn lines(&self, query: EventsQuery) -> Answer<'_, Lines> {
        let session = query.session;
        self.read(move || reading_events(session), move |tx| answer(op::lines(tx, &query)))
    }

    fn session(&self, session: SessionId) -> Answer<'_, Option<Session>> {
        self.read(move || format!("read session {session}"), move |tx| answer(op::session(tx, session)))
    }

    fn session_of_thread(&self, resource: Resource, thread: Thread) -> Answer<'_, Option<Session>> {
        self.read(|| "find the session of a thread".into(), move |tx| answer(op::session_of_thread(tx, &resource, &thread)))
    }

    fn sessions(&self, query: SessionsQuery) -> Answer<'_, Page<Session>> {
        self.search("list sessions", query, |tx, query| answer(op::sessions(tx, query)))
    }

    fn count_sessions(&self, query: SessionsQuery) -> Answer<'_, u64> {
        self.search("count sessions", query, |tx, query| answer(op::count_sessions(tx, query)))
    }

    fn children(&self, session: SessionId) -> Answer<'_, Vec<Session>> {
        self.read(move || format!("list the children of session {session}"), move |tx| answer(op::children(tx, session)))
    }

    fn turn(&self, turn: TurnId) -> Answer<'_, Option<TurnRecord>> {
        self.read(move || format!("read turn {turn}"), move |tx| answer(op::turn(tx, turn)))
    }

    fn turns(&self, query: PlaceQuery) -> Answer<'_, Vec<TurnRecord>> {
        let session = query.session;
        self.read(move || format!("list the turns of session {session}"), move |tx| answer(op::turns(tx, &query)))
    }

    fn messages(&self, query: PlaceQuery) -> Answer<'_, Vec<MessageRecord>> {
        let session = query.session;
        self.read(move || format!("list the messages of session {session}"), move |tx| answer(op::messages(tx, &query)))
    }

    fn dead_letters(&self, query: LettersQuery) -> Answer<'_, Page<TurnRecord>> {
        self.read(|| "list dead letters".into(), move |tx| answer(op::dead_letters(tx, &query)))
    }

    fn question(&self, question: QuestionId) -> Answer<'_, Option<Question>> {
        self.read(move || format!("read question {question}"), move |tx| answer(op::question(tx, question)))
    }

    fn questions(&self, query: QuestionsQuery) -> Answer<'_, Vec<Question>> {
        self.read(|| "list questions".into(), move |tx| answer(op::questions(tx, &query)))
    }

    fn usage(&self, query: UsageQuery) -> Answer<'_, Page<UsageSum>> {
        self.read(|| "add up what turns cost".into(), move |tx| answer(op::usage_sums(tx, &query)))
    }

    fn owed(&self) -> Answer<'_, Vec<(SessionId, Vec<Effect>)>> {
        self.read(|| "list what is owed".into(), |tx| answer(op::owed(tx)))
    }

    fn raw(&self, session: SessionId, turn: TurnId, from: u64) -> Answer<'_, Bytes> {
        self.read(move || format!("read the agent's bytes of turn {turn}"), move |tx| answer(op::raw(tx, session, turn, from)))
    }

    fn blob(&self, id: TextDigest) -> Answer<'_, Option<Bytes>> {
        self.read(move || format!("read blob {id}"), move |tx| answer(op::blob(tx, id)))
    }

    fn blob_sessions(&self, id: TextDigest) -> Answer<'_, Vec<SessionId>> {
        self.read(move || format!("list the sessions of blob {id}"), move |tx| answer(op::blob_sessions(tx, id)))
    }

    fn kept_answer(&self, principal: String, key: String, now: Timestamp) -> Answer<'_, Option<KeptAnswer>> {
        self.read(|| "read a kept answer".into(), move |tx| answer(op::kept_answer(tx, &principal, &key, now)))
    }

    fn put_token(&self, token: Token) -> Answer<'_, ()> {
        let id = token.id;
        self.put(move || format!("keep token {id}"), move |tx| answer(op::put_token(tx, &token)))
    }

    fn token(&self, secret_hash: TextDigest) -> Answer<'_, Option<Token>> {
        self.read(|| "read a token".into(), move |tx| answer(op::token(tx, secret_hash)))
    }

    fn tokens(&self) -> Answer<'_, Vec<Token>> {
        self.read(|| "list tokens".into(), |tx| answer(op::tokens(tx)))
    }

    fn revoke_token(&self, token: TokenId, at: Timestamp) -> Answer<'_, bool> {
        self.put(move || format!("revoke token {token}"), move |tx| answer(op::revoke_token(tx, token, at)))
    }

    fn put_breaker(&self, breaker: Breaker) -> Answer<'_, ()> {
        let agent = breaker.agent.clone();
        self.put(move || format!("keep the breaker of agent {agent}"), move |tx| answer(op::put_breaker(tx, &breaker)))
    }

    fn breakers(&self) -> Answer<'_, Vec<Breaker>> {
        self.read(|| "list breakers".into(), |tx| answer(op::breakers(tx)))
    }

    fn pack(&self, session: SessionId, turn: TurnId) -> Answer<'_, ()> {
        let piece = move |after| self.put(move || format!("pack turn {turn}"), move |tx| answer(op::pack(tx, session, turn, after)));
        let first = piece(0);
        let packing = async move {
            let mut next = first.await?;
            // In pieces, so that nobody waits long behind them.
            while let Some(after) = next {
                next = piece(after).await?;
            }
            Ok(())
        };
        Box::pin(packing)
    }

    fn index(&self) -> Answer<'_, bool> {
        self.index_by(|indexer, health| indexer.step(health))
    }

    fn forget_expired(&self) -> Answer<'_, bool> {
        self.put(|| "forget answers whose time is over".into(), |tx| answer(op::forget_expired(tx)))
    }

    fn due(&self, now: Timestamp, limit: u32) -> Answer<'_, Vec<SessionId>> {
        self.read(|| "list what may be purged".into(), move |tx| answer(op::due(tx, now, limit)))
    }

    fn purge(&self, session: SessionId, now: Timestamp) -> Answer<'_, bool> {
        let piece = move || {
            let changed = Changed { sessions: vec![session], behind: Arc::clone(&self.behind) };
            self.put(
                move || format!("purge session {session}"),
                move |tx| {
                    let _goes_with_it = &changed;
                    answer(op::purge(tx, session, now))
                },
            )
        };
        Box::pin(async move {
            let mut purged = piece().await?;
            let due = purged != Purged::NotDue;
            // In pieces, so that nobody waits long behind them.
            while purged == Purged::More {
                purged = piece().await?;
            }
            Ok(due)
        })
    }

    fn all_sessions(&self, after: Option<SessionId>, limit: u32) -> Answer<'_, Vec<SessionId>> {
        self.read(|| "list all sessions".into(), move |tx| answer(op::all_sessions(tx, after, limit)))
    }

    fn rows(&self, session: SessionId) -> Answer<'_, Vec<Record>> {
        self.read(move || format!("read the rows of session {session}"), move |tx| answer(op::rows(tx, session)))
    }

    fn chains(&self, session: SessionId, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Chain)>> {
        self.read(move || format!("read the chain of session {session}"), move |tx| answer(op::chains(tx, session, after, limit.into())))
    }

    fn backup(&self, to: PathBuf) -> Answer<'_, ()> {
        if let Some(problem) = self.health.problem() {
            return Box::pin(std::future::ready(Err(not_done(problem, "make a backup"))));
        }
        match &self.runner {
            Runner::Inline(_) => Box::pin(std::future::ready(backup::backup_of(&self.directory, &*self.files, &to))),
            Runner::Threads(threads) => {
                let (reply, answer) = oneshot::channel();
                let (directory, files) = (self.directory.clone(), Arc::clone(&self.files));
                let thread = spawn("store-backup", move || {
                    // Nobody waits any more: the copy is there all the same.
                    let _ = reply.send(backup::backup_of(&directory, &*files, &to));
                });
                let mut backups = threads.backups.lock().unwrap_or_else(PoisonError::into_inner);
                backups.extract_if(.., |thread| thread.is_finished()).for_each(join);
                match thread {
                    Ok(thread) => backups.push(thread),
                    Err(fault) => return Box::pin(std::future::ready(Err(fault))),
                }
                Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) })
            }
        }
    }
}
