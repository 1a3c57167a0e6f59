//! Brings what the tests talk to: Debian packages and the real agents from npm, as the lockfile pins them.
//!
//! Never skips in silence: what cannot be brought is named, and it is a failure.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program the tests run, and the Debian package it comes in.
struct Program {
    name: &'static str,
    package: &'static str,
    used_for: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program { name: "node", package: "nodejs", used_for: "the real agents" },
    Program { name: "npm", package: "npm", used_for: "installing the real agents" },
    Program { name: "chromium", package: "chromium", used_for: "the web page in a real browser" },
    Program { name: "g++", package: "g++", used_for: "the fuzzer" },
    Program { name: "tmux", package: "tmux", used_for: "the command line in a real terminal" },
];

/// Folders with a lockfile, and what it brings.
const NPM: &[(&str, &str)] = &[("tests/agents", "the real agents"), ("tests/pages", "what the pages are looked at with")];

/// The workspace, wherever it was checked out.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

pub fn run() -> anyhow::Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|program| !is_on_path(program.name)).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    NPM.iter().try_for_each(|(folder, what)| packages(&root().join(folder), what))
}

/// What a lockfile names, unless it is there already.
fn packages(folder: &Path, what: &str) -> anyhow::Result<()> {
    let installed = folder.join("node_modules/.package-lock.json");
    if is_newer(&installed, &folder.join("package-lock.json")) {
        return Ok(());
    }
    println!("installing {what} from npm");
    // Not `npm ci`: it refuses a lockfile without the agents' binaries for other systems, which not every registry has.
    step(Command::new("npm").args(["install", "--no-save", "--no-audit", "--no-fund"]).current_dir(folder))
        .with_context(|| format!("{what} cannot be installed"))
}

fn install(missing: &[&Program]) -> anyhow::Result<()> {
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    let named: Vec<String> = missing.iter().map(|program| format!("{} ({})", program.name, program.used_for)).collect();
    let named = named.join(", ");
    if !is_on_path("apt-get") || !nix::unistd::geteuid().is_root() {
        bail!("missing: {named}. Install them (on Debian, as root: apt-get install {}) and run this again", packages.join(" "));
    }
    println!("installing {}", packages.join(" "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    step(apt().arg("update"))?;
    step(apt().args(["install", "-y", "--no-install-recommends"]).args(&packages)).with_context(|| format!("cannot install {named}"))
}

/// Runs a command; its failure is an error that shows it.
pub fn step(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn is_newer(made: &Path, from: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    matches!((time(made), time(from)), (Some(made), Some(from)) if made >= from)
}
