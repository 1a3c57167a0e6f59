//! JSON bodies.
//!
//! What is not JSON (lone surrogates and ten thousand levels included) is 400; JSON that is not what was asked for is
//! 422 and names the field.

use crate::failed::Failed;
use axum::http::{HeaderMap, header};
use everkept_api::{Error, ErrorCode};
use serde::de::DeserializeOwned;

/// Reads a body; an empty one counts as `{}`.
pub(crate) fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Failed> {
    if body.is_empty() {
        return read_slice(b"{}");
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Failed::new(ErrorCode::UnsupportedMediaType, "the content-type must be application/json"));
    }
    read_slice(body)
}

fn read_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    check(body)?;
    // serde would take a list for an object's values in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Failed::field("body", "must be an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| wrong(".", &error))?;
    Ok(value)
}

/// How deep JSON may be: as deep as its readers go.
const MAX_DEPTH: usize = 127;

/// Refuses what parsing may pass over, because it skips what it keeps as it came: endless depth, and escapes of half a
/// character, which no text can hold.
pub(crate) fn check(body: &[u8]) -> Result<(), Failed> {
    let wrong = |what: &str| Failed::new(ErrorCode::InvalidJson, format!("the body is not JSON: {what}"));
    let (mut depth, mut at, mut in_text) = (0_usize, 0, false);
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            b'\\' if in_text => match (escaped(&body[at - 1..]), escaped(body.get(at + 5..).unwrap_or_default())) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 11,
                (Some(0xd800..=0xdfff), _) => return Err(wrong("a lone surrogate")),
                (Some(_), _) => at += 5,
                (None, _) => at += 1,
            },
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(wrong("too deep"));
        }
    }
    Ok(())
}

/// The unit that a text beginning with `\u` and four digits stands for.
fn escaped(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Reads a value that was JSON already.
pub(crate) fn read_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Failed> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })
}

fn wrong(path: &str, error: &serde_json::Error) -> Failed {
    use serde_json::error::Category;
    let said = error.to_string();
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => Failed::new(ErrorCode::InvalidJson, format!("the body is not JSON: {said}")),
        Category::Data => match quoted(&said) {
            Some(name) if said.starts_with("unknown field") => {
                let field = beside(path, name);
                Failed(Error::new(ErrorCode::UnknownField, format!("{field} is not known here")).with_field(field))
            }
            Some(name) if said.starts_with("missing field") => {
                let field = within(path, name);
                Failed(Error::new(ErrorCode::InvalidField, format!("{field} is missing")).with_field(field))
            }
            Some(name) if said.starts_with("duplicate field") => Failed::field(&within(path, name), "is given twice"),
            Some(_) | None => {
                let field = if path == "." { "body" } else { path };
                let error = Error::new(ErrorCode::InvalidField, format!("{}: {}", shown(field), without_place(&said)));
                Failed(error.with_field(shown(field)))
            }
        },
    }
}

/// The most of a sender's own names that an error repeats.
pub(crate) const MAX_NAME: usize = 100;

fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// serde writes the name it speaks of as `name`.
fn quoted(said: &str) -> Option<&str> {
    said.split('`').nth(1)
}

/// The path of an unknown key may end with the key or with what it stands in.
fn beside(path: &str, name: &str) -> String {
    let name = shown(name);
    match path {
        "." | "?" => name,
        path if path == name || path.ends_with(&format!(".{name}")) => shown(path),
        path => within(path.strip_suffix(".?").unwrap_or(path), &name),
    }
}

fn within(path: &str, name: &str) -> String {
    if path == "." { shown(name) } else { format!("{}.{}", shown(path), shown(name)) }
}

fn without_place(said: &str) -> &str {
    said.rsplit_once(" at line ").map_or(said, |(what, _)| what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        name: Option<String>,
        inner: Option<Inner>,
        many: Option<BTreeMap<String, Inner>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        number: u32,
    }

    fn refused(body: &str) -> (u16, String) {
        let error = read_slice::<Body>(body.as_bytes()).unwrap_err().0.error;
        (error.code.status(), error.field.unwrap_or_default())
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(r#"{"nam": 1}"#), (422, "nam".into()));
        assert_eq!(refused(r#"{"name": 1}"#), (422, "name".into()));
        assert_eq!(refused(r#"{"inner": {"number": 1, "x": 2}}"#), (422, "inner.x".into()));
        assert_eq!(refused(r#"{"inner": {}}"#), (422, "inner.number".into()));
        assert_eq!(refused(r#"{"many": {"a": {"number": "1"}}}"#), (422, "many.a.number".into()));
        assert_eq!(refused("[\"a\"]"), (422, "body".into()));
        assert_eq!(refused("3"), (422, "body".into()));
        assert_eq!(refused(r#"{"name": "a", "name": "b"}"#), (422, "name".into()));
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        let deep = "[".repeat(10_000);
        let deep_name = format!(r#"{{"name": {deep}"#);
        for body in ["{", "nope", r#"{"name": "\ud800"}"#, r#"{"name": "x"} y"#, &deep, &deep_name, r#"{"name":"a","inner":"#] {
            assert_eq!(refused(body).0, 400, "{body:.40}");
        }
    }

    #[test]
    fn what_is_kept_as_it_came_is_checked_as_well() {
        let check = |body: &str| check(body.as_bytes()).is_ok();
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e9 [[[[""#, "[[[{}]]]", r#""a\"b""#, &"[]".repeat(500)] {
            assert!(check(good), "{good:.40}");
        }
        for bad in [
            r#""\ud800""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\ud83d x""#,
            r#"{"\udfff":1}"#,
            &"[".repeat(128),
            &r#"{"a":"#.repeat(128),
        ] {
            assert!(!check(bad), "{bad:.40}");
        }
    }
}
