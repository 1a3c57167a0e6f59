//! Secrets planted everywhere, and looked for everywhere else: logs, database, answers, exports, backups, processes.

use crate::bench::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

const AGENTS: &[(&str, &str)] = &[("acp", "scripted-agent"), ("claude-code", "scripted-claude"), ("codex", "scripted-codex")];

fn canary(name: &str) -> String {
    format!("canary-{name}-7d1f")
}

struct Planted {
    server: Server,
    data: tempfile::TempDir,
    /// What nobody may see, by what it is.
    secrets: BTreeMap<String, String>,
}

impl Planted {
    async fn new() -> Planted {
        let data = tempfile::tempdir().unwrap();
        let refusing_model = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = format!(
            "[agents.model]\nprotocol = \"openai\"\nbase_url = \"http://{}/v1\"\nmodel = \"m\"\napi_key_env = \"MODEL_KEY\"\n\
             [agents.broken]\nprotocol = \"acp\"\ncommand = [\"/nowhere/agent\"]\nenv = {{ KEY = {:?} }}\n",
            refusing_model.local_addr().unwrap(),
            canary("broken")
        );
        let mut secrets = BTreeMap::new();
        let mut plant = |name: String| {
            let secret = canary(&name);
            secrets.insert(name, secret.clone());
            secret
        };
        for (protocol, program) in AGENTS {
            let folder = agent_folder(data.path(), protocol);
            config += &format!(
                "[agents.{protocol}]\nprotocol = {protocol:?}\ncommand = [{:?}, {program:?}]\nenv = {{ SCRIPTED_DIR = {folder:?}, KEY = {:?} }}\n\
                 mcp_servers.near = {{ command = \"true\", env = {{ KEY = {:?} }} }}\n\
                 mcp_servers.far = {{ url = \"https://127.0.0.1:9/mcp\", headers = {{ Authorization = {:?} }} }}\n",
                xtask(),
                plant(format!("{protocol}-env")),
                plant(format!("{protocol}-mcp-env")),
                plant(format!("{protocol}-mcp-header")),
            );
        }
        plant("broken".into());
        std::fs::write(data.path().join("config.toml"), config).unwrap();
        let (model, server) = (plant("model-key".into()), plant("server-env".into()));
        let key = model.clone();
        std::thread::spawn(move || refuse(&refusing_model, &key));
        let server = Server::start_with(data.path(), |command| {
            command
                .env("MODEL_KEY", model)
                .env("SECRET_OF_THE_SERVER", &server)
                .env("ANTHROPIC_API_KEY", &server)
                .env("EVERKEPT_LOG", "trace");
        });
        secrets.insert("the admin token".into(), server.token.clone());
        for body in [json!({ "kind": "resource", "name": "ann" }), json!({ "kind": "relay", "name": "far" })] {
            let token = server.post("/api/tokens", body.clone()).await;
            secrets.insert(format!("the token {body}"), token["secret"].as_str().unwrap().to_owned());
        }
        let code = server.login.split_once("#code=").unwrap().1.to_owned();
        let login = server.client.post(server.url("/login")).json(&json!({ "code": code })).send().await.unwrap();
        let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap().1.to_owned();
        secrets.extend([("the login code".into(), code), ("the cookie".into(), cookie)]);
        Planted { server, data, secrets }
    }

    /// Which secrets are in it, but for those that may be.
    fn look(&self, place: &str, bytes: &[u8], may: &[String]) -> Vec<String> {
        let has = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        let found = self.secrets.iter().filter(|(name, secret)| !may.contains(name) && has(secret));
        found.map(|(name, _)| format!("{name} is in {place}")).collect()
    }

    /// All that is on the disk, but for what people and agents keep there themselves.
    fn look_through(&self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let own = ["admin.token", "config.toml"].iter().any(|name| path.ends_with(name));
            if path.is_dir() {
                found.extend(self.look_through(&path));
            } else if path.is_file() && !own && !path.starts_with(self.data.path().join("agents")) {
                found.extend(self.look(&path.display().to_string(), &std::fs::read(&path).unwrap(), &[]));
            }
        }
        found
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Vec<u8> {
        let answer = request.send().await.unwrap();
        let mut seen = format!("{:?}", answer.headers()).into_bytes();
        seen.extend(answer.bytes().await.unwrap());
        seen
    }
}

/// A model that has seen the key, and takes nobody.
fn refuse(model: &TcpListener, key: &str) {
    for caller in model.incoming() {
        let mut caller = caller.unwrap();
        let mut asked = vec![0; 64 * 1024];
        let length = caller.read(&mut asked).unwrap();
        assert!(String::from_utf8_lossy(&asked[..length]).contains(key), "the key is used");
        caller.write_all(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").unwrap();
    }
}

fn agent_folder(data: &Path, protocol: &str) -> PathBuf {
    data.join("agents").join(protocol)
}

/// Every process below one, itself left out.
fn below(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flat_map(|task| {
        let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    });
    let children: Vec<u32> = children.collect();
    children.iter().flat_map(|child| below(*child)).chain(children.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_no_secret_is_in_a_log_the_database_an_answer_a_backup_or_a_process_that_was_not_given_it() {
    let planted = Planted::new().await;
    let server = &planted.server;
    let mut found = Vec::new();
    let mut running = Vec::new();
    let mut sessions = Vec::new();
    for (protocol, _) in AGENTS {
        let session = server.session(json!({ "agent": protocol })).await;
        let turn = server.send(&session, "!think !tool !long on").await;
        server.begun(&session, &turn).await;
        running.push(turn);
        sessions.push(session);
    }
    // A secret is in its own agent's environment, and in nobody's arguments: every user of a machine can read those.
    let processes = below(server.child.id());
    assert!(processes.len() >= 2 * AGENTS.len(), "a keeper and an agent each: {processes:?}");
    for pid in &processes {
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap();
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let (protocol, _) = AGENTS
            .iter()
            .find(|(protocol, _)| environment.contains(agent_folder(planted.data.path(), protocol).to_str().unwrap()))
            .unwrap_or_else(|| panic!("{pid} is no agent's: {environment}"));
        let own = format!("{protocol}-env");
        assert!(environment.contains(&planted.secrets[&own]), "it was given its own");
        found.extend(planted.look(&format!("the environment of {protocol}"), environment.as_bytes(), &[own]));
        found.extend(planted.look(&format!("the arguments of {protocol}"), &read("cmdline"), &[]));
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.child.id())).unwrap();
    found.extend(planted.look("the arguments of the server", &arguments, &[]));
    for turn in running {
        server.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
        server.ended(&turn).await;
    }
    // What cannot be reached or started says why.
    for agent in ["model", "broken"] {
        let session = server.session(json!({ "agent": agent })).await;
        let turn = server.send(&session, "hello").await;
        let turn = server.turn_when(&turn, |turn| !turn["ended_at"].is_null() || turn["tries"]["opening"] != 0).await;
        found.extend(planted.look(agent, turn.to_string().as_bytes(), &[]));
        sessions.push(session);
    }
    let get = |path: &str| server.client.get(server.url(path)).bearer_auth(&server.token);
    let paths = ["agents", "tokens", "sessions", "questions", "breakers", "usage", "dead-letters", "openapi.json", "health"];
    let mut paths: Vec<String> = paths.map(|path| format!("/api/{path}")).to_vec();
    for session in &sessions {
        let whole = ["", "/events?limit=1000", "/messages?limit=1000", "/turns", "/summary", "/snapshot", "/rules", "/export"];
        paths.extend(whole.map(|path| format!("/api/sessions/{session}{path}")));
        paths.push(format!("/api/sessions/{session}/export?format=markdown"));
    }
    for path in paths {
        found.extend(planted.look(&path, &planted.answer(get(&path)).await, &[]));
    }
    // And each secret, where it does not belong.
    for secret in planted.secrets.values() {
        for request in [
            server.client.get(server.url("/api/sessions")).bearer_auth(format!("{secret}x")),
            server.client.post(server.url("/login")).json(&json!({ "code": format!("{secret}x") })),
            server.client.get(server.url("/api/sessions")).header("cookie", format!("everkept={secret}x")),
        ] {
            found.extend(planted.look("a refusal", &planted.answer(request).await, &[]));
        }
    }
    let backup = planted.data.path().join("backup.db");
    let made = everkept().arg("backup").arg(&backup).arg("--data").arg(planted.data.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    found.extend(planted.look("what a command says", &[made.stdout, made.stderr].concat(), &[]));
    let doctor = everkept().args(["doctor", "--data"]).arg(planted.data.path()).output().unwrap();
    found.extend(planted.look("what the doctor says", &[doctor.stdout, doctor.stderr].concat(), &[]));
    // With its log, and what is written ahead, as long as it runs; and once it was stopped.
    found.extend(planted.look_through(planted.data.path()));
    let log = stderr(planted.data.path());
    assert!(log.contains("TRACE"), "it is as talkative as can be: {log}");
    assert!(std::fs::metadata(planted.data.path().join("everkept.db-wal")).unwrap().len() > 0);
    assert_eq!(found, [] as [String; 0]);
}
