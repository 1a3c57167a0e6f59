//! Durable appends: one message of 300 bytes a request, from many sessions at once and from one.
//!
//! Never counts what was not acknowledged, and fails when a session's log is not what was acknowledged.

use super::figure::{Figure, median};
use super::server::Server;
use super::{Options, floor, server};
use anyhow::{Context, ensure};
use serde_json::json;
use std::time::{Duration, Instant};

const MANY: usize = 32;
const TEXT: usize = 300;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = sessions(options, MANY)?;
    figures.extend(sessions(options, 1)?);
    Ok(figures)
}

fn sessions(options: &Options, count: usize) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut sessions = (0..count)
        .map(|_| server.session(&json!({"title": "appends"})).map(|id| Session { id, head: 1 }))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let body = json!({ "messages": [{"role": "user", "content": "x".repeat(TEXT)}] }).to_string();
    append(&server, &mut sessions, &body, Duration::from_millis(300))?;
    let (mut rates, mut floors, mut cpu, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        floors.push(match count {
            1 => 1.0 / floor::fsync()?,
            _ => floor::group_commit(count, body.as_bytes(), options.seconds)?,
        });
        let (before, own_before, begun) = (server.cpu()?, server::cpu(std::process::id())?, Instant::now());
        let done = append(&server, &mut sessions, &body, options.seconds)? as f64;
        rates.push(done / begun.elapsed().as_secs_f64());
        cpu.push((server.cpu()? - before).as_secs_f64() * 1e6 / done);
        own.push((server::cpu(std::process::id())? - own_before).as_secs_f64() * 1e6 / done);
    }
    let syncs = match server.count_syncs() {
        Some(counting) => {
            let done = append(&server, &mut sessions, &body, options.seconds.min(Duration::from_secs(1)))? as f64;
            counting.end().map_or(f64::NAN, |syncs| syncs / done)
        }
        None => f64::NAN,
    };
    check(&server, &sessions)?;
    let rate = Figure::new(format!("durable appends/s, sessions: {count}"), "/s", median(rates)).floor(median(floors));
    let syncs = Figure::new(format!("syncs per append, sessions: {count}"), "", syncs);
    let cpu = Figure::new(format!("server CPU per append, sessions: {count}"), "us", median(cpu));
    let own = Figure::new(format!("the client's CPU per append, sessions: {count}"), "us", median(own));
    Ok(match count {
        1 => vec![rate, syncs.at_most(1.3, 1.0), cpu, own],
        _ => vec![rate.part_of_floor(0.25, 0.35), syncs.at_most(0.15, 0.15), cpu.at_most(75.0, 45.0), own],
    })
}

struct Session {
    id: String,
    /// The number of the last acknowledged event.
    head: u64,
}

/// How many appends were acknowledged.
fn append(server: &Server, sessions: &mut [Session], body: &str, seconds: Duration) -> anyhow::Result<u64> {
    let until = Instant::now() + seconds;
    std::thread::scope(|scope| {
        let each = |session| scope.spawn(move || append_to(server, session, body, until));
        let clients: Vec<_> = sessions.iter_mut().map(each).collect();
        clients.into_iter().map(|client| client.join().expect("clients do not panic")).sum()
    })
}

fn append_to(server: &Server, session: &mut Session, body: &str, until: Instant) -> anyhow::Result<u64> {
    let mut connection = server.connect()?;
    let path = format!("/api/sessions/{}/messages", session.id);
    let mut done = 0;
    while Instant::now() < until {
        let answer = connection.ask("POST", &path, body.as_bytes())?;
        let text = std::str::from_utf8(answer.body)?;
        let (_, seq) = text.rsplit_once("\"seq\":").context("what is recorded has a number")?;
        let seq: u64 = seq.trim_end_matches('}').parse()?;
        ensure!(seq == session.head + 1, "{} went from event {} to {seq}", session.id, session.head);
        session.head = seq;
        done += 1;
    }
    Ok(done)
}

/// Nothing is behind what was acknowledged, and nothing beyond it.
fn check(server: &Server, sessions: &[Session]) -> anyhow::Result<()> {
    let mut connection = server.connect()?;
    for Session { id, head } in sessions {
        let page = connection.get(&format!("/api/sessions/{id}/events?after={}", head - 1))?;
        let items = page["items"].as_array().context("a page has items")?;
        ensure!(items.len() == 1 && items[0]["seq"] == *head, "{id} does not end at event {head}");
    }
    Ok(())
}
