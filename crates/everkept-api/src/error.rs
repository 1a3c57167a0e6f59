//! The one table of errors: code, HTTP status, whether to try again, and whether nothing was changed.
//!
//! Every door translates from here. Never: a code, a status or a promise that is made up anywhere else.

use everkept_core::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

// Words are `tt`: a `literal` reaches the document's generator wrapped up, and it would write the variants' own names.
macro_rules! table {
    ($($(#[$doc:meta])* $variant:ident = $code:tt, $status:literal, $retryable:ident, $free:ident;)*) => {
        /// Everything an answer can be but good.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant),*
        }

        impl ErrorCode {
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code),* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status),* }
            }

            /// The same request may succeed later.
            pub fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$variant => table!($retryable)),* }
            }

            /// The request changed nothing, for certain.
            pub fn is_side_effect_free(self) -> bool {
                match self { $(ErrorCode::$variant => table!($free)),* }
            }
        }
    };
    (again) => { true };
    (never) => { false };
    (free) => { true };
    (unsure) => { false };
}

table! {
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400, never, free;
    /// The request itself is malformed: a header, a cursor, an `after`.
    InvalidRequest = "invalid_request", 400, never, free;
    Unauthorized = "unauthorized", 401, never, free;
    /// The credential is good, but not for this.
    Forbidden = "forbidden", 403, never, free;
    /// The Origin may not use this server.
    OriginRefused = "origin_refused", 403, never, free;
    /// No such thing, or not one of yours.
    NotFound = "not_found", 404, never, free;
    MethodNotAllowed = "method_not_allowed", 405, never, free;
    RequestTimeout = "request_timeout", 408, again, free;
    /// The session runs a turn and `if_busy` is reject.
    Busy = "busy", 409, again, free;
    SessionExists = "session_exists", 409, never, free;
    SessionArchived = "session_archived", 409, never, free;
    TurnNotQueued = "turn_not_queued", 409, never, free;
    TurnEnded = "turn_ended", 409, never, free;
    TurnOpen = "turn_open", 409, again, free;
    TurnCompleted = "turn_completed", 409, never, free;
    TurnNotCompleted = "turn_not_completed", 409, never, free;
    TurnNotDeadLettered = "turn_not_dead_lettered", 409, never, free;
    TurnWithoutRequest = "turn_without_request", 409, never, free;
    TurnHidden = "turn_hidden", 409, never, free;
    /// The conversation sent is not the one that is kept.
    HistoryDiverged = "history_diverged", 409, never, free;
    QuestionAnswered = "question_answered", 409, never, free;
    QuestionExpired = "question_expired", 409, never, free;
    NothingReverted = "nothing_reverted", 409, never, free;
    NothingToRevert = "nothing_to_revert", 409, never, free;
    /// Another relay runs the agent.
    AgentConnected = "agent_connected", 409, again, free;
    ThreadTaken = "thread_taken", 409, never, free;
    /// The position asked for is not there any more.
    CursorGone = "cursor_gone", 410, never, free;
    BodyTooLarge = "body_too_large", 413, never, free;
    UnsupportedMediaType = "unsupported_media_type", 415, never, free;
    /// The Host is not this server's.
    HostRefused = "host_refused", 421, never, free;
    InvalidField = "invalid_field", 422, never, free;
    UnknownField = "unknown_field", 422, never, free;
    /// The idempotency key was used for another request.
    IdempotencyMismatch = "idempotency_mismatch", 422, never, free;
    QueueFull = "queue_full", 429, again, free;
    HeadersTooLarge = "headers_too_large", 431, never, free;
    /// A bug of ours.
    Internal = "internal", 500, never, unsure;
    /// What is kept is damaged; nothing made up is handed out.
    Corrupt = "corrupt", 500, never, free;
    /// Storage reported an error; nothing is acknowledged until the server has been started again.
    StorageFailed = "storage_failed", 503, again, unsure;
    Stopping = "stopping", 503, again, free;
    TooManyConnections = "too_many_connections", 503, again, free;
    StorageFull = "storage_full", 507, again, free;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of every answer that is not good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Error {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    pub code: ErrorCode,
    pub message: String,
    /// The field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub retryable: bool,
    /// What was asked for may have been done all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_have_happened: Option<bool>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let may_have_happened = (!code.is_side_effect_free()).then_some(true);
        Error { error: ErrorDetail { code, message: message.into(), field: None, retryable: code.is_retryable(), may_have_happened } }
    }

    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.error.field = Some(field.into());
        self
    }

    /// What a fault knows better than the table: whether it may have happened anyway.
    pub fn with_may_have_happened(mut self, may: bool) -> Self {
        self.error.may_have_happened = Some(may);
        self
    }
}

impl From<&Refusal> for ErrorCode {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Invalid { .. } => ErrorCode::InvalidField,
            Refusal::SessionNotFound | Refusal::TurnNotFound | Refusal::QuestionNotFound | Refusal::RuleNotFound => ErrorCode::NotFound,
            Refusal::SessionExists(_) => ErrorCode::SessionExists,
            Refusal::SessionArchived(_) => ErrorCode::SessionArchived,
            Refusal::SessionBusy(_) => ErrorCode::Busy,
            Refusal::QueueFull { .. } => ErrorCode::QueueFull,
            Refusal::TurnNotQueued(_) => ErrorCode::TurnNotQueued,
            Refusal::TurnEnded(_) => ErrorCode::TurnEnded,
            Refusal::TurnOpen(_) => ErrorCode::TurnOpen,
            Refusal::TurnCompleted(_) => ErrorCode::TurnCompleted,
            Refusal::TurnNotCompleted(_) => ErrorCode::TurnNotCompleted,
            Refusal::TurnNotDeadLettered(_) => ErrorCode::TurnNotDeadLettered,
            Refusal::TurnWithoutRequest(_) => ErrorCode::TurnWithoutRequest,
            Refusal::TurnHidden(_) => ErrorCode::TurnHidden,
            Refusal::HistoryDiverged { .. } => ErrorCode::HistoryDiverged,
            Refusal::QuestionAnswered(_) => ErrorCode::QuestionAnswered,
            Refusal::QuestionExpired(_) => ErrorCode::QuestionExpired,
            Refusal::NothingReverted => ErrorCode::NothingReverted,
            Refusal::NothingToRevert => ErrorCode::NothingToRevert,
        }
    }
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        let error = Error::new(refusal.into(), refusal.to_string());
        match refusal {
            Refusal::Invalid { field, .. } => error.with_field(*field),
            Refusal::HistoryDiverged { .. } => error.with_field("messages"),
            _ => error,
        }
    }
}
