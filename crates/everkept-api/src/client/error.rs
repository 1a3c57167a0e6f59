//! Why a call came to nothing, and what to do next.
//!
//! Never: a token or a message's text.

use crate::{ErrorCode, ErrorDetail};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{address} is not the address of a server; it looks like http://127.0.0.1:7717")]
    InvalidAddress { address: String },
    /// Nothing was sent.
    #[error("no server answers at {address}; start one with `everkept`")]
    Unreachable {
        address: String,
        #[source]
        source: reqwest::Error,
    },
    /// The connection was lost.
    #[error("{doing} at {address}: {}", innermost(source))]
    Broken { doing: &'static str, address: String, may_have_happened: bool, source: reqwest::Error },
    /// A stream ended before it had brought anything.
    #[error("{address} ended the connection")]
    CutOff { address: String },
    /// The server said no.
    #[error("{}", refusal(*status, error))]
    Refused { status: u16, error: Box<ErrorDetail> },
    /// Whatever answers is no server of ours.
    #[error("what answers at {address} is not an everkept server (it said {status})")]
    Stranger { address: String, status: u16 },
    #[error("the answer of {address} cannot be read: {source}; is it of another version?")]
    Unreadable { address: String, source: serde_json::Error },
}

impl ClientError {
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { error, .. } => Some(error.code),
            ClientError::InvalidAddress { .. }
            | ClientError::CutOff { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Broken { .. }
            | ClientError::Stranger { .. }
            | ClientError::Unreadable { .. } => None,
        }
    }

    /// The same again may work.
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::CutOff { .. } | ClientError::Broken { .. } => true,
            ClientError::Refused { error, .. } => error.retryable,
            ClientError::InvalidAddress { .. } | ClientError::Stranger { .. } | ClientError::Unreadable { .. } => false,
        }
    }

    /// What was asked for may have been done all the same.
    pub fn may_have_happened(&self) -> bool {
        match self {
            ClientError::Broken { may_have_happened, .. } => *may_have_happened,
            ClientError::Refused { error, .. } => error.may_have_happened.unwrap_or(false),
            ClientError::Unreadable { .. } => true,
            ClientError::InvalidAddress { .. }
            | ClientError::CutOff { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Stranger { .. } => false,
        }
    }
}

/// What really happened; the layers above it only say that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn refusal(status: u16, error: &ErrorDetail) -> String {
    match error.code {
        ErrorCode::Unauthorized => {
            "the server does not accept this token; set EVERKEPT_TOKEN, or --data to the server's directory".to_owned()
        }
        ErrorCode::InvalidField => match &error.field {
            Some(field) if !error.message.starts_with(field.as_str()) => format!("{field}: {}", error.message),
            Some(_) | None => error.message.clone(),
        },
        ErrorCode::Internal => format!("{} ({} {status}); the server's log says more", error.message, error.code),
        _ => error.message.clone(),
    }
}
