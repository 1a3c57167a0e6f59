//! The real opencode, against the fake model: what no script of ours can promise for it.

use crate::support::{Talk, acp, alive, xtask};
use everkept_agent::{
    AgentFaultKind, OpenSession,
    conformance::{self, Script},
};
use everkept_core::{ModelName, Said};
use everkept_drivers::acp::AcpAgent;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_is_an_agent() {
    let world = World::new();
    let script = Script {
        directory: world.directory(),
        plain: "hello there".into(),
        tool: Some("use it TOOL".into()),
        ask: Some("may it TOOL".into()),
        long: Some("take your time SLOW".into()),
        fail: Some("now FAIL".into()),
        crash: None,
        model: Some(ModelName::new("fake/other").unwrap()),
        unknown_session: "ses_0123456789abcdefghijklmnop".into(),
    };
    conformance::run(Arc::new(world.opencode()), &script).await;
    // Allowed twice; what was refused or cancelled did not run.
    assert_eq!(fs::read_to_string(world.directory().join("tool.log")).unwrap(), "tool-ran\ntool-ran\n");
    assert_eq!(world.agents(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_killed_in_mid_answer_resumes_its_own_session() {
    let world = World::new();
    let agent = world.opencode();
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    assert_eq!(talk.prompt("remember the roof").await.text(), "reply 1 to: remember the roof");
    talk.begin("take your time SLOW").await;
    talk.hear_until(|said| matches!(said, Said::Text { text, .. } if text.contains("word-"))).await;
    let [pid] = world.agents()[..] else { panic!("one opencode runs") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let heard = talk.hear_out().await;
    let fault = heard.fault();
    assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Exited, true), "{fault}");
    assert_eq!(world.agents(), [] as [i32; 0], "nothing of it is left");

    let mut again = Talk::open(&agent, &world.directory(), OpenSession::Resume(talk.session())).await;
    assert_eq!(again.session(), talk.session());
    assert_eq!(again.prompt("and now").await.text(), "reply 3 to: and now");
    let prompts = world.last_prompts();
    assert_eq!(prompts, ["remember the roof", "take your time SLOW", "and now"], "what the model was sent");
    again.end().await;
    assert_eq!(world.agents(), [] as [i32; 0], "nothing of it is left");
}

/// opencode, a home of its own for it, and the model it talks to.
struct World {
    folder: tempfile::TempDir,
    model: Child,
    url: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Command::new(xtask())
            .arg("fake-model")
            .arg("--log")
            .arg(folder.path().join("model.log"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(model.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening ").unwrap().to_owned();
        let world = Self { folder, model, url };
        for name in ["work", "home"] {
            fs::create_dir(world.folder.path().join(name)).unwrap();
        }
        fs::write(world.folder.path().join("opencode.json"), world.config().to_string()).unwrap();
        world
    }

    fn config(&self) -> Value {
        json!({
            "autoupdate": false,
            "share": "disabled",
            "enabled_providers": ["fake"],
            "provider": { "fake": {
                "npm": "@ai-sdk/openai-compatible",
                "options": { "baseURL": format!("{}/v1", self.url), "apiKey": "none" },
                "models": { "fake": {}, "other": {}, "small": {} },
            } },
            "model": "fake/fake",
            "small_model": "fake/small",
            "permission": { "bash": "ask", "edit": "ask" },
        })
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn opencode(&self) -> AcpAgent {
        let home = self.folder.path().join("home");
        let config = self.folder.path().join("opencode.json");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut env: BTreeMap<String, String> =
            ["OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD"]
                .map(|name| (name.to_owned(), "1".to_owned()))
                .into();
        env.insert("HOME".into(), path(&home));
        for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
            env.insert(format!("XDG_{name}_HOME"), path(&home.join(name)));
        }
        env.insert("OPENCODE_CONFIG".into(), path(&config));
        acp("opencode", &[path(&opencode()).as_str(), "acp"], env)
    }

    /// The processes that have this world's home in their environment: opencode, and all it started.
    fn agents(&self) -> Vec<i32> {
        let home = format!("HOME={}", self.folder.path().join("home").display());
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let ours = environment.split(|byte| *byte == 0).any(|pair| pair == home.as_bytes());
            (ours && alive(pid) && name.trim() != "xtask").then_some(pid)
        });
        processes.collect()
    }

    /// The user's messages in the last request to the model, but for those that ask for a title.
    fn last_prompts(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("model.log")).unwrap();
        let mut requests = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = requests.rfind(|request| request["title"] == false).unwrap();
        last["prompts"].as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        _ = self.model.kill();
        _ = self.model.wait();
    }
}

fn opencode() -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/agents/node_modules/.bin/opencode");
    assert!(file.exists(), "opencode is not installed: run `cargo xtask setup`");
    file.canonicalize().unwrap()
}
