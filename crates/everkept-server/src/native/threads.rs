//! Sessions by an application's own names: a resource and one of its threads name exactly one.
//!
//! Never a second session for a pair, however many first messages come at once.

use super::{
    Shared,
    answer::{answered, done, gone, ok},
    convert::submit,
    sessions::page,
};
use crate::{
    app::App,
    extract::{Asked, At, Cursor, Sent, bounded},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{Empty, List, Session, SubmitTurn, Turn};
use everkept_core::{Resource, SessionId, Thread, Timestamp};
use everkept_engine::{NewSession, SessionsQuery};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read, delete)).routes(routes!(create_turn))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    cursor: Option<String>,
    /// 1 to 1000; 50 when it is not given.
    limit: Option<u32>,
    /// Answer `total` as well.
    count: Option<bool>,
}

/// Lists a resource's threads as sessions, newest activity first.
#[utoipa::path(get, path = "/api/threads/{resource}", operation_id = "list_threads", tag = "threads", params(Listed),
    responses((status = 200, body = List<Session>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, At(resource): At<Resource>, Asked(listed): Asked<Listed>) -> Result<Response, Failed> {
    let before = listed.cursor.as_deref().map(|text| Cursor::read::<(i64, SessionId)>("cursor", text)).transpose()?;
    let query = SessionsQuery {
        resource: Some(resource),
        with_thread: true,
        before: before.map(|(at, id)| (Timestamp(at), id)),
        limit: bounded("limit", listed.limit)?,
        ..SessionsQuery::default()
    };
    Ok(ok(&page(&app, &caller, query, listed.count.unwrap_or(false)).await?))
}

/// The session of the pair.
#[utoipa::path(get, path = "/api/threads/{resource}/{thread}", operation_id = "get_thread", tag = "threads",
    responses((status = 200, body = Session, description = "The session")))]
async fn read(app: Shared, Who(caller): Who, At((resource, thread)): At<(Resource, Thread)>) -> Result<Response, Failed> {
    Ok(ok(&Session::from(app.engine.thread(&caller, &resource, &thread).await?)))
}

/// Frees the pair: its session goes to the trash.
#[utoipa::path(delete, path = "/api/threads/{resource}/{thread}", operation_id = "delete_thread", tag = "threads",
    responses((status = 204, description = "The session is in the trash")))]
async fn delete(app: Shared, At((resource, thread)): At<(Resource, Thread)>, sent: Sent<Empty>) -> Result<Response, Failed> {
    let key = sent.key.map(|key| key.keyed(gone));
    Ok(answered(app.engine.delete_thread(&sent.caller, &resource, &thread, key).await?, gone))
}

/// Asks the agent of the pair's session, which is made on first use and resumed ever after.
#[utoipa::path(post, path = "/api/threads/{resource}/{thread}/turns", operation_id = "create_thread_turn", tag = "threads", request_body = SubmitTurn,
    responses((status = 202, body = Turn, description = "The turn as it was queued")))]
async fn create_turn(app: Shared, At((resource, thread)): At<(Resource, Thread)>, sent: Sent<SubmitTurn>) -> Result<Response, Failed> {
    let submit = submit(sent.body)?;
    let key = sent.key.map(|key| key.keyed(done));
    let reply = app.engine.order_thread(&sent.caller, resource, thread, NewSession::default(), submit, key).await?;
    Ok(answered(reply, done))
}
