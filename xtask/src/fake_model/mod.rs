//! The model that the agents of tests talk to: OpenAI's chat completions and responses, Anthropic's messages.
//!
//! It answers `reply N to: TEXT`, N being the user messages in the request, so that a prompt an agent lost or doubled
//! shows in the answer. Words in the last of them make it use a tool, think, be slow, hang or fail ([`answer`]).
//! With `--log` every request stands in a file as one line of JSON: what the model was really sent.
//!
//! Never: an address other than this machine's, or a state. The answer depends on the request alone.

mod answer;
mod anthropic;
mod chat;
mod responses;

use answer::{Answer, Conversation};
use anyhow::{Context, Result, bail};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::{convert::Infallible, fs::OpenOptions, io::Write, net::Ipv4Addr, path::PathBuf, time::Duration};

/// `[--port N] [--log FILE]`; says `listening http://127.0.0.1:PORT` once it does.
pub fn run(args: &[String]) -> Result<()> {
    let (mut port, mut log) = (0, None);
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => port = value.parse().context("reading --port")?,
            "--log" => log = Some(PathBuf::from(value)),
            _ => bail!("usage: cargo xtask fake-model [--port N] [--log FILE]"),
        }
    }
    tokio::runtime::Runtime::new()?.block_on(serve(port, log))
}

async fn serve(port: u16, log: Option<PathBuf>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("listening")?;
    println!("listening http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete::<chat::Chat>))
        .route("/v1/responses", post(complete::<responses::Responses>))
        .route("/v1/messages", post(complete::<anthropic::Messages>))
        .layer(DefaultBodyLimit::disable())
        .with_state(Log(log));
    Ok(axum::serve(listener, router).await?)
}

/// One way to write requests and answers.
trait Dialect {
    const PATH: &'static str;

    fn conversation(body: &Value) -> Conversation;

    /// The answer in one piece.
    fn whole(body: &Value, answer: &Answer) -> Value;

    /// The answer as server-sent events, each with how long it takes to come.
    fn events(body: &Value, answer: &Answer) -> Vec<(Duration, Event)>;

    fn error(message: &str) -> Value;
}

/// One server-sent event.
struct Event {
    name: Option<&'static str>,
    data: String,
}

impl Event {
    fn new(data: &Value) -> Self {
        Self { name: None, data: data.to_string() }
    }

    /// Named by the `type` it has.
    fn named(name: &'static str, mut data: Value) -> Self {
        data["type"] = name.into();
        Self { name: Some(name), data: data.to_string() }
    }

    fn bytes(&self) -> Bytes {
        let name = self.name.map_or_else(String::new, |name| format!("event: {name}\n"));
        format!("{name}data: {}\n\n", self.data).into()
    }
}

async fn models() -> Json<Value> {
    Json(json!({ "object": "list", "data": [{ "id": "fake", "object": "model" }, { "id": "fake-small", "object": "model" }] }))
}

async fn complete<D: Dialect>(State(log): State<Log>, body: Bytes) -> Response {
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, Json(D::error(&error.to_string()))).into_response(),
    };
    let conversation = D::conversation(&body);
    if let Err(error) = log.write(D::PATH, &conversation, &body) {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(D::error(&error.to_string()))).into_response();
    }
    let answer = conversation.answer();
    if answer.fails {
        return (StatusCode::BAD_REQUEST, Json(D::error("failed, as it was asked to"))).into_response();
    }
    if body["stream"] == true {
        return stream_of(D::events(&body, &answer), answer.hangs);
    }
    if answer.hangs {
        std::future::pending::<()>().await;
    }
    Json(D::whole(&body, &answer)).into_response()
}

fn stream_of(events: Vec<(Duration, Event)>, hangs: bool) -> Response {
    let events = if hangs { Vec::new() } else { events };
    let events = stream::iter(events).then(|(pause, event)| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(event.bytes())
    });
    let body = if hangs { Body::from_stream(events.chain(stream::pending())) } else { Body::from_stream(events) };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

#[derive(Clone)]
struct Log(Option<PathBuf>);

impl Log {
    fn write(&self, path: &str, conversation: &Conversation, body: &Value) -> std::io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let line = json!({ "path": path, "title": conversation.is_title(), "prompts": conversation.prompts, "body": body });
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}
