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

    pub fn read<T: DeserializeOwned + Serialize>(field: &str, text: &str) -> Result<T, Failed> {
        let place: Option<T> = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // Other words for the same place were not written here.
        place.filter(|place| Self::write(place) == text).ok_or_else(|| Failed::field(field, "is not a cursor of this list"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_wrote_ourselves_is_a_cursor() {
        let read = |text: &str| Cursor::read::<(i64, String)>("cursor", text).ok();
        let written = Cursor::write(&(7, "ses_1"));
        assert_eq!(read(&written), Some((7, "ses_1".to_owned())));
        for other in [r#"[7, "ses_1"]"#, r#"[7,"ses_\u0031"]"#, r#" [7,"ses_1"]"#, r#"[7]"#, ""] {
            assert_eq!(read(&BASE64_URL_SAFE_NO_PAD.encode(other)), None, "{other}");
        }
        assert_eq!(read(&format!("{written}=")), None);
    }
}
