//! One direction of one process: numbered at one end, counted at the other.
//!
//! Never forgets what was not acknowledged, and never lets the same number in twice.

use super::{Broken, WINDOW_BYTES, WINDOW_FRAMES};
use std::{collections::VecDeque, sync::Arc};

/// What this end has to say: kept until the other end has heard it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    last: u64,
    /// The last number that was sent over the present link.
    sent: u64,
    unheard: VecDeque<(u64, Arc<str>)>,
    /// Of all that is unheard.
    bytes: usize,
    /// Of what is unheard and was sent over the present link.
    flying: usize,
}

impl Outbox {
    /// The number of the next frame.
    pub fn number(&self) -> u64 {
        self.last + 1
    }

    /// The frame of that number.
    pub fn push(&mut self, frame: String) {
        self.last += 1;
        self.bytes += frame.len();
        self.unheard.push_back((self.last, frame.into()));
    }

    /// Whether more may be said. What is said at once may go beyond the window.
    pub fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES && self.unheard.len() < WINDOW_FRAMES
    }

    /// The next frame to send over the present link; none while too much of it is unheard.
    pub fn next(&mut self) -> Option<Arc<str>> {
        let first = self.unheard.front()?.0;
        let at = usize::try_from((self.sent + 1).saturating_sub(first)).expect("what is unheard fits in memory");
        if self.flying >= WINDOW_BYTES || at >= WINDOW_FRAMES {
            return None;
        }
        let (number, text) = self.unheard.get(at)?;
        self.sent = *number;
        self.flying += text.len();
        Some(text.clone())
    }

    /// Everything up to `number` was taken at the other end.
    pub fn heard(&mut self, process: &str, number: u64) -> Result<(), Broken> {
        if number > self.last {
            return Err(Broken::OutOfOrder { process: process.to_owned(), got: number, expected: self.last });
        }
        while let Some((held, text)) = self.unheard.pop_front_if(|(held, _)| *held <= number) {
            self.bytes -= text.len();
            if held <= self.sent {
                self.flying -= text.len();
            }
        }
        self.sent = self.sent.max(number);
        Ok(())
    }

    /// A new link: everything after `heard` is sent again.
    pub fn rewind(&mut self, process: &str, heard: u64) -> Result<(), Broken> {
        self.heard(process, heard)?;
        self.sent = heard;
        self.flying = 0;
        Ok(())
    }
}

/// What came from the other end, in the order of its numbers.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    /// The last number that came.
    came: u64,
    /// The last number that was taken on from here: this is what the other end is told.
    taken: u64,
    told: u64,
    waiting: VecDeque<(T, usize)>,
    /// Of the frames that the waiting things came in.
    bytes: usize,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox { came: 0, taken: 0, told: 0, waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Inbox<T> {
    /// Lets a thing in that is new, and drops one that came before. `bytes` is what it came in.
    pub fn accept(&mut self, process: &str, number: u64, thing: T, bytes: usize) -> Result<(), Broken> {
        if number <= self.came {
            return Ok(());
        }
        if number != self.came + 1 {
            return Err(Broken::OutOfOrder { process: process.to_owned(), got: number, expected: self.came + 1 });
        }
        if self.bytes >= WINDOW_BYTES || self.waiting.len() >= WINDOW_FRAMES {
            return Err(Broken::Unheard(process.to_owned()));
        }
        self.came = number;
        self.bytes += bytes;
        self.waiting.push_back((thing, bytes));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next thing. It counts as taken only when [`Inbox::took`] says so.
    pub fn pop(&mut self) -> Option<T> {
        let (thing, bytes) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        Some(thing)
    }

    /// Whoever had the last popped thing has passed it on for good.
    pub fn took(&mut self) {
        self.taken += 1;
    }

    /// As far as this end has taken what came.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// What the other end has to be told, once.
    pub fn tell(&mut self) -> Option<u64> {
        if self.told == self.taken {
            return None;
        }
        self.told = self.taken;
        Some(self.told)
    }
}
