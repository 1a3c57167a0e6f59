//! What an agent writes down of its sessions by itself, where it does: to be copied, and to be put back where it was lost.
//!
//! Files are called by names that mean the same on every machine; where one lies is the agent's own rule. They only grow.
//! Never: a path that somebody else made up, or anything but the conversation.

use crate::{AgentFault, BoxFuture};
use bytes::Bytes;
use everkept_core::{AgentSessionId, BlobRef};
use std::path::PathBuf;

/// The most that is read of a file at a time.
pub const PIECE_BYTES: usize = 4 * 1024 * 1024;

pub trait Transcripts: Send + Sync {
    /// What is written of the session beyond what is kept of it, about [`PIECE_BYTES`] of a file at most; nothing when all
    /// of it is kept.
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>>;

    /// Which of the kept files the agent does not have, or has less of.
    fn lacking(&self, kept: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>>;

    /// Gives the agent files that it lacks, each whole or not at all, and says which it took: what is there and is not the
    /// beginning of what is kept stays as it is.
    fn put_back(&self, directory: PathBuf, session: AgentSessionId, files: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>>;
}

/// A session as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where the agent works in it.
    pub directory: PathBuf,
    pub session: AgentSessionId,
    pub files: Vec<SoFar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoFar {
    pub name: String,
    pub bytes: u64,
    /// The last of its pieces, by which a file that was written anew is known.
    pub last: BlobRef,
}

/// What follows in a file after byte `from`. From 0 on when what is there does not go on from what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub file: String,
    pub from: u64,
    pub bytes: Bytes,
    /// There was more than is read at a time.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub file: String,
    pub bytes: Bytes,
}

impl Kept {
    pub fn file(&self, name: &str) -> Option<&SoFar> {
        self.files.iter().find(|file| file.name == name)
    }
}
