//! The real binary: real kills, real sockets, real processes, a real browser.

mod bench;
mod dependencies;
mod kills;
