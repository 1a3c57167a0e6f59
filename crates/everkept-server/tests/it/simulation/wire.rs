//! One request, one connection, over the simulated network.
//!
//! Never: patience without a limit; the network may have lost anything.

use super::house::{PORT, SECRET};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::time::timeout;
use turmoil::net::TcpStream;

const PATIENCE: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub replayed: bool,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// None when no whole answer came in time.
pub async fn send(method: &str, path: &str, key: Option<&str>, body: &str) -> Option<Answer> {
    timeout(PATIENCE, async {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let (response, _open) = exchange(request, body).await?;
        let (status, replayed) = (response.status().as_u16(), response.headers().contains_key("idempotency-replayed"));
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { status, replayed, body })
    })
    .await
    .ok()?
}

/// The connection goes when this goes.
pub struct Open(tokio::task::JoinHandle<()>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session's events as they come.
pub struct Stream {
    body: Incoming,
    _open: Open,
    read: Vec<u8>,
}

pub async fn follow(session: &str, after: u64) -> Option<Stream> {
    timeout(PATIENCE, async {
        let request = Request::builder().method("GET").uri(format!("/api/sessions/{session}/events"));
        let request = request.header("accept", "text/event-stream").header("last-event-id", after.to_string());
        let (response, open) = exchange(request, "").await?;
        (response.status() == 200).then(|| Stream { body: response.into_body(), _open: open, read: Vec::new() })
    })
    .await
    .ok()?
}

impl Stream {
    /// The next event's number and bytes; none when the connection broke.
    pub async fn next(&mut self) -> Option<(u64, Bytes)> {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                let text = std::str::from_utf8(&block).unwrap();
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                    return Some((id.parse().unwrap(), Bytes::copy_from_slice(data.as_bytes())));
                }
            }
            let frame = self.body.frame().await?.ok()?;
            self.read.extend_from_slice(&frame.into_data().ok()?);
        }
    }
}

async fn exchange(request: hyper::http::request::Builder, body: &str) -> Option<(Response<Incoming>, Open)> {
    let stream = TcpStream::connect(("server", PORT)).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let open = Open(tokio::spawn(async move { _ = connection.await }));
    let request = request
        .header("host", format!("localhost:{PORT}"))
        .header("authorization", format!("Bearer {SECRET}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    Some((sender.send_request(request).await.ok()?, open))
}
