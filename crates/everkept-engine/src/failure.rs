//! Everything an order can come to but done.

use everkept_core::Refusal;
use everkept_store::{Problem, StoreFault};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The credential is good, but not for this.
    #[error("this credential may not do that")]
    Forbidden,
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("thread and resource belong to session {0}")]
    ThreadTaken(everkept_core::SessionId),
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The server is on its way out; nothing was changed.
    #[error("the server is stopping")]
    Stopping,
    /// The session's task met a mistake of ours. Whether it happened all the same is not known.
    #[error("the server made a mistake, which it has noted")]
    BrokenDown,
}

impl Failure {
    /// Storage reported an error after which nothing may be acknowledged.
    pub fn is_storage_failed(&self) -> bool {
        matches!(self, Failure::Store(StoreFault { problem: Problem::Failed(_), .. }))
    }
}
