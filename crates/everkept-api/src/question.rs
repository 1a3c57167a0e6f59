//! Questions on the wire, and the answer to one.
//!
//! Never: an option the agent did not offer.

use crate::{Payload, words::words};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something only a human can settle.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Question {
    pub id: String,
    pub session: String,
    pub turn: String,
    pub kind: QuestionKind,
    pub title: String,
    /// The exact call that is asked about.
    pub call: Payload,
    /// SHA-256 of the call: an answer applies to nothing else.
    pub digest: String,
    pub options: Vec<QuestionOption>,
    pub state: QuestionState,
    pub answer: Option<Answer>,
    #[schema(format = DateTime)]
    pub asked_at: String,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

words! {
    QuestionKind {
        Permission = "permission",
        Choice = "choice",
        /// What to do with a turn that a crash interrupted.
        Review = "review",
    }

    OptionKind {
        AllowOnce = "allow_once",
        AllowAlways = "allow_always",
        RejectOnce = "reject_once",
        RejectAlways = "reject_always",
        Other = "other",
    }

    QuestionState { Open = "open", Answered = "answered", Expired = "expired" }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuestionOption {
    /// The agent's own.
    pub id: String,
    pub label: String,
    pub kind: OptionKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    pub option: String,
    pub note: Option<String>,
    #[schema(format = DateTime)]
    pub at: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerQuestion {
    /// The id of one of the question's options.
    pub option: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
