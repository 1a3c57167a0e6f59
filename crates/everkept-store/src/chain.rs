//! Checksums of events, and the chain that links the events of a log.
//!
//! Never depends on anything but bytes: what was linked once is linked the same way for ever.

use sha2::{Digest, Sha256};

/// The hash that stands for a log up to and including an event.
pub type Chain = [u8; 32];
/// What one event's bytes are checked by.
pub type Sum = [u8; 8];

/// The chain of a log before its first event.
pub const CHAIN_START: Chain = [0; 32];

/// The checksum of an event's bytes: how their SHA-256 begins.
pub fn sum(bytes: &[u8]) -> Sum {
    shorten(&Sha256::digest(bytes).into())
}

/// The checksum of the next event's bytes, and the chain with the event on it.
pub fn link(chain: &Chain, bytes: &[u8]) -> (Sum, Chain) {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let next = Sha256::new().chain_update(chain).chain_update(digest).finalize().into();
    (shorten(&digest), next)
}

fn shorten(digest: &[u8; 32]) -> Sum {
    let mut sum = Sum::default();
    sum.copy_from_slice(&digest[..8]);
    sum
}
