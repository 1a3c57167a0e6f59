//! The real binary: real kills, real sockets, real processes, a real browser.

mod agents;
mod bench;
mod browser;
mod cli;
mod dependencies;
mod faults;
mod kills;
mod opencode;
mod requirements;
