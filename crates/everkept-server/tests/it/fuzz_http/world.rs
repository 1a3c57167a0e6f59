//! The server that is fuzzed: the real engine and doors on the real SQLite store, in memory and on a paused clock.
//!
//! Never two things at once: when a request is sent, everything the one before has set off is done.

use super::generate::Seen;
use crate::line::{Line, PORT};
use everkept_agent::BoxFuture;
use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::{AgentName, ModelName};
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
        let runtime = Runtime { clock: TokioRuntime::runtime().clock, ids: own.clone(), spawner: own };
        let store = Arc::new(SqliteStore::open(directory.path(), Mode::Inline).unwrap());
        let settings = Settings {
            silence: Duration::from_secs(6),
            question: Duration::from_secs(8),
            max_agents: 16,
            ..Settings::new(directory.path().join("work"))
        };
        let mut agents = BTreeMap::new();
        for (name, model) in [("demo", None), ("other", Some("other/big"))] {
            let count = AtomicU64::new(0);
            let ids = Arc::new(move || format!("{name}-{}", count.fetch_add(1, SeqCst) + 1));
            let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), ids));
            agents.insert(AgentName::new(name).unwrap(), AgentEntry { agent, model: model.map(|model| ModelName::new(model).unwrap()) });
        }
        let default_agent = AgentName::new("demo").unwrap();
        let engine = Engine::start(Parts { store: store.clone(), agents, default_agent, runtime, settings }).await.unwrap();
        let (stop, ended) = tokio::sync::watch::channel(false);
        let server = Server::new(engine.clone(), PORT, BODY_LIMIT, ended).unwrap();
        let callers = callers(&engine, &server).await;
        let file = directory.path().join("everkept.db");
