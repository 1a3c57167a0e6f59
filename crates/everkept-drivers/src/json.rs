//! JSON that others wrote, read so that nothing in it can fail more than the one value it stands in.
//!
//! Every value stays the agent's own JSON text until somebody needs it as something else. Unpaired surrogates and bytes
//! that are not UTF-8 become U+FFFD where a text is needed; depth and the size of numbers are nobody's concern here.
//! Never: a generated type of a protocol, or an error for a field that is missing or strange.

use everkept_core::Json;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// The text of one line, without its end, or the byte order mark that some runtimes begin their output with.
pub fn text(line: &[u8]) -> Cow<'_, str> {
    let line = line.trim_ascii();
    String::from_utf8_lossy(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii())
}

/// One JSON value as the agent wrote it.
#[derive(Clone, Copy)]
pub struct Value<'a>(pub &'a RawValue);

impl<'a> Value<'a> {
    pub fn json(self) -> Json {
        Json::parse(self.0.get().to_owned()).expect("a raw value is JSON")
    }

    /// None when it is no string.
    pub fn text(self) -> Option<String> {
        let text = self.0.get();
        serde_json::from_str(text).or_else(|_| serde_json::from_str(&mend(text))).ok()
    }

    pub fn number(self) -> Option<u64> {
        serde_json::from_str(self.0.get()).ok()
    }

    pub fn float(self) -> Option<f64> {
        serde_json::from_str(self.0.get()).ok()
    }

    pub fn flag(self) -> bool {
        self.0.get() == "true"
    }

    /// Empty when it is no object.
    pub fn object(self) -> Object<'a> {
        Object::parse(self.0.get()).unwrap_or_default()
    }

    /// Empty when it is no list.
    pub fn list(self) -> Vec<Value<'a>> {
        serde_json::from_str::<Vec<&RawValue>>(self.0.get()).unwrap_or_default().into_iter().map(Value).collect()
    }
}

/// One JSON object; a `null` counts as absent.
#[derive(Default)]
pub struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.get(key).filter(|value| value.get() != "null").map(|value| Value(value))
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Value::text)
    }

    pub fn object(&self, key: &str) -> Object<'a> {
        self.get(key).map(Value::object).unwrap_or_default()
    }

    pub fn list(&self, key: &str) -> Vec<Value<'a>> {
        self.get(key).map(Value::list).unwrap_or_default()
    }
}

/// Puts U+FFFD in the place of every escaped surrogate that lacks its other half.
fn mend(literal: &str) -> String {
    let mut mended = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(Half::High), Some(Half::Low)) => 12,
            (Some(_), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // The backslash and the one character it escapes; the digits of a `\u` need no care.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        let (escape, after) = escape.split_at(length);
        mended.push_str(escape);
        rest = after;
    }
    mended + rest
}

enum Half {
    High,
    Low,
}

fn surrogate(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..0xdc00 => Some(Half::High),
        0xdc00..0xe000 => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(literal: &str) -> Option<String> {
        Value(serde_json::from_str(literal).expect("a literal")).text()
    }

    #[test]
    fn half_a_surrogate_costs_one_character() {
        assert_eq!(text_of(r#""a\ud800b""#).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(text_of(r#""\udc00\ud83d\ude00\ud83d""#).as_deref(), Some("\u{fffd}\u{1f600}\u{fffd}"));
        assert_eq!(text_of(r#""\\ud800 \n \ud800\u0041é""#).as_deref(), Some("\\ud800 \n \u{fffd}A\u{e9}"));
        assert_eq!(text_of("12"), None);
    }
}
