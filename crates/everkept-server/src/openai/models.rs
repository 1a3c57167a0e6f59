//! The agents, as models.
//!
//! Never a model an agent might have and its configuration does not name.

use super::OpenAiError;
use crate::{app::App, failed::json_response};
use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Serialize, ToSchema)]
struct Models {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Model {
    /// `agent` or `agent/model`.
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

/// Lists the agents, and each with the model its configuration names.
#[utoipa::path(get, path = "/v1/models", operation_id = "openai_list_models", tag = "openai",
    responses((status = 200, body = Models, description = "All of them"), (status = "default", body = OpenAiError, description = "An error")))]
async fn list(State(app): State<Arc<App>>) -> Response {
    let names = app.engine.agents().into_iter().flat_map(|card| {
        let with_model = card.model.map(|model| format!("{}/{model}", card.name));
        std::iter::once(card.name.to_string()).chain(with_model)
    });
    let data = names.map(|id| Model { id, object: "model", created: 0, owned_by: "everkept" }).collect();
    json_response(StatusCode::OK, serde_json::to_vec(&Models { object: "list", data }).expect("names have string keys only"))
}
