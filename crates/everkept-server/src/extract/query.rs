//! Query strings, as strict as bodies: an unknown key, a doubled one and an empty one are refused and named.
//!
//! Never a partial reading: one wrong key refuses the request.

use crate::failed::Failed;
use axum::{extract::FromRequestParts, http::request::Parts};
use everkept_api::{Error, ErrorCode};
use serde::{
    Deserializer,
    de::{self, DeserializeOwned, IntoDeserializer, value::MapDeserializer},
    forward_to_deserialize_any,
};
use std::borrow::Cow;

/// The query string as a `T`.
pub(crate) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        read(parts.uri.query().unwrap_or_default()).map(Asked)
    }
}

pub(crate) fn read<T: DeserializeOwned>(query: &str) -> Result<T, Failed> {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    for (at, (key, value)) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|(other, _)| other == key) {
            return Err(Failed::field(key, "is given twice"));
        }
        if value.is_empty() {
            return Err(Failed::field(key, "must not be empty"));
        }
    }
    let map = MapDeserializer::<_, de::value::Error>::new(pairs.into_iter().map(|(key, value)| (key, Value(value))));
    serde_path_to_error::deserialize(map).map_err(|error| {
        let said = error.inner().to_string();
        let path = error.path().to_string();
        match said.split('`').nth(1) {
            Some(name) if said.starts_with("unknown field") => {
                let name: String = name.chars().take(super::MAX_NAME).collect();
                Failed(Error::new(ErrorCode::UnknownField, format!("{name} is not known here")).with_field(name))
            }
            Some(name) if said.starts_with("missing field") => Failed::field(name, "is missing"),
            Some(_) | None => Failed::field(&path, said),
        }
    })
}

/// A position: decimal digits, anything else is 400.
pub(crate) fn digits(name: &str, text: &str) -> Result<u64, Failed> {
    let wrong = || Failed(Error::new(ErrorCode::InvalidRequest, format!("{name} must be decimal digits")).with_field(name));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// A text that becomes what is asked of it.
struct Value<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {$(
        fn $method<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let value = self.0.parse::<$type>().map_err(|_| de::Error::custom(concat!("must be ", $what)))?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = de::value::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0.into_owned())
    }

    fn deserialize_option<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: de::Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if !words.contains(&&*self.0) {
            return Err(de::Error::custom(format!("must be one of {}", words.join(", "))));
        }
        visitor.visit_enum(self.0.into_deserializer())
    }

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_u32 visit_u32 u32, "a number";
        deserialize_u64 visit_u64 u64, "a number";
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everkept_api::SessionState;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        name: Option<String>,
        limit: Option<u32>,
        archived: Option<bool>,
        state: Option<SessionState>,
    }

    #[test]
    fn a_query_is_read_strictly() {
        let all = Query { name: Some("a b/ü".into()), limit: Some(3), archived: Some(true), state: Some(SessionState::Idle) };
        assert_eq!(read::<Query>("name=a+b%2F%C3%BC&limit=3&archived=true&state=idle").unwrap(), all);
        for (query, field) in [
            ("x=1", "x"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("archived=yes", "archived"),
            ("state=x", "state"),
        ] {
            let error = read::<Query>(query).unwrap_err().0.error;
            assert_eq!((error.code.status(), error.field.as_deref()), (422, Some(field)), "{query}");
        }
    }

    #[test]
    fn a_position_is_digits() {
        assert_eq!(digits("after", "007").unwrap(), 7);
        for text in ["", "+1", "-1", "1.0", "0x1", "１", "99999999999999999999"] {
            assert_eq!(digits("after", text).unwrap_err().0.error.code.status(), 400, "{text}");
        }
    }
}
