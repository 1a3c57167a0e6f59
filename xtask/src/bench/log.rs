//! A session with many events, made over HTTP.
//!
//! Never measures while what it made is still being indexed.

use super::server::Server;
use anyhow::{Context, ensure};
use serde_json::json;

/// Messages in one request.
const PIECE: u64 = 1_000;

pub struct Log {
    pub session: String,
    /// The last event's number.
    pub head: u64,
}

/// A session of exactly `events` events.
pub fn fill(server: &Server, events: u64) -> anyhow::Result<Log> {
    let session = server.session(&json!({"title": "a title"}))?;
    let mut connection = server.connect()?;
    let path = format!("/api/sessions/{session}/messages");
    let mut head = 1;
    while head < events {
        let count = PIECE.min(events - head);
        let messages: Vec<_> = (0..count).map(|n| json!({"role": "user", "content": format!("message {n} {}", "x".repeat(280))})).collect();
        let kept = connection.post(&path, json!({ "messages": messages }).to_string().as_bytes())?;
        head = kept["seq"].as_u64().context("what is recorded has a number")?;
    }
    ensure!(head == events, "{session} ends at {head} and not at {events}");
    Ok(Log { session, head })
}

impl Log {
    /// As the database keys it.
    pub fn key(&self) -> anyhow::Result<Vec<u8>> {
        let digits = self.session.strip_prefix("ses_").context("a session's id begins with ses_")?;
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
        Ok((0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
    }
}
