//! What is typed: lines, and the wish to stop.
//!
//! Never: a line that was typed before a question taken as its answer; [`Input::set_aside`] keeps those for later.

use std::collections::VecDeque;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Lines read ahead; the reader waits then, and the rest stays with whoever writes.
const LINES: usize = 64;

pub struct Input {
    lines: mpsc::Receiver<std::io::Result<String>>,
    aside: VecDeque<String>,
    ended: bool,
}

impl Input {
    /// Reads stdin in a thread of its own, because a read of it cannot be taken back.
    pub fn of_stdin() -> Self {
        let (send, lines) = mpsc::channel(LINES);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                let failed = line.is_err();
                if send.blocking_send(line).is_err() || failed {
                    return;
                }
            }
        });
        Self { lines, aside: VecDeque::new(), ended: false }
    }

    /// The next line, those set aside first; none at the end. Safe to drop while it waits.
    pub async fn line(&mut self) -> std::io::Result<Option<String>> {
        match self.aside.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.fresh_line().await,
        }
    }

    /// The next line that was not set aside.
    pub async fn fresh_line(&mut self) -> std::io::Result<Option<String>> {
        let line = self.lines.recv().await.transpose()?;
        self.ended |= line.is_none();
        Ok(line)
    }

    /// Keeps what was typed so far out of the way of a question.
    pub fn set_aside(&mut self) {
        while let Ok(Ok(line)) = self.lines.try_recv() {
            self.aside.push_back(line);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// Ctrl-C, each time.
pub struct Interrupts(Signal);

impl Interrupts {
    pub fn new() -> std::io::Result<Self> {
        signal(SignalKind::interrupt()).map(Self)
    }

    pub async fn next(&mut self) {
        // None would mean that signals are over, which they never are.
        _ = self.0.recv().await;
    }
}
