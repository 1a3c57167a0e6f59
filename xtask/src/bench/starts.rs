//! Starting, and what a server that does nothing holds.
//!
//! Never from a cold disk: the program's pages are in the kernel's cache, as after any first start.

use super::Options;
use super::figure::{Figure, median};
use super::server::{Folder, Server, program};
use serde_json::json;
use std::time::{Duration, Instant};

const OPEN: usize = 1_000;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let (mut first, mut again, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (server, took) = started(Folder::new()?)?;
        first.push(took);
        std::thread::sleep(Duration::from_secs(1));
        idle.push(server.memory()? / 1e6);
        again.push(started(server.kill()?)?.1);
    }
    let binary = std::fs::metadata(program())?.len() as f64 / 1e6;
    Ok(vec![
        Figure::new("first start to first answer", "ms", median(first)).at_most(100.0, 30.0),
        Figure::new("start after a kill to first answer", "ms", median(again)).at_most(100.0, 30.0),
        Figure::new("idle memory", "MB", median(idle)).at_most(25.0, 12.0),
        Figure::new(format!("memory per open session, of {OPEN}"), "KB", open_sessions()?).at_most(20.0, 10.0),
        Figure::new("binary", "MB", binary).at_most(25.0, 12.0),
    ])
}

fn started(folder: Folder) -> anyhow::Result<(Server, f64)> {
    let begun = Instant::now();
    let server = Server::start_in(folder)?;
    server.connect()?.get("/api/sessions")?;
    Ok((server, begun.elapsed().as_secs_f64() * 1e3))
}

/// Each has been written to just now, so that its task holds its state.
fn open_sessions() -> anyhow::Result<f64> {
    let server = Server::start()?;
    let mut connection = server.connect()?;
    let message = json!({ "messages": [{"role": "user", "content": "x".repeat(300)}] }).to_string();
    let mut open = |count: usize| -> anyhow::Result<()> {
        for _ in 0..count {
            let session = connection.post("/api/sessions", b"{}")?;
            let session = session["id"].as_str().unwrap_or_default().to_owned();
            connection.ask("POST", &format!("/api/sessions/{session}/messages"), message.as_bytes())?;
        }
        Ok(())
    };
    // What the server sets up once is not a session's.
    open(200)?;
    server.settle()?;
    let before = server.memory()?;
    open(OPEN)?;
    server.settle()?;
    Ok((server.memory()? - before) / 1e3 / OPEN as f64)
}
