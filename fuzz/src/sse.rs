//! The reader of server-sent events, beside one that was written from the standard and sees the whole at once.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>
//! Never: other events because the bytes came in other pieces.

use everkept_api::client::{Sse, SseReader};

pub fn run(bytes: &[u8]) {
    let Some((seed, stream)) = bytes.split_first() else { return };
    let expected: Vec<Sse> = parse(stream).into_iter().map(|event| Sse { id: event.id, event: event.name, data: event.data }).collect();
    assert_eq!(SseReader::default().push(stream), expected, "in one piece");
    let mut reader = SseReader::default();
    let mut found = Vec::new();
    let (mut rest, mut seed) = (stream, u32::from(*seed));
    while !rest.is_empty() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, after) = rest.split_at((1 + seed as usize / 65_536 % 7).min(rest.len()));
        found.extend(reader.push(piece));
        rest = after;
    }
    assert_eq!(found, expected, "in pieces");
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: String,
}

/// The events of a whole stream. Unlike a browser it keeps an event's own id, and none for one that has none.
pub fn parse(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut events = Vec::new();
    let (mut event, mut data): (Event, Option<String>) = Default::default();
    for line in lines(stream) {
        if line.is_empty() {
            let ended = std::mem::take(&mut event);
            events.extend(data.take().map(|data| Event { data, ..ended }));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value)).into_owned();
        match field {
            b"data" => data = Some(data.map_or(value.clone(), |before| before + "\n" + &value)),
            b"event" => event.name = Some(value),
            b"id" if !value.contains('\0') => event.id = Some(value),
            _ => {}
        }
    }
    events
}

/// Every line that was ended, by CR LF, LF or CR.
fn lines(mut stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let at = stream.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let line = &stream[..at];
        stream = if stream[at..].starts_with(b"\r\n") { &stream[at + 2..] } else { &stream[at + 1..] };
        Some(line)
    })
}
