//! TLS of our own: a real connection, what it changes for a browser, and what does not speak it.

use crate::line::{Answer, answer};
use crate::patience::about;
use crate::server::{PATIENCE, engine};
use everkept_engine::Engine;
use everkept_server::{BODY_LIMIT, ServerConfig, TlsFiles, serve};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

struct Secured {
    address: SocketAddr,
    admin: String,
    engine: Engine,
    connector: TlsConnector,
    shutdown: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    _directory: tempfile::TempDir,
}

/// Files with a fresh certificate for this machine, and the certificate.
fn certificate(directory: &std::path::Path) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { cert: directory.join("cert.pem"), key: directory.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

async fn secured() -> Secured {
    let directory = tempfile::tempdir().unwrap();
    let (files, certificate) = certificate(directory.path());
    let (engine, admin, _) = engine(directory.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, ended) = watch::channel(false);
    let serving = tokio::spawn(serve(ServerConfig {
        engine: engine.clone(),
        listener,
        public_url: None,
        tls: Some(files),
        body_limit: BODY_LIMIT,
        connections: 10,
        shutdown: ended,
    }));
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    Secured { address, admin, engine, connector, shutdown, serving, _directory: directory }
}

impl Secured {
    async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        self.connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    }

    async fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        let (host, length) = (format!("localhost:{}", self.address.port()), body.len());
        let request = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answered = tokio::time::timeout(PATIENCE, answer(&mut stream, &mut Vec::new(), method == "HEAD")).await;
        answered.unwrap().expect("an answer")
    }
}

#[tokio::test]
async fn a_browser_gets_in_over_tls_with_a_cookie_that_is_bound_to_this_host() {
    let server = secured().await;
    let bearer = format!("authorization: Bearer {}\r\n", server.admin);
    assert_eq!(server.ask("GET", "/api/health", &bearer, "").await.json()["status"], "ok");
    let link = everkept_server::login_link(&server.engine, "").await.unwrap();
    let code = format!("{{\"code\":\"{}\"}}", link.split_once("#code=").unwrap().1);
    let page = format!("origin: https://localhost:{}\r\ncontent-type: application/json\r\n", server.address.port());
    let answered = server.ask("POST", "/login", &page, &code).await;
    let cookie = answered.header("set-cookie").unwrap_or_else(|| panic!("{}", answered.text())).to_owned();
    // What `__Host-` asks of a cookie, without which a browser throws it away.
    assert!(cookie.starts_with("__Host-everkept=ek_") && cookie.contains("; Secure") && cookie.contains("; Path=/;"), "{cookie}");
    assert!(
        !cookie.to_ascii_lowercase().contains("domain") && cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().unwrap();
    assert_eq!(server.ask("GET", "/api/sessions", &format!("cookie: {pair}\r\n"), "").await.status, 200);
    let plain = pair.replace("__Host-", "");
    assert_eq!(
        server.ask("GET", "/api/sessions", &format!("cookie: {plain}\r\n"), "").await.status,
        401,
        "a cookie that other hosts can set"
    );
    let http = format!("{bearer}origin: http://localhost:{}\r\n", server.address.port());
    assert_eq!(server.ask("GET", "/api/sessions", &http, "").await.status, 403, "a page that was not loaded over TLS is another site's");
}

#[tokio::test]
async fn what_does_not_speak_tls_is_turned_away_and_the_server_goes_on() {
    let server = secured().await;
    let bearer = format!("authorization: Bearer {}\r\n", server.admin);
    let http = format!("GET /api/sessions HTTP/1.1\r\nhost: localhost:{}\r\n{bearer}\r\n", server.address.port());
    for said in
        [http.as_bytes(), b"SSH-2.0-x\r\n", &[0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff], &[0; 5_000], b"\x16\x03\x01\x00\x05hello"]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answered = Vec::new();
        // It may be cut off hard.
        _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answered)).await.expect("the connection is closed");
        // At most TLS's own word for "no", which is seven bytes.
        assert!(answered.len() <= 7 && !answered.starts_with(b"HTTP"), "{answered:?}");
        assert_eq!(server.ask("GET", "/api/health", &bearer, "").await.status, 200);
    }
    server.shutdown.send(true).unwrap();
    tokio::time::timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a8_a_handshake_that_does_not_end_is_cut_off_after_10_s() {
    let server = secured().await;
    // Nothing; half a hello; a hello that comes a byte a second.
    for (at_once, slowly) in [(&b""[..], 0), (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], 0), (&[0x16, 3, 1], 60)] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let begun = Instant::now();
        stream.write_all(at_once).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let closed = async { _ = reader.read(&mut [0]).await };
        let trickle = async {
            for _ in 0..slowly {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                _ = writer.write_all(&[1]).await;
            }
            std::future::pending::<()>().await
        };
        tokio::select! { () = closed => {} () = trickle => {} }
        about(begun.elapsed(), 10);
    }
    // One that has ended, and then nothing.
    let mut silent = server.connect().await;
    let begun = Instant::now();
    _ = silent.read(&mut [0]).await;
    about(begun.elapsed(), 10);
}

#[tokio::test]
async fn files_that_are_no_certificate_and_key_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (good, _) = certificate(directory.path());
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (of_another, _) = certificate(&other);
    let missing = directory.path().join("missing.pem");
    for (cert, key, named) in [
        (missing.clone(), good.key.clone(), "missing.pem"),
        (good.cert.clone(), missing, "missing.pem"),
        (good.key.clone(), good.key.clone(), "key.pem"),
        (good.cert.clone(), good.cert.clone(), "cert.pem"),
        (good.cert, of_another.key, "cert.pem"),
    ] {
        let (engine, _, _) = engine(directory.path()).await;
        let (_stop, shutdown) = watch::channel(true);
        let tls = Some(TlsFiles { cert, key });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = ServerConfig { engine, listener, public_url: None, tls, body_limit: 1_000, connections: 10, shutdown };
        let error = serve(config).await.unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
