//! A WebSocket to a server's door for agents, over TCP or TLS, and how a link is carried over it.
//!
//! Never: a certificate taken unseen, or a server that cannot be told from a dead one.

use anyhow::{Context, anyhow, bail};
use everkept_agent::remote::{Link, PIECE_BYTES};
use futures::{SinkExt, StreamExt};
use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, Uri, header},
        protocol::WebSocketConfig,
    },
};

/// To connect, shake hands and be let in, together.
const DIAL_WITHIN: Duration = Duration::from_secs(15);
/// A server pings every 10 s; one that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(25);
const DOOR: &str = "/agents/connect";
/// Where systems keep the certificates they trust.
const SYSTEM_CERTIFICATES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// Where to dial, and with what.
pub struct Dial {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    request: Request,
}

pub type Dialled = WebSocketStream<Pin<Box<dyn Stream>>>;

pub trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Why there is no connection.
pub enum NotDialled {
    /// The server said no, and will say so again.
    Refused(String),
    Later(String),
}

impl Dial {
    /// `server` is `http://`, `https://`, `ws://` or `wss://`, a host, perhaps a port and a path before the door's. `ca` has
    /// the certificates to trust as PEM; without it the system's are trusted.
    pub fn new(server: &str, token: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let wrong = || anyhow!("{server} is no server's address; it looks like https://keep.example or http://127.0.0.1:7717");
        let uri: Uri = server.parse().map_err(|_| wrong())?;
        let (scheme, secure) = match uri.scheme_str() {
            Some("http" | "ws") => ("ws", false),
            Some("https" | "wss") => ("wss", true),
            Some(_) | None => return Err(wrong()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if uri.query().is_some() {
            return Err(wrong());
        }
        if ca.is_some() && !secure {
            bail!("--ca is for a server with TLS, and {server} is without");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let mut request = format!("{scheme}://{authority}{}{DOOR}", uri.path().trim_end_matches('/')).into_client_request()?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).context("the token has characters that no token has")?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let tls = if secure { Some(TlsConnector::from(Arc::new(tls(ca)?))) } else { None };
        Ok(Dial { host, port, tls, request })
    }

    pub async fn dial(&self) -> Result<Dialled, NotDialled> {
        let late = |_| NotDialled::Later(format!("the server did not answer within {} s", DIAL_WITHIN.as_secs()));
        timeout(DIAL_WITHIN, self.connect()).await.map_err(late)?
    }

    async fn connect(&self) -> Result<Dialled, NotDialled> {
        let unreachable = |error: std::io::Error| NotDialled::Later(format!("the server cannot be reached: {error}"));
        let tcp = TcpStream::connect((&*self.host, self.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let stream: Pin<Box<dyn Stream>> = match &self.tls {
            None => Box::pin(tcp),
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone());
                let name = name.map_err(|_| NotDialled::Refused(format!("{} is no name that a certificate has", self.host)))?;
                Box::pin(tls.connect(name, tcp).await.map_err(unreachable)?)
            }
        };
        let config = WebSocketConfig::default().max_message_size(Some(PIECE_BYTES)).max_frame_size(Some(PIECE_BYTES)).write_buffer_size(0);
        match client_async_with_config(self.request.clone(), stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => Err(refusal(response.status().as_u16())),
            Err(error) => Err(NotDialled::Later(format!("the server does not shake hands: {error}"))),
        }
    }
}

/// What a status other than 101 means.
fn refusal(status: u16) -> NotDialled {
    match status {
        401 => NotDialled::Refused("the server does not know the token, or it was revoked (401)".into()),
        404 => NotDialled::Refused(
            "the token opens no agent's door there (404); `everkept token create --relay AGENT` makes one that does".into(),
        ),
        421 => {
            NotDialled::Refused("the server is reached under a name that is not its own (421); give the address of its --public-url".into())
        }
        409 => NotDialled::Later("another relay runs this agent (409)".into()),
        408 | 429 | 500..=599 => NotDialled::Later(format!("the server cannot now ({status})")),
        _ => NotDialled::Refused(format!("the server refused with status {status}; is it an Everkept server?")),
    }
}

/// How a server's certificate is looked at: by the system's trusted ones, or those of `ca`.
pub fn tls(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let system = || SYSTEM_CERTIFICATES.iter().map(PathBuf::from).find(|path| path.is_file());
    let file = ca.map(Path::to_owned).or_else(system).context(
        "no trusted certificates are found on this system; install its ca-certificates, or name a file with --ca where there is one",
    )?;
    let unreadable = || format!("cannot read certificates from {}", file.display());
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    let mut roots = RootCertStore::empty();
    // Systems trust some that are too odd to be used; those that can be are enough.
    let (added, _) = roots.add_parsable_certificates(certificates.with_context(unreadable)?);
    if added == 0 {
        bail!("{} has no certificate that can be trusted", file.display());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A link over the socket, and the future that carries it; it ends with what the connection ended with.
pub fn carry(socket: Dialled) -> (Link, impl Future<Output = String>) {
    let (link, Link { sender, mut receiver }) = Link::pair();
    let (mut writer, mut reader) = socket.split();
    let reading = async move {
        loop {
            match timeout(SILENCE, reader.next()).await {
                Err(_) => return format!("the server said nothing for {} s", SILENCE.as_secs()),
                Ok(Some(Ok(Message::Text(text)))) => {
                    if sender.send(text.as_str().to_owned()).await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Close(Some(close))))) => return close.reason.to_string(),
                Ok(Some(Ok(Message::Close(None) | Message::Binary(_) | Message::Frame(_))) | None) => {
                    return "the server closed it".to_owned();
                }
                Ok(Some(Err(error))) => return error.to_string(),
            }
        }
    };
    let writing = async move {
        while let Some(piece) = receiver.recv().await {
            if let Err(error) = writer.send(Message::text(piece)).await {
                return error.to_string();
            }
        }
        std::future::pending().await
    };
    let carrying = async move {
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    };
    (link, carrying)
}
