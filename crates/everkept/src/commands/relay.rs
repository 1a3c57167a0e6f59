//! `everkept relay`: runs an agent of this machine for a server on another one.
//!
//! It dials in and goes on doing so: a connection that is lost is made again, for ever, and what ran goes on meanwhile for as
//! long as the server waits for it. A name that another relay holds is waited for too: most often that is this relay's own
//! last connection, which the server has not yet found to be dead.
//! Never: a token on the command line, which other users can read, or a server that is tried again after it said no.

use crate::{
    args::Relay as RelayArgs,
    config::Config,
    data::DataDir,
    dial::{Dial, Dialled, NotDialled, carry},
    terminal::Style,
    wiring::Agents,
};
use anyhow::{Context, anyhow, bail};
use everkept_agent::remote::{Broken, Relay, Workshop};
use everkept_core::AgentName;
use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// Between two tries, the last for all that follow. Shorter than a server waits, so that what runs is found again.
const WAITS: [Duration; 5] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

pub async fn run(data: DataDir, args: RelayArgs) -> anyhow::Result<ExitCode> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    super::serve::log_to_stderr();
    let dial = Dial::new(&args.server, &token(&args)?, args.ca.as_deref())?;
    data.create()?;
    let mut relay = Relay::new(workshop(&data, &args)?);
    let ended = tokio::select! {
        ended = serve(&mut relay, &dial, &args) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tokio::select! {
        () = relay.stop() => {}
        _ = terminate.recv() => bail!("told to end twice; the keepers end what is left"),
        _ = interrupt.recv() => bail!("told to end twice; the keepers end what is left"),
    }
    ended.map(|()| ExitCode::SUCCESS)
}

fn token(args: &RelayArgs) -> anyhow::Result<String> {
    let token = match &args.token_file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => std::env::var("EVERKEPT_TOKEN").unwrap_or_default(),
    };
    let token = token.trim();
    if token.is_empty() {
        bail!("a token is needed: give --token-file or set EVERKEPT_TOKEN; `everkept token create --relay {}` makes it", args.agent);
    }
    Ok(token.to_owned())
}

fn workshop(data: &DataDir, args: &RelayArgs) -> anyhow::Result<Workshop> {
    let name = AgentName::new(args.agent.clone()).map_err(|refusal| anyhow!("--agent: {refusal}"))?;
    let mut agents = Agents::of(&Config::load(&data.config())?, data, None)?;
    let Some(entry) = agents.entries.remove(&name) else {
        let all: Vec<_> = agents.entries.keys().map(AgentName::as_str).collect();
        bail!("{}: there is no agent {name} here; there are: {}", data.config().display(), all.join(", "));
    };
    Ok(Workshop { name, agent: entry.agent, model: entry.model, private: data.directories() })
}

/// Until the server says that it will never have this relay.
async fn serve(relay: &mut Relay, dial: &Dial, args: &RelayArgs) -> anyhow::Result<()> {
    let mut tries = 0;
    let mut last = String::new();
    loop {
        let trouble = match dial.dial().await {
            Ok(dialled) => {
                let mut ready = false;
                let trouble = one_connection(relay, dialled, args, || {
                    ready = true;
                    say(&format!("connected to {} as {}", args.server, args.agent));
                })
                .await?;
                if ready {
                    tries = 0;
                    last.clear();
                }
                trouble
            }
            Err(NotDialled::Refused(said)) => return Err(anyhow!(said)),
            Err(NotDialled::Later(said)) => said,
        };
        let wait = WAITS[tries.min(WAITS.len() - 1)];
        tries += 1;
        // The same again is no news.
        if trouble != last {
            say(&format!("{trouble}; trying again"));
            last = trouble;
        }
        sleep(wait).await;
    }
}

/// How the connection ended, when another one may go better.
async fn one_connection(relay: &mut Relay, dialled: Dialled, args: &RelayArgs, ready: impl FnOnce()) -> anyhow::Result<String> {
    let (link, carrying) = carry(dialled);
    tokio::select! {
        biased;
        ended = relay.run(link, ready) => match ended {
            Ok(()) => Ok("the connection is lost".to_owned()),
            Err(Broken::Version(version)) => bail!("{} speaks version {version} of the relay protocol; install the same version here", args.server),
            Err(Broken::OtherAgent(other)) => bail!("the token is for agent {other}, not for {}", args.agent),
            Err(broken) => Ok(format!("the connection is given up: {broken}")),
        },
        lost = carrying => Ok(format!("the connection is lost: {lost}")),
    }
}

fn say(text: &str) {
    // Nothing is left to tell it to when stderr is closed.
    _ = writeln!(io::stderr(), "{}", Style::of_stderr().dim(text));
}
