//! kill -9 of the real server, over and over, under load: nothing acknowledged is lost, nothing is doubled, nothing is
//! shown that can be taken back, and no agent outlives its server.
//!
//! `EVERKEPT_KILLS` (200 by default) says how often, `EVERKEPT_SEED` when; both are printed.

use crate::bench::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const WRITERS: u64 = 8;
/// Longer than any restart takes.
const HOLD_MS: u64 = 60_000;

/// Where the server listens now; it moves with every start.
#[derive(Clone)]
struct Now {
    address: watch::Receiver<String>,
    token: Arc<Mutex<String>>,
    client: reqwest::Client,
    /// Writers write no more.
    over: Arc<AtomicBool>,
    /// Nothing happens any more: readers read to the end.
    settled: Arc<AtomicBool>,
}

impl Now {
    /// One try. None: nobody answered, or the server said that it could not say.
    async fn post(&self, path: &str, key: &str, body: &Value) -> Option<Value> {
        let token = self.token.lock().unwrap().clone();
        let url = format!("{}{path}", *self.address.borrow());
        let answer = self.client.post(url).bearer_auth(token).header("idempotency-key", key).json(body).send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        match status {
            200..300 => Some(serde_json::from_str(&text).unwrap()),
            503 => None,
            _ => panic!("POST {path} {body}: {status} {text}"),
        }
    }

    /// The same request, with the same key, until it is answered.
    async fn insist(&self, path: &str, key: &str, body: Value) -> Value {
        loop {
            if let Some(answer) = self.post(path, key, &body).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What one writer was promised.
#[derive(Default)]
struct Promised {
    session: String,
    /// Text and turn of every acknowledged message, in order.
    turns: Vec<(String, String)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_d2_d3_o1_o2_o3_o5_o6_o7_r1_r2_tu_09_kills_lose_nothing_double_nothing_and_leave_nothing_running() {
    kill_over_and_over(0, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d1_d2_d3_o1_o2_o3_o5_o6_o7_r1_r2_within_the_hold_kills_interrupt_no_turn_that_its_agent_was_given() {
    kill_over_and_over(HOLD_MS, 50).await;
}

async fn kill_over_and_over(hold_ms: u64, usually: u64) {
    let kills: u64 = std::env::var("EVERKEPT_KILLS").map_or(usually, |count| count.parse().unwrap());
    let seed: u64 = std::env::var("EVERKEPT_SEED").map_or(20_261_120, |seed| seed.parse().unwrap());
    println!("EVERKEPT_KILLS={kills} EVERKEPT_SEED={seed}");
    let chance = Arc::new(AtomicU64::new(seed | 1));
    let data = tempfile::tempdir().unwrap();
    let scripted = with_agent(data.path(), "acp", "scripted-agent", hold_ms);
    let mut server = Server::start(data.path());
    let (moved, address) = watch::channel(server.address.clone());
    let now = Now {
        address,
        token: Arc::new(Mutex::new(server.token.clone())),
        client: server.client.clone(),
        over: Arc::new(AtomicBool::new(false)),
        settled: Arc::new(AtomicBool::new(false)),
    };
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(now.clone(), n, chance.clone(), hold_ms > 0))).collect();
    let mut readers = Vec::new();
    let mut starts = Vec::new();
    let mut by_agent = 0;
    for kill in 0..kills {
        let wait = Duration::from_millis(20 + roll(&chance) % 250);
        // Sometimes the agent does it, before its first byte or in mid-stream; else we do, at a random time.
        let until = Instant::now() + wait;
        let died = loop {
            if server.child.try_wait().unwrap().is_some() {
                break true;
            }
            if Instant::now() >= until {
                break false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        by_agent += u64::from(died);
        let agents = agents(&scripted);
        if !died {
            server.kill();
        }
        if hold_ms == 0 {
            gone(&agents, Duration::from_secs(2)).await;
        }
        server = Server::start(data.path());
        starts.push(server.started_in);
        moved.send(server.address.clone()).unwrap();
        if kill == 0 {
            let sessions = server.get("/api/sessions?limit=50").await;
            for session in sessions["items"].as_array().unwrap() {
                readers.push(tokio::spawn(read(now.clone(), session["id"].as_str().unwrap().to_owned())));
            }
        }
    }
    now.over.store(true, SeqCst);
    // Writers finish the message they are at; the agents they ask may still kill the server.
    let mut promised = Vec::new();
    for writer in writers {
        let mut writer = writer;
        loop {
            tokio::select! {
                done = &mut writer => {
                    promised.push(done.unwrap());
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            if server.child.try_wait().unwrap().is_some() {
                by_agent += 1;
                server = Server::start(data.path());
                moved.send(server.address.clone()).unwrap();
            }
        }
    }
    // What is still queued may hold more killers: the server is kept up until all is settled.
    let settled = Instant::now();
    'settle: loop {
        if server.child.try_wait().unwrap().is_some() {
            by_agent += 1;
            server = Server::start(data.path());
            moved.send(server.address.clone()).unwrap();
        }
        assert!(settled.elapsed() < PATIENCE * 2, "turns stay open\n{}", stderr(data.path()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        for promised in &promised {
            let url = server.url(&format!("/api/sessions/{}", promised.session));
            let Ok(answer) = server.client.get(url).bearer_auth(&server.token).send().await else { continue 'settle };
            let Ok(session) = answer.json::<Value>().await else { continue 'settle };
            if session["state"] != "idle" {
                continue 'settle;
            }
        }
        break;
    }
    now.settled.store(true, SeqCst);
    check(&server, &scripted, &promised, hold_ms > 0).await;
    let heads = heads(&server).await;
    for reader in readers {
        let (session, seen) = tokio::time::timeout(PATIENCE, reader).await.expect("the reader reaches the end").unwrap();
        let kept = raw_events(&server, &session).await;
        assert_eq!(seen.len() as u64, heads[&session], "{session}: every event was shown");
        assert!(seen == kept, "{session}: what was shown is what is kept, byte for byte");
    }
    starts.sort();
    let p99 = starts[starts.len() * 99 / 100 - usize::from(starts.len() % 100 == 0)];
    let slowest = starts.last().unwrap().as_millis();
    println!("{kills} kills, {by_agent} by the agent itself; start p99 {} ms, slowest {slowest} ms", p99.as_millis());
    assert!(p99 < Duration::from_secs(1), "R1: a killed server answers again within a second");
    server.kill();
    let verified = everkept().args(["verify", "--data"]).arg(data.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

async fn write(now: Now, writer: u64, chance: Arc<AtomicU64>, held: bool) -> Promised {
    let created = now.insist("/api/sessions", &format!("create-{writer}"), json!({ "title": format!("writer {writer}") })).await;
    let session = created["id"].as_str().unwrap().to_owned();
    let mut promised = Promised { session: session.clone(), turns: Vec::new() };
    let mut n = 0;
    while !now.over.load(SeqCst) {
        n += 1;
        let what = match roll(&chance) % 40 {
            // One that is held would kill the next server as it starts.
            0 if !held => "!killserver-before",
            1 if !held => "!killserver-mid",
            2..6 => "!tool",
            6..20 => "!slow:5 with a few more words to stream",
            _ => "",
        };
        let text = format!("w{writer}-{n} {what}");
        let body = json!({ "input": text });
        let turn = now.insist(&format!("/api/sessions/{session}/turns"), &format!("turn-{writer}-{n}"), body).await;
        promised.turns.push((text, turn["id"].as_str().unwrap().to_owned()));
        tokio::time::sleep(Duration::from_millis(roll(&chance) % 120)).await;
    }
    promised
}

/// Reads a session along over every death of the server, going on from the last number it has; ends when all is read.
async fn read(now: Now, session: String) -> (String, Vec<Vec<u8>>) {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let over = now.settled.load(SeqCst);
        let token = now.token.lock().unwrap().clone();
        let url = format!("{}/api/sessions/{session}/events", *now.address.borrow());
        let request = now.client.get(url).bearer_auth(token).header("accept", "text/event-stream");
        let request = request.header("last-event-id", seen.len().to_string());
        if let Ok(mut answer) = request.send().await
            && answer.status().is_success()
        {
            let mut buffer = Vec::new();
            // Short enough to notice in time that all is settled.
            while let Ok(Ok(Some(chunk))) = tokio::time::timeout(Duration::from_secs(3), answer.chunk()).await {
                buffer.extend_from_slice(&chunk);
                while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                    let frame: Vec<u8> = buffer.drain(..end + 2).collect();
                    let Some(event) = data_of(&frame) else { continue };
                    let seq = serde_json::from_slice::<Value>(&event).unwrap()["seq"].as_u64().unwrap();
                    assert_eq!(seq, seen.len() as u64 + 1, "{session}: every event once and in order");
                    seen.push(event);
                }
            }
            if over {
                return (session, seen);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn data_of(frame: &[u8]) -> Option<Vec<u8>> {
    frame.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: ")).map(<[u8]>::to_vec)
}

async fn check(server: &Server, scripted: &Path, promised: &[Promised], held: bool) {
    let mut stored_texts = BTreeMap::new();
    for promised in promised {
        let events = server.events(&promised.session).await;
        let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "O1: numbers rise by one");
        let of = |kind: &'static str| events.iter().filter(move |event| event["kind"] == kind);
        let queued: Vec<&str> = of("turn.queued").map(|event| event["turn"].as_str().unwrap()).collect();
        let acknowledged: Vec<&str> = promised.turns.iter().map(|(_, turn)| turn.as_str()).collect();
        assert_eq!(queued, acknowledged, "D1, O3: every acknowledged turn is there once, in order, and no other");
        let ended: Vec<&str> = of("turn.ended").map(|event| event["turn"].as_str().unwrap()).collect();
        assert_eq!(ended.iter().collect::<BTreeSet<_>>().len(), ended.len(), "O6: no turn ends twice");
        assert_eq!(ended.iter().collect::<BTreeSet<_>>(), queued.iter().collect(), "O6: every turn has ended");
        let pins: Vec<_> = of("agent_session.pinned").collect();
        assert!(pins.len() <= 1, "O7: one pin: {pins:?}");
        let successors: Vec<_> = of("agent_session.succeeded").collect();
        assert!(successors.is_empty(), "O7: the agent session stays the same: {successors:?}");
        for (text, turn) in &promised.turns {
            let held = server.get(&format!("/api/turns/{turn}")).await;
            let state = held["state"].as_str().unwrap();
            assert!(["completed", "interrupted", "failed"].contains(&state), "{text}: {held}");
            if state == "completed" {
                let answers = held["response_messages"].as_array().unwrap();
                assert!(!answers.is_empty(), "a turn that completed has an answer: {held}");
            }
            stored_texts.insert(text.clone(), held);
        }
    }
    let mut given = BTreeSet::new();
    for prompt in prompts(scripted) {
        let text = prompt["text"].as_str().unwrap().to_owned();
        assert!(stored_texts.contains_key(&text), "D2: a prompt that was not stored reached the agent: {text}");
        assert!(given.insert(text.clone()), "O5: the agent was given {text} twice");
    }
    for (text, turn) in &stored_texts {
        let answered = turn["state"] == "completed";
        assert!(!answered || given.contains(text), "{text} was answered and never asked");
        // One that was claimed and never given is settled as ever.
        assert!(!held || answered || !given.contains(text), "R2: {text} was given and interrupted: {turn}");
    }
}

async fn heads(server: &Server) -> BTreeMap<String, u64> {
    let sessions = server.get("/api/sessions?limit=50").await;
    let mut heads = BTreeMap::new();
    for session in sessions["items"].as_array().unwrap() {
        let id = session["id"].as_str().unwrap();
        heads.insert(id.to_owned(), server.events(id).await.len() as u64);
    }
    heads
}

/// The events as they are answered, each with its very bytes.
async fn raw_events(server: &Server, session: &str) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        let url = server.url(&format!("/api/sessions/{session}/events?after={}&limit=1000", kept.len()));
        let text = server.client.get(url).bearer_auth(&server.token).send().await.unwrap().text().await.unwrap();
        #[derive(serde::Deserialize)]
        struct Page {
            items: Vec<Box<serde_json::value::RawValue>>,
        }
        let page: Page = serde_json::from_str(&text).unwrap();
        if page.items.is_empty() {
            return kept;
        }
        kept.extend(page.items.into_iter().map(|item| item.get().as_bytes().to_vec()));
    }
}

/// Every prompt the agent was ever sent.
fn prompts(scripted: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(scripted.join("prompts.log")).unwrap_or_default();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The agents that were ever prompted, by process.
fn agents(scripted: &Path) -> Vec<u32> {
    let pid = |prompt: &Value| u32::try_from(prompt["pid"].as_u64().unwrap()).unwrap();
    let pids: BTreeSet<u32> = prompts(scripted).iter().map(pid).collect();
    // A number comes again, for somebody else's process.
    let ours = format!("SCRIPTED_DIR={}", scripted.display());
    let is_agent = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes())
    };
    pids.into_iter().filter(is_agent).collect()
}

fn roll(chance: &AtomicU64) -> u64 {
    let next = |mut x: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^ (x << 17)
    };
    let before = chance.fetch_update(SeqCst, SeqCst, |x| Some(next(x))).unwrap();
    next(before)
}
