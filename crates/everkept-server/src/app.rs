//! What every door of one server shares.
//!
//! Never: a session's state. That is the engine's.

use crate::front::Site;
use bytes::Bytes;
use everkept_core::TokenId;
use everkept_engine::Engine;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex, broadcast, watch};

/// Open streams that may be told of one revocation after another before they look for themselves.
const REVOCATIONS: usize = 64;

pub(crate) struct App {
    pub engine: Engine,
    pub site: Site,
    /// The most bytes a request's body may have.
    pub body_limit: usize,
    /// True once the server ends: streams end with it.
    pub ending: watch::Receiver<bool>,
    /// Tokens as they are revoked: their open streams end.
    pub revoked: broadcast::Sender<TokenId>,
    /// One login at a time, so that a code is used once.
    pub login: Mutex<()>,
    /// The API's document, once the routes are known.
    pub document: OnceLock<Bytes>,
}

impl App {
    pub fn new(engine: Engine, site: Site, body_limit: usize, ending: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(App {
            engine,
            site,
            body_limit,
            ending,
            revoked: broadcast::channel(REVOCATIONS).0,
            login: Mutex::new(()),
            document: OnceLock::new(),
        })
    }
}

/// Until the server ends; for ever when nobody is left to end it.
pub(crate) async fn ended(mut ending: watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending().await
    }
}
