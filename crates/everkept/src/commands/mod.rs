//! What each command does, one file each.
//!
//! Never: an argument read anywhere else, or an error swallowed; what goes wrong is told once, in `main`.

mod agents;
mod backup;
mod breakers;
mod chat;
mod conversation;
mod dead_letters;
mod doctor;
mod login;
mod relay;
mod send;
mod serve;
mod sessions;
mod stop;
mod tail;
mod token;
mod usage;
mod verify;

use crate::{
    args::{Command, Serve},
    data::DataDir,
};
use everkept_api::client::ClientError;
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

pub async fn run(data: Option<PathBuf>, command: Option<Command>) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(data)?;
    match command.unwrap_or(Command::Serve(Serve::default())) {
        Command::Serve(args) => serve::run(data, args).await,
        Command::Chat(args) => chat::run(data, args).await,
        Command::Send(args) => send::run(data, args).await,
        Command::Sessions(command) => sessions::run(data, command).await,
        Command::Tail(args) => tail::run(data, args).await,
        Command::DeadLetters(args) => dead_letters::run(data, args).await,
        Command::Breakers(listing) => breakers::run(data, listing).await,
        Command::Agents(listing) => agents::run(data, listing).await,
        Command::Usage(args) => usage::run(data, args).await,
        Command::Login(listing) => login::run(data, listing).await,
        Command::Token(command) => token::run(data, command).await,
        Command::Verify(args) => verify::run(data, args).await,
        Command::Backup { file } => backup::run(data, &file).await,
        Command::Relay(args) => relay::run(data, args).await,
        Command::Stop => stop::run(data).await,
        Command::Doctor => doctor::run(data).await,
        Command::Completions { .. } | Command::Keeper { .. } => unreachable!("main does these without a runtime"),
    }
}

/// One line that says what went wrong and why.
pub fn explain(error: &anyhow::Error) -> String {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        let unsure = if error.may_have_happened() { "; it may have happened all the same" } else { "" };
        return format!("{error}{unsure}");
    }
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// One value per line.
fn print_json(values: &[impl Serialize]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for value in values {
        writeln!(out, "{}", serde_json::to_string(value)?)?;
    }
    Ok(())
}
