//! `everkept send`: one message in, one answer out.
//!
//! Never: anything but the answer on stdout.

use super::{
    chat::create,
    conversation::{Conversation, End, fresh_key},
};
use crate::{
    args::Send,
    data::DataDir,
    server::Server,
    terminal::{Input, stdin_is_terminal, stdout_is_terminal},
};
use anyhow::bail;
use everkept_api::{SubmitTurn, Turn, TurnState};
use std::{
    io::{self, Write},
    process::ExitCode,
};

pub async fn run(data: DataDir, args: Send) -> anyhow::Result<ExitCode> {
    let text = text(&args.text)?;
    let server = Server::find(data)?;
    // Questions are asked only where a person sees them and types.
    let input = (stdin_is_terminal() && stdout_is_terminal() && !args.no_wait).then(Input::of_stdin);
    let mut conversation = Conversation::new(server, input)?;
    let turn = submit(&mut conversation, &args, &text).await?;
    if args.no_wait {
        writeln!(io::stdout(), "{}\t{}", turn.id, turn.session)?;
        return Ok(ExitCode::SUCCESS);
    }
    let end = conversation.attach(&turn.session, &turn.id).await?;
    if conversation.screen.is_pretty() {
        conversation.screen.remark(&format!("go on with: everkept send --session {} …", turn.session))?;
    }
    Ok(if end == End::Turn(TurnState::Completed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn submit(conversation: &mut Conversation, args: &Send, text: &str) -> anyhow::Result<Turn> {
    let mut body = SubmitTurn { input: Some(text.into()), ..SubmitTurn::default() };
    if let (Some(resource), Some(thread)) = (&args.resource, &args.thread) {
        body.agent = args.new.agent.clone();
        body.model = args.new.model.clone();
        let key = fresh_key();
        loop {
            let given = conversation.server.client.once(&key).submit_to_thread(resource, thread, &body).await;
            if let Some(turn) = conversation.or_wait(given).await? {
                return Ok(turn);
            }
        }
    }
    let session = match &args.session {
        Some(given) => {
            body.agent = args.new.agent.clone();
            body.model = args.new.model.clone();
            conversation.server.session(given).await?
        }
        None => create(conversation, &args.new, args.resource.as_deref(), text).await?,
    };
    conversation.submit(&session, &body).await
}

fn text(words: &[String]) -> anyhow::Result<String> {
    let text = if words == ["-"] { io::read_to_string(io::stdin())?.trim_end_matches('\n').to_owned() } else { words.join(" ") };
    if text.trim().is_empty() {
        bail!("there is nothing to say; give the message as arguments, or `-` to read it from stdin");
    }
    Ok(text)
}
