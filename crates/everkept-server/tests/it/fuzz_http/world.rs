//! The server that is fuzzed: the real engine and doors on the real SQLite store, in memory and on a paused clock.
//!
//! Never two things at once: when a request is sent, everything the one before has set off is done.

use super::generate::Seen;
use crate::line::{Line, PORT};
use everkept_agent::BoxFuture;
use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::{AgentName, Fallback, Limits, ModelName};
use everkept_engine::{AgentEntry, Engine, Ids, Parts, Runtime, Settings, Spawner, Stop, TokioRuntime};
use everkept_server::{Server, create_token, login_link};
use everkept_store::verify;
use everkept_store_sql::{Mode, SqliteStore};
use futures::FutureExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use uuid::Uuid;

pub const BODY_LIMIT: usize = 1_000_000;
/// What is done by itself within it counts as done at once.
const SETTLING: Duration = Duration::from_millis(40);

pub struct World {
    pub line: Line,
    /// Who asks, and how often of all times.
    pub callers: Vec<(String, u64)>,
    engine: Engine,
    store: Arc<SqliteStore>,
    watched: rusqlite::Connection,
    panics: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// All that a request can leave behind: where the logs end, sessions, tokens, kept answers, blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept([i64; 8]);

struct Watched {
    panics: Arc<AtomicU64>,
    ids: AtomicU64,
    seed: u64,
}

impl Spawner for Watched {
    fn spawn(&self, task: BoxFuture<()>) {
        let panics = self.panics.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                panics.fetch_add(1, SeqCst);
            }
        });
    }
}

impl Ids for Watched {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128((u128::from(self.ids.fetch_add(1, SeqCst) + 1) << 64) | u128::from(self.seed))
    }
}

impl World {
    pub async fn of(seed: u64) -> World {
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let panics = Arc::new(AtomicU64::new(0));
        let own = Arc::new(Watched { panics: panics.clone(), ids: AtomicU64::new(0), seed });
        let runtime = Runtime { clock: TokioRuntime::runtime().clock, ids: own.clone(), spawner: own, failpoints: None };
        let store = Arc::new(SqliteStore::open(directory.path(), Mode::Inline).unwrap());
        let settings = Settings {
            limits: Limits { silence: Duration::from_secs(6), ..Limits::default() },
            question: Duration::from_secs(8),
            max_agents: 16,
            ..Settings::new(directory.path().join("work"))
        };
        let mut agents = BTreeMap::new();
        for (name, model) in [("demo", None), ("other", Some("other/big"))] {
            let count = AtomicU64::new(0);
            let ids = Arc::new(move || format!("{name}-{}", count.fetch_add(1, SeqCst) + 1));
            let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), ids));
            let next = model.map(|_| Fallback { agent: None, model: Some(ModelName::new("other/small").unwrap()) });
            let entry = AgentEntry::new(agent, model.map(|model| ModelName::new(model).unwrap()));
            agents.insert(AgentName::new(name).unwrap(), AgentEntry { fallback: next.into_iter().collect(), ..entry });
        }
        let default_agent = AgentName::new("demo").unwrap();
        let engine = Engine::start(Parts { store: store.clone(), agents, default_agent, runtime, settings }).await.unwrap();
        let (stop, ended) = tokio::sync::watch::channel(false);
        let server = Server::new(engine.clone(), PORT, BODY_LIMIT, ended).unwrap();
        let callers = callers(&engine, &server).await;
        let file = directory.path().join("everkept.db");
        let watched = rusqlite::Connection::open_with_flags(&file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        World { line: Line::new(&server), callers, engine, store, watched, panics, _directory: directory, _stop: stop }
    }

    /// Lets everything happen that happens by itself.
    pub async fn settle(&self) {
        tokio::time::sleep(SETTLING).await;
        // Whoever was woken at the same moment comes first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// A session with a rule, a failed turn, a dead letter, one that waits and one behind it, and one that was reverted, so that requests find something in every state.
    pub async fn plant(&mut self, number: u64, seen: &mut Seen) {
        let (admin, thread) = (self.callers[0].0.clone(), format!("/api/threads/ann/planted-{number}"));
        for input in ["!ask always", "", "!fail", "!ask now", "later"] {
            let (target, body) = match input {
                "" => {
                    let open = self.line.as_client(&admin, "GET", "/api/questions?resource=ann", None).await.json();
                    // Not one that asks to review what a crash of the agent interrupted.
                    let asks = |question: &&serde_json::Value| question["kind"] == "permission";
                    let open = open["items"].as_array().unwrap().iter().rfind(asks).unwrap()["id"].as_str().unwrap().to_owned();
                    (format!("/api/questions/{open}/answer"), json!({ "option": "allow_always" }))
                }
                input => (format!("{thread}/turns"), json!({ "input": input })),
            };
            let answer = self.line.as_client(&admin, "POST", &target, Some(&body)).await;
            assert!(answer.status < 300, "{input}: {}", answer.text());
            seen.learn(&answer.json());
            self.settle().await;
        }
        seen.learn(&self.line.as_client(&admin, "GET", &thread, None).await.json());
        let fails = json!({ "input": "!fail", "agent": "other" });
        self.line.as_client(&admin, "POST", &format!("{thread}-dead/turns"), Some(&fails)).await;
        self.settle().await;
        seen.learn(&self.line.as_client(&admin, "GET", "/api/dead-letters?limit=1", None).await.json());
        let hello = json!({ "input": "hello" });
        let turn = self.line.as_client(&admin, "POST", &format!("{thread}-reverted/turns"), Some(&hello)).await.json();
        self.settle().await;
        let revert = format!("/api/sessions/{}/revert", turn["session"].as_str().unwrap());
        seen.learn(&self.line.as_client(&admin, "POST", &revert, Some(&json!({}))).await.json());
        self.settle().await;
    }

    /// Rises when anything at all is written, for instance who has the log of a session.
    pub fn writes(&self) -> i64 {
        self.watched.pragma_query_value(None, "data_version", |row| row.get(0)).unwrap()
    }

    pub fn kept(&self) -> Kept {
        let all = "SELECT (SELECT total(head) FROM log), (SELECT count(*) FROM log), (SELECT count(*) FROM session), \
            (SELECT total(deleted) FROM session), (SELECT count(*) FROM token), (SELECT count(revoked_at) FROM token), \
            (SELECT count(*) FROM answer), (SELECT count(*) FROM blob)";
        let mut statement = self.watched.prepare_cached(all).unwrap();
        let row = statement.query_row([], |row| {
            let mut kept = [0; 8];
            for (at, kept) in kept.iter_mut().enumerate() {
                let figure: f64 = row.get(at)?;
                // Far below the numbers that a float rounds.
                *kept = figure as i64;
            }
            Ok(kept)
        });
        Kept(row.unwrap())
    }

    pub fn panics(&self) -> u64 {
        self.panics.load(SeqCst)
    }

    /// Everything is as it should be after all that, and the server goes on.
    pub async fn check(mut self) -> u64 {
        let admin = self.callers[0].0.clone();
        let health = self.line.as_client(&admin, "GET", "/api/health", None).await;
        assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
        let input = json!({ "input": "are you there" });
        let turn = self.line.as_client(&admin, "POST", "/api/threads/last/word/turns", Some(&input)).await;
        assert_eq!(turn.status, 202, "{}", turn.text());
        self.engine.stop(Stop::Settle).await;
        let report = verify(&*self.store, &mut |_| {}).await.unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert_eq!(self.panics(), 0, "a task of the server panicked");
        report.events
    }
}

async fn callers(engine: &Engine, server: &Server) -> Vec<(String, u64)> {
    let mut callers = Vec::new();
    for (kind, name, weight) in [
        ("admin", None, 70),
        ("resource", Some("ann"), 10),
        ("resource", Some("bob"), 6),
        ("recall", Some("ann"), 3),
        ("relay", Some("worker"), 3),
    ] {
        let (_, secret) = create_token(engine, kind, name.map(str::to_owned), None).await.unwrap();
        callers.push((format!("authorization: Bearer {secret}\r\n"), weight));
    }
    let code = login_link(engine, "").await.unwrap().split_once("#code=").unwrap().1.to_owned();
    let answer = Line::new(server).as_client("", "POST", "/login", Some(&json!({ "code": code }))).await;
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    callers.push((format!("cookie: {cookie}\r\nx-everkept: 1\r\n"), 4));
    callers.push((format!("cookie: {cookie}\r\n"), 2));
    callers.push((String::new(), 1));
    callers.push(("authorization: Bearer ek_wrong\r\n".into(), 1));
    callers
}
