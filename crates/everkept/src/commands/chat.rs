//! `everkept chat`: one prompt per line, the answer under it as it comes.
//!
//! Never: holds anything; leaving at any moment loses nothing, and the last line says how to come back.

use super::conversation::{Conversation, End, fresh_key};
use crate::{
    args::{Chat, NewSession},
    data::DataDir,
    server::Server,
    terminal::{Input, one_line, shorten, stdin_is_terminal},
};
use anyhow::Context;
use everkept_api::{CreateSession, QuestionKind, QuestionState, Snapshot, SubmitTurn, TurnState};
use std::process::ExitCode;
use tokio::select;

/// Messages shown of a session that is gone on with.
const SHOWN: usize = 8;
const TITLE_COLUMNS: usize = 60;

pub async fn run(data: DataDir, args: Chat) -> anyhow::Result<ExitCode> {
    let server = Server::find(data)?;
    let session = match &args.session {
        Some(given) => Some(server.session(given).await?),
        None => None,
    };
    let input = Input::of_stdin();
    let typed = stdin_is_terminal();
    if typed {
        talk(Conversation::new(server, Some(input))?, session, &args.new).await
    } else {
        pipe(Conversation::new(server, None)?, input, session, &args.new).await
    }
}

/// A person types.
async fn talk(mut chat: Conversation, session: Option<String>, new: &NewSession) -> anyhow::Result<ExitCode> {
    let mut session = session;
    match &session {
        Some(session) => resume(&mut chat, session).await?,
        None => chat.screen.remark("a new session; Ctrl-C cancels an answer, Ctrl-D leaves")?,
    }
    loop {
        chat.screen.blank()?;
        chat.screen.prompt()?;
        let Some(input) = &mut chat.input else { break };
        let line = select! {
            line = input.line() => line?,
            () = chat.interrupts.next() => None,
        };
        let Some(line) = line else {
            chat.screen.disturbed();
            break;
        };
        if line.trim().is_empty() {
            continue;
        }
        match say(&mut chat, &mut session, new, &line).await {
            Ok(End::Turn(TurnState::Interrupted)) => {
                if let Some(session) = &session {
                    let snapshot = chat.snapshot(session).await?;
                    review(&mut chat, &snapshot).await?;
                }
            }
            Ok(End::Turn(_)) => {}
            Ok(End::Left) => break,
            Err(error) => chat.screen.complaint(&super::explain(&error))?,
        }
    }
    if let Some(session) = session {
        chat.screen.remark(&format!("go on with: everkept chat --session {session}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A program writes: the answers alone come out, in order, and the first turn that does not complete ends it.
async fn pipe(mut chat: Conversation, mut input: Input, session: Option<String>, new: &NewSession) -> anyhow::Result<ExitCode> {
    let mut session = session;
    if let Some(session) = &session {
        let snapshot = chat.snapshot(session).await?;
        chat.follow(session, snapshot.cursor);
    }
    while let Some(line) = input.line().await? {
        if line.trim().is_empty() {
            continue;
        }
        if say(&mut chat, &mut session, new, &line).await? != End::Turn(TurnState::Completed) {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn say(chat: &mut Conversation, session: &mut Option<String>, new: &NewSession, line: &str) -> anyhow::Result<End> {
    let mut body = SubmitTurn { input: Some(line.into()), ..SubmitTurn::default() };
    let id = match session {
        Some(id) => {
            body.agent = new.agent.clone();
            body.model = new.model.clone();
            id.clone()
        }
        None => {
            let id = create(chat, new, None, line).await?;
            chat.follow(&id, 0);
            session.insert(id).clone()
        }
    };
    let turn = chat.submit(&id, &body).await?;
    chat.watch(&turn.id).await
}

/// A session in the current directory, named by its first prompt.
pub async fn create(chat: &mut Conversation, new: &NewSession, resource: Option<&str>, prompt: &str) -> anyhow::Result<String> {
    let directory = match &new.directory {
        Some(directory) => Some(std::path::absolute(directory)?),
        None if chat.server.is_here() => Some(std::env::current_dir().context("the current directory is gone; name one with --directory")?),
        None => None,
    };
    let body = CreateSession {
        title: Some(shorten(&one_line(prompt), TITLE_COLUMNS)),
        resource: resource.map(str::to_owned),
        directory: directory.map(|directory| directory.to_string_lossy().into_owned()),
        agent: new.agent.clone(),
        model: new.model.clone(),
        ..CreateSession::default()
    };
    let key = fresh_key();
    loop {
        let created = chat.server.client.once(&key).create_session(&body).await;
        if let Some(session) = chat.or_wait(created).await? {
            return Ok(session.id);
        }
    }
}

/// Shows where a session stands, asks what it waits for, and goes on with a turn that runs.
async fn resume(chat: &mut Conversation, session: &str) -> anyhow::Result<()> {
    let snapshot = chat.snapshot(session).await?;
    let title = snapshot.session.title.as_deref().unwrap_or("untitled");
    let agent = snapshot.session.agent.as_deref().unwrap_or("the default agent");
    chat.screen.remark(&format!("{title} · {agent} · {}", snapshot.session.directory))?;
    show_end_of(chat, &snapshot)?;
    if review(chat, &snapshot).await? {
        return Ok(());
    }
    match snapshot.turns.iter().find(|turn| turn.state.is_open()) {
        Some(turn) => _ = chat.watch_from(&snapshot, &turn.id).await?,
        None => chat.follow(session, snapshot.cursor),
    }
    Ok(())
}

/// Asks what is to become of interrupted turns; true when one went on and has been watched.
async fn review(chat: &mut Conversation, snapshot: &Snapshot) -> anyhow::Result<bool> {
    let open = |question: &&everkept_api::Question| question.kind == QuestionKind::Review && question.state == QuestionState::Open;
    for question in snapshot.questions.iter().filter(open) {
        chat.screen.blank()?;
        if let Some(turn) = chat.review(question).await? {
            chat.attach(&snapshot.session.id, &turn).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn show_end_of(chat: &mut Conversation, snapshot: &Snapshot) -> anyhow::Result<()> {
    let first = snapshot.messages.len().saturating_sub(SHOWN);
    if first > 0 || snapshot.has_more {
        chat.screen.remark("…")?;
    }
    let messages = &snapshot.messages[first..];
    for (at, message) in messages.iter().enumerate() {
        if message.role == everkept_api::Role::User {
            chat.screen.blank()?;
        }
        chat.show_message(message)?;
        let next = messages.get(at + 1).and_then(|next| next.turn.as_ref());
        let ends = message.turn.is_some() && message.turn.as_ref() != next;
        let turn = snapshot.turns.iter().find(|turn| ends && Some(&turn.id) == message.turn.as_ref());
        if let Some(turn) = turn.filter(|turn| !turn.state.is_open() && turn.state != TurnState::Completed) {
            chat.screen.remark(&format!("■ {}", turn.state.as_str().replace('_', " ")))?;
        }
    }
    Ok(())
}
