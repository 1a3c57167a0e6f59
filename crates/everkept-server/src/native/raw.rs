//! What an agent sent in a turn, byte for byte.
//!
//! Never parsed, cleaned, or shown as anything a browser would run.

use super::Shared;
use crate::{
    app::App,
    extract::{Asked, At},
    failed::Failed,
    front::Who,
};
use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use everkept_core::{Refusal, SessionId, TurnId};
use futures::stream;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    turn: String,
}

/// The bytes the agent sent in a turn, as they came.
#[utoipa::path(get, path = "/api/sessions/{ses}/raw", operation_id = "get_raw", tag = "turns", params(Wanted),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, description = "The bytes")))]
async fn read(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(wanted): Asked<Wanted>) -> Result<Response, Failed> {
    app.engine.session(&caller, ses).await?;
    let turn: TurnId = wanted.turn.parse().map_err(|_| Refusal::TurnNotFound)?;
    if app.engine.session_of_turn(&caller, turn).await? != ses {
        return Err(Refusal::TurnNotFound.into());
    }
    let pieces = stream::try_unfold((app.engine.clone(), caller, 0), move |(engine, caller, from)| async move {
        let piece = engine.raw(&caller, turn, from).await?;
        let next = from + piece.len() as u64;
        Ok::<_, everkept_engine::Failure>((!piece.is_empty()).then_some((piece, (engine, caller, next))))
    });
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
