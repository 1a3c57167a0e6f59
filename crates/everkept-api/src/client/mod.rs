//! A client for the native routes: typed answers, typed errors, events that are resumed where they broke off.
//!
//! Never: tries a write again by itself, sleeps, or follows a redirect with the token in hand.

mod calls;
mod error;
mod follow;
mod sse;

pub use calls::{EventsFilter, SessionsFilter, UsageFilter};
pub use error::ClientError;
pub use follow::Follow;
pub use sse::{Sse, SseReader};

use crate::Error;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the path segments of an address may hold as they are.
const UNRESERVED: &[u8] = b"-._~";

/// One server and the token it is spoken to with.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    key: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// `base` is the server's address, as `http://127.0.0.1:7717`.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, ClientError> {
        let invalid = || ClientError::InvalidAddress { address: base.to_owned() };
        let base = Url::parse(base).map_err(|_| invalid())?;
        if base.scheme() != "http" || base.cannot_be_a_base() || !base.has_host() {
            return Err(invalid());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("everkept/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()
            .map_err(|source| ClientError::Broken { doing: "setting up", address: base.to_string(), may_have_happened: false, source })?;
        Ok(Client { http, base, token, key: None })
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// For one write that is done once however often it is asked for: each asking carries `key`.
    pub fn once(&self, key: impl Into<String>) -> Self {
        Client { key: Some(key.into()), ..self.clone() }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        self.read(self.request(Method::GET, path, query), false).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.read(self.request(Method::POST, path, &[]).json(body), true).await
    }

    async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.read(self.request(Method::PATCH, path, &[]).json(body), true).await
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, path, &[]), true).await.map(drop)
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder, writes: bool) -> Result<T, ClientError> {
        let response = self.send(request, writes).await?;
        let body = response.bytes().await.map_err(|source| self.broken(writes, source))?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Unreadable { address: self.base.to_string(), source })
    }

    async fn send(&self, request: RequestBuilder, writes: bool) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| self.broken(writes, source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let body = response.bytes().await.map_err(|source| self.broken(writes, source))?;
        match serde_json::from_slice::<Error>(&body) {
            Ok(error) if json => Err(ClientError::Refused { status: status.as_u16(), error: Box::new(error.error) }),
            Ok(_) | Err(_) => Err(ClientError::Stranger { address: self.base.to_string(), status: status.as_u16() }),
        }
    }

    fn broken(&self, writes: bool, source: reqwest::Error) -> ClientError {
        let address = self.address().to_owned();
        if source.is_connect() {
            return ClientError::Unreachable { address, source };
        }
        ClientError::Broken { doing: "talking to the server", address, may_have_happened: writes, source }
    }
}

/// One segment of a path, whatever a person put into it.
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
