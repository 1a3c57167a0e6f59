//! A real agent process behind the real server: questions, cancels, crashes, survivors.

use crate::bench::*;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

struct Scripted {
    server: Server,
    data: tempfile::TempDir,
    folder: std::path::PathBuf,
}

impl Scripted {
    fn start() -> Scripted {
        let data = tempfile::tempdir().unwrap();
        let folder = with_scripted_agent(data.path());
        Scripted { server: Server::start(data.path()), data, folder }
    }

    fn restart(&mut self) {
        self.server.kill();
        self.server = Server::start(self.data.path());
    }

    fn prompts(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.join("prompts.log")).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn agents(&self) -> Vec<u32> {
        self.prompts().iter().map(|prompt| u32::try_from(prompt["pid"].as_u64().unwrap()).unwrap()).collect()
    }

    async fn ask(&self, session: &str, text: &str) -> (Value, String) {
        let turn = self.server.send(session, text).await;
        let turn = self.server.ended(&turn).await;
        let said = self.server.said(session).await;
        let answer = said.last().filter(|(role, _)| role == "assistant").map_or(String::new(), |(_, text)| text.clone());
        (turn, answer)
    }
}

fn daemons(folder: &Path) -> Vec<u32> {
    std::fs::read_to_string(folder.join("daemons.log")).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_07_r1_a_killed_server_resumes_the_same_agent_session_with_its_context() {
    let mut scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let (_, first) = scripted.ask(&session, "one").await;
    assert_eq!(first, "reply 1 to: one");
    let turn = scripted.server.send(&session, "!slow:100 two three four five six seven eight").await;
    scripted.server.begun(&session, &turn).await;
    let agents = scripted.agents();
    let before = Instant::now();
    scripted.restart();
    let turn = scripted.server.ended(&turn).await;
    assert!(before.elapsed() < Duration::from_secs(5), "R1: settled within 5 s");
    gone(&agents, Duration::from_secs(2)).await;
    assert_eq!((turn["state"].as_str(), turn["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
    assert_eq!(turn["error"]["may_have_happened"], true);
    let (_, third) = scripted.ask(&session, "three").await;
    assert_eq!(third, "reply 3 to: three", "the agent had seen two prompts");
    let held = scripted.server.get(&format!("/api/sessions/{session}")).await;
    assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1);
    assert_eq!(held["agent_sessions"][0]["successors"], json!([]));
    let sessions: std::collections::BTreeSet<_> = scripted.prompts().iter().map(|prompt| prompt["session"].to_string()).collect();
    assert_eq!(sessions.len(), 1, "all prompts went to one agent session");
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_an_agent_that_is_killed_interrupts_its_turn_and_the_next_goes_on_with_the_same_session() {
    let scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let turn = scripted.server.send(&session, "!slow:100 one two three four five six seven").await;
    scripted.server.begun(&session, &turn).await;
    let pid = scripted.agents()[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    let turn = scripted.server.ended(&turn).await;
    assert_eq!((turn["state"].as_str(), turn["reason"].as_str()), (Some("interrupted"), Some("agent_exited")));
    let review = scripted.server.question().await;
    assert_eq!((review["kind"].as_str(), review["turn"].as_str()), (Some("review"), turn["id"].as_str()));
    let (_, answer) = scripted.ask(&session, "two").await;
    assert_eq!(answer, "reply 2 to: two");
    let answered =
        scripted.server.post(&format!("/api/questions/{}/answer", review["id"].as_str().unwrap()), json!({ "option": "redo" })).await;
    assert_eq!(answered["state"], "answered");
    let until = Instant::now() + PATIENCE;
    while scripted.prompts().len() < 3 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_call_and_a_permission_come_through_and_the_answer_goes_back() {
    let scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let turn = scripted.server.send(&session, "!ask please").await;
    let question = scripted.server.question().await;
    assert_eq!(question["kind"], "permission");
    let ids: Vec<_> = question["options"].as_array().unwrap().iter().map(|option| option["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["once", "always", "no"], "the agent's own ids");
    let waiting = scripted.server.turn_when(&turn, |turn| turn["state"] == "waiting").await;
    assert_eq!(waiting["ended_at"], Value::Null);
    let id = question["id"].as_str().unwrap();
    let (status, error) = scripted.server.try_post(&format!("/api/questions/{id}/answer"), json!({ "option": "yes" })).await;
    assert_eq!((status, error["error"]["field"].as_str()), (422, Some("option")));
    scripted.server.post(&format!("/api/questions/{id}/answer"), json!({ "option": "no" })).await;
    scripted.server.ended(&turn).await;
    assert_eq!(scripted.server.said(&session).await[1].1, "reply 1 to: please (refused)");
    let (status, error) = scripted.server.try_post(&format!("/api/questions/{id}/answer"), json!({ "option": "once" })).await;
    assert_eq!((status, error["error"]["code"].as_str()), (409, Some("question_answered")));
    let (turn, _) = scripted.ask(&session, "!tool now").await;
    let events = scripted.server.events(&session).await;
    let tools: Vec<_> =
        events.iter().filter(|event| event["turn"] == turn["id"] && event["kind"].as_str().unwrap().starts_with("tool.")).collect();
    assert_eq!(tools.len(), 2, "{tools:?}");
    assert_eq!(tools[0]["data"]["input"]["json"], json!({ "command": "true" }));
    assert_eq!(tools[1]["data"]["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_listening_agent_within_two_seconds_and_a_deaf_one_within_eight() {
    let scripted = Scripted::start();
    for (text, limit) in [("!long", 2), ("!long !deaf", 8)] {
        let session = scripted.server.session(json!({})).await;
        let turn = scripted.server.send(&session, text).await;
        scripted.server.begun(&session, &turn).await;
        let before = Instant::now();
        scripted.server.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
        let turn = scripted.server.ended(&turn).await;
        assert_eq!(turn["state"], "cancelled");
        assert!(before.elapsed() < Duration::from_secs(limit), "{text}: {:?}", before.elapsed());
        assert!(!scripted.server.said(&session).await[1].1.is_empty(), "the partial answer is kept");
        let (_, answer) = scripted.ask(&session, "still there").await;
        assert_eq!(answer, "reply 2 to: still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_nothing_an_agent_started_outlives_the_server_not_even_what_called_setsid() {
    let mut scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let (_, _) = scripted.ask(&session, "!daemon").await;
    let turn = scripted.server.send(&session, "!long !deaf").await;
    scripted.server.begun(&session, &turn).await;
    let mut all = daemons(&scripted.folder);
    assert_eq!(all.len(), 2);
    all.extend(scripted.agents());
    assert!(all.iter().all(|pid| is_alive(*pid)));
    scripted.server.kill();
    gone(&all, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_stopped_server_ends_its_agents_settles_its_turns_and_exits_cleanly() {
    let mut scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let turn = scripted.server.send(&session, "!daemon !long").await;
    scripted.server.begun(&session, &turn).await;
    let queued = scripted.server.send(&session, "later").await;
    let mut all = daemons(&scripted.folder);
    all.extend(scripted.agents());
    let stopped = everkept().args(["stop", "--data"]).arg(scripted.data.path()).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(scripted.server.child.wait().unwrap().code(), Some(0));
    gone(&all, Duration::from_secs(2)).await;
    scripted.server = Server::start(scripted.data.path());
    let turn = scripted.server.ended(&turn).await;
    assert_eq!((turn["state"].as_str(), turn["reason"].as_str()), (Some("interrupted"), Some("server_stopped")));
    assert_eq!(scripted.server.ended(&queued).await["state"], "completed", "what was queued runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_what_the_agent_sent_is_read_back_byte_for_byte() {
    let scripted = Scripted::start();
    let session = scripted.server.session(json!({})).await;
    let (turn, answer) = scripted.ask(&session, "!garbage hello").await;
    assert_eq!(turn["state"], "completed", "{turn}");
    assert!(answer.contains("reply 1 to: hello"), "{answer:?}");
    let url = scripted.server.url(&format!("/api/sessions/{session}/raw?turn={}", turn["id"].as_str().unwrap()));
    let answer = scripted.server.client.get(url).bearer_auth(&scripted.server.token).send().await.unwrap();
    assert!(answer.status().is_success());
    let raw = answer.bytes().await.unwrap().to_vec();
    let has = |bytes: &[u8]| raw.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"\n\xff\xfe not utf-8 \xc3\x28\n"), "invalid UTF-8");
    assert!(has(b"half \\ud800 a surrogate "), "a lone surrogate");
    assert!(has(b"a nul \\u0000 "), "an escaped NUL");
    assert!(has(b"\n\0\n"), "a bare NUL");
    assert!(has(format!("\"n\":1{}", "0".repeat(5_000)).as_bytes()), "a huge number");
    assert!(has(&[&b"\n"[..], &b"[".repeat(10_000), &b"]".repeat(10_000), b"\n"].concat()), "10,000-deep JSON");
    assert!(has(b"something_unheard_of"));
    // In the events, which every reader of JSON takes; and beside them what not every one would.
    let events = scripted.server.events(&session).await;
    let mut kept = String::new();
    for raw in events.iter().filter(|event| event["kind"] == "agent.raw").map(|event| &event["data"]) {
        kept += &raw.to_string();
        if let Some(blob) = raw["blob"]["id"].as_str() {
            let url = scripted.server.url(&format!("/api/blobs/{blob}"));
            kept += &scripted.server.client.get(url).bearer_auth(&scripted.server.token).send().await.unwrap().text().await.unwrap();
        }
    }
    assert!(kept.contains("something_unheard_of") && kept.contains(&"0".repeat(5_000)), "unknown things are kept verbatim");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_exist_fails_its_turn_clearly_and_keeps_the_message() {
    let data = tempfile::tempdir().unwrap();
    let config = "[agents.ghost]\nprotocol = \"acp\"\ncommand = [\"/nowhere/ghost\", \"acp\"]\n";
    std::fs::write(data.path().join("config.toml"), config).unwrap();
    let server = Server::start(data.path());
    let session = server.session(json!({ "agent": "ghost" })).await;
    let turn = server.send(&session, "are you there?").await;
    let turn = server.ended(&turn).await;
    assert_eq!((turn["state"].as_str(), turn["error"]["may_have_happened"].as_bool()), (Some("failed"), Some(false)));
    assert!(turn["error"]["message"].as_str().unwrap().contains("/nowhere/ghost"), "{turn}");
    assert_eq!(server.said(&session).await, [("user".into(), "are you there?".into())]);
}
