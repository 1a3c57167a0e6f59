//! The server over a real socket, on a memory store and the demo agent. Tests are named by what they show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod attack;
mod bodies;
mod chat;
mod clocks;
mod dice;
mod dropped;
mod events;
mod fair;
mod fuzz_http;
mod kernel;
mod limits;
mod line;
mod login;
mod once;
mod patience;
mod relay;
mod server;
mod sessions;
mod simulation;
mod sockets;
mod storage;
mod threads;
mod tls;
mod tokens;
