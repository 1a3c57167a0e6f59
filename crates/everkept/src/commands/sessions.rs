//! `everkept sessions`: the list, one session, and what can be done with it from outside a chat.
//!
//! Never: a change without its result on stdout.

use crate::{
    args::{ListSessions, Sessions},
    data::DataDir,
    server::Server,
    terminal::{Screen, Style, Table, ago, one_line, stdout_is_terminal},
};
use everkept_api::{ForkPoint, ForkSession, Session, Snapshot, UpdateSession, client::SessionsFilter};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Sessions asked for at a time.
const PAGE: u32 = 100;
/// Messages shown of a session.
const SHOWN: usize = 20;

pub async fn run(data: DataDir, command: Sessions) -> anyhow::Result<ExitCode> {
    let server = Server::find(data)?;
    match command {
        Sessions::List(list) => self::list(&server, list).await?,
        Sessions::Show { session, listing } => show(&server, &session, listing.json).await?,
        Sessions::Fork { session, at, title, agent } => {
            let session = server.session(&session).await?;
            let at = at.map(|at| at.parse().map_or(ForkPoint::Turn(at), ForkPoint::Seq));
            let fork = server.client.fork_session(&session, &ForkSession { at, title, agent, ..ForkSession::default() }).await?;
            writeln!(io::stdout(), "{}", fork.id)?;
        }
        Sessions::Rename { session, title } => {
            let session = server.session(&session).await?;
            let update = UpdateSession { title: Some(Some(title)), ..UpdateSession::default() };
            let renamed = server.client.update_session(&session, &update).await?;
            writeln!(io::stdout(), "{}\t{}", renamed.id, one_line(renamed.title.as_deref().unwrap_or_default()))?;
        }
        Sessions::Delete { sessions } => {
            for session in sessions {
                server.client.delete_session(&session).await?;
                writeln!(io::stdout(), "{session}")?;
            }
            if stdout_is_terminal() {
                writeln!(io::stderr(), "in the trash now; `everkept sessions restore ID` brings it back")?;
            }
        }
        Sessions::Restore { session } => writeln!(io::stdout(), "{}", server.client.restore_session(&session).await?.id)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(server: &Server, list: ListSessions) -> anyhow::Result<()> {
    let mut filter = SessionsFilter {
        resource: list.resource,
        thread: list.thread,
        agent: list.agent,
        state: list.state.and_then(|state| state.parse().ok()),
        archived: list.archived.then_some(true),
        deleted: list.trash,
        search: list.search,
        ..SessionsFilter::default()
    };
    let mut sessions: Vec<Session> = Vec::new();
    loop {
        let left = list.limit.saturating_sub(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        if left == 0 {
            break;
        }
        filter.limit = Some(left.min(PAGE));
        let page = server.client.sessions(&filter).await?;
        sessions.extend(page.items);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    if list.listing.json {
        return super::print_json(&sessions);
    }
    let now = jiff::Timestamp::now();
    let last = if list.trash { "restorable until" } else { "last activity" };
    let mut table = Table::new(&["title", "id", "agent", "state", last]);
    for session in &sessions {
        table.row(|fields| {
            let title = session.title.as_deref().unwrap_or("untitled");
            fields.text(title).dim(&session.id).text(agent(session));
            fields.state(session.state.as_str());
            match (&session.purge_at, list.trash) {
                (Some(purge_at), true) => fields.text(purge_at),
                (None, true) => fields.text("for good"),
                (_, false) => fields.both(&ago(&session.updated_at, now), &session.updated_at),
            };
        });
    }
    let empty = if list.trash { "the trash is empty" } else { "no session matches; begin one with `everkept chat`" };
    Ok(table.print(empty)?)
}

/// Who was talked to last, where nobody is named.
fn agent(session: &Session) -> &str {
    session.agent.as_deref().or_else(|| Some(session.agent_sessions.last()?.agent.as_str())).unwrap_or("default")
}

async fn show(server: &Server, given: &str, json: bool) -> anyhow::Result<()> {
    let snapshot = server.client.snapshot(&server.session(given).await?).await?;
    if json {
        return super::print_json(&[snapshot]);
    }
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    let facts = facts(&snapshot);
    writeln!(out, "{}", style.bold(&one_line(snapshot.session.title.as_deref().unwrap_or("untitled"))))?;
    for (name, value) in facts {
        writeln!(out, "{} {}", style.dim(&format!("{name:<13}")), one_line(&value))?;
    }
    drop(out);
    if stdout_is_terminal() {
        let mut screen = Screen::new();
        let first = snapshot.messages.len().saturating_sub(SHOWN);
        for message in &snapshot.messages[first..] {
            if message.role == everkept_api::Role::User {
                screen.blank()?;
            }
            screen.message(message)?;
        }
        screen.line_end()?;
    }
    Ok(())
}

fn facts(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let session = &snapshot.session;
    let mut facts = vec![
        ("id", session.id.clone()),
        ("state", session.state.to_string()),
        ("agent", session.agent.clone().unwrap_or_else(|| "the default".to_owned())),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("model", session.model.clone());
    add("resource", session.resource.clone());
    add("thread", session.thread.clone());
    add("directory", Some(session.directory.clone()));
    add("context", Some(session.context.to_string()));
    add("parent", session.parent.as_ref().map(|parent| format!("{} of {} at event {}", parent.kind, parent.session, parent.seq)));
    for pinned in &session.agent_sessions {
        let current = if pinned.current == pinned.first { String::new() } else { format!(", now {}", pinned.current) };
        add("agent session", Some(format!("{} ({}, context {}){current}", pinned.first, pinned.agent, pinned.context)));
    }
    for question in snapshot.questions.iter().filter(|question| question.state == everkept_api::QuestionState::Open) {
        add("waits for", Some(format!("{} ({})", question.title, question.kind)));
    }
    add("cost", session.usage.cost_usd_micros.map(|micros| format!("${}.{:06}", micros / 1_000_000, micros % 1_000_000)));
    add("events", Some(snapshot.cursor.to_string()));
    add("created", Some(session.created_at.clone()));
    add("last activity", Some(session.updated_at.clone()));
    add("archived", session.archived_at.clone());
    facts
}
