//! Dead letters: turns that were given up, until somebody takes them up again or puts them away.
//!
//! Never tried again by itself: what is taken up here is a new turn that somebody asked for.

use super::{
    Shared,
    answer::{done, gone, ok, order},
    convert::{dead_letter, parts},
};
use crate::{
    app::App,
    extract::{Asked, At, Cursor, Sent, bounded},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{DeadLetter, Empty, List, RetryDeadLetter, Turn};
use everkept_core::{Refusal, Resource, Timestamp, TurnId};
use everkept_engine::{LettersQuery, Order};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(remove)).routes(routes!(retry))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Only this session's.
    session: Option<String>,
    /// Only those of this owner's sessions.
    resource: Option<String>,
    cursor: Option<String>,
    /// 1 to 1000; 50 when it is not given.
    limit: Option<u32>,
}

/// Lists the turns that were given up and that nobody has taken up since, newest first, each with what it asked.
#[utoipa::path(get, path = "/api/dead-letters", operation_id = "list_dead_letters", tag = "turns", params(Listed),
    responses((status = 200, body = List<DeadLetter>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, Asked(listed): Asked<Listed>) -> Result<Response, Failed> {
    let query = LettersQuery {
        session: listed.session.map(|session| session.parse().map_err(|_| Refusal::SessionNotFound)).transpose()?,
        resource: listed.resource.map(Resource::new).transpose()?,
        before: listed.cursor.as_deref().map(|text| Cursor::read::<(Timestamp, TurnId)>("cursor", text)).transpose()?,
        limit: bounded("limit", listed.limit)?,
    };
    let page = app.engine.dead_letters(&caller, query).await?;
    let last = page.items.last().filter(|_| page.has_more);
    Ok(ok(&List {
        next_cursor: last.map(|letter| Cursor::write(&(letter.turn.ended_at.unwrap_or_default(), letter.turn.id))),
        has_more: page.has_more,
        total: None,
        items: page.items.into_iter().map(dead_letter).collect(),
    }))
}

/// Takes a dead letter up again, as it was or with another request.
#[utoipa::path(post, path = "/api/dead-letters/{trn}/retry", operation_id = "retry_dead_letter", tag = "turns", request_body = RetryDeadLetter,
    responses((status = 202, body = Turn, description = "The new attempt")))]
async fn retry(app: Shared, At(trn): At<TurnId>, sent: Sent<RetryDeadLetter>) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, trn).await?;
    order(&app, &sent.caller, session, Order::RetryLetter { turn: trn, input: sent.body.input.map(parts) }, sent.key, done).await
}

/// Puts a dead letter away. Its turn stays as it ended, and can still be retried as any other.
#[utoipa::path(delete, path = "/api/dead-letters/{trn}", operation_id = "drop_dead_letter", tag = "turns",
    responses((status = 204, description = "It is listed no more")))]
async fn remove(app: Shared, At(trn): At<TurnId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, trn).await?;
    order(&app, &sent.caller, session, Order::DismissLetter { turn: trn }, sent.key, gone).await
}
