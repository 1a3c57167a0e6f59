//! A session's events: as pages, one by one, or as they come.
//!
//! The bytes of an event are the bytes that are kept; nothing here writes them anew.
//! Never a gap or a repetition after the number a reader names.

use super::Shared;
use crate::{
    app::App,
    extract::{Asked, At, bounded, digits},
    failed::{Failed, json_response},
    front::{Credential, Who},
    stream::{frames, resumable},
};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use everkept_api::{ErrorCode, Event, List};
use everkept_core::{Body, Refusal, SessionId, TurnId};
use everkept_engine::{Caller, EventsQuery, Frame};
use futures::{StreamExt, future};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Events read at a time to count them.
const COUNTED: u32 = 1_000;
/// The bytes of events after which a page ends, however few they are.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read))
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Only later events: decimal digits. `Last-Event-ID` wins over it.
    after: Option<String>,
    /// Only earlier events: decimal digits; pages only.
    before: Option<String>,
    /// Only this kind; several with commas between.
    kind: Option<String>,
    turn: Option<String>,
    context: Option<u32>,
    /// 1 to 1000; 50 when it is not given; a page of long events ends after 4 MiB; pages only.
    limit: Option<u32>,
    /// Answer `total` as well: how many events there are of the kind, turn and context; pages only.
    count: Option<bool>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
struct Wanted {
    kinds: Vec<String>,
    turn: Option<TurnId>,
    context: Option<u32>,
}

/// What a filter looks at.
#[derive(Deserialize)]
struct Envelope {
    turn: Option<TurnId>,
    context: u32,
}

impl Wanted {
    fn read(listed: &Listed) -> Result<Self, Failed> {
        let kinds: Vec<String> = listed.kind.iter().flat_map(|kinds| kinds.split(',')).map(str::to_owned).collect();
        if kinds.iter().any(|kind| !Body::KINDS.contains(&kind.as_str())) {
            return Err(Failed::field("kind", "must be kinds of events with commas between"));
        }
        let turn = listed.turn.as_deref().map(str::parse).transpose().map_err(|_| Failed::field("turn", "must be a turn id"))?;
        Ok(Wanted { kinds, turn, context: listed.context })
    }

    fn is_all(&self) -> bool {
        self.kinds.is_empty() && self.turn.is_none() && self.context.is_none()
    }

    fn takes(&self, frame: &Frame) -> bool {
        if !self.kinds.is_empty() && !self.kinds.iter().any(|kind| kind == frame.kind) {
            return false;
        }
        if self.turn.is_none() && self.context.is_none() {
            return true;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(&frame.json) else { return false };
        self.turn.is_none_or(|turn| envelope.turn == Some(turn)) && self.context.is_none_or(|context| envelope.context == context)
    }

    fn query(&self, session: SessionId, after: u64, until: Option<u64>, limit: u32) -> EventsQuery {
        EventsQuery {
            session: Some(session),
            after,
            until,
            limit,
            max_bytes: Some(PAGE_BYTES),
            kinds: self.kinds.clone(),
            turn: self.turn,
            context: self.context,
        }
    }
}

/// A session's events, oldest first: a page as JSON, or, with `Accept: text/event-stream`, all of them as they come.
///
/// As server-sent events, `id` is the event's number, `event` its kind and `data` the event. A reader that comes back
/// with `Last-Event-ID` goes on after it. A page's `next_cursor` is given as `after`.
#[utoipa::path(get, path = "/api/sessions/{ses}/events", operation_id = "list_events", tag = "events",
    params(Listed, ("Last-Event-ID" = Option<String>, Header, description = "The last event a reader has: decimal digits")),
    responses((status = 200, description = "One page, or the stream",
        content((List<Event> = "application/json"), (String = "text/event-stream")))))]
async fn list(
    app: Shared,
    credential: Credential,
    At(ses): At<SessionId>,
    headers: HeaderMap,
    Asked(listed): Asked<Listed>,
) -> Result<Response, Failed> {
    let wanted = Wanted::read(&listed)?;
    let after = after(&headers, listed.after.as_deref())?.unwrap_or(0);
    if !accepts_events(&headers) {
        return page(&app, &credential.caller, ses, wanted, after, listed).await;
    }
    for (field, given) in [("before", listed.before.is_some()), ("limit", listed.limit.is_some()), ("count", listed.count.is_some())] {
        if given {
            return Err(Failed::field(field, "does not go with a stream"));
        }
    }
    let tail = app.engine.tail(&credential.caller, ses, after).await?;
    // A tail that fails ends the stream; whoever comes back is told why.
    let frames = frames(tail).take_while(|frame| future::ready(frame.is_ok())).filter_map(move |frame| {
        let frame = frame.ok().filter(|frame| wanted.takes(frame));
        future::ready(frame.map(|frame| frame.sse))
    });
    Ok(resumable(&app, &credential, frames))
}

async fn page(app: &App, caller: &Caller, ses: SessionId, wanted: Wanted, after: u64, listed: Listed) -> Result<Response, Failed> {
    let limit = bounded("limit", listed.limit)?;
    let until = match listed.before.as_deref() {
        Some(before) => Some(seq("before", before)?.saturating_sub(1)),
        None => None,
    };
    let mut events = app.engine.events(caller, wanted.query(ses, after, until, limit + 1)).await?;
    let bytes: usize = events.iter().map(|event| event.bytes.len()).sum();
    // One more than is shown tells that there is more.
    let has_more = events.len() > limit as usize || bytes >= PAGE_BYTES;
    if has_more {
        events.pop();
    }
    let mut body = Vec::with_capacity(bytes + events.len() + 128);
    body.extend_from_slice(b"{\"items\":[");
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event.bytes);
    }
    let next = events.last().filter(|_| has_more).map(|event| event.seq.to_string());
    let next = serde_json::to_string(&next).expect("a number's digits");
    body.extend_from_slice(format!("],\"next_cursor\":{next},\"has_more\":{has_more}").as_bytes());
    if listed.count == Some(true) {
        let total = count(app, caller, ses, &wanted).await?;
        body.extend_from_slice(format!(",\"total\":{total}").as_bytes());
    }
    body.push(b'}');
    Ok(json_response(StatusCode::OK, body))
}

async fn count(app: &App, caller: &Caller, ses: SessionId, wanted: &Wanted) -> Result<u64, Failed> {
    if wanted.is_all() {
        // Numbers begin at 1 and rise by 1.
        return Ok(app.engine.head(caller, ses).await?);
    }
    let (mut total, mut after) = (0, 0);
    loop {
        let events = app.engine.events(caller, wanted.query(ses, after, None, COUNTED)).await?;
        let Some(last) = events.last() else { return Ok(total) };
        after = last.seq;
        total += events.len() as u64;
    }
}

/// One event by its number.
#[utoipa::path(get, path = "/api/sessions/{ses}/events/{seq}", operation_id = "get_event", tag = "events",
    responses((status = 200, body = Event, description = "The event")))]
async fn read(app: Shared, Who(caller): Who, At((ses, number)): At<(SessionId, String)>) -> Result<Response, Failed> {
    let absent = || Failed::new(ErrorCode::NotFound, "no such event");
    let number = seq("seq", &number).ok().filter(|number| *number > 0);
    app.engine.session(&caller, ses).await?;
    let number = number.ok_or_else(absent)?;
    let events = app.engine.events(&caller, Wanted::default().query(ses, number - 1, Some(number), 1)).await?;
    let event = events.into_iter().next().ok_or_else(absent)?;
    Ok(json_response(StatusCode::OK, event.bytes))
}

/// Where a reader goes on: the header wins over the query.
pub(super) fn after(headers: &HeaderMap, query: Option<&str>) -> Result<Option<u64>, Failed> {
    match headers.get("last-event-id") {
        Some(last) => seq("last-event-id", last.to_str().unwrap_or_default()).map(Some),
        None => query.map(|text| seq("after", text)).transpose(),
    }
}

/// A number of an event: no log holds more than a signed count can name.
fn seq(field: &str, text: &str) -> Result<u64, Failed> {
    let number = digits(field, text)?;
    match i64::try_from(number) {
        Ok(_) => Ok(number),
        Err(_) => Err(Refusal::invalid("after", "is beyond the last event").into()),
    }
}

pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default().trim());
    types.any(|media_type| media_type.eq_ignore_ascii_case("text/event-stream"))
}
