//! What a keeper knows of the turn that runs: the server's notes on it, and what the agent said since it began.
//!
//! Never: a turn that is held with a byte of it missing; that one is lost, and says why.

use super::{hold::Hold, spool::Spool};
use bytes::Bytes;
use std::{collections::VecDeque, io};

/// Of an agent's error output, what is kept.
const ERRORS_KEPT: usize = 8 * 1024;

pub struct Record {
    /// Or why there is none.
    spool: Result<Spool, String>,
    /// Of the running turn; without any, none runs.
    notes: Vec<(u64, Bytes)>,
    /// Where the last words for the agent were taken.
    last: u64,
    /// How much the agent has said, and how much of it the server was sent.
    said: u64,
    sent: u64,
}

pub struct Found {
    pub base: u64,
    pub end: u64,
    pub last: u64,
}

impl Record {
    pub fn new(hold: Option<&Hold>) -> Self {
        let mut record = Self::lost(String::new());
        record.spool = spool(hold, 0);
        record
    }

    pub fn lost(why: String) -> Self {
        Self { spool: Err(why), notes: Vec::new(), last: 0, said: 0, sent: 0 }
    }

    pub fn is_held(&self) -> bool {
        !self.notes.is_empty()
    }

    pub fn is_lost(&self) -> bool {
        self.spool.is_err()
    }

    pub fn why_lost(&self) -> Option<&str> {
        self.spool.as_ref().err().map(String::as_str)
    }

    pub fn notes(&self) -> &[(u64, Bytes)] {
        &self.notes
    }

    /// A turn begins; why it will be lost, when it will.
    pub fn begin(&mut self, hold: Option<&Hold>, at: u64, note: Bytes) -> Option<String> {
        self.forget_before(at);
        if self.spool.is_err() && at == self.said && hold.is_some() {
            self.spool = spool(hold, at);
        }
        self.notes = vec![(at, note)];
        self.last = at;
        self.why_lost().map(str::to_owned)
    }

    /// One without a note says only how far the server had heard. Between turns there is nothing to be noted.
    pub fn word(&mut self, at: u64, note: Bytes) {
        self.last = at;
        if !note.is_empty() && self.is_held() {
            self.notes.push((at, note));
        }
    }

    pub fn rest(&mut self, at: u64) {
        self.notes.clear();
        self.forget_before(at);
    }

    fn forget_before(&mut self, at: u64) {
        if let Ok(spool) = &mut self.spool
            && let Err(error) = spool.forget_before(at)
        {
            self.spool = Err(error.to_string());
        }
    }

    /// Why the turn is lost, when it is by this.
    pub fn append(&mut self, bytes: &[u8]) -> Option<String> {
        self.said += bytes.len() as u64;
        let error = self.spool.as_mut().ok()?.append(bytes).err()?.to_string();
        self.spool = Err(error.clone());
        Some(error)
    }

    pub fn is_sent(&self) -> bool {
        self.sent == self.said
    }

    /// Was sent past the spool.
    pub fn sent(&mut self, length: usize) {
        self.sent += length as u64;
    }

    /// What the server is to be sent next.
    pub fn next(&mut self, at_most: usize) -> io::Result<Option<Bytes>> {
        let Ok(spool) = &self.spool else { return Ok(None) };
        if self.sent == self.said {
            return Ok(None);
        }
        let mut buffer = vec![0; at_most];
        let length = spool.read(self.sent, &mut buffer)?;
        buffer.truncate(length);
        self.sent += length as u64;
        Ok(Some(buffer.into()))
    }

    /// For a server that takes over, which is sent everything.
    pub fn found(&mut self) -> Found {
        let base = self.spool.as_ref().map_or(self.said, Spool::base);
        self.sent = base;
        Found { base, end: self.said, last: self.last }
    }
}

fn spool(hold: Option<&Hold>, at: u64) -> Result<Spool, String> {
    let hold = hold.ok_or_else(|| "nothing is held".to_owned())?;
    Spool::new(&hold.folder, hold.room, at).map_err(|error| error.to_string())
}

/// The end of what was said.
#[derive(Default)]
pub struct Tail(VecDeque<u8>);

impl Tail {
    pub fn add(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(ERRORS_KEPT)..];
        let too_many = (self.0.len() + bytes.len()).saturating_sub(ERRORS_KEPT);
        self.0.drain(..too_many);
        self.0.extend(bytes);
    }

    pub fn bytes(&self) -> Bytes {
        self.0.iter().copied().collect()
    }
}
