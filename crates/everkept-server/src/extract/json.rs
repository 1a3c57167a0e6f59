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
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        wrong(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| wrong(".", &error))?;
    Ok(value)
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
        assert_eq!(refused("[]"), (422, "body".into()));
        assert_eq!(refused("3"), (422, "body".into()));
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        let deep = "[".repeat(10_000);
        for body in ["{", "nope", r#"{"name": "\ud800"}"#, r#"{"name": "x"} y"#, deep.as_str(), r#"{"name":"a","name":"#] {
            assert_eq!(refused(body).0, 400, "{body:.40}");
        }
        assert_eq!(refused(&format!(r#"{{"name": {deep}"#)).0, 422, "a list is no name, whatever it holds");
    }
}
