//! Agents on other machines: the two halves of a link, and what they say to each other.
//!
//! [`RemoteAgent`] is an agent to the engine and runs nothing: it hands its orders to the [`Relay`] at the far end of the
//! [`Link`] that is attached at the moment. The relay runs any [`crate::Agent`] there. Orders one way and outputs the other
//! are numbered for each agent process; what is not acknowledged is sent again over the next link, and who has it drops
//! it: nothing is lost, nothing is done twice. Processes outlive a lost link for [`HOLD`]. The frames are
//! [`frame::ToRelay`] and [`frame::FromRelay`].
//!
//! Never: a socket (a link is two queues of texts, which someone else carries), or an order that was taken given again.

mod agent;
mod book;
mod convert;
mod errand;
pub mod frame;
mod lane;
mod link;
mod presence;
mod relay;
mod running;
mod worker;

pub use agent::{Claim, ProcessIds, RemoteAgent};
pub use link::{Link, PIECE_BYTES};
pub use relay::{Relay, Workshop};

use std::time::Duration;

/// The version of the frames. Another one is refused: the two ends are the same program.
pub const PROTOCOL: u64 = 1;
/// How long a process and those who wait for it outlive a lost link.
pub const HOLD: Duration = Duration::from_secs(30);
/// How long a turn waits for a relay to be there at all.
pub const RELAY_WITHIN: Duration = Duration::from_secs(30);
/// For opening an agent session over there. More than a driver takes, so that its own fault is the one that is told.
pub const OPEN_WITHIN: Duration = Duration::from_secs(90);
/// For the other end's first frame.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// What one process may have sent and not heard of, in bytes of frames; it waits beyond that.
const WINDOW_BYTES: usize = 1024 * 1024;
/// The same in frames.
const WINDOW_FRAMES: usize = 256;
/// The largest frame. A prompt that is larger fails; what an agent says beyond it is kept as its bytes only.
const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// An agent's bytes are sent in frames of about so much.
const RAW_BYTES: usize = 256 * 1024;

/// What one end cannot go on over. The link is given up; what was not acknowledged is sent over the next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the other end speaks version {0} of the relay protocol, and this one {PROTOCOL}")]
    Version(u64),
    #[error("the token is for agent {0}")]
    OtherAgent(String),
    #[error("the other end did not introduce itself within {} s", READY_WITHIN.as_secs())]
    Late,
    #[error("a frame cannot be read: {0}")]
    Unreadable(String),
    #[error("a frame of more than {MAX_FRAME_BYTES} bytes")]
    TooLarge,
    #[error("number {got} of process {process} came where {expected} was due")]
    OutOfOrder { process: String, got: u64, expected: u64 },
    #[error("process {0} sent more than it may before it is heard")]
    Unheard(String),
}
