//! What the core says no to. Each is part of the API: the server has one status and code for each.

use crate::{MessageId, QuestionId, SessionId, TurnId};

/// The caller asked for something that is not allowed; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{field} {problem}")]
    Invalid { field: &'static str, problem: String },
    #[error("no such session")]
    SessionNotFound,
    #[error("no such turn")]
    TurnNotFound,
    #[error("no such question")]
    QuestionNotFound,
    #[error("no such rule")]
    RuleNotFound,
    #[error("session {0} exists already")]
    SessionExists(SessionId),
    #[error("session {0} is archived and takes no new turn")]
    SessionArchived(SessionId),
    #[error("turn {0} is running and if_busy is reject")]
    SessionBusy(TurnId),
    #[error("the queue of the session holds {limit} turns already")]
    QueueFull { limit: usize },
    #[error("turn {0} is not queued")]
    TurnNotQueued(TurnId),
    #[error("turn {0} has ended")]
    TurnEnded(TurnId),
    #[error("turn {0} has not ended")]
    TurnOpen(TurnId),
    #[error("turn {0} completed; redo asks for another answer")]
    TurnCompleted(TurnId),
    #[error("turn {0} did not complete; retry tries it again")]
    TurnNotCompleted(TurnId),
    #[error("turn {0} is no dead letter")]
    TurnNotDeadLettered(TurnId),
    #[error("turn {0} has no request message to try again")]
    TurnWithoutRequest(TurnId),
    #[error("turn {0} is not part of the conversation any more")]
    TurnHidden(TurnId),
    #[error("the conversation sent differs from the one kept at message {at}")]
    HistoryDiverged { at: usize, held: Option<MessageId> },
    #[error("question {0} is answered")]
    QuestionAnswered(QuestionId),
    #[error("question {0} has expired")]
    QuestionExpired(QuestionId),
    #[error("nothing is reverted")]
    NothingReverted,
    #[error("nothing to revert")]
    NothingToRevert,
}

impl Refusal {
    /// A field that is wrong, and what would be right.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Refusal::Invalid { field, problem: problem.into() }
    }
}
