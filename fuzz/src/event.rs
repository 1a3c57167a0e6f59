//! Decoding of stored events, and the server-sent event each becomes.
//!
//! Never: an event that changes by being written and read, or that is more than one line.

use crate::sse;
use everkept_core::{
    AgentRaw, Body, Event, Json, MessageId, PartDelta, PartId, Payload, PlanUpdated, SessionCreated, SessionId, SessionUpdated, TextKind,
    Timestamp, TurnEnd, TurnEnded, TurnId,
};
use everkept_engine::Frame;
use everkept_store::{StoredEvent, decode, encode};
use libfuzzer_sys::arbitrary::{Result, Unstructured};

pub fn run(bytes: &[u8]) {
    match decode(bytes) {
        Ok((seq, event)) => check(seq, &event),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok((seq, event)) = make(&mut Unstructured::new(bytes)) {
        check(seq, &event);
    }
}

fn check(seq: u64, event: &Event) {
    let written = encode(event, seq);
    let (read_seq, read) = decode(&written).expect("what was written can be read");
    assert_eq!((read_seq, &read), (seq, event));
    assert_eq!(encode(&read, seq), written, "what was written is written the same again");
    assert!(!written.iter().any(|byte| matches!(byte, b'\n' | b'\r')), "an event is one line");
    serde_json::from_slice::<&serde_json::value::RawValue>(&written).expect("an event is JSON");

    let stored = StoredEvent { seq, kind: event.body.kind(), bytes: written.into() };
    let frame = Frame::new(&stored);
    let text = std::str::from_utf8(&stored.bytes).expect("JSON is UTF-8").to_owned();
    let expected = sse::Event { id: Some(seq.to_string()), name: Some(stored.kind.to_owned()), data: text };
    assert_eq!(sse::parse(&frame.sse), [expected]);
    assert_eq!(frame.json, stored.bytes);
}

/// An event of ours with any texts, times and numbers.
fn make(input: &mut Unstructured<'_>) -> Result<(u64, Event)> {
    let seq = input.arbitrary()?;
    // What lies outside of what a calendar has is shown as the nearest, which has a test of its own.
    let at = Timestamp(input.int_in_range(-377_705_023_201_000_000..=253_402_207_200_999_999)?);
    let turn = if input.arbitrary()? { Some(TurnId(uuid::Uuid::from_u128(input.arbitrary()?))) } else { None };
    let body = body(input)?;
    Ok((seq, Event { session: SessionId(uuid::Uuid::from_u128(input.arbitrary()?)), turn, context: input.arbitrary()?, at, body }))
}

fn body(input: &mut Unstructured<'_>) -> Result<Body> {
    let (message, part) = (MessageId(uuid::Uuid::from_u128(1)), PartId(uuid::Uuid::from_u128(2)));
    Ok(match input.int_in_range(0..=6)? {
        0 => {
            let kind = if input.arbitrary()? { TextKind::Text } else { TextKind::Reasoning };
            Body::from(PartDelta { message, part, kind, text: input.arbitrary()? })
        }
        1 => Body::from(SessionCreated {
            title: input.arbitrary()?,
            resource: None,
            thread: None,
            directory: input.arbitrary()?,
            agent: None,
            model: None,
            parent: None,
            metadata: json(input)?,
        }),
        2 => Body::from(SessionUpdated { title: input.arbitrary()?, file_changes: Some(json(input)?), ..SessionUpdated::default() }),
        3 => Body::from(PlanUpdated { entries: Payload::Json(json(input)?) }),
        4 => Body::from(AgentRaw::Text(input.arbitrary()?)),
        5 => Body::from(AgentRaw::Json(json(input)?)),
        _ => Body::from(TurnEnded { state: TurnEnd::Failed, reason: input.arbitrary()?, error: None }),
    })
}

/// Any JSON there is, as somebody may have written it; a text of it where the bytes are none.
fn json(input: &mut Unstructured<'_>) -> Result<Json> {
    let text: String = input.arbitrary()?;
    Ok(Json::parse(text).unwrap_or_else(|text| Json::of(&text)))
}
