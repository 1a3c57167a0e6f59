//! What a write sends: its body, and the idempotency key under which its answer is kept.
//!
//! Never read for a caller that may not write, and never past the limit.

use super::read_json;
use crate::{app::App, failed::Failed, front::Who};
use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, Method, Uri, request::Parts},
};
use bytes::Bytes;
use everkept_api::{Error, ErrorCode};
use everkept_core::TextDigest;
use everkept_engine::{Caller, Clock, Keyed, Reply};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// How long a body of the full size may take.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
const MAX_KEY: usize = 255;

/// A write: who, what, and under which key.
pub(crate) struct Sent<T> {
    pub caller: Caller,
    pub body: T,
    pub key: Option<Key>,
}

/// An idempotency key and the digest of the request it came with.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub key: String,
    pub digest: TextDigest,
}

impl Key {
    pub fn keyed(self, render: fn(&Reply) -> (u16, Vec<u8>)) -> Keyed {
        Keyed { key: self.key, digest: self.digest, render }
    }

    pub fn read(headers: &HeaderMap, method: &Method, uri: &Uri, body: &[u8]) -> Result<Option<Key>, Failed> {
        let wrong = || {
            let error =
                Error::new(ErrorCode::InvalidRequest, format!("idempotency-key must be 1 to {MAX_KEY} visible ASCII characters, once"));
            Failed(error.with_field("idempotency-key"))
        };
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        let key = value.to_str().map_err(|_| wrong())?;
        Key::check(key).filter(|_| values.next().is_none()).ok_or_else(wrong)?;
        Ok(Some(Key { key: key.to_owned(), digest: digest(method.as_str(), uri, body) }))
    }

    /// A key that may be one.
    pub fn check(key: &str) -> Option<&str> {
        Some(key).filter(|key| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()))
    }
}

fn digest(method: &str, uri: &Uri, body: &[u8]) -> TextDigest {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    TextDigest(hash.finalize().into())
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Sent<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failed> {
        let (mut parts, body) = request.into_parts();
        let Who(caller) = Who::from_request_parts(&mut parts, app).await?;
        caller.may_write()?;
        let bytes = read_body(body, app.body_limit, BODY_PATIENCE, &*app.engine.runtime().clock).await?;
        let Parts { method, uri, headers, .. } = &parts;
        let key = Key::read(headers, method, uri, &bytes)?;
        let body = read_json(headers, &bytes)?;
        Ok(Sent { caller, body, key })
    }
}

/// Reads a body that says it is too large not at all, and one that does not say so up to the limit.
pub(crate) async fn read_body(body: Body, limit: usize, patience: Duration, clock: &dyn Clock) -> Result<Bytes, Failed> {
    let too_large = || Failed::new(ErrorCode::BodyTooLarge, format!("the body is larger than {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let read = tokio::select! {
        biased;
        read = Limited::new(body, limit).collect() => read,
        () = clock.sleep(patience) => return Err(Failed::new(ErrorCode::RequestTimeout, "the body took too long")),
    };
    match read {
        Ok(read) => Ok(read.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Failed::new(ErrorCode::InvalidRequest, "the body broke off")),
    }
}
