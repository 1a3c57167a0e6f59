//! Replies as answers: rendered once, kept with an idempotency key, and given again whole.
//!
//! Never renders the same reply in two ways: what is kept is what was given.

use crate::{app::App, extract::Key, failed::Failed, failed::json_response};
use axum::{
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use everkept_core::SessionId;
use everkept_engine::{Answered, Caller, Order, Reply};
use serde::Serialize;

/// How a reply is written: status and body.
pub(super) type Render = fn(&Reply) -> (u16, Vec<u8>);

/// Orders it of one session and writes the reply.
pub(super) async fn order(
    app: &App,
    caller: &Caller,
    session: SessionId,
    order: Order,
    key: Option<Key>,
    render: Render,
) -> Result<Response, Failed> {
    let key = key.map(|key| key.keyed(render));
    Ok(answered(app.engine.order(caller, session, order, key).await?, render))
}

pub(super) fn answered(answered: Answered, render: Render) -> Response {
    match answered {
        Answered::Fresh(reply) => {
            let (status, body) = render(&reply);
            written(status, body)
        }
        Answered::Kept { status, body } => {
            let mut response = written(status, body);
            response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
            response
        }
    }
}

/// A new thing was made.
pub(super) fn created(reply: &Reply) -> (u16, Vec<u8>) {
    (201, body(reply))
}

/// It is done.
pub(super) fn done(reply: &Reply) -> (u16, Vec<u8>) {
    match reply {
        Reply::Done => (204, Vec::new()),
        Reply::Turn(_) => (202, body(reply)),
        Reply::Session(_) | Reply::Context { .. } | Reply::Question(_) | Reply::Recorded { .. } => (200, body(reply)),
    }
}

/// It is gone; whatever it was is not shown again.
pub(super) fn gone(_: &Reply) -> (u16, Vec<u8>) {
    (204, Vec::new())
}

pub(super) fn body(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Session(session) => write(&everkept_api::Session::from(session.clone())),
        Reply::Turn(turn) => write(&everkept_api::Turn::from(turn.clone())),
        Reply::Context { context, .. } => write(&everkept_api::Cleared { context: *context }),
        Reply::Question(question) => write(&everkept_api::Question::from(question.clone())),
        Reply::Recorded { session, messages, seq } => write(&everkept_api::Recorded {
            session: session.to_string(),
            messages: messages.iter().map(ToString::to_string).collect(),
            seq: *seq,
        }),
        Reply::Done => Vec::new(),
    }
}

pub(super) fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types have string keys only")
}

pub(super) fn ok(value: &impl Serialize) -> Response {
    json_response(StatusCode::OK, write(value))
}

fn written(status: u16, body: impl Into<axum::body::Body>) -> Response {
    let status = StatusCode::from_u16(status).expect("only good statuses are kept");
    match status {
        StatusCode::NO_CONTENT => status.into_response(),
        _ => json_response(status, body),
    }
}
