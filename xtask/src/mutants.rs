//! Changes the core and the stores in one place at a time, and looks whether their own tests notice.
//!
//! What is changed, what is left out and why stands in `.cargo/mutants.toml`. Hours of work, so no part of `test`.
//! Never touches the working tree: it works in a copy.

use crate::{
    setup::{root, step},
    test::tool,
};
use std::process::Command;

const CARGO_MUTANTS: &str = "27.1.0";
/// A crate's mutants are tried on its own tests, which are the quickest that should notice.
const CRATES: [&str; 3] = ["everkept-core", "everkept-store", "everkept-store-sql"];
/// Cases of each property; a mutant that only many more would catch wants a test of its own.
const CASES: &str = "40";

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let program = tool("cargo-mutants", CARGO_MUTANTS)?;
    let more: Vec<&String> = args.iter().skip_while(|arg| *arg == "--").collect();
    for name in CRATES {
        println!("== {name}");
        let mut mutants = Command::new(&program);
        mutants.args(["mutants", "--package", name, "--test-package", name]).args(&more);
        mutants.arg("--output").arg(root().join("target/mutants").join(name));
        mutants.args(["--", "--lib", "--test", "it"]);
        step(mutants.env("EVERKEPT_CASES", CASES).current_dir(root()))?;
    }
    Ok(())
}
