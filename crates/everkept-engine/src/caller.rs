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
        self.sees_those_of(session.resource.as_ref())
    }

    fn sees_those_of(&self, owner: Option<&Resource>) -> bool {
        match &self.access {
            Access::All => true,
            Access::Resource(name) | Access::Recall(name) => owner == Some(name),
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
        self.check_owner(session.resource.as_ref())
    }

    pub(crate) fn check_owner(&self, owner: Option<&Resource>) -> Result<(), Failure> {
        if self.sees_those_of(owner) { Ok(()) } else { Err(Refusal::SessionNotFound.into()) }
    }
}
