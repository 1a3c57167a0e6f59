//! Sessions: made, listed, changed, cleared, reverted, to the trash and back.
//!
//! Never a directory, an owner or a parent that a scoped token did not have already.

use super::{
    Shared,
    answer::{answered, created, done, gone, ok, order},
    convert::new_session,
};
use crate::{
    app::App,
    extract::{Asked, At, Cursor, Sent, bounded},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{Cleared, CreateSession, Empty, List, RevertSession, Session, SessionState, UpdateSession};
use everkept_core::{AgentName, Parent, ParentKind, Refusal, Resource, SessionId, Thread, Timestamp};
use everkept_engine::{Order, SessionsQuery};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, update, delete))
        .routes(routes!(restore))
        .routes(routes!(clear))
        .routes(routes!(revert))
        .routes(routes!(unrevert))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Only this owner's.
    resource: Option<String>,
    thread: Option<String>,
    agent: Option<String>,
    state: Option<SessionState>,
    /// Both, when it is not given.
    archived: Option<bool>,
    /// True: what is in the trash, and nothing else.
    deleted: Option<bool>,
    /// Words that title or messages have.
    q: Option<String>,
    cursor: Option<String>,
    /// 1 to 1000; 50 when it is not given.
    limit: Option<u32>,
    /// Answer `total` as well.
    count: Option<bool>,
}

/// Lists sessions, newest activity first.
#[utoipa::path(get, path = "/api/sessions", operation_id = "list_sessions", tag = "sessions", params(Listed),
    responses((status = 200, body = List<Session>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, Asked(listed): Asked<Listed>) -> Result<Response, Failed> {
    let before = listed.cursor.as_deref().map(|text| Cursor::read::<(i64, SessionId)>("cursor", text)).transpose()?;
    let query = SessionsQuery {
        resource: listed.resource.map(Resource::new).transpose()?,
        thread: listed.thread.map(Thread::new).transpose()?,
        with_thread: false,
        agent: listed.agent.map(AgentName::new).transpose()?,
        state: listed.state.map(Into::into),
        archived: listed.archived,
        deleted: listed.deleted.unwrap_or(false),
        search: listed.q,
        before: before.map(|(at, id)| (Timestamp(at), id)),
        limit: bounded("limit", listed.limit)?,
    };
    Ok(ok(&page(&app, &caller, query, listed.count.unwrap_or(false)).await?))
}

pub(super) async fn page(app: &App, caller: &everkept_engine::Caller, query: SessionsQuery, count: bool) -> Result<List<Session>, Failed> {
    let total = if count { Some(app.engine.count_sessions(caller, query.clone()).await?) } else { None };
    let page = app.engine.sessions(caller, query).await?;
    let last = page.items.last().filter(|_| page.has_more);
    Ok(List {
        next_cursor: last.map(|session| Cursor::write(&(session.updated_at.0, session.id))),
        has_more: page.has_more,
        total,
        items: page.items.into_iter().map(Into::into).collect(),
    })
}

/// Makes a session. Without a directory it gets a private folder; a scoped token's session is its owner's.
#[utoipa::path(post, path = "/api/sessions", operation_id = "create_session", tag = "sessions", request_body = CreateSession,
    responses((status = 201, body = Session, description = "The new session")))]
async fn create(app: Shared, sent: Sent<CreateSession>) -> Result<Response, Failed> {
    let parent = match &sent.body.parent {
        Some(parent) => {
            let session: SessionId = parent.parse().map_err(|_| Refusal::SessionNotFound)?;
            let seq = app.engine.head(&sent.caller, session).await?;
            Some(Parent { kind: ParentKind::Child, session, seq })
        }
        None => None,
    };
    let new = everkept_engine::NewSession { parent, ..new_session(sent.body)? };
    let key = sent.key.map(|key| key.keyed(created));
    Ok(answered(app.engine.create_session(&sent.caller, new, key).await?, created))
}

/// Answers one session.
#[utoipa::path(get, path = "/api/sessions/{ses}", operation_id = "get_session", tag = "sessions",
    responses((status = 200, body = Session, description = "The session")))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>) -> Result<Response, Failed> {
    Ok(ok(&Session::from(app.engine.session(&caller, ses).await?)))
}

/// Changes title, agent, model, metadata or archived; null takes a value away.
#[utoipa::path(patch, path = "/api/sessions/{ses}", operation_id = "update_session", tag = "sessions", request_body = UpdateSession,
    responses((status = 200, body = Session, description = "The session as it is now")))]
async fn update(app: Shared, At(ses): At<SessionId>, sent: Sent<UpdateSession>) -> Result<Response, Failed> {
    let update = sent.body.try_into()?;
    order(&app, &sent.caller, ses, Order::Update(update), sent.key, done).await
}

/// Sends a session to the trash, from where it can be restored.
#[utoipa::path(delete, path = "/api/sessions/{ses}", operation_id = "delete_session", tag = "sessions",
    responses((status = 204, description = "It is in the trash")))]
async fn delete(app: Shared, At(ses): At<SessionId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, Order::Delete, sent.key, gone).await
}

/// Takes a session out of the trash.
#[utoipa::path(post, path = "/api/sessions/{ses}/restore", operation_id = "restore_session", tag = "sessions", request_body = Empty,
    responses((status = 200, body = Session, description = "The session, back again")))]
async fn restore(app: Shared, At(ses): At<SessionId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, Order::Restore, sent.key, done).await
}

/// Begins a new context: a clean slate for the agent, with the history kept.
#[utoipa::path(post, path = "/api/sessions/{ses}/clear", operation_id = "clear_session", tag = "sessions", request_body = Empty,
    responses((status = 200, body = Cleared, description = "The number of the new context")))]
async fn clear(app: Shared, At(ses): At<SessionId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, Order::Clear, sent.key, done).await
}

/// Hides a turn and all after it; without a turn, the last one.
#[utoipa::path(post, path = "/api/sessions/{ses}/revert", operation_id = "revert_session", tag = "sessions", request_body = RevertSession,
    responses((status = 200, body = Session, description = "The session as it is now")))]
async fn revert(app: Shared, At(ses): At<SessionId>, sent: Sent<RevertSession>) -> Result<Response, Failed> {
    let turn = sent.body.turn.map(|turn| turn.parse().map_err(|_| Refusal::TurnNotFound)).transpose()?;
    order(&app, &sent.caller, ses, Order::Revert { turn }, sent.key, done).await
}

/// Takes a revert back.
#[utoipa::path(post, path = "/api/sessions/{ses}/unrevert", operation_id = "unrevert_session", tag = "sessions", request_body = Empty,
    responses((status = 200, body = Session, description = "The session as it is now")))]
async fn unrevert(app: Shared, At(ses): At<SessionId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, Order::Unrevert, sent.key, done).await
}
