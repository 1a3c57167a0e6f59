//! A real agent behind the real server, both killed in the middle: the same agent session, its context intact.
//!
//! Never: the network, or a home that is somebody's.

use crate::bench::*;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct World {
    folder: tempfile::TempDir,
    model: Child,
    /// Of the model, without a path.
    pub url: String,
}

/// How one of the real agents is run.
pub struct Real {
    pub protocol: &'static str,
    pub program: &'static str,
    pub args: &'static [&'static str],
    pub env: BTreeMap<String, String>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.model.kill();
        let _ = self.model.wait();
    }
}

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("model.log");
        let mut model = Command::new(xtask()).args(["fake-model", "--log"]).arg(log).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(model.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening ").unwrap().to_owned();
        let world = World { folder, model, url };
        for name in ["work", "home", "data"] {
            std::fs::create_dir(world.path(name)).unwrap();
        }
        world
    }

    /// The server's agents, the default one first, with a home of their own.
    pub fn configure(&self, agents: &[(&str, Real)]) {
        let mut config = format!("default_agent = {:?}\n\n[keeper]\nhold_ms = 60000\n", agents[0].0);
        for (name, Real { protocol, program, args, env }) in agents {
            let home = ("HOME".to_owned(), self.path("home").display().to_string());
            let env: Vec<String> = env.iter().chain([(&home.0, &home.1)]).map(|(name, value)| format!("{name} = {value:?}")).collect();
            let program = installed(program);
            let command: Vec<String> = [program.to_str().unwrap()].iter().chain(*args).map(|word| format!("{word:?}")).collect();
            let (command, env) = (command.join(", "), env.join(", "));
            config += &format!("\n[agents.{name}]\nprotocol = {protocol:?}\ncommand = [{command}]\nenv = {{ {env} }}\n");
        }
        std::fs::write(self.path("data").join("config.toml"), config).unwrap();
    }

    /// What the agent is to work in.
    pub fn mode(&self, mode: &str) {
        let file = self.path("data").join("config.toml");
        let config = std::fs::read_to_string(&file).unwrap() + &format!("mode = {mode:?}\n");
        std::fs::write(&file, config).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The processes of this world's agent and of all it started.
    pub fn agents(&self) -> Vec<u32> {
        let home = format!("HOME={}", self.path("home").display());
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            environment.split(|byte| *byte == 0).any(|pair| pair == home.as_bytes()).then_some(pid)
        });
        processes.filter(|pid| is_alive(*pid)).collect()
    }

    /// Kills the agent itself, and nothing that it started. `program` is what its own processes are called.
    pub fn kill_agent(&self, program: &str) {
        let called = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().starts_with(program);
        let pids: Vec<u32> = self.agents().into_iter().filter(called).collect();
        assert!(!pids.is_empty(), "{program} runs");
        for pid in pids {
            // One of them may have ended with another.
            _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
        }
    }

    /// From the next start on.
    pub fn hold(&self, hold_ms: u64) {
        let file = self.path("data").join("config.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("hold_ms = 60000", &format!("hold_ms = {hold_ms}"))).unwrap();
    }

    /// How often the model was asked to answer this prompt.
    pub fn asked(&self, prompt: &str) -> usize {
        let log = std::fs::read_to_string(self.path("model.log")).unwrap();
        let requests = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = |request: &Value| request["prompts"].as_array().and_then(|prompts| prompts.last().cloned());
        requests.filter(|request| request["title"] == false && last(request) == Some(json!(prompt))).count()
    }

    /// The last request for an answer that the model was sent.
    pub fn last_request(&self) -> Value {
        let log = std::fs::read_to_string(self.path("model.log")).unwrap();
        let mut requests = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        requests.rfind(|request| request["title"] == false).unwrap()
    }

    /// The user prompts in it.
    pub fn last_prompts(&self) -> Vec<String> {
        self.last_request()["prompts"].as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap().to_owned()).collect()
    }
}

fn installed(program: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let file = root.join("tests/agents/node_modules/.bin").join(program);
    assert!(file.exists(), "{program} is missing: run `cargo xtask setup`");
    file.canonicalize().unwrap()
}

/// The whole of it; `program` is what the agent's own processes are called.
pub async fn survives_kill_9_on_one_agent_session(world: &World, program: &str) {
    let mut server = Server::start(&world.path("data"));
    let session = server.session(json!({ "directory": world.path("work") })).await;

    let first = server.ended(&server.send(&session, "remember the roof").await).await;
    assert_eq!(first["state"], "completed", "{first}");
    assert_eq!(server.said(&session).await[1].1, "reply 1 to: remember the roof");

    let turn = server.send(&session, "use it TOOL").await;
    let until = Instant::now() + PATIENCE;
    let question = loop {
        let open = server.get(&format!("/api/questions?session={session}")).await;
        if let Some(question) = open["items"].as_array().unwrap().first() {
            break question.clone();
        }
        assert!(Instant::now() < until, "an agent asks before it runs a command");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let once = question["options"].as_array().unwrap().iter().find(|option| option["kind"] == "allow_once").unwrap();
    let path = format!("/api/questions/{}/answer", question["id"].as_str().unwrap());
    server.post(&path, json!({ "option": once["id"] })).await;
    let turn = server.ended(&turn).await;
    assert_eq!(turn["state"], "completed", "{turn}");
    assert_eq!(std::fs::read_to_string(world.path("work/tool.log")).unwrap(), "tool-ran\n");
    let tools = server.events(&session).await.into_iter().filter(|event| event["kind"] == "tool.completed").count();
    assert_eq!(tools, 1);

    // The server dies in the middle of an answer, and another one hears the rest of it.
    let cut = server.send(&session, "take your time SLOW").await;
    server.begun(&session, &cut).await;
    let running = server.get(&format!("/api/turns/{cut}")).await;
    assert!(running["ended_at"].is_null(), "the answer comes as a stream: its words are kept while the turn runs: {running}");
    server.kill();
    server = Server::start(&world.path("data"));
    let ended = server.ended(&cut).await;
    assert_eq!((ended["state"].as_str(), &ended["error"]), (Some("completed"), &Value::Null), "{ended}");
    let said = server.said(&session).await;
    let words: String = (7..40).map(|n| format!(" word-{n}")).collect();
    assert_eq!(said.last().unwrap().1, format!("reply 3 to: take your time SLOW{words}"), "every word, once");
    assert_eq!(world.asked("take your time SLOW"), 1, "the model was asked once");

    // The same where nothing is held: the turn is cut, and the agent session goes on.
    world.hold(0);
    kill(Pid::from_raw(i32::try_from(server.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    server = Server::start(&world.path("data"));
    let cut = server.send(&session, "and more SLOW").await;
    server.begun(&session, &cut).await;
    let agents = world.agents();
    assert!(!agents.is_empty());
    server.kill();
    gone(&agents, Duration::from_secs(2)).await;
    server = Server::start(&world.path("data"));
    let settled = server.ended(&cut).await;
    assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
    let said = server.said(&session).await;
    assert!(said.last().unwrap().0 == "assistant" && !said.last().unwrap().1.is_empty(), "the partial answer is kept: {said:?}");
    let next = server.ended(&server.send(&session, "and now").await).await;
    assert_eq!(next["state"], "completed", "{next}");
    assert_eq!(
        world.last_prompts(),
        ["remember the roof", "use it TOOL", "take your time SLOW", "and more SLOW", "and now"],
        "nothing lost, nothing doubled"
    );

    // The agent dies in the middle of an answer.
    let cut = server.send(&session, "once more SLOW").await;
    server.begun(&session, &cut).await;
    world.kill_agent(program);
    let settled = server.ended(&cut).await;
    assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("agent_exited")));

    // A cancel, and a last prompt that has everything before it.
    let cut = server.send(&session, "stop me SLOW").await;
    server.begun(&session, &cut).await;
    let before = Instant::now();
    server.post(&format!("/api/turns/{cut}/cancel"), json!({})).await;
    assert_eq!(server.ended(&cut).await["state"], "cancelled");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    let last = server.ended(&server.send(&session, "the end").await).await;
    assert_eq!(last["state"], "completed", "{last}");
    let all = [
        "remember the roof",
        "use it TOOL",
        "take your time SLOW",
        "and more SLOW",
        "and now",
        "once more SLOW",
        "stop me SLOW",
        "the end",
    ];
    assert_eq!(world.last_prompts(), all);

    let held = server.get(&format!("/api/sessions/{session}")).await;
    assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1, "{held}");
    assert_eq!(held["agent_sessions"][0]["successors"], json!([]), "one agent session in all");
    let agents = world.agents();
    server.kill();
    gone(&agents, Duration::from_secs(2)).await;
}

/// Then another model from one turn on, whatever is killed, and a fork of the agent's own session.
pub async fn changes_its_model_and_is_forked(world: &World, model: &str) {
    let mut server = Server::start(&world.path("data"));
    let session = server.get("/api/sessions").await["items"][0]["id"].as_str().unwrap().to_owned();
    let mut all = world.last_prompts();
    let path = format!("/api/sessions/{session}/turns");
    let turn = server.post(&path, json!({ "input": "another model", "model": model })).await;
    let turn = server.ended(turn["id"].as_str().unwrap()).await;
    assert_eq!((&turn["state"], &world.last_request()["body"]["model"]), (&json!("completed"), &json!(model)), "{turn}");
    let agents = world.agents();
    server.kill();
    gone(&agents, Duration::from_secs(2)).await;
    server = Server::start(&world.path("data"));
    let turn = server.ended(&server.send(&session, "the same model").await).await;
    assert_eq!((&turn["state"], &world.last_request()["body"]["model"]), (&json!("completed"), &json!(model)), "{turn}");
    all.extend(["another model", "the same model"].map(str::to_owned));
    assert_eq!(world.last_prompts(), all);

    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({})).await["id"].as_str().unwrap().to_owned();
    let mut agent_sessions = Vec::new();
    for (session, prompt) in [(fork, "in the fork"), (session, "beside the fork")] {
        let turn = server.ended(&server.send(&session, prompt).await).await;
        assert_eq!(turn["state"], "completed", "{turn}");
        assert_eq!(world.last_prompts(), [&all[..], &[prompt.to_owned()]].concat());
        let held = server.get(&format!("/api/sessions/{session}")).await;
        assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1, "{held}");
        agent_sessions.push(held["agent_sessions"][0]["first"].clone());
    }
    assert_ne!(agent_sessions[0], agent_sessions[1], "a fork is an agent session of its own");
    let agents = world.agents();
    server.kill();
    gone(&agents, Duration::from_secs(2)).await;
}
