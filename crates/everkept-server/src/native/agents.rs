//! The agents: those that are configured, and those that relays run.
//!
//! Never how one is started.

use super::{Shared, answer::ok, convert::agent_card};
use crate::app::App;
use axum::response::Response;
use everkept_api::{Agent, List};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists the agents that sessions may have.
#[utoipa::path(get, path = "/api/agents", operation_id = "list_agents", tag = "server",
    responses((status = 200, body = List<Agent>, description = "All of them")))]
async fn list(app: Shared) -> Response {
    ok(&List::whole(app.engine.agents().into_iter().map(agent_card).collect()))
}
