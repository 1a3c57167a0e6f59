//! What a session adds up to.
//!
//! Never an estimate.

use super::{Shared, answer::ok, convert};
use crate::{app::App, extract::At, failed::Failed, front::Who};
use axum::response::Response;
use everkept_api::Summary;
use everkept_core::SessionId;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Totals, events per kind, and the contexts with their turns and times.
#[utoipa::path(get, path = "/api/sessions/{ses}/summary", operation_id = "get_summary", tag = "sessions",
    responses((status = 200, body = Summary, description = "The figures")))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>) -> Result<Response, Failed> {
    Ok(ok(&convert::summary(app.engine.summary(&caller, ses).await?)))
}
