//! A wall clock that jumps: promise L3.

use crate::line::{Line, PORT};
use crate::server::{PATIENCE, engine_on};
use everkept_agent::BoxFuture;
use everkept_core::Timestamp;
use everkept_engine::{Clock, Engine, Runtime, TokioRuntime};
use everkept_server::{BODY_LIMIT, Server, create_token};
use everkept_store::FaultyStore;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;

/// The real clock, wrong by so many microseconds.
struct Jumping {
    real: Arc<dyn Clock>,
    wrong_by: AtomicI64,
}

impl Clock for Jumping {
    fn wall(&self) -> Timestamp {
        Timestamp(self.real.wall().0 + self.wrong_by.load(SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.real.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.real.sleep(duration)
    }
}

struct Kept {
    store: Arc<FaultyStore>,
    clock: Arc<Jumping>,
    directory: tempfile::TempDir,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Kept {
    fn new() -> Kept {
        let clock = Arc::new(Jumping { real: TokioRuntime::runtime().clock, wrong_by: AtomicI64::new(0) });
        let (stop, _) = tokio::sync::watch::channel(false);
        Kept { store: Arc::default(), clock, directory: tempfile::tempdir().unwrap(), stop }
    }

    /// Starts the server on what there is.
    async fn start(&self) -> (Engine, Line) {
        let runtime = Runtime { clock: self.clock.clone(), ..TokioRuntime::runtime() };
        let engine = engine_on(self.directory.path(), self.store.clone(), runtime).await;
        let server = Server::new(engine.clone(), PORT, BODY_LIMIT, self.stop.subscribe()).unwrap();
        (engine, Line::new(&server))
    }

    fn jump(&self, wrong_by: i64) {
        self.clock.wrong_by.store(wrong_by, SeqCst);
    }
}

#[tokio::test]
async fn l3_an_expired_token_stays_expired_whatever_the_clock_says_then() {
    let kept = Kept::new();
    let (engine, mut line) = kept.start().await;
    let (_, secret) = create_token(&engine, "admin", None, Some(Duration::from_secs(600))).await.unwrap();
    let (_, lasting) = create_token(&engine, "admin", None, None).await.unwrap();
    let (token, admin) = (format!("authorization: Bearer {secret}\r\n"), format!("authorization: Bearer {lasting}\r\n"));
    assert_eq!(line.as_client(&token, "GET", "/api/sessions", None).await.status, 200);
    kept.jump(HOUR);
    assert_eq!(line.as_client(&token, "GET", "/api/sessions", None).await.status, 401);
    // Something is written, so that a new start knows how late it was.
    assert_eq!(line.as_client(&admin, "POST", "/api/sessions", Some(&json!({}))).await.status, 201);
    for back in [0, -HOUR, -24 * 365 * HOUR] {
        kept.jump(back);
        assert_eq!(line.as_client(&token, "GET", "/api/sessions", None).await.status, 401, "{back}");
        let (_, mut anew) = kept.start().await;
        assert_eq!(anew.as_client(&token, "GET", "/api/sessions", None).await.status, 401, "{back}, after a new start");
        assert_eq!(anew.as_client(&admin, "GET", "/api/sessions", None).await.status, 200);
    }
}

#[tokio::test]
async fn l3_clock_jumps_change_no_order_no_deduplication_and_no_running_timer() {
    let kept = Kept::new();
    let (engine, mut line) = kept.start().await;
    let (_, secret) = create_token(&engine, "admin", None, None).await.unwrap();
    let admin = format!("authorization: Bearer {secret}\r\n");
    let made = line.as_client(&admin, "POST", "/api/sessions", Some(&json!({}))).await.json();
    let ses = format!("/api/sessions/{}", made["id"].as_str().unwrap());
    let keyed = format!("{admin}idempotency-key: once\r\n");
    let message = json!({ "messages": [{ "role": "user", "content": "hello" }] });
    let first = line.as_client(&keyed, "POST", &format!("{ses}/messages"), Some(&message)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    // A question is open, which waits a day, and an agent that speaks now and then.
    let asking = line.as_client(&admin, "POST", "/api/threads/ann/asks/turns", Some(&json!({ "input": "!ask may I" }))).await.json();
    let talking = line.as_client(&admin, "POST", "/api/threads/ann/talks/turns", Some(&json!({ "input": "!long on and on" }))).await.json();
    for wrong_by in [30 * 24 * HOUR, -HOUR, 400 * 24 * HOUR, -400 * 24 * HOUR, 0] {
        kept.jump(wrong_by);
        let again = line.as_client(&keyed, "POST", &format!("{ses}/messages"), Some(&message)).await;
        assert_eq!((again.status, &again.body), (200, &first.body), "{wrong_by}: one effect and one answer");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(line.as_client(&admin, "POST", &format!("{ses}/messages"), Some(&message)).await.status, 200);
        for turn in [&asking, &talking] {
            let held = line.as_client(&admin, "GET", &format!("/api/turns/{}", turn["id"].as_str().unwrap()), None).await.json();
            assert_eq!(held["ended_at"], Value::Null, "{wrong_by}: a timer ran out");
        }
    }
    let page = line.as_client(&admin, "GET", &format!("{ses}/events?limit=100"), None).await.json();
    let numbers: Vec<_> = page["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let messages = line.as_client(&admin, "GET", &format!("{ses}/messages?limit=100"), None).await.json();
    assert_eq!(messages["items"].as_array().unwrap().len(), 6, "the first once, and five more");
    let cancel = format!("/api/turns/{}/cancel", talking["id"].as_str().unwrap());
    assert_eq!(line.as_client(&admin, "POST", &cancel, None).await.status, 202);
    tokio::time::timeout(PATIENCE, engine.stop(everkept_engine::Stop::Settle)).await.unwrap();
}
