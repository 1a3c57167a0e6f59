//! Agents that outlive their server: another one goes on with the turn, as if the first had never gone.

use crate::bench::*;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough for any restart.
const HOLD_MS: u64 = 60_000;
const TEXT: &str = "one two";

struct Held {
    server: Server,
    data: tempfile::TempDir,
    folder: PathBuf,
}

/// What is left of a turn once it has ended, but for what is its own: ids and times.
#[derive(Debug, PartialEq)]
struct Left {
    said: String,
    kinds: Vec<String>,
}

impl Held {
    fn start(protocol: &str, program: &str, hold_ms: u64) -> Held {
        let data = tempfile::tempdir().unwrap();
        let folder = with_agent(data.path(), protocol, program, hold_ms);
        Held { server: Server::start(data.path()), data, folder }
    }

    fn restart(&mut self) {
        self.server = Server::start(self.data.path());
    }

    fn terminate(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.server.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(self.server.child.wait().unwrap().code(), Some(0));
    }

    /// None while there is no server.
    async fn look(&self, path: &str) -> Option<Value> {
        let answer = self.server.client.get(self.server.url(path)).bearer_auth(&self.server.token).send().await.ok()?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    /// Sees the turn to its end, allows what it asks, and starts another server when the one there is has gone.
    /// `before` is how many servers had gone before the turn.
    async fn see_through(&mut self, turn: &str, code: Option<i32>, before: usize) -> (Value, bool) {
        let until = Instant::now() + PATIENCE;
        let ends = || std::fs::read_to_string(self.folder.join("ends.log")).unwrap_or_default().lines().count();
        let mut went = false;
        loop {
            assert!(Instant::now() < until, "the turn does not end\n{}", stderr(self.data.path()));
            if let Some(status) = self.server.child.try_wait().unwrap() {
                assert_eq!(status.code(), code, "{}", stderr(self.data.path()));
                went = true;
                self.server = Server::start(self.data.path());
            }
            let open = self.look("/api/questions").await.unwrap_or_default();
            for question in open["items"].as_array().into_iter().flatten() {
                assert_eq!(question["kind"], "permission", "nothing is to be reviewed: {question}");
                let options = question["options"].as_array().unwrap();
                let allow = options.iter().find(|option| option["kind"] == "allow_once").unwrap();
                let url = self.server.url(&format!("/api/questions/{}/answer", question["id"].as_str().unwrap()));
                let answer = self.server.client.post(url).bearer_auth(&self.server.token).json(&json!({ "option": allow["id"] }));
                // Without an answer it is still open, or not.
                _ = answer.send().await;
            }
            if let Some(held) = self.look(&format!("/api/turns/{turn}")).await
                && !held["ended_at"].is_null()
                // It has ended, and the server is about to.
                && (went || ends() == before)
            {
                return (held, went);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn prompts(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.join("prompts.log")).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn agents(&self) -> Vec<u32> {
        self.prompts().iter().map(|prompt| u32::try_from(prompt["pid"].as_u64().unwrap()).unwrap()).collect()
    }

    /// Everything there is of a session's first turn; every byte its agent said is there once.
    async fn left(&self, session: &str, turn: &str, prompt: &str) -> Left {
        let given: Vec<Value> = self.prompts().into_iter().filter(|given| given["text"] == prompt).collect();
        assert_eq!(given.len(), 1, "O5: one prompt: {given:?}");
        let url = self.server.url(&format!("/api/sessions/{session}/raw?turn={turn}"));
        let raw = self.server.client.get(url).bearer_auth(&self.server.token).send().await.unwrap().bytes().await.unwrap();
        let written = std::fs::read(self.folder.join(format!("{}.written", given[0]["pid"]))).unwrap();
        let (raw, written) = (String::from_utf8_lossy(&raw), String::from_utf8_lossy(&written));
        // What comes after the end belongs to the next turn.
        assert!(written.starts_with(&*raw) && written[raw.len()..].lines().count() < 2, "{prompt}\n{raw}\n---\n{written}");
        let events = self.server.events(session).await;
        let kinds = events.iter().map(|event| event["kind"].as_str().unwrap().to_owned());
        let said = self.server.said(session).await;
        Left { said: said[1..].iter().map(|(_, text)| text.as_str()).collect(), kinds: kinds.filter(|kind| kind != "part.delta").collect() }
    }
}

/// The server ends after each line of the agent's, taken or not; the last turn is one in which it does not.
async fn whenever_the_server_goes(protocol: &str, program: &str) {
    for (signal, code) in [("KILL", None), ("TERM", Some(0))] {
        let mut held = Held::start(protocol, program, HOLD_MS);
        let mut all = Vec::new();
        for lines in 1.. {
            let pause = if lines % 2 == 0 { 30 } else { 0 };
            let prompt = format!("!think !tool !ask !server:{signal}:{lines}:{pause} {TEXT}");
            let session = held.server.session(json!({})).await;
            let turn = held.server.send(&session, &prompt).await;
            let (ended, went) = held.see_through(&turn, code, all.len()).await;
            assert_eq!((ended["state"].as_str(), &ended["error"]), (Some("completed"), &Value::Null), "{prompt}: {ended}");
            all.push((lines, held.left(&session, &turn, &prompt).await));
            if !went {
                break;
            }
        }
        let (_, undisturbed) = all.pop().unwrap();
        assert!(undisturbed.said.ends_with(&format!("reply 1 to: {TEXT}")), "{undisturbed:?}");
        assert!(all.len() > 8, "{protocol} says a little more than {} lines", all.len());
        for (lines, left) in all {
            assert_eq!(left, undisturbed, "{protocol}: {signal} after line {lines}");
        }
        held.server.kill();
        let verified = everkept().args(["verify", "--data"]).arg(held.data.path()).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_an_acp_agents_turn_goes_on_whenever_the_server_goes() {
    whenever_the_server_goes("acp", "scripted-agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_claude_codes_turn_goes_on_whenever_the_server_goes() {
    whenever_the_server_goes("claude-code", "scripted-claude").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_codexs_turn_goes_on_whenever_the_server_goes() {
    whenever_the_server_goes("codex", "scripted-codex").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_question_stays_open_over_kills_and_stops_and_its_answer_reaches_the_agent() {
    let mut held = Held::start("claude-code", "scripted-claude", HOLD_MS);
    let session = held.server.session(json!({})).await;
    let turn = held.server.send(&session, "!choose now").await;
    let first = held.server.question().await;
    held.server.kill();
    held.restart();
    assert_eq!(held.server.question().await, first);
    held.terminate();
    held.restart();
    assert_eq!(held.server.question().await, first);
    let blue = |question: &Value| question["options"][1]["id"].clone();
    held.server.post(&format!("/api/questions/{}/answer", first["id"].as_str().unwrap()), json!({ "option": blue(&first) })).await;
    // The second question comes of the first one's answer, without a word of the agent's.
    let second = held.server.question().await;
    assert_ne!(second["id"], first["id"]);
    held.server.kill();
    held.restart();
    assert_eq!(held.server.question().await, second);
    held.server.post(&format!("/api/questions/{}/answer", second["id"].as_str().unwrap()), json!({ "option": blue(&second) })).await;
    assert_eq!(held.server.ended(&turn).await["state"], "completed");
    let said = held.server.said(&session).await;
    assert_eq!(said[1].1, r#"chosen {"Which roof?":"blue","Which wall?":"blue"} reply 1 to: now"#);
    let asked = held.server.events(&session).await.iter().filter(|event| event["kind"] == "question.asked").count();
    assert_eq!((asked, held.prompts().len()), (2, 1));
    // The agent is the same process, and goes on with the session.
    let next = held.server.send(&session, "and then").await;
    assert_eq!(held.server.ended(&next).await["state"], "completed");
    assert_eq!(held.agents()[0], held.agents()[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_a_cancel_right_before_a_kill_is_told_the_agent_once() {
    let mut held = Held::start("codex", "scripted-codex", HOLD_MS);
    for _ in 0..5 {
        let session = held.server.session(json!({})).await;
        let turn = held.server.send(&session, "!long go").await;
        held.server.begun(&session, &turn).await;
        held.server.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
        held.server.kill();
        held.restart();
        let ended = held.server.ended(&turn).await;
        assert_eq!((ended["state"].as_str(), ended["reason"].as_str()), (Some("cancelled"), Some("cancelled")), "{ended}");
    }
    let calls = std::fs::read_to_string(held.folder.join("calls.log")).unwrap();
    assert_eq!(calls.lines().filter(|line| line.contains("turn/interrupt")).count(), 5);
    assert_eq!(held.prompts().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_past_the_hold_everything_is_gone_and_the_turn_is_to_be_reviewed() {
    let mut held = Held::start("acp", "scripted-agent", 300);
    let session = held.server.session(json!({})).await;
    let turn = held.server.send(&session, "!daemon !long !deaf").await;
    held.server.begun(&session, &turn).await;
    let mut all = held.agents();
    let daemons = std::fs::read_to_string(held.folder.join("daemons.log")).unwrap();
    all.extend(daemons.lines().map(|line| line.parse::<u32>().unwrap()));
    held.server.kill();
    assert!(all.len() == 3 && all.iter().all(|pid| is_alive(*pid)));
    gone(&all, Duration::from_millis(2_300)).await;
    held.restart();
    let ended = held.server.ended(&turn).await;
    assert_eq!((ended["state"].as_str(), ended["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
    assert_eq!(held.server.question().await["kind"], "review");
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_stop_an_interrupt_and_a_hold_of_nothing_leave_no_agent_behind() {
    for (hold_ms, signal) in [(HOLD_MS, None), (HOLD_MS, Some(Signal::SIGINT)), (0, Some(Signal::SIGTERM))] {
        let mut held = Held::start("acp", "scripted-agent", hold_ms);
        let session = held.server.session(json!({})).await;
        let turn = held.server.send(&session, "!long !deaf").await;
        held.server.begun(&session, &turn).await;
        match signal {
            None => assert!(everkept().args(["stop", "--data"]).arg(held.data.path()).output().unwrap().status.success()),
            Some(signal) => kill(Pid::from_raw(i32::try_from(held.server.child.id()).unwrap()), signal).unwrap(),
        }
        assert_eq!(held.server.child.wait().unwrap().code(), Some(0));
        gone(&held.agents(), Duration::from_secs(2)).await;
        held.restart();
        let ended = held.server.ended(&turn).await;
        assert_eq!((ended["state"].as_str(), ended["reason"].as_str()), (Some("interrupted"), Some("server_stopped")), "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_agents_without_a_turn_and_turns_without_a_server_to_want_them_are_not_held() {
    let mut held = Held::start("acp", "scripted-agent", HOLD_MS);
    let session = held.server.session(json!({})).await;
    let turn = held.server.send(&session, "at rest").await;
    held.server.ended(&turn).await;
    held.server.kill();
    gone(&held.agents(), Duration::from_secs(2)).await;
    // The next server does not know the agent of the turn that the last one gave it.
    held.restart();
    let turn = held.server.send(&session, "!long").await;
    held.server.begun(&session, &turn).await;
    held.server.kill();
    with_agent(held.data.path(), "codex", "scripted-codex", HOLD_MS);
    held.restart();
    let ended = held.server.ended(&turn).await;
    assert_eq!((ended["state"].as_str(), ended["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
    assert!(ended["error"]["message"].as_str().unwrap().contains("acp is spoken with it, not codex"), "{ended}");
    gone(&held.agents(), Duration::from_secs(2)).await;
    // A keeper outlives its agent by as long as it takes to tidy up.
    let until = Instant::now() + PATIENCE;
    while std::fs::read_dir(held.data.path().join("keepers")).unwrap().count() > 0 {
        assert!(Instant::now() < until, "something of them is left on the disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
