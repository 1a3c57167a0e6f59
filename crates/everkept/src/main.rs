//! The one binary: reads arguments and configuration, puts the parts together, and says how it went by its exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 used wrongly. Answers go to stdout, everything else to stderr.
//! Never: a rule about sessions. What may be done is the core's to say, and how it is shown is all there is here.

mod args;
mod commands;
mod config;
mod data;
mod descriptors;
mod dial;
mod server;
mod terminal;
mod wiring;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use std::{io::Write, process::ExitCode, time::Duration};

/// For what still runs when a command is done.
const CLOSING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = Args::parse();
    tokio_rustls::rustls::crypto::ring::default_provider().install_default().expect("nothing before this chose its cryptography");
    match args.command {
        // Before anything of ours runs: a keeper is one thread that waits.
        Some(Command::Keeper { words }) => everkept_drivers::keeper::run(words),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Args::command(), "everkept", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        command => report(run(args.data, command)),
    }
}

fn run(data: Option<std::path::PathBuf>, command: Option<Command>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(commands::run(data, command));
    // Ends what still runs, so that the store closes; a thread that will not end does not hold the exit up.
    runtime.shutdown_timeout(CLOSING);
    exit
}

fn report(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    let mark = terminal::Style::of_stderr().red("error:");
    // Nothing is left to tell it to when stderr is closed too.
    _ = writeln!(std::io::stderr(), "{mark} {}", commands::explain(&error));
    ExitCode::FAILURE
}
