//! Whether the server is well.
//!
//! Never more than that it is there for someone without a credential: that answer is empty, and the front gives it.

use super::Shared;
use crate::{app::App, failed::json_response};
use axum::{http::StatusCode, response::Response};
use everkept_api::Health;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// The server's state; without a credential, an empty answer.
#[utoipa::path(get, path = "/api/health", operation_id = "get_health", tag = "server",
    responses((status = 200, body = Health, description = "`ok`"), (status = 503, body = Health, description = "`storage_failed`")))]
async fn read(app: Shared) -> Response {
    let failed = app.engine.storage_failed();
    let (status, word) = if failed { (StatusCode::SERVICE_UNAVAILABLE, "storage_failed") } else { (StatusCode::OK, "ok") };
    json_response(status, super::answer::write(&Health { status: word.into(), version: env!("CARGO_PKG_VERSION").into() }))
}
