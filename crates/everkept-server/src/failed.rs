//! Everything an answer can be but good, and how it is written.
//!
//! Never: a status or a code that is not in the API's one table, or a text that storage, a secret or a message wrote.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use everkept_api::{Error, ErrorCode};
use everkept_core::Refusal;
use everkept_engine::{Failure, Problem};

/// An error on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub Error);

impl Failed {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failed(Error::new(code, message))
    }

    /// A field that is wrong, and what would be right.
    pub fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Failed(Error::new(ErrorCode::InvalidField, format!("{field} {problem}")).with_field(field))
    }

    pub fn unauthorized() -> Self {
        Failed::new(ErrorCode::Unauthorized, "a valid credential is needed")
    }

    pub fn not_found() -> Self {
        Failed::new(ErrorCode::NotFound, "no such route")
    }

    pub fn stopping() -> Self {
        Failure::Stopping.into()
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.error.code.status()).expect("the table holds statuses")
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Failed(Error::from(&refusal))
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let said = failure.to_string();
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Forbidden => Failed::new(ErrorCode::Forbidden, said),
            Failure::KeyReused => Failed(Error::new(ErrorCode::IdempotencyMismatch, said).with_field("idempotency-key")),
            Failure::ThreadTaken(_) => Failed(Error::new(ErrorCode::ThreadTaken, said).with_field("thread")),
            Failure::Stopping => Failed::new(ErrorCode::Stopping, said),
            Failure::BrokenDown => Failed::new(ErrorCode::Internal, said),
            Failure::Store(fault) => {
                let error = match &fault.problem {
                    Problem::Full => Error::new(ErrorCode::StorageFull, fault.problem.to_string()),
                    Problem::Corrupt { .. } => Error::new(ErrorCode::Corrupt, fault.problem.to_string()),
                    Problem::Failed(_) | Problem::ReadOnly(_) | Problem::Unopenable(_) | Problem::Newer { .. } | Problem::Locked => {
                        Error::new(ErrorCode::StorageFailed, "storage failed")
                    }
                };
                Failed(error.with_may_have_happened(fault.may_have_happened))
            }
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.0).expect("an error has string keys only");
        let mut response = json_response(status, body);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
