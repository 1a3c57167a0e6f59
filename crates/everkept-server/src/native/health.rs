//! Whether the server is well.
//!
//! Never more than that it is there for someone without a credential: that answer is empty, and the front gives it.

use super::answer::ok;
use crate::app::App;
use axum::response::Response;
use everkept_api::Health;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// The server is there; without a credential, an empty answer.
#[utoipa::path(get, path = "/api/health", operation_id = "get_health", tag = "server",
    responses((status = 200, body = Health, description = "`ok`; storage that failed is the error `storage_failed`")))]
async fn read() -> Response {
    ok(&Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}
