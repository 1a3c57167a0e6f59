//! How fast it is, beside a floor measured in the same run.
//!
//! Each row starts the real server on a directory of its own and drives it over real HTTP, by turns with its floor; what
//! is printed is the median of the rounds. Never asserts a speed: it fails when something is wrong, not when it is slow.

mod appends;
mod fanout;
mod figure;
mod floor;
mod forks;
mod http;
mod lists;
mod log;
mod overhead;
mod pages;
mod reads;
mod server;
mod starts;
mod turns;

use crate::setup::{root, step};
use anyhow::{Context, bail};
use figure::Figure;
use std::process::Command;
use std::time::{Duration, Instant};

/// How much is measured.
pub struct Options {
    /// What one round of a row that measures a rate takes.
    seconds: Duration,
    rounds: usize,
    /// Sessions of the owner whose sessions are listed.
    sessions: usize,
    json: bool,
    /// Whether the server is built first.
    build: bool,
    names: Vec<String>,
}

type Row = fn(&Options) -> anyhow::Result<Vec<Figure>>;

const ROWS: &[(&str, Row)] = &[
    ("start", starts::run),
    ("append", appends::run),
    ("turn", turns::run),
    ("overhead", overhead::run),
    ("read", reads::run),
    ("list", lists::run),
    ("fork", forks::run),
    ("fanout", fanout::run),
    ("pages", pages::run),
];

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let options = Options::read(args)?;
    if options.build {
        build()?;
    }
    let started = Instant::now();
    let mut shown = figure::Table::new(options.json);
    for (name, row) in ROWS.iter().filter(|(name, _)| options.names.is_empty() || options.names.iter().any(|wanted| wanted == name)) {
        for figure in row(&options).with_context(|| format!("the benchmark {name}"))? {
            shown.add(name, &figure);
        }
    }
    shown.end(started.elapsed());
    Ok(())
}

impl Options {
    fn read(args: &[String]) -> anyhow::Result<Self> {
        let mut options =
            Options { seconds: Duration::from_secs(2), rounds: 3, sessions: 20_000, json: false, build: true, names: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|it| it.parse::<usize>().ok()).filter(|it| *it > 0).context("a number must follow");
            match arg.as_str() {
                "--seconds" => options.seconds = Duration::from_secs(number()? as u64),
                "--rounds" => options.rounds = number()?,
                "--sessions" => options.sessions = number()?.max(1_000),
                "--json" => options.json = true,
                "--no-build" => options.build = false,
                name if ROWS.iter().any(|(row, _)| *row == name) => options.names.push(name.to_owned()),
                other => {
                    let names: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
                    bail!(
                        "{other} is no benchmark; there are {}, and --seconds N, --rounds N, --sessions N, --json, --no-build",
                        names.join(", ")
                    );
                }
            }
        }
        Ok(options)
    }
}

/// What is measured is what would be shipped.
fn build() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for what in [&["--bin", "everkept"][..], &["-p", "everkept-server", "--example", "without_store"]] {
        step(Command::new(&cargo).args(["build", "--quiet", "--release"]).args(what).current_dir(root()))?;
    }
    Ok(())
}
