//! A question only a human, or a holder of the right capability, can settle.

use crate::{Payload, QuestionId, SessionId, TextDigest, Timestamp, TurnId};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub id: QuestionId,
    pub session: SessionId,
    pub turn: TurnId,
    pub kind: QuestionKind,
    pub title: String,
    /// The exact call that is asked about, as the agent wrote it.
    pub call: Payload,
    /// SHA-256 of what `call` would do: an answer applies to nothing else.
    pub digest: TextDigest,
    /// The agent's own id of its request.
    pub request: Option<String>,
    pub options: Vec<QuestionOption>,
    pub state: QuestionState,
    pub answer: Option<Answer>,
    pub asked_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

impl Question {
    /// The option that the agent is told; none is a no. "Always" is a rule of the session's, which can be taken back: an agent
    /// that heard the word would keep one of its own, often for more than this call and for longer than the session.
    pub fn told(&self) -> Option<&str> {
        let answer = self.answer.as_ref().filter(|_| self.state == QuestionState::Answered)?;
        let kind_of = |id: &str| self.options.iter().find(|option| option.id == id).map(|option| option.kind);
        let always = self.kind == QuestionKind::Permission && kind_of(&answer.option) == Some(OptionKind::AllowAlways);
        let once = self.options.iter().find(|option| always && option.kind == OptionKind::AllowOnce);
        Some(once.map_or(&answer.option, |once| &once.id))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionKind {
    Permission,
    Choice,
    /// What to do with a turn that a crash interrupted.
    Review,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionOption {
    /// The agent's own id of the option.
    pub id: String,
    pub label: String,
    pub kind: OptionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionKind {
    AllowOnce,
    AllowAlways,
    RejectOnce,
    RejectAlways,
    /// Neither a permission nor a refusal.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionState {
    Open,
    Answered,
    Expired,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub option: String,
    pub note: Option<String>,
    pub at: Timestamp,
}

/// Why a question ended without an answer. Silence means no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiredBecause {
    Timeout,
    TurnEnded,
    AgentGone,
    /// The agent itself took the question back.
    Withdrawn,
}

/// The options of a review question; their ids are words of the API.
pub const REVIEW_CONTINUE: &str = "continue";
pub const REVIEW_REDO: &str = "redo";
pub const REVIEW_LEAVE: &str = "leave";
