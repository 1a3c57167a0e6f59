//! An agent on another machine: `everkept relay` beside the real server, with a network between them that breaks.

use crate::bench::*;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The network between a relay and its server. The relay knows only this address, wherever the server is.
struct Network {
    address: SocketAddr,
    /// None: nobody gets through.
    server: Arc<Mutex<Option<SocketAddr>>>,
    cuts: watch::Sender<u64>,
}

impl Network {
    async fn new() -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Network { address: listener.local_addr().unwrap(), server: Arc::default(), cuts: watch::channel(0).0 };
        let (server, cuts) = (network.server.clone(), network.cuts.clone());
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let (server, mut cut) = (*server.lock().unwrap(), cuts.subscribe());
                tokio::spawn(async move {
                    let Some(server) = server else { return };
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        network
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn leads_to(&self, server: &Server) {
        *self.server.lock().unwrap() = Some(server.address.trim_start_matches("http://").parse().unwrap());
    }

    /// Ends every connection, and lets no new one through.
    fn cut(&self) {
        *self.server.lock().unwrap() = None;
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// A server, the network to it, and a relay for the agent `worker` with a data directory of its own.
struct World {
    server: Server,
    network: Network,
    relay: Relay,
    token: Value,
    here: tempfile::TempDir,
    there: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        Self::with(|there| std::fs::write(there.join("config.toml"), "[agents.worker]\nprotocol = \"demo\"\n").unwrap()).await
    }

    async fn with(configure: impl FnOnce(&Path)) -> World {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        configure(there.path());
        let network = Network::new().await;
        let server = start(here.path(), &network);
        let token = server.post("/api/tokens", json!({ "kind": "relay", "name": "worker" })).await;
        std::fs::write(there.path().join("token"), token["secret"].as_str().unwrap()).unwrap();
        let relay = Relay::start(there.path(), &network.url());
        let world = World { server, network, relay, token, here, there };
        world.connected(true).await;
        world
    }

    async fn card(&self) -> Value {
        let agents = self.server.get("/api/agents").await;
        agents["items"].as_array().unwrap().iter().find(|agent| agent["name"] == "worker").cloned().unwrap_or_default()
    }

    async fn connected(&self, is: bool) {
        let until = Instant::now() + PATIENCE;
        while self.card().await["connected"] != is {
            assert!(Instant::now() < until, "connected: {is}\n{}", self.relay.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn session(&self) -> String {
        self.server.session(json!({ "agent": "worker" })).await
    }

    async fn ask(&self, session: &str, text: &str) -> (Value, String) {
        let turn = self.server.ended(&self.server.send(session, text).await).await;
        (turn, self.server.said(session).await.last().unwrap().1.clone())
    }

    /// Waits until so many words of the turn were said.
    async fn words(&self, session: &str, turn: &str, count: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let events = self.server.events(session).await;
            if events.iter().filter(|event| event["kind"] == "part.delta" && event["turn"] == turn).count() >= count {
                return;
            }
            assert!(Instant::now() < until, "no word comes\n{}", self.relay.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn one_agent_session(&self, session: &str) {
        let held = self.server.get(&format!("/api/sessions/{session}")).await;
        assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1, "{held}");
        assert_eq!(held["agent_sessions"][0]["successors"], json!([]), "{held}");
    }
}

fn start(data: &Path, network: &Network) -> Server {
    let server = Server::start_with(data, |command| {
        command.args(["--public-url", &network.url()]);
    });
    network.leads_to(&server);
    server
}

struct Relay {
    child: Child,
    log: PathBuf,
}

impl Relay {
    fn start(data: &Path, url: &str) -> Relay {
        Self::start_as(data, url, "worker", "relay.log")
    }

    fn start_as(data: &Path, url: &str, agent: &str, log: &str) -> Relay {
        let log = data.join(log);
        let mut command = everkept();
        command.args(["relay", "--server", url, "--agent", agent, "--data"]).arg(data);
        command.arg("--token-file").arg(data.join("token"));
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Relay { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn says(&self, what: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.said().contains(what) {
            assert!(Instant::now() < until, "{what:?} is not said: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    async fn exits(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the relay goes on: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Only one that has exited cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ag_18_a_whole_conversation_with_an_agent_on_another_machine() {
    let mut world = World::new().await;
    let server = &world.server;
    let session = world.session().await;
    let (turn, answer) = world.ask(&session, "hello there").await;
    assert_eq!((turn["state"].as_str(), turn["agent"].as_str(), &*answer), (Some("completed"), Some("worker"), "reply 1 to: hello there"));

    let (_, answer) = world.ask(&session, "!think !tool:2 use them").await;
    assert_eq!(answer, "reply 2 to: use them");
    let kinds: Vec<String> = server.events(&session).await.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "tool.completed").count(), 2);
    assert!(kinds.contains(&"usage".to_owned()));

    let asking = server.send(&session, "!ask may I").await;
    server.turn_when(&asking, |turn| turn["state"] == "waiting").await;
    let question = server.get("/api/questions").await["items"][0].clone();
    server.post(&format!("/api/questions/{}/answer", question["id"].as_str().unwrap()), json!({ "option": "allow_once" })).await;
    assert_eq!(server.ended(&asking).await["state"], "completed");
    assert_eq!(server.said(&session).await.last().unwrap().1, "reply 3 to: may I");

    let long = server.send(&session, "!long and on").await;
    world.words(&session, &long, 3).await;
    let before = Instant::now();
    server.post(&format!("/api/turns/{long}/cancel"), json!({})).await;
    assert_eq!(server.ended(&long).await["state"], "cancelled");
    assert!(before.elapsed() < Duration::from_secs(2), "a cancel reaches an agent that listens");

    let path = format!("/api/sessions/{session}/turns");
    let turn = server.post(&path, json!({ "input": "with another model", "model": "demo/other" })).await;
    assert_eq!(server.ended(turn["id"].as_str().unwrap()).await["model"], "demo/other");
    let started = server.events(&session).await.into_iter().rfind(|event| event["kind"] == "turn.started").unwrap();
    assert_eq!(started["data"]["model_set"], true, "{started}");
    assert_eq!(world.ask(&session, "!fail").await.0["state"], "failed");
    world.one_agent_session(&session).await;

    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({})).await;
    let fork = fork["id"].as_str().unwrap();
    assert_eq!(world.ask(fork, "in the fork").await.1, "reply 7 to: in the fork", "the agent forked its own session");
    assert_eq!(world.ask(&session, "in the parent").await.1, "reply 7 to: in the parent");

    // Its folder is one of the other machine.
    let folder = world.there.path().join("sessions").join(&session);
    assert!(folder.is_dir(), "{}", folder.display());
    assert!(!world.here.path().join("sessions").join(&session).exists());
    let listed = everkept().args(["agents", "--data"]).arg(world.here.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("behind a relay"), "{listed:?}");

    world.relay.signal(Signal::SIGINT);
    assert_eq!(world.relay.exits().await, Some(0));
    world.connected(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ag_18_tu_07_a_link_that_is_cut_in_mid_answer_loses_and_doubles_nothing() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(&session, "first").await;
    let text: Vec<String> = (0..120).map(|n| format!("word-{n}")).collect();
    let said = format!("!slow:20 {}", text.join(" "));
    let turn = world.server.send(&session, &said).await;
    for words in [5, 20, 45] {
        world.words(&session, &turn, words).await;
        world.network.cut();
        world.connected(false).await;
        world.network.leads_to(&world.server);
        world.connected(true).await;
    }
    assert_eq!(world.server.ended(&turn).await["state"], "completed");
    let answer = format!("reply 2 to: {}", text.join(" "));
    assert_eq!(world.server.said(&session).await.last().unwrap().1, answer, "every word once");
    let raw = world.server.url(&format!("/api/sessions/{session}/raw?turn={turn}"));
    let raw = world.server.client.get(raw).bearer_auth(&world.server.token).send().await.unwrap().text().await.unwrap();
    let lines: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter_map(|line| line["text"].as_str()).collect::<String>(), answer, "and in the agent's own bytes");
    assert_eq!(world.ask(&session, "third").await.1, "reply 3 to: third");
    world.one_agent_session(&session).await;
    assert!(world.relay.said().contains("lost"), "{}", world.relay.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn ag_05_ag_n1_o5_a_killed_server_finds_its_relay_again_and_the_agent_session_goes_on_in_its_context() {
    let mut world = World::new().await;
    let session = world.session().await;
    world.ask(&session, "before the clear").await;
    let cleared = world.server.post(&format!("/api/sessions/{session}/clear"), json!({})).await;
    assert_eq!(cleared["context"], 1);
    assert_eq!(world.ask(&session, "one").await.1, "reply 1 to: one");
    let turn = world.server.send(&session, "!long two").await;
    world.words(&session, &turn, 4).await;
    let before = world.server.events(&session).await.len();
    world.server.kill();
    world.server = start(world.here.path(), &world.network);
    let settled = world.server.ended(&turn).await;
    assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
    let questions = world.server.get("/api/questions").await;
    assert_eq!(questions["items"][0]["kind"], "review");
    // A turn waits for the relay, which comes back by itself; what it still ran of the old server it has ended.
    assert_eq!(world.ask(&session, "three").await.1, "reply 3 to: three", "the same agent session, asked once for each");
    let events = world.server.events(&session).await;
    assert!(events.len() > before);
    for event in &events[before..] {
        assert_eq!(event["context"], 1, "{event}");
    }
    let held = world.server.get(&format!("/api/sessions/{session}")).await;
    assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 2, "one of each context: {held}");
    assert!(held["agent_sessions"].as_array().unwrap().iter().all(|one| one["successors"] == json!([])), "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_a_killed_relay_interrupts_the_turn_and_the_next_relay_goes_on() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn = world.server.send(&session, "!long one").await;
    world.words(&session, &turn, 4).await;
    world.relay.signal(Signal::SIGKILL);
    world.relay.exits().await;
    world.connected(false).await;
    assert!(world.server.get(&format!("/api/turns/{turn}")).await["ended_at"].is_null(), "it is waited for");
    world.relay = Relay::start(world.there.path(), &world.network.url());
    let settled = world.server.ended(&turn).await;
    assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("agent_exited")));
    assert!(settled["error"]["message"].as_str().unwrap().contains("worker"), "{settled}");
    assert_eq!(world.ask(&session, "two").await.1, "reply 2 to: two");
    world.one_agent_session(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_question_ends_with_the_relay_that_died_and_whoever_answers_late_is_told() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn = world.server.send(&session, "!ask it").await;
    let question = world.server.question().await;
    let id = question["id"].as_str().unwrap();
    world.relay.signal(Signal::SIGKILL);
    world.relay.exits().await;
    world.connected(false).await;
    world.relay = Relay::start(world.there.path(), &world.network.url());
    assert_eq!(world.server.ended(&turn).await["state"], "interrupted");
    let held = world.server.get(&format!("/api/questions/{id}")).await;
    assert_eq!((&held["state"], &held["answer"]), (&json!("expired"), &Value::Null));
    let (status, late) = world.server.try_post(&format!("/api/questions/{id}/answer"), json!({ "option": "allow_once" })).await;
    assert_eq!((status, &late["error"]["code"]), (409, &json!("question_expired")));
    assert_eq!(world.ask(&session, "two").await.1, "reply 2 to: two");
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_a_relay_leaves_no_process_of_its_agents_behind() {
    let mut world = World::with(|there| {
        with_scripted_agent(there);
        let config = std::fs::read_to_string(there.join("config.toml")).unwrap();
        std::fs::write(there.join("config.toml"), config.replace("scripted]", "worker]").replace("= \"scripted\"", "= \"worker\""))
            .unwrap();
    })
    .await;
    let agents = |world: &World| -> Vec<u32> {
        let log = std::fs::read_to_string(world.there.path().join("scripted/prompts.log")).unwrap_or_default();
        let pid = |line: &str| u32::try_from(serde_json::from_str::<Value>(line).unwrap()["pid"].as_u64().unwrap()).unwrap();
        log.lines().map(pid).collect()
    };
    let session = world.session().await;
    assert_eq!(world.ask(&session, "one").await.1, "reply 1 to: one");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let turn = world.server.send(&session, "!long").await;
        world.words(&session, &turn, 3).await;
        let running = *agents(&world).last().unwrap();
        assert!(is_alive(running));
        world.relay.signal(signal);
        world.relay.exits().await;
        gone(&[running], Duration::from_secs(2)).await;
        world.relay = Relay::start(world.there.path(), &world.network.url());
        assert_eq!(world.server.ended(&turn).await["state"], "interrupted");
    }
    assert_eq!(world.ask(&session, "last").await.1, "reply 4 to: last");
    world.one_agent_session(&session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_a_relay_whose_token_is_revoked_says_so_and_ends() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn = world.server.send(&session, "!long").await;
    world.words(&session, &turn, 2).await;
    let token = world.token["token"]["id"].as_str().unwrap();
    let revoked = everkept().args(["token", "revoke", token, "--data"]).arg(world.here.path()).output().unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(world.relay.exits().await, Some(1));
    assert!(world.relay.said().contains("revoked"), "{}", world.relay.said());
    assert_eq!(world.server.ended(&turn).await["state"], "interrupted", "nobody can bring it back");
    assert_eq!(world.card().await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_behind_a_relay_may_be_the_default_one() {
    let mut world = World::new().await;
    world.server.kill();
    let configure =
        |default: &str| std::fs::write(world.here.path().join("config.toml"), format!("default_agent = \"{default}\"\n")).unwrap();
    configure("nobody");
    let output = everkept().args(["serve", "--data"]).arg(world.here.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("there is no agent nobody; there are: demo") && said.contains("worker"), "{said}");
    configure("worker");
    world.server = start(world.here.path(), &world.network);
    let session = world.server.session(json!({})).await;
    let (turn, answer) = world.ask(&session, "hello").await;
    assert_eq!((turn["agent"].as_str(), &*answer), (Some("worker"), "reply 1 to: hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ag_17_a_second_relay_waits_for_the_name() {
    let world = World::new().await;
    let second = Relay::start_as(world.there.path(), &world.network.url(), "worker", "second.log");
    second.says("another relay").await;
    assert_eq!(world.card().await["connected"], true);
    world.relay.signal(Signal::SIGTERM);
    second.says("connected to").await;
    let session = world.session().await;
    assert_eq!(world.ask(&session, "hello").await.1, "reply 1 to: hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_work_says_why_and_ends() {
    let world = World::new().await;
    let (url, data) = (world.network.url(), tempfile::tempdir().unwrap());
    let run = |url: &str, agent: &str, token: Option<&str>| {
        let mut command = everkept();
        command.args(["relay", "--server", url, "--agent", agent, "--data"]).arg(data.path());
        if let Some(token) = token {
            command.env("EVERKEPT_TOKEN", token);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let good = world.token["secret"].as_str();
    assert!(run(&url, "demo", None).contains("EVERKEPT_TOKEN"));
    assert!(run(&url, "demo", Some("ek_wrong")).contains("401"));
    assert!(run(&url, "demo", Some(&world.server.token)).contains("404"));
    assert!(run(&url, "nobody", good).contains("there is no agent nobody here"));
    assert!(run("127.0.0.1:7717", "demo", good).contains("address"));
    assert!(run("ftp://keep.example", "demo", good).contains("address"));
    let other = world.server.post("/api/tokens", json!({ "kind": "relay", "name": "other" })).await;
    assert!(run(&url, "demo", other["secret"].as_str()).contains("the token is for agent other"));
    let by_another_name = Network::new().await;
    by_another_name.leads_to(&world.server);
    assert!(run(&by_another_name.url(), "demo", good).contains("421"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_dials_a_server_with_tls_and_trusts_only_what_it_was_told() {
    let mut world = World::new().await;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (world.here.path().join("cert.pem"), world.here.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    world.server.kill();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = everkept();
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"]).arg(world.here.path());
    command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
    let mut server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let dial = |log: &str, ca: bool| {
        let log = world.there.path().join(log);
        let mut command = everkept();
        command.args(["relay", "--server", &format!("https://127.0.0.1:{port}"), "--agent", "worker", "--data"]).arg(world.there.path());
        command.arg("--token-file").arg(world.there.path().join("token"));
        if ca {
            command.arg("--ca").arg(&certificate);
        }
        let child = command.stderr(std::fs::File::create(&log).unwrap()).stdin(Stdio::null()).spawn().unwrap();
        Relay { child, log }
    };
    let trusting = dial("trusting.log", true);
    trusting.says("connected to https://").await;
    let careful = dial("careful.log", false);
    careful.says("certificate").await;
    assert!(!careful.said().contains("connected to"), "{}", careful.said());
    server.kill().unwrap();
    server.wait().unwrap();
}
