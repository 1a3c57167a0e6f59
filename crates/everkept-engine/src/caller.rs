//! Who asks. What a caller may not see does not exist for it.

use crate::Failure;
use everkept_core::{AgentName, Refusal, Resource, Session};

/// What a credential reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    All,
    /// The sessions of one owner.
    Resource(Resource),
    /// The same, to read only.
    Recall(Resource),
    /// One agent's relay: no session at all.
    Relay(AgentName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub access: Access,
    /// Whose idempotency keys these are: the token's id.
    pub principal: String,
}

impl Caller {
    pub fn sees(&self, session: &Session) -> bool {
        match &self.access {
            Access::All => true,
            Access::Resource(name) | Access::Recall(name) => session.resource.as_ref() == Some(name),
            Access::Relay(_) => false,
        }
    }

    /// The owner whose sessions alone are listed; none lists all.
    pub fn owner(&self) -> Result<Option<&Resource>, Failure> {
        match &self.access {
            Access::All => Ok(None),
            Access::Resource(name) | Access::Recall(name) => Ok(Some(name)),
            Access::Relay(_) => Err(Failure::Forbidden),
        }
    }

    pub fn may_write(&self) -> Result<(), Failure> {
        match &self.access {
            Access::All | Access::Resource(_) => Ok(()),
            Access::Recall(_) | Access::Relay(_) => Err(Failure::Forbidden),
        }
    }

    pub(crate) fn check(&self, session: &Session) -> Result<(), Failure> {
        if self.sees(session) { Ok(()) } else { Err(Refusal::SessionNotFound.into()) }
    }
}
