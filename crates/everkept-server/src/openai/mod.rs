//! The OpenAI door: `/v1`, for clients that send whole conversations.
//!
//! Lenient where the native API is strict: parameters that an agent cannot be told are taken and left.
//! Never a tool call for the client to run, never a prompt for what is answered already, and never an error that is
//! not in the API's table.

mod chat;
mod intake;
mod models;
mod said;
mod stream;

use crate::{app::App, failed::Failed, failed::json_response};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use everkept_api::ErrorCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().merge(models::routes()).merge(chat::routes())
}

pub(crate) fn is_door(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// An error as OpenAI's clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    pub error: OpenAiErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OpenAiErrorDetail {
    pub message: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: String,
    /// What was asked for may have been done all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_have_happened: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
}

impl From<Failed> for OpenAiError {
    fn from(Failed(failed): Failed) -> Self {
        let detail = failed.error;
        OpenAiError {
            error: OpenAiErrorDetail {
                kind: kind(detail.code),
                message: detail.message,
                param: detail.field,
                code: detail.code.to_string(),
                may_have_happened: detail.may_have_happened,
                turn: None,
            },
        }
    }
}

fn kind(code: ErrorCode) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        status if status >= 500 => "server_error",
        _ => "invalid_request_error",
    }
}

pub(crate) fn refuse(failed: Failed) -> Response {
    let (status, again) = (failed.status(), failed.0.error.retryable);
    let written = serde_json::to_vec(&OpenAiError::from(failed)).expect("an error has string keys only");
    let mut response = json_response(status, written);
    advise(&mut response, again);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// OpenAI's own clients send a request again by themselves unless they are told not to.
fn advise(response: &mut Response, again: bool) {
    let word = if again { "true" } else { "false" };
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static(word));
}

/// A failure on its way out of a handler of this door.
pub(crate) struct Refused(pub Failed);

impl<E: Into<Failed>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refuse(self.0)
    }
}
