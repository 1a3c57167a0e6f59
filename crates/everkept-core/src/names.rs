//! Names people and agents give: checked once, where they come in, and free to compare ever after.

use crate::Refusal;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $field:literal, $limit:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The most bytes such a name may have.
            pub const MAX_BYTES: usize = $limit;

            /// Refuses an empty name, a longer one, and control characters; `field` is named in the refusal.
            pub fn new(text: impl Into<String>) -> Result<Self, Refusal> {
                let text = text.into();
                if text.is_empty() || text.chars().any(char::is_control) {
                    return Err(Refusal::invalid($field, "must be a non-empty text without control characters"));
                }
                if text.len() > $limit {
                    return Err(Refusal::invalid($field, concat!("must be at most ", $limit, " bytes")));
                }
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

names! {
    /// A configured agent, as `[agents.NAME]` says it.
    AgentName, "agent", 64;
    /// `provider/model`, as the agent itself names it; not checked against any catalogue.
    ModelName, "model", 256;
    /// The owner of a session.
    Resource, "resource", 255;
    /// An application's own name for a conversation of one resource.
    Thread, "thread", 255;
    /// The agent's own session id.
    AgentSessionId, "agent_session", 512;
}

/// Microseconds since 1970 in UTC. Shown to people and compared for expiry; it orders nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}
