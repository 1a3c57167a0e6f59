//! Hands committed events to everyone who reads along.
//!
//! Never holds a writer up, and never shows an event that is not committed: a reader that falls behind reads the store.

use bytes::{Bytes, BytesMut};
use everkept_core::{SessionId, SessionState};
use everkept_store::StoredEvent;
use std::sync::Arc;

/// One committed event, ready for every kind of reader: made once, shared by all.
#[derive(Debug, Clone)]
pub struct Frame {
    pub seq: u64,
    pub kind: &'static str,
    /// The event's public JSON.
    pub json: Bytes,
    /// The same as one server-sent event, blank line included.
    pub sse: Bytes,
}

impl Frame {
    pub fn new(event: &StoredEvent) -> Self {
        let (seq, kind) = (event.seq.to_string(), event.kind);
        let mut buffer = BytesMut::with_capacity(event.bytes.len() + seq.len() + kind.len() + 24);
        buffer.extend_from_slice(b"id: ");
        buffer.extend_from_slice(seq.as_bytes());
        buffer.extend_from_slice(b"\nevent: ");
        buffer.extend_from_slice(kind.as_bytes());
        buffer.extend_from_slice(b"\ndata: ");
        let start = buffer.len();
        buffer.extend_from_slice(&event.bytes);
        let end = buffer.len();
        buffer.extend_from_slice(b"\n\n");
        let sse = buffer.freeze();
        Frame { seq: event.seq, kind, json: sse.slice(start..end), sse }
    }
}

/// A batch of one session's events.
pub(crate) type Batch = Arc<[Frame]>;

/// Batches a reader may be behind before it is sent to the store. Each is shared, so this bounds a count, not copies.
pub(crate) const BATCHES: usize = 64;

/// Something changed in a session: for lists that stay up to date. Not replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub session: SessionId,
    pub resource: Option<everkept_core::Resource>,
    pub seq: u64,
    pub state: SessionState,
}
