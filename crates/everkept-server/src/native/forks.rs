//! Forks of a session, and the family they make.
//!
//! Never copies: a fork shares its parent's events.

use super::{
    Shared,
    answer::{created, ok, order},
    convert::new_fork,
};
use crate::{
    app::App,
    extract::{At, Sent},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{ForkSession, ForkTree, Session};
use everkept_core::SessionId;
use everkept_engine::{Caller, Order};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The most sessions one answer shows, and the deepest.
const MAX_FAMILY: usize = 1_000;
const MAX_DEPTH: usize = 32;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(fork)).routes(routes!(tree))
}

/// Goes on from the end of a turn, or from an event, in a new session.
#[utoipa::path(post, path = "/api/sessions/{ses}/fork", operation_id = "fork_session", tag = "sessions", request_body = ForkSession,
    responses((status = 201, body = Session, description = "The new session")))]
async fn fork(app: Shared, At(ses): At<SessionId>, sent: Sent<ForkSession>) -> Result<Response, Failed> {
    let fork = new_fork(sent.body)?;
    order(&app, &sent.caller, ses, Order::Fork(fork), sent.key, created).await
}

/// The session with its forks and children, and theirs.
#[utoipa::path(get, path = "/api/sessions/{ses}/forks", operation_id = "get_forks", tag = "sessions",
    responses((status = 200, body = ForkTree, description = "The tree; at most 1000 sessions, 32 deep")))]
async fn tree(app: Shared, Who(caller): Who, At(ses): At<SessionId>) -> Result<Response, Failed> {
    let root = app.engine.session(&caller, ses).await?;
    let mut left = MAX_FAMILY;
    Ok(ok(&grow(&app, &caller, root, 1, &mut left).await?))
}

type Growing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<ForkTree, Failed>> + Send + 'a>>;

fn grow<'a>(app: &'a App, caller: &'a Caller, session: everkept_core::Session, depth: usize, left: &'a mut usize) -> Growing<'a> {
    Box::pin(async move {
        *left = left.saturating_sub(1);
        let below = if depth < MAX_DEPTH { app.engine.children(caller, session.id).await? } else { Vec::new() };
        let session = Session::from(session);
        let mut tree =
            ForkTree { id: session.id, title: session.title, parent: session.parent, updated_at: session.updated_at, children: Vec::new() };
        for child in below {
            if *left == 0 {
                break;
            }
            tree.children.push(grow(app, caller, child, depth + 1, left).await?);
        }
        Ok(tree)
    })
}
