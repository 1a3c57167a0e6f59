//! A link: texts in, texts out, carried by someone else. A frame is one line of JSON, cut into pieces.
//!
//! Pieces are small so that life shows on the wire while a large frame is under way, and so that what waits is bounded.
//! Never: a frame held beyond [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES), or half of one after the link ended.

use super::{Broken, MAX_FRAME_BYTES};
use tokio::sync::mpsc;

/// The most bytes of one piece.
pub const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that may wait in each direction.
const PIECES: usize = 8;

/// One end of a link. The other end is a queue's other side: whoever has it carries the pieces over, each as it is.
#[derive(Debug)]
pub struct Link {
    pub sender: mpsc::Sender<String>,
    pub receiver: mpsc::Receiver<String>,
}

impl Link {
    /// Two ends that are each other's.
    pub fn pair() -> (Link, Link) {
        let (one, from_one) = mpsc::channel(PIECES);
        let (other, from_other) = mpsc::channel(PIECES);
        (Link { sender: one, receiver: from_other }, Link { sender: other, receiver: from_one })
    }
}

/// The link is at its end. Nothing is lost: what was not acknowledged is sent over the next.
pub(super) struct Ended;

pub(super) async fn send(sender: &mpsc::Sender<String>, frame: &str) -> Result<(), Ended> {
    let mut rest = frame;
    loop {
        let piece = first_piece(rest);
        rest = &rest[piece.len()..];
        let piece = if rest.is_empty() { format!("{piece}\n") } else { piece.to_owned() };
        sender.send(piece).await.map_err(|_| Ended)?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn first_piece(text: &str) -> &str {
    // One byte is left for the end of the line.
    let mut end = text.len().min(PIECE_BYTES - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Puts frames together again.
pub(super) struct Frames {
    receiver: mpsc::Receiver<String>,
    frame: String,
}

impl Frames {
    pub fn new(receiver: mpsc::Receiver<String>) -> Self {
        Frames { receiver, frame: String::new() }
    }

    /// The next frame; none when the link ended. Safe to drop while it waits.
    pub async fn next(&mut self) -> Result<Option<String>, Broken> {
        while let Some(piece) = self.receiver.recv().await {
            if self.frame.len() + piece.len() > MAX_FRAME_BYTES {
                return Err(Broken::TooLarge);
            }
            self.frame.push_str(&piece);
            if self.frame.ends_with('\n') {
                return Ok(Some(std::mem::take(&mut self.frame)));
            }
        }
        Ok(None)
    }
}
