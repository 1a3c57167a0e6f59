//! Who asks: a bearer token or a browser's cookie, looked up by its SHA-256.
//!
//! Never compares a secret itself, never falls back from a wrong token to a cookie, and never lets a cookie alone write.

use super::site::Site;
use crate::{app::App, failed::Failed, secret::secret_hash};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use everkept_core::{AgentName, Resource, TextDigest, Timestamp, TokenId};
use everkept_engine::{Access, Caller, Token};
use subtle::ConstantTimeEq;

/// A request's credential, found good.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub caller: Caller,
    pub token: TokenId,
    pub secret_hash: TextDigest,
    pub by_cookie: bool,
    pub expires_at: Option<Timestamp>,
}

/// The header that a page of ours adds to what it writes, and no other site's page can.
const WRITE_HEADER: &str = "x-everkept";
/// A browser may hold several cookies of our name, from other ports of this host.
const MAX_COOKIES: usize = 4;

pub(super) fn has_write_header(headers: &HeaderMap) -> bool {
    headers.get(WRITE_HEADER).is_some_and(|value| value == "1")
}

pub(super) fn cookie_name(site: &Site) -> &'static str {
    if site.is_secure() { "__Host-everkept" } else { "everkept" }
}

/// Whether no credential came at all, good or bad.
pub(super) fn is_absent(headers: &HeaderMap, site: &Site) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && cookies(headers, cookie_name(site)).next().is_none()
}

pub(super) async fn check(app: &App, headers: &HeaderMap) -> Result<Credential, Failed> {
    if headers.contains_key(header::AUTHORIZATION) {
        let secret = bearer(headers).ok_or_else(Failed::unauthorized)?;
        return look_up(app, secret, false).await?.ok_or_else(Failed::unauthorized);
    }
    for secret in cookies(headers, cookie_name(&app.site)).take(MAX_COOKIES) {
        if let Some(credential) = look_up(app, secret, true).await? {
            return Ok(credential);
        }
    }
    Err(Failed::unauthorized())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| secret.trim())
}

fn cookies<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, secret)| secret))
}

async fn look_up(app: &App, secret: &str, by_cookie: bool) -> Result<Option<Credential>, Failed> {
    let Some(token) = valid_token(app, secret).await? else { return Ok(None) };
    if by_cookie != (token.kind == "cookie") {
        return Ok(None);
    }
    let Some(access) = access(&token) else { return Ok(None) };
    let caller = Caller { access, principal: token.id.to_string() };
    Ok(Some(Credential { caller, token: token.id, secret_hash: token.secret_hash, by_cookie, expires_at: token.expires_at }))
}

/// The token of a secret, if it is neither revoked nor past its time.
pub(super) async fn valid_token(app: &App, secret: &str) -> Result<Option<Token>, Failed> {
    let hash = secret_hash(secret);
    let token = app.engine.token_by_hash(hash).await?;
    let now = app.engine.latest_wall();
    let valid = |token: &Token| {
        let same: bool = token.secret_hash.0.ct_eq(&hash.0).into();
        same && token.revoked_at.is_none() && token.expires_at.is_none_or(|at| now < at)
    };
    Ok(token.filter(valid))
}

/// What a token reaches; none for a login code, which is no credential, and for kinds of a later version.
fn access(token: &Token) -> Option<Access> {
    let name = || token.name.clone();
    match token.kind.as_str() {
        "admin" | "cookie" => Some(Access::All),
        "resource" => Some(Access::Resource(Resource::new(name()?).ok()?)),
        "recall" => Some(Access::Recall(Resource::new(name()?).ok()?)),
        "relay" => Some(Access::Relay(AgentName::new(name()?).ok()?)),
        _ => None,
    }
}

/// The caller, for handlers.
pub(crate) struct Who(pub Caller);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        credential(parts).map(|credential| Who(credential.caller))
    }
}

impl<S: Sync> FromRequestParts<S> for Credential {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        credential(parts)
    }
}

/// Present on every request that reached a route.
fn credential(parts: &Parts) -> Result<Credential, Failed> {
    parts.extensions.get::<Credential>().cloned().ok_or_else(Failed::unauthorized)
}
