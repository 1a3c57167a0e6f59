//! The breakers of agents and models that have failed.
//!
//! Never to anybody but the admin: the name of a model is its sender's.

use super::{Shared, answer::ok};
use crate::{app::App, failed::Failed, front::Who};
use axum::response::Response;
use everkept_api::{Breaker, List};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists the breakers of all agents and models that have ever failed.
#[utoipa::path(get, path = "/api/breakers", operation_id = "list_breakers", tag = "server",
    responses((status = 200, body = List<Breaker>, description = "All of them")))]
async fn list(app: Shared, Who(caller): Who) -> Result<Response, Failed> {
    Ok(ok(&List::whole(app.engine.breakers(&caller).await?.into_iter().map(super::convert::breaker).collect())))
}
