//! Messages: read in pages, and recorded by loops of the user's own.
//!
//! Never an agent: what is recorded here was said elsewhere.

use super::{
    Shared,
    answer::{done, ok, order},
    convert::record,
};
use crate::{
    app::App,
    extract::{Asked, At, Cursor, Sent, bounded},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{List, Message, RecordMessages, Recorded};
use everkept_core::SessionId;
use everkept_engine::PlaceQuery;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Forward from here.
    cursor: Option<String>,
    /// Backward from here: the `next_cursor` of a page asked for with `last` or `before`.
    before: Option<String>,
    /// So many of the newest.
    last: Option<u32>,
    /// 1 to 1000; 50 when it is not given.
    limit: Option<u32>,
}

/// Lists a session's messages, oldest first; `last` or `before` begin at the end.
#[utoipa::path(get, path = "/api/sessions/{ses}/messages", operation_id = "list_messages", tag = "messages", params(Listed),
    responses((status = 200, body = List<Message>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(listed): Asked<Listed>) -> Result<Response, Failed> {
    if listed.last.is_some() && (listed.limit.is_some() || listed.cursor.is_some() || listed.before.is_some()) {
        return Err(Failed::field("last", "goes alone"));
    }
    if listed.cursor.is_some() && listed.before.is_some() {
        return Err(Failed::field("before", "cannot come with cursor"));
    }
    let backward = listed.last.is_some() || listed.before.is_some();
    let limit = if listed.last.is_some() { bounded("last", listed.last)? } else { bounded("limit", listed.limit)? };
    let after = listed.cursor.as_deref().map(|text| place("cursor", text)).transpose()?;
    let before = listed.before.as_deref().map(|text| place("before", text)).transpose()?;
    let page = app.engine.messages(&caller, PlaceQuery { session: ses, after, before, backward, limit }).await?;
    let edge = if backward { page.items.first() } else { page.items.last() };
    Ok(ok(&List {
        next_cursor: edge.filter(|_| page.has_more).map(|placed| Cursor::write(&placed.place)),
        has_more: page.has_more,
        total: None,
        items: page.items.into_iter().map(|placed| Message::from(placed.message)).collect(),
    }))
}

/// Records what was said elsewhere. With `history` the messages are the whole conversation and only the new ones are stored.
#[utoipa::path(post, path = "/api/sessions/{ses}/messages", operation_id = "record_messages", tag = "messages", request_body = RecordMessages,
    responses((status = 200, body = Recorded, description = "What was new")))]
async fn create(app: Shared, At(ses): At<SessionId>, sent: Sent<RecordMessages>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, record(sent.body), sent.key, done).await
}

/// A cursor's place in the log.
pub(super) fn place(field: &str, text: &str) -> Result<u64, Failed> {
    Cursor::read::<u64>(field, text).and_then(|place| {
        let known = i64::try_from(place).is_ok();
        if known { Ok(place) } else { Err(Failed::field(field, "is not a cursor of this list")) }
    })
}
