//! What a client may cost: bodies, heads, and time (promise A8's limits).

use crate::server::{PATIENCE, Server, head, refused, status_of};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_prompt_of_50_mb_is_413_and_nothing_is_kept() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/turns");
    let body = format!(r#"{{"input":"{}"}}"#, "x".repeat(50 * 1024 * 1024));
    let request = server.request(Method::POST, &path).header("content-type", "application/json").body(body);
    assert_eq!(refused(request).await, (413, "body_too_large".into(), "".into()));
    assert_eq!(server.said(&session).await, []);
    // From Content-Length on: not one byte of it is waited for.
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 50000000\r\n\r\n",
        server.address, server.admin
    );
    assert_eq!(status_of(&server.raw_head(request.as_bytes()).await), 413);
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_limit() {
    let server = Server::with_body_limit(10_000).await;
    let pieces = futures::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>("x".repeat(1_000))));
    let request =
        server.request(Method::POST, "/api/sessions").header("content-type", "application/json").body(reqwest::Body::wrap_stream(pieces));
    assert_eq!(refused(request).await.0, 413);
    let fits = json!({ "metadata": { "x": "y".repeat(9_000) } });
    assert_eq!(server.request(Method::POST, "/api/sessions").json(&fits).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a8_an_unauthenticated_body_is_not_read() {
    let server = Server::start().await;
    let request = format!(
        "POST /api/sessions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n",
        server.address
    );
    assert_eq!(status_of(&server.raw_head(request.as_bytes()).await), 401);
    let request =
        format!("POST /login HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n", server.address);
    assert_eq!(status_of(&server.raw_head(request.as_bytes()).await), 413);
}

#[tokio::test]
async fn a8_heads_are_bounded() {
    let server = Server::start().await;
    let many: String = (0..101).map(|at| format!("x-{at}: y\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(66_000));
    let huge = format!("x-huge: {}\r\n", "y".repeat(1_000_000));
    for headers in [many, large, huge] {
        let request = format!("GET /api/health HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", server.address);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // It may be closed before all of it is written.
        _ = stream.write_all(request.as_bytes()).await;
        let head = head(&mut stream).await;
        assert!(matches!(status_of(&head), 0 | 400 | 431), "{head}");
        let mut rest = Vec::new();
        _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is closed");
    }
}

#[tokio::test]
async fn the_server_is_simulable_over_any_stream() {
    let server = Server::start().await;
    let (_stop, ended) = tokio::sync::watch::channel(false);
    let over_any = everkept_server::Server::new(server.engine.clone(), 7070, 1_000, ended).unwrap();
    let (mut client, io) = tokio::io::duplex(4_096);
    let serving = tokio::spawn(async move { over_any.serve_connection(io).await });
    let request =
        format!("GET /api/health HTTP/1.1\r\nhost: localhost:7070\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n", server.admin);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#"{"status":"ok""#), "{answer}");
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_listener_that_others_reach_needs_tls() {
    let server = Server::start().await;
    let start = async |public_url: Option<&str>| {
        let (stop, shutdown) = tokio::sync::watch::channel(true);
        let config = everkept_server::ServerConfig {
            engine: server.engine.clone(),
            listener: std::net::TcpListener::bind("0.0.0.0:0").unwrap(),
            public_url: public_url.map(str::to_owned),
            tls: None,
            body_limit: 1_000,
            connections: 10,
            shutdown,
        };
        let served = everkept_server::serve(config).await;
        drop(stop);
        served.map_err(|error| error.to_string())
    };
    assert!(start(None).await.unwrap_err().contains("TLS"));
    assert!(start(Some("http://kept.example")).await.unwrap_err().contains("TLS"));
    assert!(start(Some("kept.example")).await.unwrap_err().contains("public URL"));
    assert_eq!(start(Some("https://kept.example")).await, Ok(()));
}
