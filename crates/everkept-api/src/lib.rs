//! The words of the HTTP API: what goes over the wire, the one table of errors, and a client that speaks both.
//!
//! Each noun has a module; `convert.rs` is the only place where core types become wire types. Input is strict (an
//! unknown key is refused), output may gain keys. JSON that agents and clients wrote passes as the text it came in.
//!
//! Never: a core type on the wire, a rule about what is allowed, or an error that is not in the table.

mod words;

pub mod agent;
pub mod client;

mod convert;
pub mod error;
pub mod event;
pub mod list;
pub mod message;
pub mod question;
pub mod session;
pub mod summary;
pub mod token;
pub mod turn;
pub mod usage;

pub use agent::*;
pub use convert::{slug, time, time_of};
pub use error::{Error, ErrorCode, ErrorDetail};
pub use event::*;
pub use list::*;
pub use message::*;
pub use question::*;
pub use session::*;
pub use summary::*;
pub use token::*;
pub use turn::*;
pub use usage::*;

/// JSON that somebody else wrote, kept as the text it came in.
pub type RawJson = Box<serde_json::value::RawValue>;
