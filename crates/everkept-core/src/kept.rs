//! What an agent itself has written of its sessions, as far as it is kept: files in pieces, each under its own digest.
//!
//! Such files only grow, so that a turn adds a piece to each. Never: the bytes themselves.

use crate::{AgentName, AgentSessionId, BlobRef, FileKept};

/// What is kept of what an agent wrote of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSession {
    pub agent: AgentName,
    pub agent_session: AgentSessionId,
    pub files: Vec<KeptFile>,
    /// The start of the last turn that stands in it.
    pub through: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// The agent's own name for it.
    pub file: String,
    pub pieces: Vec<BlobRef>,
}

impl KeptSession {
    pub fn file(&self, name: &str) -> Option<&KeptFile> {
        self.files.iter().find(|file| file.file == name)
    }

    pub(crate) fn add(&mut self, kept: &FileKept) {
        let at = self.files.iter().position(|file| file.file == kept.file).unwrap_or_else(|| {
            self.files.push(KeptFile { file: kept.file.clone(), pieces: Vec::new() });
            self.files.len() - 1
        });
        let file = &mut self.files[at];
        let mut end = 0;
        file.pieces.retain(|piece| {
            end += piece.bytes;
            end <= kept.from
        });
        file.pieces.extend(&kept.pieces);
    }
}

impl KeptFile {
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Whether a piece could begin at byte `from`.
    pub(crate) fn begins_piece(&self, from: u64) -> bool {
        let ends = self.pieces.iter().scan(0, |end, piece| {
            *end += piece.bytes;
            Some(*end)
        });
        ends.into_iter().any(|end| end == from)
    }
}
