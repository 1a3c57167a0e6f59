//! `everkept stop`: asks the server that has the data directory to end, and waits until it has.
//!
//! Never: a signal to a process that does not hold the lock.

use crate::data::DataDir;
use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longer than the slowest agent is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(data: DataDir) -> anyhow::Result<ExitCode> {
    let Some(holder) = data.holder()? else {
        writeln!(io::stderr(), "no server runs on {}", data.path().display())?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some(pid) = holder.pid else {
        bail!("the server on {} is just starting; try again in a moment", data.path().display());
    };
    kill(Pid::from_raw(pid), Signal::SIGINT)
        .with_context(|| format!("cannot signal the server, process {pid}; end it as the user it runs as"))?;
    let until = Instant::now() + PATIENCE;
    while data.holder()?.is_some_and(|holder| holder.pid == Some(pid)) {
        if Instant::now() >= until {
            bail!("the server, process {pid}, was asked to end and has not after {} s; look at its log", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(ExitCode::SUCCESS)
}
