//! One page of a list.
//!
//! Never: a cursor anyone but the server reads.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Asks for the page after this one; null on the last.
    pub next_cursor: Option<String>,
    pub has_more: bool,
    /// How many there are in all; only with `count=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl<T> List<T> {
    /// A list that is one page.
    pub fn whole(items: Vec<T>) -> Self {
        List { items, next_cursor: None, has_more: false, total: None }
    }
}
