//! The fuzzer: one program with every target, of which `EVERKEPT_FUZZ` names the one that runs.
//!
//! A target takes any bytes and panics when a rule is broken; libFuzzer makes the bytes, led by what code they reach.
//! `cargo xtask fuzz` builds it with coverage and runs it.
//! Never: code of Everkept's that is not the code that ships.

#![no_main]

mod acp;
mod align;
mod config;
mod cursor;
mod event;
mod house;
mod http;
mod intake;
mod packing;
mod socket;
mod sse;
mod token;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("acp", acp::run),
    ("align", align::run),
    ("config", config::run),
    ("cursor", cursor::run),
    ("event", event::run),
    ("http", http::run),
    ("intake", intake::run),
    ("packing", packing::run),
    ("socket", socket::run),
    ("sse", sse::run),
    ("token", token::run),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: choose(), |bytes: &[u8]| CHOSEN.get().expect("it is chosen before anything runs")(bytes));

/// `list` prints the names of all targets; as an agent, the program only says what the target `acp` wrote down for it.
fn choose() {
    // An agent that is gone is written to all the same; a program of Rust's own would be told by an error.
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Default::default()).expect("a signal can be taken");
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == acp::KEEPER) {
        // Its code is the agent's, which nobody asks for.
        _ = everkept_drivers::keeper::run(args.collect());
        std::process::exit(0);
    }
    if let Some(script) = std::env::var_os(acp::SCRIPT) {
        acp::play(script.as_ref());
        std::process::exit(0);
    }
    let name = std::env::var("EVERKEPT_FUZZ").unwrap_or_default();
    if name == "list" {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(0);
    }
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        eprintln!("EVERKEPT_FUZZ names no target");
        std::process::exit(2);
    };
    CHOSEN.get_or_init(|| *target);
}
