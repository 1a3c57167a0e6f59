//! A whole session as a file: its events as they are kept, or its conversation to read.
//!
//! Never the whole of it in memory, and never markup of a message taken for markup of the file's frame.

mod html;
mod markdown;

use super::Shared;
use crate::{
    app::App,
    extract::{Asked, At},
    failed::Failed,
    front::Who,
};
use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use everkept_core::{Message, Role, Session, SessionId};
use everkept_engine::{Caller, Engine, EventsQuery, Failure, Lines, PlaceQuery};
use futures::{StreamExt, stream};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Events read at a time, and the bytes after which that ends: what a reader that does not read holds (promise L1).
const EVENTS: u32 = 1_000;
const EVENT_BYTES: usize = 96 * 1024;
/// Messages read at a time. One may be large; several need not be held at once.
const MESSAGES: u32 = 1;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// `jsonl` when it is not given.
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// One event a line, byte for byte.
    #[default]
    Jsonl,
    /// The conversation, to read.
    Markdown,
    /// The same as one page that needs nothing beside it and runs nothing.
    Html,
}

/// The session as a file: `jsonl` (every event as it is kept), `markdown` or `html` (the conversation).
#[utoipa::path(get, path = "/api/sessions/{ses}/export", operation_id = "export_session", tag = "sessions", params(Wanted),
    responses((status = 200, description = "The file", content((String = "application/x-ndjson"), (String = "text/markdown"), (String = "text/html")))))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(wanted): Asked<Wanted>) -> Result<Response, Failed> {
    let session = app.engine.session(&caller, ses).await?;
    let engine = app.engine.clone();
    let slug = everkept_api::slug(session.title.as_deref(), ses);
    let slug: String = slug.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-' || *letter == '_').collect();
    let (media_type, ending, body) = match wanted.format.unwrap_or_default() {
        Format::Jsonl => ("application/x-ndjson", "jsonl", jsonl(engine, caller, ses)),
        Format::Markdown => ("text/markdown; charset=utf-8", "md", pages(engine, caller, &session, markdown::FORM)),
        Format::Html => ("text/html; charset=utf-8", "html", pages(engine, caller, &session, html::FORM)),
    };
    let attachment = format!("attachment; filename=\"{slug}.{ending}\"");
    Ok(([(header::CONTENT_TYPE, media_type), (header::CONTENT_DISPOSITION, attachment.as_str())], body).into_response())
}

fn jsonl(engine: Engine, caller: Caller, session: SessionId) -> Body {
    let pages = stream::try_unfold((engine, caller, 0), move |(engine, caller, after)| async move {
        let query = EventsQuery { session: Some(session), after, limit: EVENTS, max_bytes: Some(EVENT_BYTES), ..EventsQuery::default() };
        let Lines { bytes, last } = engine.lines(&caller, query).await?;
        Ok::<_, Failure>((!bytes.is_empty()).then_some((bytes, (engine, caller, last))))
    });
    Body::from_stream(pages)
}

/// How a conversation is written down.
#[derive(Clone, Copy)]
struct Form {
    head: fn(&Session) -> String,
    message: fn(&Message) -> String,
    foot: &'static str,
}

fn pages(engine: Engine, caller: Caller, session: &Session, form: Form) -> Body {
    let id = session.id;
    let head = Bytes::from((form.head)(session));
    let pages = stream::try_unfold((engine, caller, Some(0)), move |(engine, caller, after)| async move {
        let Some(after) = after else { return Ok::<_, Failure>(None) };
        let query = PlaceQuery { session: id, after: Some(after), before: None, backward: false, limit: MESSAGES };
        let page = engine.messages(&caller, query).await?;
        let next = page.items.last().filter(|_| page.has_more).map(|placed| placed.place);
        let text: String = page.items.iter().map(|placed| (form.message)(&placed.message)).collect();
        Ok(Some((Bytes::from(text), (engine, caller, next))))
    });
    let foot = stream::iter([Ok(Bytes::from_static(form.foot.as_bytes()))]);
    Body::from_stream(stream::iter([Ok(head)]).chain(pages).chain(foot))
}

fn title(session: &Session) -> String {
    one_line(&session.title.clone().unwrap_or_else(|| session.id.to_string()))
}

fn who(role: Role) -> &'static str {
    match role {
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::System => "System",
    }
}

/// A title or a name on one line, with what shows nothing or turns others round written out.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match letter {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => line.push_str(&written_out(letter)),
            letter if letter.is_control() => line.push_str(&written_out(letter)),
            letter => line.push(letter),
        }
    }
    line
}

/// A text whose signs steer no terminal: all but the ends of its lines and its tabs.
fn steers_nothing(text: &str) -> String {
    let sign = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if sign(letter) { written_out(letter) } else { letter.to_string() }).collect()
}

fn written_out(letter: char) -> String {
    format!("⟨U+{:04X}⟩", u32::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a6_what_steers_a_terminal_or_turns_a_name_round_is_written_out() {
        assert_eq!(one_line(" a\u{202e}gnp\n.exe\u{1b}[2J "), "a⟨U+202E⟩gnp .exe⟨U+001B⟩[2J");
        assert_eq!(steers_nothing("a\n\tb\u{1b}]0;x\u{7}"), "a\n\tb⟨U+001B⟩]0;x⟨U+0007⟩");
    }
}
