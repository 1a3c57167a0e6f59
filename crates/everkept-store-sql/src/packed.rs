//! The packed form of a run of deltas: what they share once, and of each its time and its text as they were written.
//!
//! It keeps pieces of the events' own bytes, so that no later change in how events are written can change them.
//! Never: a packed run that unpacks to anything but the bytes that went in.

#[cfg(test)]
mod tests;

/// The most events in one packed row.
const MAX_PACKED: u64 = 1_000;
/// About the most text in one packed row, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// The first byte of the form written here.
const FORM: u8 = 1;

/// A run of deltas with consecutive numbers, as far as it goes.
#[derive(Debug, Default)]
pub struct Packer {
    first: u64,
    bodies: Vec<Vec<u8>>,
    text: usize,
}

pub struct Packed {
    pub first: u64,
    pub last: u64,
    pub bytes: Vec<u8>,
}

impl Packer {
    /// Adds event `seq`; gives its bytes back when they do not go on with the run.
    pub fn add(&mut self, seq: u64, body: Vec<u8>) -> Option<Vec<u8>> {
        let Some(first) = self.bodies.first() else {
            // Anything can begin a run; what is no delta ends it at once.
            self.first = seq;
            self.text = body.len();
            self.bodies.push(body);
            return None;
        };
        let next = self.first + self.bodies.len() as u64;
        let room = (self.bodies.len() as u64) < MAX_PACKED && self.text < MAX_TEXT;
        let head = Delta::of(first, self.first);
        let fitting = Delta::of(&body, seq).filter(|delta| head.is_some_and(|head| head.shared() == delta.shared()));
        match fitting {
            Some(delta) if seq == next && room => self.text += delta.text.len(),
            Some(_) | None => return Some(body),
        }
        self.bodies.push(body);
        None
    }

    /// The run as one row; nothing for a single event, or where packing would not be exact.
    pub fn finish(&self) -> Option<Packed> {
        if self.bodies.len() < 2 {
            return None;
        }
        let deltas: Vec<Delta<'_>> = (self.first..).zip(&self.bodies).map(|(seq, body)| Delta::of(body, seq)).collect::<Option<_>>()?;
        let bytes = write(&deltas);
        (unpack(&bytes, self.first)? == self.bodies).then(|| Packed {
            first: self.first,
            last: self.first + self.bodies.len() as u64 - 1,
            bytes,
        })
    }
}

/// One delta's bytes, cut where deltas of one part differ: number, time, text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delta<'a> {
    /// From the number to the time.
    names: &'a [u8],
    at: &'a [u8],
    /// From the time to the text.
    part: &'a [u8],
    /// As it is escaped in the event.
    text: &'a [u8],
    end: &'a [u8],
}

const AT: &[u8] = br#","at":""#;
const TEXT: &[u8] = br#","text":""#;
const END: &[u8] = br#""}}"#;

impl<'a> Delta<'a> {
    fn of(body: &'a [u8], seq: u64) -> Option<Self> {
        let rest = body.strip_prefix(number(seq).as_slice())?;
        let at = find(rest, AT)? + AT.len();
        let (names, rest) = rest.split_at(at);
        let (at, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
        let text = find(rest, TEXT)? + TEXT.len();
        let (part, rest) = rest.split_at(text);
        let text = rest.strip_suffix(END)?;
        Some(Delta { names, at, part, text, end: END })
    }

    fn shared(&self) -> (&'a [u8], &'a [u8], &'a [u8]) {
        (self.names, self.part, self.end)
    }
}

fn number(seq: u64) -> Vec<u8> {
    format!("{{\"seq\":{seq}").into_bytes()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The form, the count, the three shared pieces, then of each delta how much of the time before it keeps, the rest of
/// its time and the length of its text, and at the end all texts.
fn write(deltas: &[Delta<'_>]) -> Vec<u8> {
    let mut out = vec![FORM];
    put(&mut out, deltas.len());
    let Some(first) = deltas.first() else { return out };
    for piece in [first.names, first.part, first.end] {
        put(&mut out, piece.len());
        out.extend_from_slice(piece);
    }
    let mut before: &[u8] = &[];
    for delta in deltas {
        let kept = before.iter().zip(delta.at).take_while(|(a, b)| a == b).count();
        put(&mut out, kept);
        put(&mut out, delta.at.len() - kept);
        out.extend_from_slice(&delta.at[kept..]);
        put(&mut out, delta.text.len());
        before = delta.at;
    }
    for delta in deltas {
        out.extend_from_slice(delta.text);
    }
    out
}

/// The events of a packed row whose first number is `first`; none for bytes that are no such row.
pub fn unpack(bytes: &[u8], first: u64) -> Option<Vec<Vec<u8>>> {
    let mut input = Input(bytes);
    if input.take(1)? != [FORM] {
        return None;
    }
    let count = input.number()?;
    if count as u64 > MAX_PACKED {
        return None;
    }
    let names = input.piece()?;
    let part = input.piece()?;
    let end = input.piece()?;
    let mut at = Vec::new();
    let mut heads = Vec::with_capacity(count);
    for seq in (first..).take(count) {
        let kept = input.number()?;
        at.truncate(kept);
        at.extend_from_slice(input.piece()?);
        heads.push(([number(seq).as_slice(), names, &at, part].concat(), input.number()?));
    }
    let mut bodies = Vec::with_capacity(count);
    for (mut body, length) in heads {
        body.extend_from_slice(input.take(length)?);
        body.extend_from_slice(end);
        bodies.push(body);
    }
    input.0.is_empty().then_some(bodies)
}

/// Seven bits to a byte, the lowest first, the high bit set on all but the last.
fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0usize;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(number)
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }
}
