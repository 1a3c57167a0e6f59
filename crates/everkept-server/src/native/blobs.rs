//! Bytes that are kept under their own SHA-256.
//!
//! Never for someone who sees none of the sessions they came with, and never as anything a browser would run.

use super::Shared;
use crate::{app::App, extract::At, failed::Failed, front::Who};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use everkept_api::ErrorCode;
use everkept_core::{Refusal, TextDigest};
use everkept_engine::Failure;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// The bytes of a file or of a tool's large data.
#[utoipa::path(get, path = "/api/blobs/{id}", operation_id = "get_blob", tag = "messages",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>, description = "The bytes")))]
async fn read(app: Shared, Who(caller): Who, At(id): At<TextDigest>) -> Result<Response, Failed> {
    let blob = app.engine.blob(&caller, id).await.map_err(|failure| match failure {
        Failure::Refused(Refusal::SessionNotFound) => Failed::new(ErrorCode::NotFound, "no such blob"),
        other => other.into(),
    })?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, "attachment")];
    Ok((headers, blob).into_response())
}
