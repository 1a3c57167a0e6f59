//! A real server in a directory of its own, to talk to, to kill and to start again.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; what takes longer has gone wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub child: Child,
    pub address: String,
    pub token: String,
    pub data: PathBuf,
    /// What opens the page in a browser, once.
    pub login: String,
    pub started_in: Duration,
    pub client: reqwest::Client,
}

pub fn everkept() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everkept"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVERKEPT_") {
            command.env_remove(name);
        }
    }
    command
}

/// A program of this workspace that tests run beside the server.
pub fn xtask() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_everkept")).with_file_name("xtask");
    assert!(program.is_file(), "{} is missing: run `cargo build -p xtask`, or all tests by `cargo xtask test`", program.display());
    program
}

impl Server {
    pub fn start(data: &Path) -> Server {
        Self::start_with(data, |_| {})
    }

    pub fn start_with(data: &Path, change: impl FnOnce(&mut Command)) -> Server {
        let mut command = everkept();
        serve(&mut command, data);
        change(&mut command);
        Self::launch(command, data, |_| data.to_owned())
    }

    /// Waits until what the command starts listens. `inside` says where the data directory of that process is to be found.
    pub fn launch(mut command: Command, data: &Path, inside: impl FnOnce(u32) -> PathBuf) -> Server {
        let before = Instant::now();
        let log = std::fs::File::options().create(true).append(true).open(data.join("stderr.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("the server starts");
        std::fs::write(data.join("server.pid"), child.id().to_string()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            let read = lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the server ended before it listened\n{}", stderr(data));
            line
        };
        let address = loop {
            let line = next();
            if let Some(address) = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")) {
                break address.trim_end_matches('/').to_owned();
            }
        };
        let started_in = before.elapsed();
        // The login link comes right after the address.
        let login = next().trim().to_owned();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let token = std::fs::read_to_string(inside(child.id()).join("admin.token")).expect("the admin token is there");
        // Once for the whole process; a client cannot be made without.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Server { child, address, token: token.trim().to_owned(), data: data.to_owned(), login, started_in, client }
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the server is ours to kill");
        self.child.wait().unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.try_post(path, body).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {body}");
        body
    }

    pub async fn delete(&self, path: &str) {
        let response = self.client.delete(self.url(path)).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(response.status(), 204, "DELETE {path}");
    }

    pub async fn try_post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self.client.post(self.url(path)).bearer_auth(&self.token).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn session(&self, body: Value) -> String {
        self.post("/api/sessions", body).await["id"].as_str().unwrap().to_owned()
    }

    pub async fn send(&self, session: &str, input: &str) -> String {
        self.post(&format!("/api/sessions/{session}/turns"), json!({ "input": input })).await["id"].as_str().unwrap().to_owned()
    }

    /// The turn once `is` accepts it.
    pub async fn turn_when(&self, turn: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = self.get(&format!("/api/turns/{turn}")).await;
            if is(&held) {
                return held;
            }
            assert!(Instant::now() < until, "the turn stays {held}\n{}", stderr(&self.data));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ended(&self, turn: &str) -> Value {
        self.turn_when(turn, |turn| !turn["ended_at"].is_null()).await
    }

    /// Waits until the turn's answer has begun.
    pub async fn begun(&self, session: &str, turn: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.events(session).await.iter().any(|event| event["kind"] == "part.delta" && event["turn"] == turn) {
            assert!(Instant::now() < until, "no word comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first question that is open, once there is one.
    pub async fn question(&self) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let open = self.get("/api/questions").await;
            if let Some(question) = open["items"].as_array().unwrap().first() {
                return question.clone();
            }
            assert!(Instant::now() < until, "no question comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn events(&self, session: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, |event: &Value| event["seq"].as_u64().unwrap());
            let page = self.get(&format!("/api/sessions/{session}/events?after={after}&limit=1000")).await;
            let items = page["items"].as_array().unwrap().clone();
            if items.is_empty() {
                return events;
            }
            events.extend(items);
        }
    }

    /// The text of each message of the session, with its role.
    pub async fn said(&self, session: &str) -> Vec<(String, String)> {
        let page = self.get(&format!("/api/sessions/{session}/messages?limit=1000")).await;
        let text = |message: &Value| {
            let parts = message["parts"].as_array().unwrap();
            parts.iter().filter(|part| part["type"] == "text").map(|part| part["text"].as_str().unwrap()).collect::<String>()
        };
        let items = page["items"].as_array().unwrap();
        items.iter().map(|message| (message["role"].as_str().unwrap().to_owned(), text(message))).collect()
    }
}

/// The arguments of a server of a test's own.
pub fn serve(command: &mut Command, data: &Path) {
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only a test that has failed leaves one running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn stderr(data: &Path) -> String {
    std::fs::read_to_string(data.join("stderr.log")).unwrap_or_default()
}

/// Configures the scripted agent, a process that logs every prompt before it acts and ends with its server.
pub fn with_scripted_agent(data: &Path) -> PathBuf {
    with_agent(data, "acp", "scripted-agent", 0)
}

/// One of the scripted agents, which outlives its server for so long.
pub fn with_agent(data: &Path, protocol: &str, program: &str, hold_ms: u64) -> PathBuf {
    let folder = data.join("scripted");
    std::fs::create_dir_all(&folder).unwrap();
    let config = format!(
        "default_agent = \"scripted\"\n\n[keeper]\nhold_ms = {hold_ms}\n\n\
         [agents.scripted]\nprotocol = {protocol:?}\ncommand = [{:?}, {program:?}]\n\
         env = {{ SCRIPTED_DIR = {:?}, SCRIPTED_SERVER_PID_FILE = {:?}, SCRIPTED_WRITTEN = \"yes\" }}\n",
        xtask(),
        folder,
        data.join("server.pid"),
    );
    std::fs::write(data.join("config.toml"), config).unwrap();
    folder
}

pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is gone for everyone but its parent.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits until none of the processes is left.
pub async fn gone(pids: &[u32], within: Duration) {
    let until = Instant::now() + within;
    while let Some(pid) = pids.iter().find(|pid| is_alive(**pid)) {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        assert!(Instant::now() < until, "process {pid} ({command}) outlives its hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
