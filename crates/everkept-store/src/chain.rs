//! Checksums of events, and the chain that links the events of a log.
//!
//! Never depends on anything but bytes: what was linked once is linked the same way for ever.

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

/// The hash that stands for a log up to and including an event.
pub type Chain = [u8; 32];
/// What one event's bytes are checked by.
pub type Sum = [u8; 8];

/// The chain of a log before its first event.
pub const CHAIN_START: Chain = [0; 32];

/// The checksum of an event's bytes: their XXH3, which every read can afford. Nobody who means harm is kept out by it; who
/// changes events is found by the chain.
pub fn sum(bytes: &[u8]) -> Sum {
    XxHash3_64::oneshot(bytes).to_be_bytes()
}

/// Whether bytes are those that a checksum was made of. Until schema version 3 it was how their SHA-256 begins.
pub fn fits(bytes: &[u8], kept: Sum) -> bool {
    sum(bytes) == kept || Sha256::digest(bytes).starts_with(&kept)
}

/// The checksum of the next event's bytes, and the chain with the event on it.
pub fn link(chain: &Chain, bytes: &[u8]) -> (Sum, Chain) {
    let next = Sha256::new().chain_update(chain).chain_update(Sha256::digest(bytes)).finalize().into();
    (sum(bytes), next)
}
