//! A running server, and clients that say exactly what they are told to.

use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::{AgentName, Fallback, ModelName};
use everkept_engine::{AgentEntry, Engine, Parts, Runtime, Settings, TokioRuntime};
use everkept_server::{BODY_LIMIT, CONNECTIONS, ServerConfig, create_token, serve};
use everkept_store::FaultyStore;
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

pub struct Server {
    pub engine: Engine,
    pub store: Arc<FaultyStore>,
    pub address: SocketAddr,
    pub admin: String,
    pub client: reqwest::Client,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
    _directory: tempfile::TempDir,
}

/// No wait in a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An engine with two demo agents, and the secret of its admin.
pub async fn engine(directory: &std::path::Path) -> (Engine, String, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::default());
    let engine = engine_on(directory, store.clone(), TokioRuntime::runtime()).await;
    let (_, admin) = create_token(&engine, "admin", None, None).await.unwrap();
    (engine, admin, store)
}

/// The same on a store and a clock of the test's.
pub async fn engine_on(directory: &std::path::Path, store: Arc<FaultyStore>, runtime: Runtime) -> Engine {
    let mut agents = BTreeMap::new();
    for (name, model) in [("demo", None), ("other", Some("other/big"))] {
        let count = AtomicU64::new(0);
        let ids = Arc::new(move || format!("{name}-{}", count.fetch_add(1, Ordering::SeqCst) + 1));
        let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), ids));
        let model = model.map(|model| ModelName::new(model).unwrap());
        // What fails with its own model is asked of another one, and is a dead letter when that fails too.
        let next = model.as_ref().map(|_| Fallback { agent: None, model: Some(ModelName::new("other/small").unwrap()) });
        let entry = AgentEntry { fallback: next.into_iter().collect(), ..AgentEntry::new(agent, model) };
        agents.insert(AgentName::new(name).unwrap(), entry);
    }
    let parts = Parts { store, agents, default_agent: AgentName::new("demo").unwrap(), runtime, settings: Settings::new(directory.into()) };
    Engine::start(parts).await.unwrap()
}

impl Server {
    pub async fn start() -> Server {
        Self::with_body_limit(BODY_LIMIT).await
    }

    pub async fn with_body_limit(body_limit: usize) -> Server {
        Self::with_limits(body_limit, CONNECTIONS).await
    }

    pub async fn with_limits(body_limit: usize, connections: usize) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let (engine, admin, store) = engine(directory.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, ended) = watch::channel(false);
        let config =
            ServerConfig { engine: engine.clone(), listener, public_url: None, tls: None, body_limit, connections, shutdown: ended };
        let serving = tokio::spawn(serve(config));
        // Once for the whole process; a client cannot be made without.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build().unwrap();
        Server { engine, store, address, admin, client, shutdown, serving, _directory: directory }
    }

    /// Tells the server to end and waits until it has.
    pub async fn stop(self) {
        self.shutdown.send(true).unwrap();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }

    pub async fn token(&self, kind: &str, name: &str) -> String {
        create_token(&self.engine, kind, Some(name.into()), None).await.unwrap().1
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request of the admin's.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(&self.admin, method, path)
    }

    pub fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).bearer_auth(token)
    }

    pub async fn get(&self, path: &str) -> Value {
        good(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        good(self.request(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    /// A new session's id.
    pub async fn session(&self) -> String {
        self.post("/api/sessions", json!({})).await["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message; the turn's id.
    pub async fn send(&self, session: &str, text: &str) -> String {
        let turn = self.post(&format!("/api/sessions/{session}/turns"), json!({ "input": text })).await;
        turn["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message and waits for the end of its turn.
    pub async fn ask(&self, session: &str, text: &str) -> Value {
        let turn = self.send(session, text).await;
        self.ended(&turn).await
    }

    /// The turn, once it has ended.
    pub async fn ended(&self, turn: &str) -> Value {
        let caller = everkept_engine::Caller { access: everkept_engine::Access::All, principal: "test".into() };
        let waiting = self.engine.wait_turn(&caller, turn.parse().unwrap());
        tokio::time::timeout(PATIENCE, waiting).await.expect("the turn ends").unwrap();
        self.get(&format!("/api/turns/{turn}")).await
    }

    /// Role and text of each message of the session.
    pub async fn said(&self, session: &str) -> Vec<(String, String)> {
        let page = self.get(&format!("/api/sessions/{session}/messages?limit=1000")).await;
        let text = |message: &Value| {
            let parts = message["parts"].as_array().unwrap().iter();
            parts.filter(|part| part["type"] == "text").map(|part| part["text"].as_str().unwrap()).collect::<String>()
        };
        let items = page["items"].as_array().unwrap();
        items.iter().map(|message| (message["role"].as_str().unwrap().to_owned(), text(message))).collect()
    }

    pub async fn stream(&self, path: &str) -> Events {
        self.stream_after(path, None).await
    }

    pub async fn stream_after(&self, path: &str, last_event_id: Option<u64>) -> Events {
        let mut request = self.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events::of(response)
    }

    /// Writes bytes, reads the answer's head and no more.
    pub async fn raw_head(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        head(&mut stream).await
    }
}

pub async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let reading = async {
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) > 0 {
            head.push(byte[0]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer");
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

pub fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The body of an answer that must be good.
pub async fn good(response: Response) -> Value {
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{url}: {status} {body}");
    if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() }
}

/// Status, code and field of an answer that must not be good.
pub async fn refused(request: RequestBuilder) -> (u16, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let error = &body["error"];
    (status.as_u16(), text(&error["code"]), text(if error["field"].is_null() { &error["param"] } else { &error["field"] }))
}

/// Server-sent events as they come.
pub struct Events {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    read: Vec<u8>,
}

/// One of them, as it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sse {
    pub id: Option<u64>,
    pub event: String,
    pub data: String,
}

impl Sse {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Events {
    pub fn of(response: Response) -> Events {
        Events { body: Box::pin(response.bytes_stream()), read: Vec::new() }
    }

    /// The next event; none when the stream ended.
    pub async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                let sse = parse(std::str::from_utf8(&block).unwrap());
                if !sse.data.is_empty() {
                    return Some(sse);
                }
                continue;
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event in time")?;
            self.read.extend_from_slice(&piece.ok()?);
        }
    }

    /// Up to and including the first event of this kind.
    pub async fn until(&mut self, kind: &str) -> Vec<Sse> {
        let mut events = Vec::new();
        while let Some(sse) = self.next().await {
            let found = sse.event == kind;
            events.push(sse);
            if found {
                return events;
            }
        }
        panic!("the stream ended before {kind}");
    }

    /// All there is, to the stream's end.
    pub async fn rest(&mut self) -> Vec<Sse> {
        let mut events = Vec::new();
        while let Some(sse) = self.next().await {
            events.push(sse);
        }
        events
    }
}

fn parse(block: &str) -> Sse {
    let mut sse = Sse::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => sse.id = Some(id.parse().unwrap()),
            Some(("event", event)) => sse.event = event.to_owned(),
            Some(("data", data)) => sse.data = data.to_owned(),
            _ => {}
        }
    }
    sse
}
