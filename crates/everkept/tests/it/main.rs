//! The real binary: real kills, real sockets, real processes, a real browser.

mod agents;
mod bench;
mod dependencies;
mod faults;
mod kills;
