//! Agents that do every wrong thing that came to mind, under the real server: each turn ends as it should, every byte
//! is kept, nobody else notices, and the session goes on.
//!
//! Figures are printed (`--nocapture`).

mod table;

use crate::bench::*;
use serde_json::json;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use table::{ACP, ALL, Next, Row, rows};
use tokio::task::{JoinError, JoinSet};

/// Behaviours at a time.
const AT_ONCE: usize = 10;
/// Far more than a line of 64 MiB needs, and far less than all that is said.
const MEMORY: u64 = 700 << 20;

/// One behaviour in one protocol, with a folder of its own.
#[derive(Clone)]
struct Trial {
    row: Row,
    protocol: &'static str,
    agent: String,
    folder: PathBuf,
}

impl Trial {
    fn of(row: &Row, protocol: &'static str, data: &Path) -> Trial {
        let agent = format!("{protocol}-{}", row.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
        Trial { row: row.clone(), protocol, folder: data.join("hostile").join(&agent), agent }
    }

    fn plan(&self) -> PathBuf {
        self.folder.join("plan.json")
    }

    /// Writes its plan down, and gives its part of the configuration.
    fn configured(&self) -> String {
        std::fs::create_dir_all(&self.folder).unwrap();
        let Row { at, say, act, .. } = &self.row;
        std::fs::write(self.plan(), json!({ "at": at, "say": say, "act": act }).to_string()).unwrap();
        let program = match self.protocol {
            "acp" => "scripted-agent",
            "claude-code" => "scripted-claude",
            _ => "scripted-codex",
        };
        let command = [xtask().to_str().unwrap().to_owned(), "hostile-agent".into(), self.plan().to_str().unwrap().into(), program.into()];
        format!(
            "[agents.{:?}]\nprotocol = {:?}\ncommand = {command:?}\nenv = {{ SCRIPTED_DIR = {:?} }}\nopen_within_s = {}\n",
            self.agent,
            self.protocol,
            self.folder,
            if self.row.hangs && self.row.state == "dead_lettered" { 1 } else { 60 },
        )
    }

    /// Every process that was started for it and is there.
    fn processes(&self) -> Vec<u32> {
        let mark = format!("SCRIPTED_DIR={}\0", self.folder.display());
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let its = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        pids.filter(its).collect()
    }

    /// All that its processes wrote, one process after the other.
    fn written(&self) -> Vec<u8> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "written")).collect();
        files.sort_by_key(|file| std::fs::metadata(file).unwrap().created().unwrap());
        files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
    }

    async fn run(self, server: Arc<Server>) -> Result<(), String> {
        let (name, row) = (&self.agent, &self.row);
        let session = server.session(json!({ "agent": name })).await;
        let turn = server.send(&session, row.prompt).await;
        if row.cancel {
            self.has_acted().await;
            server.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
        }
        let ended = server.ended(&turn).await;
        let mut wrong = String::new();
        let mut check = |good: bool, what: String| {
            if !good {
                writeln!(wrong, "{name}: {what}").unwrap();
            }
        };
        check(ended["state"] == row.state, format!("ends as {ended}"));
        check(row.reason.is_none_or(|reason| ended["reason"] == reason), format!("ends because of {ended}"));
        let raw = server.raw(&session, &turn).await;
        let written = self.written();
        let never_opened = ended["reason"] == "agent_start_failed";
        if !never_opened {
            check(written.starts_with(&raw), format!("{} bytes are kept of {}, and are others", raw.len(), written.len()));
        }
        // Who went away had said all it had to say.
        let all = ended["reason"] == "agent_exited" && row.act != json!("close_output") && row.act != json!("hang");
        check(!all || raw == written, format!("{} bytes are kept of {}", raw.len(), written.len()));
        check(never_opened || !raw.is_empty(), "nothing is kept".into());
        if row.state != "completed" && ended["reason"] != "agent_error" && ended["reason"] != "agent_cancelled" {
            gone(&self.processes(), Duration::from_secs(2)).await;
        }
        let open = server.get(&format!("/api/questions?session={session}")).await;
        let open = open["items"].as_array().unwrap().iter().filter(|question| question["kind"] != "review").count();
        check(open == 0, format!("{open} questions outlive their turn"));
        // Every reader of JSON takes what is in them.
        let ends = server.events(&session).await.iter().filter(|event| event["kind"] == "turn.ended").count();
        check(ends == 1, format!("{ends} ends"));
        // From here on it is good.
        std::fs::remove_file(self.plan()).unwrap();
        if row.next == Next::SameOnceMore {
            let next = server.send(&session, "and then").await;
            let next = server.ended(&next).await;
            // With many agents about, its process may have had to make room.
            check(next["state"] == "interrupted" || next["state"] == "completed", format!("the next ends as {next}"));
        }
        let agent = if row.next == Next::Another { "good" } else { name };
        let next = server.post(&format!("/api/sessions/{session}/turns"), json!({ "input": "at last", "agent": agent })).await;
        let next = server.ended(next["id"].as_str().unwrap()).await;
        check(next["state"] == "completed", format!("the next ends as {next}"));
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Waits until it has done what it does.
    async fn has_acted(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.folder.join("acted").exists() {
            assert!(Instant::now() < until, "{} does nothing", self.agent);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Server {
    async fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.token).send().await.unwrap();
        assert!(answer.status().is_success(), "GET {path}: {}", answer.status());
        answer.bytes().await.unwrap().to_vec()
    }

    async fn raw(&self, session: &str, turn: &str) -> Vec<u8> {
        self.bytes(&format!("/api/sessions/{session}/raw?turn={turn}")).await
    }
}

/// Somebody else, who goes on writing; how long each of its appends took.
async fn innocent(server: Arc<Server>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let session = server.session(json!({})).await;
    let mut took = Vec::new();
    while !stop.load(SeqCst) {
        let body = json!({ "messages": [{ "role": "user", "content": format!("message {}", took.len()) }] });
        let before = Instant::now();
        server.post(&format!("/api/sessions/{session}/messages"), body).await;
        took.push(before.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = server.events(&session).await.iter().filter(|event| event["kind"] == "message.added").count();
    assert_eq!(said, took.len(), "each was kept once");
    took.sort();
    took
}

fn p99(took: &[Duration]) -> Duration {
    took[(took.len() * 99 / 100).min(took.len() - 1)]
}

async fn try_all(rows: Vec<Row>, limits: &str) {
    let data = tempfile::tempdir().unwrap();
    let only = std::env::var("EVERKEPT_HOSTILE").unwrap_or_default();
    let trials = rows.iter().flat_map(|row| row.protocols.iter().map(|protocol| Trial::of(row, protocol, data.path())));
    let trials: Vec<Trial> = trials.filter(|trial| trial.agent.contains(&only)).collect();
    let good = format!(
        "[agents.good]\nprotocol = \"acp\"\ncommand = [{:?}, \"scripted-agent\"]\nenv = {{ SCRIPTED_DIR = {:?} }}\n",
        xtask(),
        data.path().join("good")
    );
    let agents: String = trials.iter().map(Trial::configured).collect();
    std::fs::write(data.path().join("config.toml"), format!("[keeper]\nhold_ms = 0\n{limits}\n{good}{agents}")).unwrap();
    let server = Arc::new(Server::start(data.path()));
    let stop = Arc::new(AtomicBool::new(false));
    let alone = tokio::spawn(innocent(server.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, SeqCst);
    let alone = alone.await.unwrap();
    stop.store(false, SeqCst);
    let beside = tokio::spawn(innocent(server.clone(), stop.clone()));
    let (mut wrong, count) = (String::new(), trials.len());
    let mut running: JoinSet<Result<(), String>> = JoinSet::new();
    for trial in trials {
        if running.len() == AT_ONCE {
            wrong += &fault(running.join_next().await.unwrap());
        }
        running.spawn(trial.run(server.clone()));
    }
    while let Some(ended) = running.join_next().await {
        wrong += &fault(ended);
    }
    stop.store(true, SeqCst);
    let beside = beside.await.unwrap();
    let memory = high_water(server.child.id());
    println!(
        "{} behaviours, {count} with their protocols; p99 of {} appends beside them {:?}, of {} alone {:?}; the server's memory at its highest {} MiB",
        rows.len(),
        beside.len(),
        p99(&beside),
        alone.len(),
        p99(&alone),
        memory >> 20,
    );
    assert!(wrong.is_empty(), "{wrong}\n{}", stderr(data.path()));
    assert!(memory < MEMORY, "{memory} bytes");
    let mut server = Arc::into_inner(server).unwrap();
    server.kill();
    let verified = everkept().args(["verify", "--data"]).arg(data.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// What was wrong; nothing, of what was not.
fn fault(ended: Result<Result<(), String>, JoinError>) -> String {
    ended.unwrap_or_else(|panic| Err(format!("{panic}\n"))).err().unwrap_or_default()
}

fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_o6_r2_re_n1_hostile_agents_end_as_they_should_lose_no_byte_and_harm_nobody() {
    try_all(rows().into_iter().filter(|row| !row.hangs).collect(), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn re_05_re_n1_agents_that_hang_anywhere_are_found_and_ended() {
    let limits = "[limits]\nsilence_s = 4\nprogress_s = 6\n";
    try_all(rows().into_iter().filter(|row| row.hangs).collect(), limits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_past_the_hold_nothing_is_left_of_an_agent_with_500_children_and_daemons_that_ignores_every_signal() {
    let data = tempfile::tempdir().unwrap();
    let row = rows().into_iter().find(|row| row.name == "has 500 children").unwrap();
    let trial = Trial::of(&Row { prompt: "!daemon !long !deaf", ..row }, "acp", data.path());
    std::fs::write(data.path().join("config.toml"), format!("[keeper]\nhold_ms = 300\n{}", trial.configured())).unwrap();
    let mut server = Server::start(data.path());
    let session = server.session(json!({ "agent": trial.agent })).await;
    server.send(&session, trial.row.prompt).await;
    trial.has_acted().await;
    let all = trial.processes();
    assert!(all.len() >= 500, "{}", all.len());
    server.kill();
    gone(&all, Duration::from_millis(2_300)).await;
    gone(&trial.processes(), Duration::ZERO).await;
}

#[test]
fn there_are_more_than_forty_behaviours() {
    let rows = rows();
    assert!(rows.len() >= 60, "{}", rows.len());
    let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(rows.iter().filter(|row| row.protocols == ALL).count() >= 30 && rows.iter().any(|row| row.protocols == ACP));
}
