//! Changes the core and the stores in one place at a time, and looks whether their own tests notice.
//!
//! What is changed, what is left out and why stands in `.cargo/mutants.toml`. Hours of work, so no part of `test`.
//! Never touches the working tree: it works in a copy.

use crate::{setup::root, test::tool};
use anyhow::{Context, bail};
use std::process::Command;

const CARGO_MUTANTS: &str = "27.1.0";
/// A crate's mutants are tried on its own tests, which are the quickest that should notice.
const CRATES: [&str; 3] = ["everkept-core", "everkept-store", "everkept-store-sql"];
/// Cases of each property; a mutant that only many more would catch wants a test of its own.
const CASES: &str = "40";

/// What cargo-mutants ends with when all it did not see noticed went on for ever, which is noticed as well.
const ONLY_TIMEOUTS: i32 = 3;

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let program = tool("cargo-mutants", CARGO_MUTANTS)?;
    let more: Vec<&String> = args.iter().skip_while(|arg| *arg == "--").collect();
    let mut unnoticed = Vec::new();
    for name in CRATES {
        println!("== {name}");
        let output = root().join("target/mutants").join(name);
        std::fs::create_dir_all(&output)?;
        let mut mutants = Command::new(&program);
        mutants.args(["mutants", "--package", name, "--test-package", name]).args(&more);
        mutants.arg("--output").arg(output).args(["--", "--lib", "--test", "it"]);
        let status = mutants.env("EVERKEPT_CASES", CASES).current_dir(root()).status().context("cargo-mutants does not run")?;
        if !status.success() && status.code() != Some(ONLY_TIMEOUTS) {
            unnoticed.push(name);
        }
    }
    if !unnoticed.is_empty() {
        bail!("not every change was noticed, or none could be tried: {}", unnoticed.join(", "));
    }
    Ok(())
}
