//! A session as it is after one certain event.
//!
//! Never two moments in one answer: the events after `cursor` lead from here to what is.

use super::{Shared, answer::ok, convert};
use crate::{app::App, extract::At, failed::Failed, front::Who};
use axum::response::Response;
use everkept_api::Snapshot;
use everkept_core::SessionId;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// The session with its newest 200 messages and turns and its open questions, after the event `cursor`.
#[utoipa::path(get, path = "/api/sessions/{ses}/snapshot", operation_id = "get_snapshot", tag = "sessions",
    responses((status = 200, body = Snapshot, description = "State after `cursor`; with the events after it, what is")))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>) -> Result<Response, Failed> {
    Ok(ok(&convert::snapshot(app.engine.snapshot(&caller, ses).await?)))
}
