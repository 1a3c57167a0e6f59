//! A whole engine on a disk of these tests, and a witness of everything it acknowledged, showed and prompted.
//!
//! The witness and the agent's memory are outside the disk: a power cut does not reach them. Every note is stamped with
//! the number of operations the disk had done. Never: a note of something that was not handed out.

use super::disk::{Disk, DiskFiles, Image, Op};
use super::vfs::Mounted;
use crate::world::{admin, keyed, name};
use bytes::Bytes;
use everkept_agent::demo::{DemoAgent, DemoMemory};
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Connection, ORDER_QUEUE, Open, Opened};
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{Problem, Store, StoreFault, Token};
use everkept_store_sql::{Mode, SqliteStore};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use uuid::Uuid;

/// The shortest that can be configured and outlives the answers to requests.
pub const KEEP_TRASH: Duration = Duration::from_secs(25 * 3_600);

/// A request that can be sent again.
#[derive(Debug, Clone)]
pub struct Request {
    pub key: String,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Create(NewSession),
    Order(SessionId, Order),
    Thread(Resource, Thread, Order),
}

#[derive(Debug, Clone)]
pub enum Note {
    Asked(Request),
    /// The whole answer to a key.
    Answered(String, Bytes),
    /// A reader was shown an event.
    Seen(SessionId, u64, Bytes),
    Prompted(TurnId),
    AgentBegan(String, u64),
    AgentSaw(String, u64),
    Token(Token),
    Backup(String),
    /// A day has passed: what was asked before it is not answered by its key any more.
    Later,
    /// The session's time in the trash is over: it may be gone.
    Due(SessionId),
    /// Something happened that never may.
    Broken(String),
}

pub struct Witness {
    disk: Arc<Disk>,
    pub notes: Mutex<Vec<(usize, Note)>>,
    /// How often a server was started, over all that led here.
    pub starts: AtomicU64,
}

impl Witness {
    pub fn note(&self, note: Note) {
        self.notes.lock().unwrap().push((self.disk.now(), note));
    }

    pub fn all(&self) -> Vec<Note> {
        self.notes.lock().unwrap().iter().map(|(_, note)| note.clone()).collect()
    }
}

/// What a run did, operation by operation.
pub struct Recording {
    start: Image,
    pub ops: Vec<Op>,
    notes: Vec<(usize, Note)>,
    starts: u64,
}

impl Recording {
    /// The disk after so many operations, and what had been noted by then.
    pub fn at(&self, op: usize) -> Past {
        let mut image = self.start.clone();
        self.ops[..op].iter().for_each(|op| image.apply(op));
        let notes = self.notes.iter().filter(|(at, _)| *at <= op).map(|(_, note)| note.clone()).collect();
        Past { image, notes, starts: self.starts }
    }
}

/// What a start begins from.
#[derive(Clone, Default)]
pub struct Past {
    pub image: Image,
    pub notes: Vec<Note>,
    pub starts: u64,
}

/// What a server is given beside its disk and the demo agent.
#[derive(Clone, Default)]
pub struct Beside {
    pub failpoints: Option<Arc<dyn Failpoints>>,
    pub agents: BTreeMap<AgentName, Arc<dyn Agent>>,
}

/// Runs on a disk made of the past, in virtual time, and kills whatever is left at the end.
pub fn run<T>(past: Past, prepare: impl FnOnce(&Disk), body: impl AsyncFnOnce(&Server) -> T) -> (T, Recording) {
    run_beside(past, Beside::default(), prepare, body)
}

pub fn run_beside<T>(past: Past, beside: Beside, prepare: impl FnOnce(&Disk), body: impl AsyncFnOnce(&Server) -> T) -> (T, Recording) {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let mounted = Mounted::new(Disk::new(NUMBERS.fetch_add(1, Ordering::Relaxed), past.image));
    prepare(&mounted.disk);
    let notes = past.notes.into_iter().map(|note| (0, note)).collect();
    let witness = Arc::new(Witness { disk: mounted.disk.clone(), notes: Mutex::new(notes), starts: AtomicU64::new(past.starts) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let server = Server { mounted, beside, witness, running: Mutex::new(None), started_at: AtomicUsize::new(0), shown: Mutex::default() };
    let result = runtime.block_on(body(&server));
    *server.running.lock().unwrap() = None;
    drop(runtime);
    let (start, ops) = server.mounted.disk.recorded();
    let notes = std::mem::take(&mut *server.witness.notes.lock().unwrap());
    (result, Recording { start, ops, notes, starts: server.witness.starts.load(Ordering::Relaxed) })
}

pub struct Server {
    mounted: Mounted,
    beside: Beside,
    pub witness: Arc<Witness>,
    running: Mutex<Option<Running>>,
    /// The operation that the last start ended with.
    started_at: AtomicUsize,
    /// The last event of each session that was read.
    shown: Mutex<BTreeMap<SessionId, u64>>,
}

#[derive(Clone)]
struct Running {
    store: Arc<SqliteStore>,
    engine: Engine,
    tasks: Arc<Tasks>,
}

/// Why a script did not get to its end.
#[derive(Debug)]
pub enum Ended {
    Failure(Failure),
    /// What was waited for did not come.
    Late,
    /// The turn did not end.
    Open(TurnId),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

impl From<StoreFault> for Ended {
    fn from(fault: StoreFault) -> Self {
        Ended::Failure(fault.into())
    }
}

/// Never starts, and may the next time.
struct Stubborn;

impl Agent for Stubborn {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            fork: false,
            cancel: true,
            ask_permission: false,
            set_model: false,
            report_usage: false,
            remember: true,
            transcript: false,
        }
    }

    fn open(&self, _: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (doing, message) = ("starting".into(), "it ended at once".into());
        Box::pin(async { Err(AgentFault { kind: AgentFaultKind::Exited, doing, message, retryable: true, may_have_happened: false }) })
    }
}

pub type Scripted<T = ()> = Result<T, Ended>;

impl Server {
    pub fn disk(&self) -> &Arc<Disk> {
        &self.mounted.disk
    }

    pub async fn start(&self) -> Scripted {
        let files = Arc::new(DiskFiles(self.disk().clone()));
        let store = Arc::new(SqliteStore::open_on(&self.mounted.directory(), Mode::Inline, files)?);
        let starts = self.witness.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let tasks = Arc::new(Tasks { handles: Mutex::default(), witness: self.witness.clone() });
        let world = Arc::new(Outside { starts, count: AtomicU64::new(0), began: tokio::time::Instant::now() });
        let runtime = Runtime { clock: world.clone(), ids: world, spawner: tasks.clone(), failpoints: self.beside.failpoints.clone() };
        let mut agents = self.beside.agents.clone();
        agents.insert(name("demo"), demo(&self.witness));
        agents.insert(name("stubborn"), Arc::new(Stubborn));
        let watched = |agent| AgentEntry::new(Arc::new(Watched { agent, witness: self.witness.clone() }), None);
        let parts = Parts {
            store: store.clone(),
            agents: agents.into_iter().map(|(name, agent)| (name, watched(agent))).collect(),
            default_agent: name("demo"),
            runtime,
            settings: Settings {
                question: Duration::from_secs(1_800),
                keep_trash: Some(KEEP_TRASH),
                ..Settings::new(private_directories().into())
            },
        };
        let engine = Engine::start(parts).await?;
        *self.running.lock().unwrap() = Some(Running { store, engine, tasks });
        self.started_at.store(self.disk().now(), Ordering::Relaxed);
        Ok(())
    }

    /// As a kill does it; the disk keeps everything.
    pub async fn kill(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(running) = running {
            running.tasks.handles.lock().unwrap().drain(..).for_each(|task| task.abort());
            drop(running);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    /// As Ctrl-C does it.
    pub async fn stop(&self) {
        self.engine().stop(Stop::Settle).await;
        self.kill().await;
    }

    pub fn is_down(&self) -> bool {
        self.running.lock().unwrap().is_none()
    }

    pub fn engine(&self) -> Engine {
        self.running.lock().unwrap().as_ref().expect("the server runs").engine.clone()
    }

    pub fn store(&self) -> Arc<SqliteStore> {
        self.running.lock().unwrap().as_ref().expect("the server runs").store.clone()
    }

    pub fn directory(&self) -> std::path::PathBuf {
        self.mounted.directory()
    }

    /// Sends a request and notes its answer, and what is to be seen after it.
    pub async fn ask(&self, request: Request) -> Scripted<Reply> {
        let started = self.started_at.load(Ordering::Relaxed);
        let failed = self.disk().failed().filter(|(at, what)| *at >= started && matches!(*what, "write" | "sync"));
        self.witness.note(Note::Asked(request.clone()));
        match self.send(&request).await? {
            Answered::Fresh(reply) => {
                if let Some(failed) = failed {
                    self.witness.note(Note::Broken(format!("acknowledged {} after {failed:?}", request.key)));
                }
                self.witness.note(Note::Answered(request.key, rendered(&reply)));
                self.read_all().await?;
                Ok(reply)
            }
            Answered::Kept { .. } => panic!("{} is asked once", request.key),
        }
    }

    pub async fn send(&self, request: &Request) -> Result<Answered, Failure> {
        let (engine, key) = (self.engine(), Some(keyed(&request.key, &request.key)));
        match request.what.clone() {
            What::Create(new) => engine.create_session(&admin(), new, key).await,
            What::Order(session, order) => engine.order(&admin(), session, order, key).await,
            What::Thread(resource, thread, order) => {
                engine.order_thread(&admin(), resource, thread, NewSession::default(), order, key).await
            }
        }
    }

    pub async fn order(&self, key: &str, session: SessionId, order: Order) -> Scripted<Reply> {
        self.ask(Request { key: key.into(), what: What::Order(session, order) }).await
    }

    /// A session with a tail on it.
    pub async fn create(&self, title: &str) -> Scripted<SessionId> {
        let new = NewSession { title: Some(title.into()), ..NewSession::default() };
        match self.ask(Request { key: format!("create {title}"), what: What::Create(new) }).await? {
            Reply::Session(session) => {
                self.tail(session.id).await?;
                Ok(session.id)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Its key is its text.
    pub async fn submit(&self, session: SessionId, text: &str) -> Scripted<TurnId> {
        self.submit_new(session, text, crate::world::turn_of(text)).await
    }

    pub async fn submit_new(&self, session: SessionId, key: &str, new: NewTurn) -> Scripted<TurnId> {
        match self.order(key, session, Order::Submit(new)).await? {
            Reply::Turn(turn) => Ok(turn.id),
            other => panic!("{other:?}"),
        }
    }

    pub async fn ended(&self, turn: TurnId) -> Scripted<Turn> {
        let (engine, caller) = (self.engine(), admin());
        let turn =
            tokio::time::timeout(Duration::from_secs(1_200), engine.wait_turn(&caller, turn)).await.map_err(|_| Ended::Open(turn))??;
        self.read_all().await?;
        Ok(turn)
    }

    pub async fn talk(&self, session: SessionId, text: &str) -> Scripted<Turn> {
        let turn = self.submit(session, text).await?;
        self.ended(turn).await
    }

    /// Reads along and notes what is shown, as long as the server runs.
    pub async fn tail(&self, session: SessionId) -> Scripted {
        let mut tail = self.engine().tail(&admin(), session, 0).await?;
        let witness = self.witness.clone();
        let tasks = self.running.lock().unwrap().as_ref().expect("the server runs").tasks.clone();
        tasks.spawn(Box::pin(async move {
            while let Ok(frames) = tail.next().await {
                for frame in frames {
                    witness.note(Note::Seen(session, frame.seq, frame.json));
                }
            }
        }));
        Ok(())
    }

    /// Reads every session's events that were not read yet, past the engine, and notes them.
    pub async fn read_all(&self) -> Scripted {
        let store = self.store();
        for session in store.all_sessions(None, 1_000).await? {
            let after = self.shown.lock().unwrap().get(&session).copied().unwrap_or(0);
            let query = EventsQuery { session: Some(session), after, limit: 100_000, ..EventsQuery::default() };
            for event in store.events(query).await? {
                self.shown.lock().unwrap().insert(session, event.seq);
                self.witness.note(Note::Seen(session, event.seq, event.bytes));
            }
        }
        Ok(())
    }

    /// Waits until the session has an event of the kind.
    pub async fn until(&self, session: SessionId, kind: &str) -> Scripted<Event> {
        let engine = self.engine();
        let find = async {
            let mut tail = engine.tail(&admin(), session, 0).await?;
            loop {
                if let Some(frame) = tail.next().await?.into_iter().find(|frame| frame.kind == kind) {
                    return Ok::<_, Failure>(everkept_store::decode(&frame.json).unwrap().1);
                }
            }
        };
        Ok(tokio::time::timeout(Duration::from_secs(1_200), find).await.map_err(|_| Ended::Late)??)
    }

    /// The sessions that may be gone, and are.
    pub async fn purged(&self) -> Scripted<BTreeSet<SessionId>> {
        let mut purged = BTreeSet::new();
        for note in self.witness.all() {
            if let Note::Due(session) = note
                && self.store().session(session).await?.is_none()
            {
                purged.insert(session);
            }
        }
        Ok(purged)
    }

    pub fn sessions_noted(&self) -> BTreeSet<SessionId> {
        let seen = |note: Note| if let Note::Seen(session, ..) = note { Some(session) } else { None };
        self.witness.all().into_iter().filter_map(seen).collect()
    }
}

pub fn rendered(reply: &Reply) -> Bytes {
    ((keyed("", "").render)(reply)).1.into()
}

pub fn is_full(ended: &Ended) -> bool {
    matches!(ended, Ended::Failure(Failure::Store(StoreFault { problem: Problem::Full, .. })))
}

/// Agents make real folders; they hold nothing.
fn private_directories() -> &'static std::path::Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

struct Tasks {
    handles: Mutex<Vec<tokio::task::AbortHandle>>,
    witness: Arc<Witness>,
}

impl Spawner for Tasks {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        let witness = self.witness.clone();
        let watched = std::panic::AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if let Err(panic) = ended {
                let text = panic.downcast_ref::<String>().cloned();
                witness.note(Note::Broken(format!("a task panicked: {}", text.unwrap_or_default())));
            }
        });
        self.handles.lock().unwrap().push(tokio::spawn(watched).abort_handle());
    }
}

/// Time and ids of one start: the same in every run.
struct Outside {
    starts: u64,
    count: AtomicU64,
    began: tokio::time::Instant,
}

impl Clock for Outside {
    fn wall(&self) -> Timestamp {
        let micros = self.monotonic().as_micros() as i64;
        Timestamp(1_700_000_000_000_000 + self.starts as i64 * 3 * 3_600_000_000 + micros)
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Ids for Outside {
    fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.starts, self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

fn demo(witness: &Arc<Witness>) -> Arc<dyn Agent> {
    let memory = Arc::new(Memory(witness.clone()));
    let began = witness.clone();
    let ids = Arc::new(move || {
        let count = began.all().iter().filter(|note| matches!(note, Note::AgentBegan(..))).count();
        format!("demo-{}", count + 1)
    });
    Arc::new(DemoAgent::new(memory, ids))
}

/// What the agent remembers survives every cut.
struct Memory(Arc<Witness>);

impl DemoMemory for Memory {
    fn begin(&self, session: &str, prompts: u64) -> std::io::Result<()> {
        self.0.note(Note::AgentBegan(session.into(), prompts));
        Ok(())
    }

    fn prompts(&self, session: &str) -> std::io::Result<Option<u64>> {
        let of_it = |note: &Note| match note {
            Note::AgentBegan(id, prompts) | Note::AgentSaw(id, prompts) if id == session => Some(*prompts),
            _ => None,
        };
        Ok(self.0.all().iter().rev().find_map(of_it))
    }

    fn see(&self, session: &str, more: u64) -> std::io::Result<u64> {
        let seen = self.prompts(session)?.ok_or(std::io::ErrorKind::NotFound)? + more;
        self.0.note(Note::AgentSaw(session.into(), seen));
        Ok(seen)
    }
}

/// Notes every prompt that is given.
struct Watched {
    agent: Arc<dyn Agent>,
    witness: Arc<Witness>,
}

impl Agent for Watched {
    fn abilities(&self) -> everkept_agent::Abilities {
        self.agent.abilities()
    }

    fn transcripts(&self) -> Option<Arc<dyn everkept_agent::Transcripts>> {
        self.agent.transcripts()
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (opening, witness) = (self.agent.open(open), self.witness.clone());
        Box::pin(async move {
            let opened = opening.await?;
            let (orders, mut given) = tokio::sync::mpsc::channel(ORDER_QUEUE);
            let Connection { orders: inner, output } = opened.connection;
            tokio::spawn(async move {
                while let Some(order) = given.recv().await {
                    if let everkept_agent::Order::Prompt(prompt) = &order {
                        witness.note(Note::Prompted(prompt.turn));
                    }
                    if inner.send(order).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Opened { connection: Connection { orders, output }, ..opened })
        })
    }
}
