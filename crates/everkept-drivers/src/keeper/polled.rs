//! What one look waits for: descriptors that are there or not, and what was seen of each.
//!
//! Never: a signal taken for anything; those that matter have pipes of their own.

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::os::fd::BorrowedFd;

/// What is waited for, by the places it was given.
#[derive(Default)]
pub struct Polled<'a>(Vec<PollFd<'a>>);

impl<'a> Polled<'a> {
    pub fn add(&mut self, what: Option<BorrowedFd<'a>>, flags: PollFlags) -> Option<usize> {
        self.0.push(PollFd::new(what?, flags));
        Some(self.0.len() - 1)
    }

    pub fn wait(&mut self, timeout: PollTimeout) -> nix::Result<()> {
        match poll(&mut self.0, timeout) {
            // Signals are seen on their own pipes, at the next look.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn seen(&self, at: Option<usize>) -> PollFlags {
        at.and_then(|at| self.0.get(at)).and_then(PollFd::revents).unwrap_or(PollFlags::empty())
    }
}
