//! A client that costs less than the server: one connection, plain blocking reads and writes.
//!
//! Never checks more than it must while time is taken; streams are read whole and looked at afterwards.

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What takes longer has gone wrong.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Connection {
    stream: TcpStream,
    address: String,
    token: String,
    /// What was read and not yet taken.
    held: Vec<u8>,
    sent: Vec<u8>,
}

/// One answer's body.
pub struct Answer<'a> {
    pub body: &'a [u8],
}

impl Connection {
    pub fn open(address: &str, token: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, address: address.to_owned(), token: token.to_owned(), held: Vec::new(), sent: Vec::new() })
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let answer = self.ask("POST", path, body)?;
        Ok(serde_json::from_slice(answer.body)?)
    }

    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.ask("GET", path, &[])?;
        Ok(serde_json::from_slice(answer.body)?)
    }

    /// One request and its answer, which must be a good one.
    pub fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.write(method, path, body, "application/json")?;
        self.held.clear();
        let head = loop {
            self.fill()?;
            if let Some(end) = end_of_head(&self.held) {
                break end;
            }
        };
        let text = std::str::from_utf8(&self.held[..head])?;
        let status = text.get(9..12).context("an answer has a status")?.to_owned();
        let length = match text.split_once("content-length: ") {
            Some((_, rest)) => rest.split("\r\n").next().unwrap_or_default().parse::<usize>()?,
            None => 0,
        };
        let read = self.held.len();
        if read < head + length {
            self.held.resize(head + length, 0);
            self.stream.read_exact(&mut self.held[read..])?;
        }
        let body = &self.held[head..head + length];
        if !status.starts_with('2') {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(body));
        }
        Ok(Answer { body })
    }

    /// A body of unknown length, which in HTTP/1.0 goes on until the server closes the connection.
    pub fn read_whole(mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let (address, token) = (&self.address, &self.token);
        write!(self.stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n")?;
        let mut whole = Vec::new();
        self.stream.read_to_end(&mut whole)?;
        let head = end_of_head(&whole).context("an answer has a head")?;
        if !whole.starts_with(b"HTTP/1.0 200") {
            bail!("{path}: {}", String::from_utf8_lossy(&whole[..head]));
        }
        whole.drain(..head);
        Ok(whole)
    }

    /// Begins a stream of events after `after`; returns once it is known to be one.
    pub fn follow(mut self, session: &str, after: u64) -> anyhow::Result<Stream> {
        let path = format!("/api/sessions/{session}/events?after={after}");
        self.write("GET", &path, &[], "text/event-stream")?;
        let head = loop {
            self.fill()?;
            if let Some(end) = end_of_head(&self.held) {
                break end;
            }
        };
        if !self.held.starts_with(b"HTTP/1.1 200") {
            bail!("{path}: {}", String::from_utf8_lossy(&self.held));
        }
        let held = self.held.split_off(head);
        Ok(Stream { stream: self.stream, bytes: held })
    }

    fn write(&mut self, method: &str, path: &str, body: &[u8], accept: &str) -> anyhow::Result<()> {
        self.sent.clear();
        let (address, token, length) = (&self.address, &self.token, body.len());
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )?;
        self.sent.extend_from_slice(body);
        Ok(self.stream.write_all(&self.sent)?)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => bail!("the server closed the connection"),
            read => self.held.extend_from_slice(&buffer[..read]),
        }
        Ok(())
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    // No head of ours is longer; a body is not looked through.
    let head = &bytes[..bytes.len().min(4_096)];
    head.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A stream of events, kept as it comes.
pub struct Stream {
    pub stream: TcpStream,
    pub bytes: Vec<u8>,
}

impl Stream {
    /// Reads until what came since the last look ends the way `ends` says.
    pub fn read_until(&mut self, ends: &str) -> anyhow::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let tail = &self.bytes[self.bytes.len().saturating_sub(2_048)..];
            if String::from_utf8_lossy(tail).contains(ends) {
                return Ok(());
            }
            match self.stream.read(&mut buffer)? {
                0 => bail!("a stream ended early"),
                read => self.bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// The numbers of the events that came.
    pub fn numbers(&self) -> Vec<u64> {
        let text = String::from_utf8_lossy(&self.bytes);
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    }
}
