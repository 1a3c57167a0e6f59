//! A turn's answer as text, while it comes and once it is there.
//!
//! Never an answer put together in another way than it is kept: the text is what the turn's events add up to.

use crate::{app::App, failed::Failed, stream::frames};
use everkept_core::{SessionId, TextKind, TurnId};
use everkept_engine::{Caller, EventsQuery, Failure};
use futures::{Stream, StreamExt};
use serde::Deserialize;

const PAGE: u32 = 1_000;
const PAGE_BYTES: usize = 1024 * 1024;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Reasoning(String),
    Ended,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type")]
    kind: TextKind,
    text: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    turn: Option<TurnId>,
    data: T,
}

#[derive(Deserialize)]
struct Anything {}

fn piece(kind: &str, json: &[u8], turn: TurnId) -> Option<Piece> {
    match kind {
        "part.delta" => {
            let event: Envelope<Delta> = serde_json::from_slice(json).ok()?;
            (event.turn == Some(turn)).then_some(match event.data.kind {
                TextKind::Text => Piece::Text(event.data.text),
                TextKind::Reasoning => Piece::Reasoning(event.data.text),
            })
        }
        "turn.ended" => {
            let event: Envelope<Anything> = serde_json::from_slice(json).ok()?;
            (event.turn == Some(turn)).then_some(Piece::Ended)
        }
        _ => None,
    }
}

/// All that the agent wrote in a turn that has ended: text and reasoning.
pub(super) async fn text(app: &App, caller: &Caller, session: SessionId, turn: TurnId) -> Result<(String, String), Failed> {
    let (mut text, mut reasoning, mut after) = (String::new(), String::new(), 0);
    loop {
        let query = EventsQuery {
            session: Some(session),
            after,
            limit: PAGE,
            max_bytes: Some(PAGE_BYTES),
            kinds: vec!["part.delta".to_owned()],
            turn: Some(turn),
            ..EventsQuery::default()
        };
        let events = app.engine.events(caller, query).await?;
        let Some(last) = events.last() else { return Ok((text, reasoning)) };
        after = last.seq;
        for event in &events {
            match piece(event.kind, &event.bytes, turn) {
                Some(Piece::Text(more)) => text.push_str(&more),
                Some(Piece::Reasoning(more)) => reasoning.push_str(&more),
                Some(Piece::Ended) | None => {}
            }
        }
    }
}

/// The pieces from the turn's first event on, until it has ended.
pub(super) async fn pieces(
    app: &App,
    caller: &Caller,
    session: SessionId,
    turn: TurnId,
) -> Result<impl Stream<Item = Result<Piece, Failure>> + Send + use<>, Failed> {
    let query = EventsQuery { session: Some(session), limit: 1, turn: Some(turn), ..EventsQuery::default() };
    let first = app.engine.events(caller, query).await?.first().map_or(0, |event| event.seq.saturating_sub(1));
    let tail = app.engine.tail(caller, session, first).await?;
    let (engine, caller) = (app.engine.clone(), caller.clone());
    let pieces = frames(tail).filter_map(move |frame| {
        let (engine, caller) = (engine.clone(), caller.clone());
        async move {
            match frame {
                // A turn that went to the trash unbegun has no end; one that was restored since goes on.
                Ok(frame) if frame.kind == "session.deleted" => engine.turn(&caller, turn).await.err().map(Err),
                Ok(frame) => piece(frame.kind, &frame.json, turn).map(Ok),
                Err(failure) => Some(Err(failure)),
            }
        }
    });
    Ok(pieces)
}
