//! The simulated machine: the real server on the real store, with time, ids and tasks handed in.
//!
//! Never: anything of its own that a crash would have to spare; that is the house's.

use super::house::{House, PORT, Prompted, SECRET};
use crate::dice::Dice;
use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, Connection, ORDER_QUEUE, Open, Opened, Order, PromptPart};
use everkept_core::{AgentName, Fallback, Limits, ModelName, Timestamp, TokenId};
use everkept_engine::{AgentEntry, Clock, Engine, Ids, Parts, Runtime, Settings, Spawner, Token};
use everkept_server::{Server, secret_hash};
use everkept_store_sql::{Mode, SqliteStore};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, atomic::Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

const BODY_LIMIT: usize = 1_000_000;
/// 2026-01-01, in microseconds.
const NEW_YEAR: i64 = 1_767_225_600_000_000;

type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// One life of the server, until it crashes.
pub async fn live(house: Arc<House>, memory: Arc<MemoryInRam>) -> turmoil::Result {
    house.boots.fetch_add(1, SeqCst);
    let (spawner, mut spawned) = mpsc::unbounded_channel();
    let spawner = Arc::new(Tasks { house: house.clone(), spawner });
    let simulated = Arc::new(Simulated(house.clone()));
    let runtime = Runtime { clock: simulated.clone(), ids: simulated, spawner: spawner.clone(), failpoints: None };
    let listener = turmoil::net::TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT)).await?;
    let engine = start(&house, memory, runtime).await;
    let (_stop, ended) = tokio::sync::watch::channel(false);
    let server = Server::new(engine, PORT, BODY_LIMIT, ended)?;
    // A crash drops these in an order of their own; tokio's own depends on how many tasks the process ever had.
    let mut tasks = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(task) = spawned.recv() => tasks.push(task),
            Some(()) = tasks.next(), if !tasks.is_empty() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let server = server.clone();
                spawner.spawn(Box::pin(async move { server.serve_connection(stream).await }));
            }
        }
    }
}

async fn start(house: &Arc<House>, memory: Arc<MemoryInRam>, runtime: Runtime) -> Engine {
    let store = Arc::new(SqliteStore::open(&house.directory, Mode::Inline).expect("the last life left a database that opens"));
    let ids = house.clone();
    let demo = DemoAgent::new(memory, Arc::new(move || format!("demo-{}", ids.agent_ids.fetch_add(1, SeqCst) + 1)));
    let watched = Arc::new(Watched { demo, house: house.clone() });
    let name = AgentName::new("demo").unwrap();
    let settings = Settings {
        limits: Limits { silence: Duration::from_secs(3), ..Limits::default() },
        question: Duration::from_secs(2),
        cancel: Duration::from_secs(1),
        idle_agent: Duration::from_secs(1),
        coalesce: Duration::from_millis(3),
        idle_session: Duration::from_secs(2),
        max_agents: 3,
        ..Settings::new(house.directory.join("work"))
    };
    let fallback = vec![Fallback { agent: None, model: Some(ModelName::new("demo/other").unwrap()) }];
    let entry = AgentEntry { retry_prompts: 1, fallback, ..AgentEntry::new(watched, None) };
    let agents = BTreeMap::from([(name.clone(), entry)]);
    let engine =
        Engine::start(Parts { store, agents, default_agent: name, runtime, settings }).await.expect("a database that opened boots");
    let hash = secret_hash(SECRET);
    if engine.token_by_hash(hash).await.unwrap().is_none() {
        let token = Token {
            id: TokenId(Uuid::from_u128(1)),
            secret_hash: hash,
            kind: "admin".into(),
            name: None,
            created_at: Timestamp(0),
            expires_at: None,
            revoked_at: None,
        };
        engine.put_token(token).await.unwrap();
    }
    engine
}

struct Simulated(Arc<House>);

impl Clock for Simulated {
    fn wall(&self) -> Timestamp {
        let since = i64::try_from(self.monotonic().as_micros()).unwrap();
        Timestamp(NEW_YEAR + since + self.0.skew.load(SeqCst))
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) -> Task {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Ids for Simulated {
    fn uuid(&self) -> Uuid {
        let count = self.0.ids.fetch_add(1, SeqCst) + 1;
        Uuid::from_u128((u128::from(count) << 64) | u128::from(self.0.seed))
    }
}

struct Tasks {
    house: Arc<House>,
    spawner: mpsc::UnboundedSender<Task>,
}

impl Spawner for Tasks {
    fn spawn(&self, task: Task) {
        let house = self.house.clone();
        let watched = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                house.told().panics.push("a task of the server panicked".into());
            }
        };
        // Nobody takes tasks any more when the server has crashed.
        _ = self.spawner.send(Box::pin(watched));
    }
}

/// The demo agent, and who was given which prompt.
struct Watched {
    demo: DemoAgent,
    house: Arc<House>,
}

impl Agent for Watched {
    fn abilities(&self) -> Abilities {
        self.demo.abilities()
    }

    fn open(&self, open: Open) -> everkept_agent::BoxFuture<Result<Opened, AgentFault>> {
        let (opening, house) = (self.demo.open(open), self.house.clone());
        let count = house.openings.fetch_add(1, SeqCst);
        // Now and then it does not start, and would have a moment later.
        if Dice::new(house.seed, 10_000 + count).one_in(8) {
            let (kind, message) = (AgentFaultKind::Exited, "it ended at once".into());
            let fault = AgentFault { kind, doing: "starting".into(), message, retryable: true, may_have_happened: false };
            return Box::pin(async { Err(fault) });
        }
        Box::pin(async move {
            let opened = opening.await?;
            let (orders, heard) = mpsc::channel(ORDER_QUEUE);
            let Connection { orders: to_demo, output } = opened.connection;
            tokio::spawn(pass_on(house, opened.agent_session.to_string(), heard, to_demo));
            Ok(Opened { connection: Connection { orders, output }, ..opened })
        })
    }
}

async fn pass_on(house: Arc<House>, agent_session: String, mut heard: mpsc::Receiver<Order>, to_demo: mpsc::Sender<Order>) {
    while let Some(order) = heard.recv().await {
        if let Order::Prompt(prompt) = &order {
            let texts = prompt.parts.iter().filter_map(|part| match part {
                PromptPart::Text(text) => Some(text.as_str()),
                PromptPart::File { .. } => None,
            });
            let prompted = Prompted {
                turn: prompt.turn.to_string(),
                agent_session: agent_session.clone(),
                text: texts.collect(),
                boot: house.boots(),
            };
            house.told().prompts.push(prompted);
        }
        if to_demo.send(order).await.is_err() {
            return;
        }
    }
}
