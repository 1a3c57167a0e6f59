//! A turn of 200 deltas with the demo agent, read as a stream.
//!
//! Never a slow agent: it says everything at once, so what takes time is ours.

use super::figure::{Figure, median};
use super::server::Server;
use super::{Options, floor};
use anyhow::{Context, ensure};
use serde_json::json;
use std::io::Read;
use std::time::Instant;

/// Beside `reply N to: `, which is three words.
pub const WORDS: usize = 197;
const TURNS: u64 = 20;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let session = server.session(&json!({"title": "a title"}))?;
    let input = json!({ "input": vec!["word"; WORDS].join(" ") }).to_string();
    let mut head = turn(&server, &session, 1, &input)?.head;
    let mut synced = floor::Synced::new()?;
    let (mut first, mut word, mut whole, mut cpu, mut syncs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let before = server.cpu()?;
        for _ in 0..TURNS {
            syncs.push(synced.once()? * 1e3);
            let turn = turn(&server, &session, head, &input)?;
            head = turn.head;
            first.push(turn.first * 1e3);
            word.push(turn.word * 1e3);
            whole.push(turn.whole * 1e3);
        }
        cpu.push((server.cpu()? - before).as_secs_f64() * 1e3 / TURNS as f64);
    }
    let sync = median(syncs);
    Ok(vec![
        Figure::new("turn of 200 deltas: first event after", "ms", median(first)).floor(sync).at_most(2.0 * sync + 2.0, sync + 1.0),
        Figure::new("the same: first word after", "ms", median(word)).floor(sync),
        Figure::new("the same: whole turn after", "ms", median(whole)).floor(sync),
        Figure::new("the same: server CPU", "ms", median(cpu)).at_most(15.0, 6.0),
    ])
}

pub struct Turn {
    pub head: u64,
    /// Seconds from the request to the first event, the first word and the end.
    pub first: f64,
    pub word: f64,
    pub whole: f64,
    /// What was committed as one has one time.
    pub commits: usize,
}

pub fn turn(server: &Server, session: &str, after: u64, input: &str) -> anyhow::Result<Turn> {
    let mut connection = server.connect()?;
    let mut stream = server.connect()?.follow(session, after)?;
    let begun = Instant::now();
    // Answered while the stream is read: whichever the server sends first.
    let answer = std::thread::scope(|scope| {
        let path = format!("/api/sessions/{session}/turns");
        let asking = scope.spawn(move || connection.post(&path, input.as_bytes()).map(|_| ()));
        let mut buffer = vec![0; 64 * 1024];
        let (mut first, mut word) = (None, None);
        loop {
            let read = stream.stream.read(&mut buffer)?;
            ensure!(read > 0, "the stream ended early");
            let at = begun.elapsed().as_secs_f64();
            stream.bytes.extend_from_slice(&buffer[..read]);
            let piece = String::from_utf8_lossy(&buffer[..read]);
            if piece.contains("id: ") {
                first.get_or_insert(at);
            }
            if piece.contains("event: part.delta") {
                word.get_or_insert(at);
            }
            let tail = &stream.bytes[stream.bytes.len().saturating_sub(2_048)..];
            let tail = String::from_utf8_lossy(tail);
            if tail.contains("event: turn.ended") && tail.trim_end().ends_with('}') {
                asking.join().expect("the client does not panic")?;
                return Ok((first, word, at));
            }
        }
    })?;
    let numbers = stream.numbers();
    let head = *numbers.last().context("a turn has events")?;
    ensure!(numbers == (after + 1..=head).collect::<Vec<_>>(), "events of a turn are missing or come twice");
    // What comes close together is one event: the text counts, not how many pieces it came in.
    ensure!(words(&stream.bytes) >= WORDS, "words of a turn are missing");
    let (first, word, whole) = answer;
    let commits = times(&stream.bytes);
    Ok(Turn { head, first: first.context("a first event")?, word: word.context("a first word")?, whole, commits })
}

fn times(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let times: std::collections::BTreeSet<_> = text.split("\"at\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    times.len()
}

/// How often the word of the prompt was said by the agent.
fn words(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let deltas = text.split("event: ").filter(|event| event.starts_with("part.delta"));
    deltas.map(|delta| delta.matches("word").count()).sum()
}
