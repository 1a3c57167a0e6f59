//! Cursors: where a page ended, as a text only we read.
//!
//! Never an offset: a cursor names the last row, so that rows that come in between move nothing.

use crate::failed::Failed;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1_000;

pub(crate) struct Cursor;

impl Cursor {
    pub fn write(place: &impl Serialize) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).expect("a place is numbers and ids"))
    }

    pub fn read<T: DeserializeOwned>(field: &str, text: &str) -> Result<T, Failed> {
        let place = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        place.ok_or_else(|| Failed::field(field, "is not a cursor of this list"))
    }
}

/// How many items a page has.
pub(crate) fn bounded(field: &str, limit: Option<u32>) -> Result<u32, Failed> {
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => Err(Failed::field(field, format!("must be between 1 and {MAX_LIMIT}"))),
    }
}
