//! What a session adds up to.
//!
//! Never: an estimate; every figure is counted off the log.

use crate::{Session, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    pub session: Session,
    pub events: u64,
    pub messages: u64,
    pub turns: u64,
    pub usage: Usage,
    /// Events per kind.
    pub kinds: BTreeMap<String, u64>,
    pub contexts: Vec<ContextSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextSummary {
    pub context: u32,
    pub turns: u64,
    pub events: u64,
    #[schema(format = DateTime)]
    pub first_at: String,
    #[schema(format = DateTime)]
    pub last_at: String,
}
