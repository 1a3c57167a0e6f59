//! Messages: read in pages, and recorded by loops of the user's own.
//!
//! Never an agent: what is recorded here was said elsewhere.

use super::{
    Shared,
    answer::{done, ok, order},
    convert::record,
    places::Places,
};
use crate::{
    app::App,
    extract::{Asked, At, Sent},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{List, Message, RecordMessages, Recorded};
use everkept_core::SessionId;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create))
}

/// Lists a session's messages, oldest first; `last` or `before` begin at the end.
#[utoipa::path(get, path = "/api/sessions/{ses}/messages", operation_id = "list_messages", tag = "messages", params(Places),
    responses((status = 200, body = List<Message>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(places): Asked<Places>) -> Result<Response, Failed> {
    let page = app.engine.messages(&caller, places.query(ses)?).await?;
    Ok(ok(&places.list(page, |placed| placed.place, |placed| Message::from(placed.message))))
}

/// Records what was said elsewhere. With `history` the messages are the whole conversation and only the new ones are stored.
#[utoipa::path(post, path = "/api/sessions/{ses}/messages", operation_id = "record_messages", tag = "messages", request_body = RecordMessages,
    responses((status = 200, body = Recorded, description = "What was new")))]
async fn create(app: Shared, At(ses): At<SessionId>, sent: Sent<RecordMessages>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, record(sent.body), sent.key, done).await
}
