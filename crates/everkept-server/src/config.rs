//! How a server is set up.
//!
//! Never a listener that others can reach without TLS, ours or a proxy's.

use crate::{front::Site, net::TlsFiles};
use everkept_engine::Engine;
use std::io;
use tokio::sync::watch;

/// The most bytes a request's body may have, where nothing else is said.
pub const BODY_LIMIT: usize = 32 * 1024 * 1024;

/// Connections that may be open at once, where nothing else is said.
pub const CONNECTIONS: usize = 4_096;

pub struct ServerConfig {
    pub engine: Engine,
    pub listener: std::net::TcpListener,
    /// Where browsers reach the server when it is not the listener: `https://HOST`.
    pub public_url: Option<String>,
    pub tls: Option<TlsFiles>,
    pub body_limit: usize,
    /// More are answered 503 at once: what the process may open has to last for the database and the agents as well.
    pub connections: usize,
    /// Becomes true when the server is to end.
    pub shutdown: watch::Receiver<bool>,
}

impl ServerConfig {
    pub(crate) fn site(&self) -> io::Result<Site> {
        let at = self.listener.local_addr()?;
        let site = Site::new(at.port(), self.tls.is_some(), self.public_url.as_deref())?;
        if !at.ip().is_loopback() && self.tls.is_none() && !site.is_public_https() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{at} can be reached from other machines: give a TLS certificate and key, or the https public URL of a proxy in front"
                ),
            ));
        }
        Ok(site)
    }
}
