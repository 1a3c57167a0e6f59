//! A whole session as a file: its events as they are kept, or its conversation to read.
//!
//! Never the whole of it in memory, and never markup of a message taken for markup of the file's frame.

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
use everkept_core::{Message, Part, Payload, Role, Session, SessionId, ToolPart};
use everkept_engine::{Caller, Engine, EventsQuery, Failure, Lines, PlaceQuery};
use futures::{StreamExt, stream};
use serde::Deserialize;
use std::{fmt::Write, sync::Arc};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Events read at a time, and the bytes after which that ends: what a reader that does not read holds (promise L1).
const EVENTS: u32 = 1_000;
const EVENT_BYTES: usize = 160 * 1024;
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
}

/// The session as a file: `jsonl` (every event as it is kept) or `markdown` (the conversation).
#[utoipa::path(get, path = "/api/sessions/{ses}/export", operation_id = "export_session", tag = "sessions", params(Wanted),
    responses((status = 200, description = "The file", content((String = "application/x-ndjson"), (String = "text/markdown")))))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(wanted): Asked<Wanted>) -> Result<Response, Failed> {
    let session = app.engine.session(&caller, ses).await?;
    let engine = app.engine.clone();
    let slug = everkept_api::slug(session.title.as_deref(), ses);
    let slug: String = slug.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-' || *letter == '_').collect();
    let (media_type, ending, body) = match wanted.format.unwrap_or_default() {
        Format::Jsonl => ("application/x-ndjson", "jsonl", jsonl(engine, caller, ses)),
        Format::Markdown => ("text/markdown; charset=utf-8", "md", markdown(engine, caller, session)),
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

fn markdown(engine: Engine, caller: Caller, session: Session) -> Body {
    let title = session.title.clone().unwrap_or_else(|| session.id.to_string());
    let head = Bytes::from(format!("# {}\n\n", one_line(&title)));
    let pages = stream::try_unfold((engine, caller, Some(0)), move |(engine, caller, after)| async move {
        let Some(after) = after else { return Ok::<_, Failure>(None) };
        let query = PlaceQuery { session: session.id, after: Some(after), before: None, backward: false, limit: MESSAGES };
        let page = engine.messages(&caller, query).await?;
        let next = page.items.last().filter(|_| page.has_more).map(|placed| placed.place);
        let mut text = String::new();
        for placed in &page.items {
            write_message(&mut text, &placed.message);
        }
        Ok(Some((Bytes::from(text), (engine, caller, next))))
    });
    Body::from_stream(stream::iter([Ok(head)]).chain(pages))
}

fn write_message(text: &mut String, message: &Message) {
    let who = match message.role {
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::System => "System",
    };
    line(text, format_args!("## {who} · {}\n", everkept_api::time(message.created_at)));
    for part in &message.parts {
        match part {
            Part::Text { text: said, .. } => line(text, format_args!("{said}\n")),
            Part::Reasoning { text: said, .. } => {
                let quoted: Vec<_> = said.lines().map(|line| format!("> {line}")).collect();
                line(text, format_args!("{}\n", quoted.join("\n")));
            }
            Part::Tool(tool) => write_tool(text, tool),
            Part::File(file) => {
                let name = file.name.as_deref().unwrap_or("file");
                line(text, format_args!("- file: {} ({}, {} bytes)\n", one_line(name), one_line(&file.media_type), file.blob.bytes));
            }
        }
    }
}

fn write_tool(text: &mut String, tool: &ToolPart) {
    let title = tool.title.as_deref().unwrap_or(&tool.name);
    line(text, format_args!("### Tool · {} ({})\n", one_line(title), everkept_api::ToolStatus::from(tool.status)));
    for payload in [&tool.input, &tool.output].into_iter().flatten() {
        match payload {
            Payload::Json(json) => {
                let fence = fence(json.get());
                line(text, format_args!("{fence}json\n{}\n{fence}\n", json.get()));
            }
            Payload::Blob(blob) => line(text, format_args!("- data: {} bytes, /api/blobs/{}\n", blob.bytes, blob.id)),
        }
    }
}

fn line(text: &mut String, said: std::fmt::Arguments<'_>) {
    writeln!(text, "{said}").expect("writing to a String cannot fail");
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Longer than any run of backticks inside.
fn fence(code: &str) -> String {
    let longest = code.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_fence_is_longer_than_what_it_holds() {
        assert_eq!(super::fence("{}"), "```");
        assert_eq!(super::fence("a ``` b ````"), "`````");
    }
}
