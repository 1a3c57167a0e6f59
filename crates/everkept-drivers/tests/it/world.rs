//! What a real agent needs: a home of its own, a directory to work in, and the fake model it talks to.
//!
//! Never: the network, or a home that is somebody's.

use crate::support::{alive, xtask};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub struct World {
    pub folder: tempfile::TempDir,
    model: Child,
    /// Of the model, without a path.
    pub url: String,
}

impl World {
    pub fn new() -> Self {
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
        for name in ["work", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, model, url }
    }

    /// An agent as the lockfile pins it.
    pub fn installed(name: &str) -> PathBuf {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/agents/node_modules/.bin").join(name);
        assert!(file.exists(), "{name} is not installed: run `cargo xtask setup`");
        file.canonicalize().unwrap()
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The processes that have this world's home in their environment: the agent, and all it started.
    pub fn processes(&self) -> Vec<i32> {
        let home = format!("HOME={}", self.home().display());
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let ours = environment.split(|byte| *byte == 0).any(|pair| pair == home.as_bytes());
            (ours && alive(pid) && name.trim() != "xtask").then_some(pid)
        });
        processes.collect()
    }

    /// What the model was sent, but for requests that ask for a title.
    pub fn requests(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.path().join("model.log")).unwrap();
        let requests = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        requests.filter(|request| request["title"] == false).collect()
    }

    /// The user's messages in the last of them.
    pub fn last_prompts(&self) -> Vec<String> {
        let last = self.requests().pop().unwrap();
        last["prompts"].as_array().unwrap().iter().map(|prompt| prompt.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        _ = self.model.kill();
        _ = self.model.wait();
    }
}
