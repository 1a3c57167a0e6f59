//! How often something is tried again, and how long it waits before that.
//!
//! Never a loop without an end: every count here has a last step.

use std::time::Duration;

/// The waits before a try is repeated, in milliseconds.
const WAITS_MS: [u64; 4] = [500, 1_000, 2_000, 4_000];

/// How often a turn whose agent cannot be opened is put off before it is given up.
pub const OPENINGS: u32 = WAITS_MS.len() as u32;

/// The wait after failure number `failures`, from 1.
pub fn wait(failures: u32) -> Duration {
    let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    Duration::from_millis(WAITS_MS[at.min(WAITS_MS.len() - 1)])
}
