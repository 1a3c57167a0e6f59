//! Every check there is, in the order in which they fail fastest.

use crate::{
    fuzz,
    setup::{self, root, step},
};
use std::time::Instant;
use std::{path::PathBuf, process::Command};

pub fn run(filter: &[String]) -> anyhow::Result<()> {
    let started = Instant::now();
    timed("setting up", setup::run)?;
    timed("formatting", || step(cargo().args(["fmt", "--all", "--check"])))?;
    timed("formatting of the fuzzer", || step(cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])))?;
    timed("lints", || step(cargo().args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])))?;
    timed("licences and bans", deny)?;
    timed("programs the tests start", || step(cargo().args(["build", "--workspace", "--bins"])))?;
    timed("tests", || step(cargo().args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--"]).args(filter)))?;
    // A word picks tests, and none of this is one.
    if filter.is_empty() {
        timed("fuzzing", || fuzz::run(&[]))?;
    }
    println!("everything passed in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Which licences and sources the dependencies may have. Advisories need the network's list and are checked where that is.
fn deny() -> anyhow::Result<()> {
    let program = tool("cargo-deny", CARGO_DENY)?;
    step(Command::new(program).args(["--all-features", "check", "licenses", "bans", "sources"]).current_dir(root()))
}

const CARGO_DENY: &str = "0.20.2";

/// A tool of cargo's, built once.
pub fn tool(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin").join(name);
    if !program.is_file() {
        println!("building {name} {version} once");
        let mut install = cargo();
        install.args(["install", name, "--version", version, "--locked", "--debug", "--root"]).arg(&tools);
        step(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
    }
    Ok(program)
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

fn timed(what: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("== {what}");
    check()?;
    println!("== {what}: {} s", started.elapsed().as_secs());
    Ok(())
}
