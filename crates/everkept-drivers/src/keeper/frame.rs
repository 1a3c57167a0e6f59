//! What a server and a keeper say to each other, as frames on one socket.
//!
//! A frame is taken whole or not at all, so that what was on its way when a server died either happened or did not.
//! Places are counted in bytes of the agent's output, from its beginning.
//! Never: a meaning for what a note holds, which is for the server that wrote it and for the one after it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::io;

/// A server of another version lets the agent go and settles its turn.
pub const VERSION: u8 = 1;
/// More than the largest prompt, and than the largest note.
const MAX_FRAME: usize = 256 * 1024 * 1024;
const HEADER: usize = 5;

/// What a server orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToKeeper {
    /// A turn begins: what the agent says from `at` on is kept for the next server, with the notes.
    Begin { at: u64, note: Bytes, input: Bytes },
    /// Something for the agent. `at` is what had been heard of it by then.
    Word { at: u64, note: Bytes, input: Bytes },
    /// The turn's end is durable: nothing is to be held, and what was said before `at` is wanted by nobody.
    Rest { at: u64 },
}

/// What a keeper tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer {
    /// The first thing a server hears that takes over; the notes follow, then the agent's output from `base` on.
    Found {
        version: u8,
        pid: i32,
        base: u64,
        /// So much of the output is there already.
        end: u64,
        /// Where the last words for the agent were taken.
        last: u64,
        notes: u32,
        /// Why it cannot be gone on with comes after the notes.
        lost: bool,
    },
    Note {
        at: u64,
        note: Bytes,
    },
    Output(Bytes),
    /// The last of the agent's error output; comes before its exit.
    Errors(Bytes),
    /// All it said was told.
    Exit(u8),
    /// What the agent says cannot be kept for another server.
    Lost(String),
}

impl ToKeeper {
    pub fn write(&self, to: &mut BytesMut) {
        match self {
            Self::Begin { at, note, input } => words(to, 1, *at, note, input),
            Self::Word { at, note, input } => words(to, 2, *at, note, input),
            Self::Rest { at } => frame(to, 3, &[&at.to_be_bytes()]),
        }
    }

    /// The next whole frame, taken out of what has come so far.
    pub fn take(from: &mut BytesMut) -> io::Result<Option<Self>> {
        let Some((kind, mut body)) = take(from)? else { return Ok(None) };
        let at = body.try_get_u64().map_err(|_| broken())?;
        Ok(Some(match kind {
            1 | 2 => {
                let length = body.try_get_u32().map_err(|_| broken())? as usize;
                if body.len() < length {
                    return Err(broken());
                }
                let note = body.split_to(length);
                if kind == 1 { Self::Begin { at, note, input: body } } else { Self::Word { at, note, input: body } }
            }
            3 => Self::Rest { at },
            _ => return Err(broken()),
        }))
    }
}

impl ToServer {
    pub fn write(&self, to: &mut BytesMut) {
        match self {
            Self::Found { version, pid, base, end, last, notes, lost } => {
                let places = [*base, *end, *last].map(u64::to_be_bytes).concat();
                frame(to, 16, &[&[*version], &pid.to_be_bytes(), &places, &notes.to_be_bytes(), &[u8::from(*lost)]]);
            }
            Self::Note { at, note } => frame(to, 17, &[&at.to_be_bytes(), note]),
            Self::Output(bytes) => frame(to, 18, &[bytes]),
            Self::Errors(bytes) => frame(to, 19, &[bytes]),
            Self::Exit(code) => frame(to, 20, &[&[*code]]),
            Self::Lost(why) => frame(to, 21, &[why.as_bytes()]),
        }
    }

    pub fn take(from: &mut BytesMut) -> io::Result<Option<Self>> {
        let Some((kind, mut body)) = take(from)? else { return Ok(None) };
        let read = |body: &mut Bytes| -> Result<Self, bytes::TryGetError> {
            Ok(match kind {
                16 => Self::Found {
                    version: body.try_get_u8()?,
                    pid: body.try_get_i32()?,
                    base: body.try_get_u64()?,
                    end: body.try_get_u64()?,
                    last: body.try_get_u64()?,
                    notes: body.try_get_u32()?,
                    lost: body.try_get_u8()? != 0,
                },
                17 => Self::Note { at: body.try_get_u64()?, note: body.split_off(0) },
                18 => Self::Output(body.split_off(0)),
                19 => Self::Errors(body.split_off(0)),
                20 => Self::Exit(body.try_get_u8()?),
                _ => Self::Lost(String::from_utf8_lossy(body).into_owned()),
            })
        };
        if !(16..=21).contains(&kind) {
            return Err(broken());
        }
        read(&mut body).map(Some).map_err(|_| broken())
    }
}

fn words(to: &mut BytesMut, kind: u8, at: u64, note: &[u8], input: &[u8]) {
    let length = u32::try_from(note.len()).expect("a note is shorter than a frame may be");
    frame(to, kind, &[&at.to_be_bytes(), &length.to_be_bytes(), note, input]);
}

fn frame(to: &mut BytesMut, kind: u8, body: &[&[u8]]) {
    let length: usize = body.iter().map(|piece| piece.len()).sum();
    to.reserve(HEADER + length);
    to.put_u8(kind);
    to.put_u32(u32::try_from(length).expect("nothing that is said is so long"));
    body.iter().for_each(|piece| to.extend_from_slice(piece));
}

fn take(from: &mut BytesMut) -> io::Result<Option<(u8, Bytes)>> {
    let Some((&kind, rest)) = from.split_first() else { return Ok(None) };
    let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else { return Ok(None) };
    if length > MAX_FRAME {
        return Err(broken());
    }
    if from.len() < HEADER + length {
        from.reserve(HEADER + length - from.len());
        return Ok(None);
    }
    from.advance(HEADER);
    Ok(Some((kind, from.split_to(length).freeze())))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no frame of a keeper's")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_however_it_comes_and_nothing_of_a_frame_that_was_cut_off() {
        let (note, input) = (Bytes::from_static(b"note"), Bytes::from_static(b"input\n"));
        let orders = [
            ToKeeper::Begin { at: 7, note: note.clone(), input: input.clone() },
            ToKeeper::Word { at: u64::MAX, note: Bytes::new(), input },
            ToKeeper::Rest { at: 0 },
        ];
        let told = [
            ToServer::Found { version: VERSION, pid: 12, base: 1, end: 2, last: 3, notes: 4, lost: true },
            ToServer::Note { at: 5, note: note.clone() },
            ToServer::Output(note.clone()),
            ToServer::Errors(Bytes::new()),
            ToServer::Exit(127),
            ToServer::Lost("why".into()),
        ];
        let (mut to_keeper, mut to_server) = (BytesMut::new(), BytesMut::new());
        orders.iter().for_each(|order| order.write(&mut to_keeper));
        told.iter().for_each(|word| word.write(&mut to_server));
        let (mut came, mut read) = (BytesMut::new(), Vec::new());
        for byte in to_keeper {
            came.put_u8(byte);
            read.extend(ToKeeper::take(&mut came).unwrap());
        }
        assert_eq!((read.as_slice(), came.len()), (&orders[..], 0));
        let last = to_server.split_off(to_server.len() - 1);
        let mut read = Vec::new();
        while let Some(word) = ToServer::take(&mut to_server).unwrap() {
            read.push(word);
        }
        assert_eq!(read, told[..5], "the last one was cut off");
        to_server.unsplit(last);
        assert_eq!(ToServer::take(&mut to_server).unwrap().as_ref(), told.last());
        assert!(ToServer::take(&mut BytesMut::from(&b"{\"no\":\"frame\"}"[..])).is_err());
    }
}
