//! A server whose every step is polled by hand, and whose callers can be gone after any of them.
//!
//! The store keeps whoever asks waiting before and after it does what it is asked, so that a caller may go with nothing
//! done and with all of it done. Never: a wall clock, or an id by chance.

use super::rows::Things;
use crate::line::{Answer, PORT, answer};
use everkept_agent::BoxFuture;
use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::{AgentName, Fallback, ModelName, SessionId, Timestamp};
use everkept_engine::*;
use everkept_server::{BODY_LIMIT, Server, create_token};
use everkept_store::{EventsQuery, FaultyStore, Store, decode, verify};
use futures::FutureExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use uuid::Uuid;

const PIPE: usize = 64 * 1024;
/// Long enough for every question, agent and idle task to come to its end.
const LONG: Duration = Duration::from_secs(600);

pub struct House {
    pub engine: Engine,
    pub server: Server,
    pub store: Arc<FaultyStore>,
    /// The header of the one who may do everything.
    pub admin: String,
    outside: Arc<Outside>,
    /// The tasks of a server that has nothing to do.
    quiet: u64,
    _directory: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// Time, ids and tasks of the server.
struct Outside {
    began: tokio::time::Instant,
    ids: AtomicU64,
    live: Arc<AtomicU64>,
    panics: Arc<AtomicU64>,
    /// After how many steps the next task is dropped, and whether it was.
    drops: Mutex<Option<(usize, tokio::sync::oneshot::Sender<bool>)>>,
}

impl Clock for Outside {
    fn wall(&self) -> Timestamp {
        Timestamp(1_767_225_600_000_000 + i64::try_from(self.monotonic().as_micros()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Ids for Outside {
    fn uuid(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.ids.fetch_add(1, SeqCst) + 1) << 64)
    }
}

impl Spawner for Outside {
    fn spawn(&self, task: BoxFuture<()>) {
        let (live, panics) = (Live::new(&self.live), self.panics.clone());
        let drops = self.drops.lock().unwrap().take();
        let task = async move {
            let _live = live;
            match drops {
                None => task.await,
                // Whoever waits to hear of it is the test, which may have seen enough.
                Some((steps, told)) => _ = told.send(dropped_after(steps, task).await.is_none()),
            }
        };
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                panics.fetch_add(1, SeqCst);
            }
        });
    }
}

struct Live(Arc<AtomicU64>);

impl Live {
    fn new(count: &Arc<AtomicU64>) -> Live {
        count.fetch_add(1, SeqCst);
        Live(count.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// What the future comes to; none when it was dropped, which it is as it waits for the time after `steps` times.
pub async fn dropped_after<T>(steps: usize, future: impl Future<Output = T> + Send) -> Option<T> {
    DropAfter { future: Some(Box::pin(future)), steps }.await
}

struct DropAfter<'a, T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
    steps: usize,
}

impl<T> Future for DropAfter<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        match self.steps.checked_sub(1) {
            Some(left) => {
                self.steps = left;
                Poll::Pending
            }
            None => {
                self.future = None;
                Poll::Ready(None)
            }
        }
    }
}

/// What came of a request whose connection was dropped after some steps.
pub struct Came {
    pub dropped: bool,
    pub answer: Option<Answer>,
    /// Of a stream, what was read of it.
    pub read: Vec<u8>,
}

impl House {
    pub async fn start() -> (House, Things) {
        let directory = tempfile::tempdir().unwrap();
        let outside = Arc::new(Outside {
            began: tokio::time::Instant::now(),
            ids: AtomicU64::new(0),
            live: Arc::default(),
            panics: Arc::default(),
            drops: Mutex::default(),
        });
        let mut agents = BTreeMap::new();
        for name in ["demo", "other"] {
            let count = AtomicU64::new(0);
            let ids = Arc::new(move || format!("{name}-{}", count.fetch_add(1, SeqCst) + 1));
            let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), ids));
            let next = (name == "other").then(|| Fallback { agent: None, model: Some(ModelName::new("other/small").unwrap()) });
            let entry = AgentEntry { fallback: next.into_iter().collect(), ..AgentEntry::new(agent, None) };
            agents.insert(AgentName::new(name).unwrap(), entry);
        }
        let store = Arc::new(FaultyStore::default());
        let parts = Parts {
            store: store.clone(),
            agents,
            default_agent: AgentName::new("demo").unwrap(),
            runtime: Runtime { clock: outside.clone(), ids: outside.clone(), spawner: outside.clone(), failpoints: None },
            settings: Settings { question: Duration::from_secs(60), ..Settings::new(directory.path().into()) },
        };
        let engine = Engine::start(parts).await.unwrap();
        let quiet = outside.live.load(SeqCst);
        let admin = bearer(&create_token(&engine, "admin", None, None).await.unwrap().1);
        let (stop, ended) = tokio::sync::watch::channel(false);
        let server = Server::new(engine.clone(), PORT, BODY_LIMIT, ended).unwrap();
        let house = House { engine, server, store, admin, outside, quiet, _directory: directory, _stop: stop };
        let things = Things::made_in(&house).await;
        house.store.slow_down();
        (house, things)
    }

    /// One request on a connection of its own, which is dropped as it waits for the time after `steps` times. Of an answer
    /// that does not end, what comes up to `until` is read, and then the client leaves.
    pub async fn ask(&self, steps: usize, request: &[u8], until: Option<&str>) -> Came {
        let (mut client, io) = tokio::io::duplex(PIPE);
        let server = self.server.clone();
        let serving = tokio::spawn(async move { dropped_after(steps, server.serve_connection(io)).await.is_none() });
        let mut read = Vec::new();
        let head = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(request.len(), |at| at + 4);
        for piece in [&request[..head], &request[head..]] {
            // The server may be gone before it has read all of it.
            _ = client.write_all(piece).await;
            // A body comes after its head, so that the server has to wait for it.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        let answered = answer(&mut client, &mut read, false).await;
        if let Some(until) = until.filter(|_| answered.is_some()) {
            read_until(&mut client, &mut read, until).await;
        }
        drop(client);
        Came { dropped: serving.await.unwrap(), answer: answered, read }
    }

    /// The next task of the server is dropped as it waits for the time after so many times; tells whether it was.
    pub fn drop_next_task(&self, steps: usize) -> tokio::sync::oneshot::Receiver<bool> {
        let (tell, told) = tokio::sync::oneshot::channel();
        *self.outside.drops.lock().unwrap() = Some((steps, tell));
        told
    }

    pub async fn as_admin(&self, method: &str, target: &str, body: &str) -> Answer {
        let request = request(method, target, &self.admin, body);
        self.ask(usize::MAX, &request, None).await.answer.unwrap_or_else(|| panic!("{method} {target} is not answered"))
    }

    /// How often each kind of event is there, over all sessions, and how many sessions there are. How an answer was cut
    /// into pieces is left to time.
    pub async fn effects(&self) -> BTreeMap<&'static str, usize> {
        let mut effects = BTreeMap::new();
        for session in self.store.all_sessions(None, 1_000).await.unwrap() {
            *effects.entry("session").or_default() += 1;
            let query = EventsQuery { session: Some(session), limit: 100_000, ..EventsQuery::default() };
            for stored in self.store.events(query).await.unwrap() {
                let (_, event) = decode(&stored.bytes).unwrap();
                // A fork begins with its parent's.
                if event.session == session && stored.kind != "part.delta" {
                    *effects.entry(stored.kind).or_default() += 1;
                }
            }
        }
        effects
    }

    /// Every session outside the trash completes another turn.
    pub async fn goes_on(&self) {
        for session in self.store.all_sessions(None, 1_000).await.unwrap() {
            if self.store.session(session).await.unwrap().unwrap().deleted_at.is_some() {
                continue;
            }
            let turn = self.as_admin("POST", &format!("/api/sessions/{session}/turns"), r#"{"input":"are you there"}"#).await;
            assert_eq!(turn.status, 202, "{session} takes no turn any more: {}", turn.text());
            self.completed(turn.json()["id"].as_str().unwrap()).await;
        }
    }

    async fn completed(&self, turn: &str) {
        let caller = Caller { access: Access::All, principal: "test".into() };
        let waiting = self.engine.wait_turn(&caller, turn.parse().unwrap());
        let turn = tokio::time::timeout(LONG, waiting).await.expect("a new turn ends").unwrap();
        assert_eq!(turn.state, everkept_core::TurnState::Completed, "{turn:?}");
    }

    /// Everything that was begun is at its end.
    pub async fn settle(&self) {
        tokio::time::sleep(LONG).await;
    }

    /// Nobody is left who serves somebody that is gone, the log is whole, and the server ends in order.
    pub async fn check(self) {
        self.settle().await;
        assert_eq!(self.outside.live.load(SeqCst), self.quiet, "tasks are left behind");
        let report = verify(&*self.store, &mut |_| {}).await.unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        tokio::time::timeout(LONG, self.engine.stop(Stop::Settle)).await.expect("the server ends");
        assert_eq!(self.outside.panics.load(SeqCst), 0, "a task panicked");
    }

    /// A turn of the thread `ann/name`, and its session.
    pub async fn turn(&self, name: &str, body: &serde_json::Value) -> (String, String) {
        let turn = self.as_admin("POST", &format!("/api/threads/ann/{name}/turns"), &body.to_string()).await;
        assert_eq!(turn.status, 202, "{}", turn.text());
        let turn = turn.json();
        (turn["id"].as_str().unwrap().into(), turn["session"].as_str().unwrap().into())
    }

    /// A turn that has ended.
    pub async fn told(&self, name: &str, input: &str) -> (String, String) {
        let (turn, session) = self.turn(name, &json!({ "input": input })).await;
        self.ended(&turn).await;
        (turn, session)
    }

    pub async fn ended(&self, turn: &str) {
        let caller = Caller { access: Access::All, principal: "test".into() };
        tokio::time::timeout(LONG, self.engine.wait_turn(&caller, turn.parse().unwrap())).await.unwrap().unwrap();
    }

    /// The newest one, once there is one.
    pub async fn dead_letter(&self) -> String {
        loop {
            let letters = self.as_admin("GET", "/api/dead-letters?limit=1", "").await.json();
            if let Some(letter) = letters["items"][0]["turn"]["id"].as_str() {
                return letter.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The question that waits in the session, once the agent has asked it.
    pub async fn open_question(&self, session: &str) -> String {
        loop {
            let open = self.as_admin("GET", &format!("/api/questions?session={session}"), "").await.json();
            if let Some(question) = open["items"][0]["id"].as_str() {
                return question.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A change of a session that comes by itself, a second from now.
    pub fn rename_soon(&self, session: &str) {
        let title = format!("renamed {}", self.outside.uuid());
        let (engine, session): (_, SessionId) = (self.engine.clone(), session.parse().unwrap());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let caller = Caller { access: Access::All, principal: "test".into() };
            let update = everkept_core::UpdateSession { title: Some(Some(title)), ..Default::default() };
            engine.order(&caller, session, Order::Update(update), None).await.unwrap();
        });
    }

    /// A connection that is not dropped, with the request sent and the answer's head read.
    /// What came after the head is left in `read`.
    pub async fn open(&self, request: &[u8], read: &mut Vec<u8>) -> (DuplexStream, Answer) {
        let (mut client, io) = tokio::io::duplex(PIPE);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_connection(io).await });
        client.write_all(request).await.unwrap();
        let answered = answer(&mut client, read, false).await.expect("an answer");
        (client, answered)
    }
}

pub async fn read_until(client: &mut DuplexStream, read: &mut Vec<u8>, until: &str) {
    let mut piece = [0; 4_096];
    while !String::from_utf8_lossy(read).contains(until) {
        match client.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => read.extend_from_slice(&piece[..length]),
        }
    }
}

pub fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

/// `headers` as they are written, each with its end of line.
pub fn request(method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let close = if headers.contains("upgrade") { "" } else { "connection: close\r\n" };
    format!("{method} {target} HTTP/1.1\r\nhost: localhost:{PORT}\r\n{kind}{close}{headers}content-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
