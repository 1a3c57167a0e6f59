//! `everkept dead-letters`: what was given up, and what is done about it.
//!
//! Never: a try that nobody asked for here.

use crate::{
    args::{DeadLetter, DeadLetters},
    data::DataDir,
    server::Server,
    terminal::{Table, ago, one_line},
};
use everkept_api::{Input, Part, RetryDeadLetter};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Dead letters asked for at a time.
const PAGE: u32 = 100;

pub async fn run(data: DataDir, args: DeadLetters) -> anyhow::Result<ExitCode> {
    let server = Server::find(data)?;
    match args.command {
        None => list(&server, args.listing.json).await?,
        Some(DeadLetter::Retry { turn, input }) => {
            let body = RetryDeadLetter { input: input.map(Input::Text) };
            writeln!(io::stdout(), "{}", server.client.retry_dead_letter(&turn, &body).await?.id)?;
        }
        Some(DeadLetter::Drop { turns }) => {
            for turn in turns {
                server.client.drop_dead_letter(&turn).await?;
                writeln!(io::stdout(), "{turn}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(server: &Server, json: bool) -> anyhow::Result<()> {
    let mut letters: Vec<everkept_api::DeadLetter> = Vec::new();
    let mut cursor = None;
    loop {
        let page = server.client.dead_letters(cursor.as_deref(), PAGE).await?;
        letters.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if json {
        return super::print_json(&letters);
    }
    let now = jiff::Timestamp::now();
    let mut table = Table::new(&["asked", "turn", "agent", "tries", "reason", "given up"]);
    for letter in &letters {
        let turn = &letter.turn;
        let ended = turn.ended_at.as_deref().unwrap_or_default();
        table.row(|fields| {
            fields.text(&one_line(&asked(&letter.input))).dim(&turn.id).text(&turn.agent);
            // Every time its agent was to be opened, and every attempt before this one.
            fields.text(&(turn.attempt + turn.tries.opening).to_string());
            fields.text(turn.reason.as_deref().unwrap_or_default()).both(&ago(ended, now), ended);
        });
    }
    Ok(table.print("no turn was given up")?)
}

fn asked(input: &[Part]) -> String {
    let text = input.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        Part::Reasoning { .. } | Part::Tool(_) | Part::File(_) => None,
    });
    text.collect()
}
