//! How a browser gets in: a link with a code that works once, and the cookie it becomes.
//!
//! The code stands behind the `#`, which browsers send nowhere; the page's script posts it.
//! Never: a code in a log or a server's address line, or a second cookie for one code.

use super::credential::{cookie_name, valid_token};
use crate::{
    app::App,
    extract::{read_body, read_json},
    failed::Failed,
    secret::create_token,
};
use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use everkept_engine::{Engine, Failure};
use serde::Deserialize;
use std::time::Duration;

const CODE_LIVES: Duration = Duration::from_secs(15 * 60);
const COOKIE_LIVES: Duration = Duration::from_secs(30 * 24 * 3600);
/// All that someone without a credential may send, and how long it may take: long enough to be told so before being cut off.
const BODY_LIMIT: usize = 4 * 1024;
const BODY_PATIENCE: Duration = Duration::from_secs(5);

/// A link that lets one browser in, once, within 15 minutes. `base_url` is where browsers reach the server.
pub async fn login_link(engine: &Engine, base_url: &str) -> Result<String, Failure> {
    let (_, code) = create_token(engine, "login", None, Some(CODE_LIVES)).await?;
    Ok(format!("{}/login#code={code}", base_url.trim_end_matches('/')))
}

pub(super) fn page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("login.html")).into_response()
}

pub(super) fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("login.css")).into_response()
}

pub(super) fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("login.js")).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    code: String,
}

pub(super) async fn log_in(app: &App, request: Request<Body>) -> Result<Response, Failed> {
    let (parts, body) = request.into_parts();
    let body = read_body(body, BODY_LIMIT, BODY_PATIENCE, &*app.engine.runtime().clock).await?;
    let Code { code } = read_json(&parts.headers, &body)?;
    let _one_at_a_time = app.login.lock().await;
    let token = valid_token(app, &code).await?.filter(|token| token.kind == "login").ok_or_else(Failed::unauthorized)?;
    app.engine.revoke_token(token.id).await?;
    let (_, secret) = create_token(&app.engine, "cookie", None, Some(COOKIE_LIVES)).await?;
    let secure = if app.site.is_secure() { "; Secure" } else { "" };
    let cookie =
        format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", cookie_name(&app.site), COOKIE_LIVES.as_secs());
    let mut response = StatusCode::NO_CONTENT.into_response();
    let mut value = HeaderValue::from_str(&cookie).expect("a secret is base64");
    value.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(response)
}
