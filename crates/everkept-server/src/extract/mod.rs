//! Reads what a request says, strictly: what is not understood is refused and named.
//!
//! Never: a guess, an ignored key, or a body read without a limit in bytes and time.

mod cursor;
mod json;
mod path;
mod query;
mod sent;

pub(crate) use cursor::{Cursor, bounded};
pub(crate) use json::{MAX_NAME, check, read_json, read_value};
pub(crate) use path::At;
pub(crate) use query::{Asked, digits};
pub(crate) use sent::{Key, Sent, read_body};
