//! Events on the wire.
//!
//! Never: written by this crate. The server hands out the bytes the store keeps; this is how a client reads them.

use crate::RawJson;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One durable fact. As a server-sent event, `id` is `seq`, `event` is `kind` and `data` is the whole of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// 1, 2, 3 ... within its session.
    pub seq: u64,
    pub kind: String,
    pub session: String,
    pub turn: Option<String>,
    pub context: u32,
    #[schema(format = DateTime)]
    pub at: String,
    /// What `kind` says it is.
    #[schema(value_type = Object)]
    pub data: RawJson,
}
