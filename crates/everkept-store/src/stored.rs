//! The stored form of an event: its public JSON, byte for byte, for ever.
//!
//! Never: rewritten. Older forms are read into today's core type here and nowhere else.

use bytes::Bytes;
use everkept_core::{Body, Event, SessionId, Timestamp, TurnId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;

/// One event as it is kept and as readers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub seq: u64,
    pub kind: &'static str,
    /// The event's public JSON.
    pub bytes: Bytes,
}

/// Events as text, each with a line end behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    pub bytes: Bytes,
    /// The number of the last of them; what was asked to come after, when there is none.
    pub last: u64,
}

impl Lines {
    pub fn of(events: &[StoredEvent], after: u64) -> Lines {
        let bytes = events.iter().flat_map(|event| [&event.bytes[..], b"\n"]).collect::<Vec<_>>().concat();
        Lines { bytes: bytes.into(), last: events.last().map_or(after, |event| event.seq) }
    }
}

/// The public JSON of `event` as number `seq` of its log.
pub fn encode(event: &Event, seq: u64) -> Vec<u8> {
    let data = event.body.data();
    let mut text = String::with_capacity(data.len() + 192);
    let turn = event.turn.map_or("null".to_owned(), |turn| format!("\"{turn}\""));
    write!(
        text,
        r#"{{"seq":{seq},"kind":"{}","session":"{}","turn":{turn},"context":{},"at":"{}","data":{data}}}"#,
        event.body.kind(),
        event.session,
        event.context,
        rfc3339(event.at),
    )
    .expect("writing to a String cannot fail");
    text.into_bytes()
}

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not the JSON of an event: {0}")]
    Json(#[from] serde_json::Error),
    #[error("unknown event kind {0}")]
    UnknownKind(String),
    #[error("not a time: {0}")]
    Time(jiff::Error),
}

/// Reads an event and its number.
pub fn decode(bytes: &[u8]) -> Result<(u64, Event), DecodeError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        seq: u64,
        #[serde(borrow)]
        kind: std::borrow::Cow<'a, str>,
        session: SessionId,
        turn: Option<TurnId>,
        context: u32,
        #[serde(borrow)]
        at: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes)?;
    let body = Body::read(&envelope.kind, envelope.data.get()).ok_or_else(|| DecodeError::UnknownKind(envelope.kind.into_owned()))??;
    let at: jiff::Timestamp = envelope.at.parse().map_err(DecodeError::Time)?;
    let event =
        Event { session: envelope.session, turn: envelope.turn, context: envelope.context, at: Timestamp(at.as_microsecond()), body };
    Ok((envelope.seq, event))
}

/// RFC 3339 in UTC with microseconds; a time that no calendar has is shown as the nearest one.
fn rfc3339(at: Timestamp) -> impl std::fmt::Display {
    let nearest = if at.0.is_negative() { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(at.0).unwrap_or(nearest)
}
