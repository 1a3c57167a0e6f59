//! Questions of agents of every protocol: silence means no, a yes is for the call that was shown, and always can be taken back.

use crate::bench::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

const AGENTS: &[(&str, &str)] = &[("acp", "scripted-agent"), ("claude-code", "scripted-claude"), ("codex", "scripted-codex")];
/// Who wants to answer at the same time.
const RACERS: usize = 8;

struct Asked {
    server: Server,
    data: tempfile::TempDir,
    folder: PathBuf,
}

impl Asked {
    fn start(protocol: &str, program: &str, limits: &str) -> Asked {
        let data = tempfile::tempdir().unwrap();
        let folder = with_agent(data.path(), protocol, program, 60_000);
        let config = data.path().join("config.toml");
        let written = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{written}{limits}")).unwrap();
        Asked { server: Server::start(data.path()), data, folder }
    }

    /// Sends the prompt, and gives the turn with what it asks.
    async fn asks(&self, session: &str, prompt: &str) -> (String, Value) {
        let turn = self.server.send(session, prompt).await;
        let until = Instant::now() + PATIENCE;
        loop {
            let open = self.server.get(&format!("/api/questions?session={session}")).await;
            let open = open["items"].as_array().unwrap().iter().find(|question| question["turn"] == turn);
            if let Some(question) = open {
                return (turn, question.clone());
            }
            assert!(Instant::now() < until, "nothing is asked: {}", self.server.get(&format!("/api/turns/{turn}")).await);
            tokio::task::yield_now().await;
        }
    }

    async fn answer(&self, question: &Value, kind: &str) -> (u16, Value) {
        let option = question["options"].as_array().unwrap().iter().find(|option| option["kind"] == kind).unwrap();
        self.server.try_post(&format!("/api/questions/{}/answer", id(question)), json!({ "option": option["id"] })).await
    }

    /// What is said no to is over as well.
    async fn reject(&self, (turn, question): (String, Value)) {
        assert_eq!(self.answer(&question, "reject_once").await.0, 200);
        assert_eq!(self.server.ended(&turn).await["state"], "completed");
    }

    async fn rules(&self, session: &str) -> Vec<Value> {
        self.server.get(&format!("/api/sessions/{session}/rules")).await["items"].as_array().unwrap().clone()
    }

    /// The agent is allowed what it asks, and nobody is.
    async fn allowed_by(&self, session: &str, rule: &Value) {
        let turn = self.server.send(session, "!ask once more").await;
        assert_eq!(self.server.ended(&turn).await["state"], "completed");
        let events = self.server.events(session).await;
        let answered = events.iter().find(|event| event["kind"] == "question.answered" && event["turn"] == turn).unwrap();
        assert_eq!((&answered["data"]["by_rule"], &answered["data"]["rule"]), (&rule["id"], &Value::Null));
        assert!(!events.iter().any(|event| event["kind"] == "turn.waiting" && event["turn"] == turn), "it does not wait");
        assert!(self.server.said(session).await.last().unwrap().1.ends_with("to: once more"), "and the tool ran");
    }
}

fn id(question: &Value) -> &str {
    question["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_always_is_for_this_session_and_this_call_is_listed_outlives_a_kill_and_can_be_taken_back() {
    for (protocol, program) in AGENTS {
        let mut asked = Asked::start(protocol, program, "");
        let session = asked.server.session(json!({})).await;
        let (turn, question) = asked.asks(&session, "!ask it").await;
        assert_eq!(asked.answer(&question, "allow_always").await.0, 200);
        assert_eq!(asked.server.ended(&turn).await["state"], "completed");
        let rules = asked.rules(&session).await;
        let [rule] = &rules[..] else { panic!("{protocol}: {rules:?}") };
        assert_eq!((&rule["id"], &rule["digest"], &rule["title"]), (&question["id"], &question["digest"], &question["title"]));
        asked.allowed_by(&session, rule).await;
        // Another command, another session, and a fork of this one: asked.
        asked.reject(asked.asks(&session, "!ask:false it").await).await;
        let other = asked.server.session(json!({})).await;
        asked.reject(asked.asks(&other, "!ask it").await).await;
        let fork = asked.server.post(&format!("/api/sessions/{session}/fork"), json!({})).await;
        let fork = id(&fork);
        assert_eq!(asked.rules(fork).await, [] as [Value; 0]);
        asked.reject(asked.asks(fork, "!ask it").await).await;
        asked.server.kill();
        asked.server = Server::start(asked.data.path());
        asked.allowed_by(&session, rule).await;
        asked.server.delete(&format!("/api/sessions/{session}/rules/{}", id(rule))).await;
        assert_eq!(asked.rules(&session).await, [] as [Value; 0]);
        asked.reject(asked.asks(&session, "!ask it").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_of_all_who_answer_at_once_one_does_and_everybody_sees_it() {
    for (protocol, program) in AGENTS {
        let asked = Asked::start(protocol, program, "");
        let session = asked.server.session(json!({})).await;
        let (turn, question) = asked.asks(&session, "!ask it").await;
        let stream = || async {
            let url = asked.server.url(&format!("/api/sessions/{session}/events"));
            let request = asked.server.client.get(url).bearer_auth(&asked.server.token).header("accept", "text/event-stream");
            request.send().await.unwrap()
        };
        let (left, mut one, mut two) = (stream().await, stream().await, stream().await);
        // Whoever leaves changes nothing.
        drop(left);
        assert_eq!(asked.server.question().await, question);
        let kinds = ["allow_once", "reject_once"];
        let racers = (0..RACERS).map(|at| asked.answer(&question, kinds[at % 2]));
        let answers = futures::future::join_all(racers).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
        assert_eq!(won.len(), 1, "{protocol}: {won:?}");
        assert!(lost.iter().all(|(status, said)| *status == 409 && said["error"]["code"] == "question_answered"), "{lost:?}");
        let chosen = won[0].1["answer"]["option"].as_str().unwrap();
        for stream in [&mut one, &mut two] {
            let mut seen = String::new();
            while !seen.contains("turn.ended") {
                seen += &String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap());
            }
            assert_eq!(seen.matches("event: question.answered").count(), 1, "{seen}");
            assert!(seen.contains(&format!("\"option\":\"{chosen}\"")), "{chosen}: {seen}");
        }
        assert_eq!(asked.server.ended(&turn).await["state"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_re_05_who_waits_for_an_answer_is_not_given_up_and_is_denied_when_the_agent_is_gone() {
    for (protocol, program) in AGENTS {
        let asked = Asked::start(protocol, program, "[limits]\nsilence_s = 1\nprogress_s = 2\n");
        let session = asked.server.session(json!({})).await;
        let (turn, question) = asked.asks(&session, "!ask it").await;
        // By the time that a silent one is found, and another one after it, this one has been silent for long enough.
        for _ in 0..2 {
            let silent = asked.server.session(json!({ "agent": "demo" })).await;
            let silent = asked.server.send(&silent, "!hang").await;
            assert_eq!(asked.server.ended(&silent).await["reason"], "agent_silent");
        }
        assert_eq!(asked.server.get(&format!("/api/turns/{turn}")).await["state"], "waiting");
        let prompts = std::fs::read_to_string(asked.folder.join("prompts.log")).unwrap();
        let prompt: Value = serde_json::from_str(prompts.lines().next().unwrap()).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(prompt["pid"].as_i64().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(asked.server.ended(&turn).await["state"], "interrupted");
        let held = asked.server.get(&format!("/api/questions/{}", id(&question))).await;
        assert_eq!((&held["state"], &held["answer"]), (&json!("expired"), &Value::Null));
        let (status, late) = asked.answer(&question, "allow_once").await;
        assert_eq!((status, &late["error"]["code"]), (409, &json!("question_expired")));
        asked.reject(asked.asks(&session, "!ask it again").await).await;
    }
}
