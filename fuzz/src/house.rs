//! A whole server in this process: memory store, demo agent, no listener, and time that passes when nothing else does.
//!
//! Making one costs more than most inputs, so it is kept for many; each is given a session of its own where that matters.
//! Never: a sleep that is waited for, or an answer that is not HTTP.

use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::{AgentName, Limits, Timestamp, TokenId};
use everkept_engine::{AgentEntry, Clock, Engine, Ids, Parts, Runtime, Settings, Spawner, Token};
use everkept_server::{Server, secret_hash};
use everkept_store::MemoryStore;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::watch,
};
use uuid::Uuid;

pub const PORT: u16 = 7717;
pub const HOST: &str = "127.0.0.1:7717";
/// What an admin says.
pub const ADMIN: &str = "ek_admin";
/// 2026-01-01, in microseconds.
pub const NEW_YEAR: i64 = 1_767_225_600_000_000;
const BODY_LIMIT: usize = 1_000_000;
/// Inputs one house takes; what they leave behind is memory.
const VISITS: u32 = 500;
/// Nothing under way takes longer; it passes at once when nothing is under way.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct House {
    runtime: tokio::runtime::Runtime,
    pub engine: Engine,
    server: Server,
    visits: u32,
    _running: watch::Sender<bool>,
}

/// Runs `visit` in a house that `furnish` was asked to prepare when it was new.
pub fn visit<R>(furnish: impl FnOnce(&House), visit: impl FnOnce(&House) -> R) -> R {
    thread_local!(static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) });
    HOUSE.with_borrow_mut(|kept| {
        let house = match kept.take() {
            Some(house) if house.visits < VISITS => kept.insert(house),
            Some(_) | None => {
                let house = kept.insert(House::new());
                furnish(house);
                house
            }
        };
        house.visits += 1;
        visit(house)
    })
}

/// One folder for all that this process writes, in the one that `cargo xtask fuzz` makes and takes away.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let place = std::env::var_os("EVERKEPT_FUZZ_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = place.join(format!("everkept-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a folder can be made");
        directory
    })
}

impl House {
    fn new() -> House {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let (running, ended) = watch::channel(false);
        let (engine, server) = runtime.block_on(async {
            let engine = engine().await;
            let server = Server::new(engine.clone(), PORT, BODY_LIMIT, ended).expect("a server without a public address");
            (engine, server)
        });
        let house = House { runtime, engine, server, visits: 0, _running: running };
        house.token(ADMIN, "admin", None, None);
        house
    }

    /// Lets `secret` in.
    pub fn token(&self, secret: &str, kind: &str, name: Option<&str>, expires_at: Option<Timestamp>) -> TokenId {
        let id = TokenId(self.engine.runtime().ids.uuid());
        let token = Token {
            id,
            secret_hash: secret_hash(secret),
            kind: kind.to_owned(),
            name: name.map(str::to_owned),
            created_at: Timestamp(NEW_YEAR),
            expires_at,
            revoked_at: None,
        };
        self.block_on(self.engine.put_token(token)).expect("a store in memory keeps a token");
        id
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// All that the server answers to these bytes on one connection, until it hangs up or has nothing more to say.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        self.block_on(async {
            let (mut reader, mut writer) = tokio::io::split(self.connect());
            let mut answer = Vec::new();
            // A server that has heard enough takes no more.
            let writing = async { _ = writer.write_all(bytes).await };
            let reading = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer));
            let (_, read) = tokio::join!(writing, reading);
            if let Ok(read) = read {
                read.expect("a pipe in memory does not fail");
            }
            answer
        })
    }

    /// An open connection; [`House::block_on`] must be around it.
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = self.server.clone();
        tokio::spawn(async move { server.serve_connection(theirs).await });
        ours
    }

    /// What an admin's request is answered.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("authorization: Bearer {ADMIN}\r\n");
        self.ask_with(method, path, &authorization, body.as_bytes())
    }

    pub fn ask_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let answers = answers(&self.exchange(&self.request(method, path, headers, body)));
        let [answer] = <[Answer; 1]>::try_from(answers).unwrap_or_else(|all| panic!("{method} {path}: {} answers", all.len()));
        answer
    }

    /// One request's bytes, the last of its connection.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n{headers}").into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        request
    }

    /// A new session's id.
    pub fn session(&self) -> String {
        let session = self.ask("POST", "/api/sessions", "{}").json();
        session["id"].as_str().expect("a session has an id").to_owned()
    }
}

async fn engine() -> Engine {
    let runtime = Arc::new(Counted { started: tokio::time::Instant::now(), made: AtomicU64::new(0) });
    let count = AtomicU64::new(0);
    let agent_ids = Arc::new(move || format!("demo-{}", count.fetch_add(1, Ordering::Relaxed) + 1));
    let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), agent_ids));
    let demo = AgentName::new("demo").expect("a name");
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        agents: BTreeMap::from([(demo.clone(), AgentEntry::new(agent, None))]),
        default_agent: demo,
        runtime: Runtime { clock: runtime.clone(), ids: runtime.clone(), spawner: runtime, failpoints: None },
        // What hangs ends while it is waited for, and what goes on for ever leaves room for others.
        settings: Settings {
            limits: Limits { silence: PATIENCE / 2, ..Limits::default() },
            max_agents: 10_000,
            ..Settings::new(directory().join("work"))
        },
    };
    Engine::start(parts).await.expect("a store in memory boots")
}

/// Ids that count, and a clock that begins with the year.
struct Counted {
    started: tokio::time::Instant,
    made: AtomicU64,
}

impl Clock for Counted {
    fn wall(&self) -> Timestamp {
        Timestamp(NEW_YEAR + i64::try_from(self.monotonic().as_micros()).expect("no run is that long"))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Ids for Counted {
    fn uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.made.fetch_add(1, Ordering::Relaxed) + 1, 7)
    }
}

impl Spawner for Counted {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// The answers of one connection. What breaks off was cut by us; everything before must be HTTP to the byte.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head ends");
        let head = std::str::from_utf8(&bytes[..end]).expect("our heads are ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()).expect("a status line");
        let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let headers: BTreeMap<_, _> = lines.map(|line| field(line).expect("a header line")).collect();
        bytes = &bytes[end + 4..];
        let body = body(status, &headers, &mut bytes);
        answers.push(Answer { status, headers, body });
    }
    answers
}

fn body(status: u16, headers: &BTreeMap<String, String>, bytes: &mut &[u8]) -> Vec<u8> {
    if status == 101 {
        return std::mem::take(bytes).to_vec();
    }
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        return chunks(bytes);
    }
    let Some(length) = headers.get("content-length") else {
        // To a client of HTTP/1.0 a body of no known length lasts as long as the connection.
        let bodiless = status < 200 || status == 204 || status == 304;
        return if bodiless { Vec::new() } else { std::mem::take(bytes).to_vec() };
    };
    let length: usize = length.parse().expect("a length is a number");
    // The answer to HEAD says a length and has no body.
    let (body, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
    *bytes = rest;
    body.to_vec()
}

fn chunks(bytes: &mut &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok()).expect("a chunk's size");
        let Some(chunk) = bytes.get(at + 2..at + 2 + size) else { break };
        body.extend_from_slice(chunk);
        *bytes = bytes.get(at + 2 + size + 2..).unwrap_or_default();
        if size == 0 {
            return body;
        }
    }
    *bytes = &[];
    body
}
