//! A real server in a directory of its own, and what it costs as the kernel counts it.
//!
//! Never ends a process but the one it started, and leaves no directory behind.

use super::http::Connection;
use crate::setup::root;
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the kernel counts CPU time in; the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

pub struct Server {
    child: Child,
    address: String,
    token: String,
    pub folder: Folder,
}

/// On the file system of the build, so that floors and servers share it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = root().join(format!("target/bench/{}-{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

pub fn program() -> PathBuf {
    root().join("target/release/everkept")
}

impl Server {
    pub fn start() -> anyhow::Result<Server> {
        Self::start_in(Folder::new()?)
    }

    pub fn start_in(folder: Folder) -> anyhow::Result<Server> {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&folder.0);
        Self::launch(command, folder)
    }

    /// The same server on a store in memory.
    pub fn without_store() -> anyhow::Result<Server> {
        let folder = Folder::new()?;
        let mut command = Command::new(program().with_file_name("examples").join("without_store"));
        command.arg(&folder.0);
        Self::launch(command, folder)
    }

    fn launch(mut command: Command, folder: Folder) -> anyhow::Result<Server> {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERKEPT_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(folder.0.join("stderr.log"))?).spawn().context("the server does not start")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://") else {
            let said = fs::read_to_string(folder.0.join("stderr.log")).unwrap_or_default();
            bail!("the server did not listen: {line}{said}")
        };
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let token = fs::read_to_string(folder.0.join("admin.token"))?.trim().to_owned();
        Ok(Server { child, address: address.to_owned(), token, folder })
    }

    /// Ends it as a crash would, and keeps its directory.
    pub fn kill(mut self) -> anyhow::Result<Folder> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(Folder(std::mem::take(&mut self.folder.0)))
    }

    pub fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.address, &self.token)
    }

    pub fn session(&self, body: &Value) -> anyhow::Result<String> {
        let made = self.connect()?.post("/api/sessions", body.to_string().as_bytes())?;
        Ok(made["id"].as_str().context("a session has an id")?.to_owned())
    }

    pub fn database(&self) -> PathBuf {
        self.folder.0.join("everkept.db")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time since it began.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(self.pid())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is missing")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0)
    }

    /// Waits until what trails behind, such as the full-text index, is done.
    pub fn settle(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut quiet = 0;
        while quiet < 8 && Instant::now() < until {
            let before = self.cpu()?;
            std::thread::sleep(Duration::from_millis(200));
            quiet = if self.cpu()? <= before + TICK { quiet + 1 } else { 0 };
        }
        Ok(())
    }

    /// Counts its syncs from now on; none where `perf` is not there or not allowed.
    pub fn count_syncs(&self) -> Option<Syncs> {
        let file = self.folder.0.join("syncs.txt");
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", "syscalls:sys_enter_fdatasync,syscalls:sys_enter_fsync", "-p", &self.pid().to_string(), "-o"]);
        let child = perf.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        // It attaches to every thread before it counts.
        std::thread::sleep(Duration::from_millis(300));
        Some(Syncs { child, file })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub struct Syncs {
    child: Child,
    file: PathBuf,
}

impl Syncs {
    pub fn end(mut self) -> Option<f64> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).ok()?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).ok()?;
        self.child.wait().ok()?;
        counted(&self.file)
    }
}

fn counted(file: &Path) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let counts: Vec<f64> =
        text.lines().filter(|line| line.contains("sys_enter")).filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    (counts.len() == 2).then(|| counts.iter().sum())
}

pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("a stat line names its program")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}
