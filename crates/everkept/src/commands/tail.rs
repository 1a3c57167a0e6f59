//! `everkept tail`: a session's log as it grows.
//!
//! Never: an event twice, or a gap; a server that goes away is waited for.

use crate::{
    args::Tail,
    data::DataDir,
    server::{Server, is_gone},
    terminal::{Interrupts, Style, clock, columns, one_line, shorten, stdout_is_terminal},
};
use everkept_api::{Event, client::EventsFilter};
use std::{
    io::{self, Write},
    process::ExitCode,
};
use tokio::select;

/// Events asked for at a time.
const PAGE: u32 = 500;
/// What number, time and kind take of a line.
const BEFORE_DATA: usize = 40;

pub async fn run(data: DataDir, args: Tail) -> anyhow::Result<ExitCode> {
    let mut server = Server::find(data)?;
    let session = server.session(&args.session).await?;
    let print = Print { json: args.listing.json, pretty: stdout_is_terminal(), style: Style::of_stdout() };
    if args.no_follow {
        return print_what_is_there(&server, &session, args.after, &print).await;
    }
    let mut interrupts = Interrupts::new()?;
    let mut follow = server.client.follow(&session, args.after);
    loop {
        select! {
            event = follow.next() => match event {
                Ok(event) => print.event(&event)?,
                Err(error) if is_gone(&error) => {
                    writeln!(io::stderr(), "the server is gone; waiting for it to come back")?;
                    select! {
                        found = server.found_again() => found?,
                        () = interrupts.next() => return Ok(ExitCode::SUCCESS),
                    }
                    follow = server.client.follow(&session, follow.last());
                }
                Err(error) => return Err(error.into()),
            },
            () = interrupts.next() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn print_what_is_there(server: &Server, session: &str, after: u64, print: &Print) -> anyhow::Result<ExitCode> {
    let mut filter = EventsFilter { after, limit: Some(PAGE), ..EventsFilter::default() };
    loop {
        let page = server.client.events(session, &filter).await?;
        for event in &page.items {
            print.event(event)?;
            filter.after = event.seq;
        }
        if !page.has_more {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What people want to know of an event: its fields without ids, digests and what is null.
fn summary(event: &Event) -> String {
    const MACHINE: &[&str] = &["message", "part", "digest", "question", "request", "request_message", "agent_message", "bytes"];
    let Ok(data) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(event.data.get()) else {
        return event.data.get().to_owned();
    };
    let told = |(key, value): (&String, &serde_json::Value)| {
        let is_told = !value.is_null() && !MACHINE.contains(&key.as_str());
        is_told.then(|| value.as_str().filter(|_| key != "text").map_or_else(|| format!("{key}={value}"), |text| format!("{key}={text}")))
    };
    data.iter().filter_map(told).collect::<Vec<_>>().join(" ")
}

struct Print {
    json: bool,
    pretty: bool,
    style: Style,
}

impl Print {
    fn event(&self, event: &Event) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(event)?)?;
        } else if self.pretty {
            let data = shorten(&one_line(&summary(event)), columns().saturating_sub(BEFORE_DATA).max(10));
            let kind = format!("{:<22}", event.kind);
            let kind = match event.kind.split_once('.') {
                Some(("turn", _)) => self.style.green(&kind),
                Some(("question", _)) => self.style.yellow(&kind),
                Some(("tool", _)) => self.style.cyan(&kind),
                _ => kind,
            };
            let number = self.style.dim(&format!("{:>6}", event.seq));
            writeln!(out, "{number} {} {kind} {}", self.style.dim(&clock(&event.at)), self.style.dim(&data))?;
        } else {
            writeln!(out, "{}\t{}\t{}\t{}", event.seq, event.at, event.kind, one_line(event.data.get()))?;
        }
        Ok(out.flush()?)
    }
}
