//! What turns cost, one by one and added up.
//!
//! Never: a cost that nobody stated. Where one is not known, the tokens stand alone and the turn is counted as such.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Tokens and money. What is not known is absent. The kinds of tokens do not overlap, but for reasoning, which is part of
/// the output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Neither read from a cache nor written to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// In millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd_micros: Option<u64>,
    /// The latest date of the prices that the cost, or part of it, was reckoned from; absent where agents reported all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priced_on: Option<String>,
    /// The agent's own id of what it counted, which counts once in a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Each model's part, where the agent tells them apart.
    #[schema(no_recursion)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Usage>,
}

/// Sums over turns, each of which is counted once: in the session it was asked for in, and in no fork of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// The newest day first, then by owner, agent, model and session.
    pub items: Vec<UsageSum>,
    /// Of all that fits the filters, more than is listed too.
    pub total: UsageSum,
    /// There are more sums than are listed: filter, or tell less apart.
    pub has_more: bool,
}

/// One sum. What it is not told apart by is absent; so is an owner or a model that nobody named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UsageSum {
    /// In which the turns began, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub turns: u64,
    /// Those of which some cost is not known.
    pub turns_without_cost: u64,
    pub usage: Usage,
    /// The part of the cost that was reckoned from prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reckoned_usd_micros: Option<u64>,
}
