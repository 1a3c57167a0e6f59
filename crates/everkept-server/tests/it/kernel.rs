//! Clients on real sockets that take a place, a descriptor or the kernel's memory and give nothing back.

use crate::patience::about;
use crate::server::{PATIENCE, Server, head, status_of};
use everkept_server::BODY_LIMIT;
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

#[tokio::test]
async fn a8_beyond_the_cap_a_connection_is_refused_at_once_and_those_that_are_open_go_on() {
    const CAP: usize = 8;
    let server = Server::with_limits(BODY_LIMIT, CAP).await;
    let session = server.session().await;
    let mut stream = server.stream(&format!("/api/sessions/{session}/events")).await;
    let mut one_more = TcpStream::connect(server.address).await.unwrap();
    let own = format!("host: {}\r\nauthorization: Bearer {}\r\n", server.address, server.admin);
    let health = format!("GET /api/health HTTP/1.1\r\n{own}\r\n");
    one_more.write_all(health.as_bytes()).await.unwrap();
    assert_eq!(status_of(&head(&mut one_more).await), 200);
    let idle: Vec<TcpStream> =
        futures::stream::iter(2..CAP).then(|_| async { TcpStream::connect(server.address).await.unwrap() }).collect().await;
    for _ in 0..50 {
        let mut refused = TcpStream::connect(server.address).await.unwrap();
        let mut answer = String::new();
        // Nothing has to be said to be told so.
        tokio::time::timeout(PATIENCE, refused.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    // Over the connection that was there before: a turn, which the open stream shows to its end.
    let mut rest = [0; 4_096];
    _ = one_more.read(&mut rest).await.unwrap();
    let body = json!({ "input": "hello" }).to_string();
    let turn = format!(
        "POST /api/sessions/{session}/turns HTTP/1.1\r\n{own}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    one_more.write_all(turn.as_bytes()).await.unwrap();
    assert_eq!(status_of(&head(&mut one_more).await), 202);
    stream.until("turn.ended").await;
    drop(idle);
    // Their places are free when the server has heard of it.
    let begun = std::time::Instant::now();
    while server.request(Method::GET, "/api/health").send().await.is_ok_and(|answer| answer.status() == 503) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/api/health").await["status"], "ok");
}

/// A reader with a small window, so that what it does not read stays with the server.
async fn reader(server: &Server, session: &str, after: u64) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!(
        "GET /api/sessions/{session}/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\nlast-event-id: {after}\r\n\r\n",
        server.address, server.admin
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The numbers of the events in what was read, whole ones only.
fn numbers(read: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(read);
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn l1_a_reader_that_stops_reading_a_real_socket_is_closed_and_goes_on_from_its_cursor() {
    let server = Server::start().await;
    let session = server.session().await;
    server.ask(&session, "!big:4096 a lot").await;
    let head = server.get(&format!("/api/sessions/{session}/events?count=true")).await["total"].as_u64().unwrap();
    let mut stuck = reader(&server, &session, 0).await;
    let mut read = vec![0; 4_096];
    stuck.read_exact(&mut read).await.unwrap();
    let begun = Instant::now();
    // Somebody else reads everything and somebody else writes, while this one does neither.
    let mut other = server.stream(&format!("/api/sessions/{session}/events")).await;
    let mut seen = 0;
    while seen < head {
        seen = other.next().await.unwrap().id.unwrap();
    }
    server.ask(&session, "and on").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "on the server's clock, nobody has waited for anybody: {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(40)).await;
    // What the kernel held is there still, and then the end.
    let mut rest = Vec::new();
    _ = tokio::time::timeout(PATIENCE, stuck.read_to_end(&mut rest)).await.expect("it was closed");
    read.extend_from_slice(&rest);
    let first = numbers(&read);
    assert_eq!(first, (1..=first.len() as u64).collect::<Vec<_>>());
    assert!(first.len() as u64 > 1 && (first.len() as u64) < head, "{} of {head}", first.len());
    let cursor = *first.last().unwrap();
    let mut resumed = server.stream_after(&format!("/api/sessions/{session}/events"), Some(cursor)).await;
    for number in cursor + 1..=head {
        assert_eq!(resumed.next().await.unwrap().id, Some(number));
    }
    println!("a stuck reader got {cursor} of {head} events, {} bytes, before it was closed", read.len());
}

#[tokio::test(start_paused = true)]
async fn l1_a_reader_that_reads_slowly_is_not_closed_and_gets_everything() {
    let server = Server::start().await;
    let session = server.session().await;
    server.ask(&session, "!big:1024 a lot").await;
    let head = server.get(&format!("/api/sessions/{session}/events?count=true")).await["total"].as_u64().unwrap();
    let mut slow = reader(&server, &session, 0).await;
    let mut read = Vec::new();
    let begun = Instant::now();
    while numbers(&read).last() != Some(&head) {
        // A few KiB a second: the kernel takes more of the server's while its last write still waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut piece = vec![0; 64 * 1024];
        let length = slow.read(&mut piece).await.unwrap();
        assert_ne!(length, 0, "closed after {:?}", begun.elapsed());
        read.extend_from_slice(&piece[..length]);
    }
    assert_eq!(numbers(&read), (1..=head).collect::<Vec<_>>());
    assert!(begun.elapsed() > Duration::from_secs(60), "slow enough to show something: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a8_half_open_and_half_closed_connections_are_given_up() {
    let server = Server::start().await;
    for said in ["", "GET /api/hea", "POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{"] {
        let mut half = TcpStream::connect(server.address).await.unwrap();
        half.write_all(said.as_bytes()).await.unwrap();
        half.shutdown().await.unwrap();
        let begun = Instant::now();
        _ = half.read_to_end(&mut Vec::new()).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{said:?}: whoever can say no more is not waited for: {:?}", begun.elapsed());
    }
    let silent = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    let (mut reader, _writer) = silent.into_split();
    _ = reader.read(&mut [0]).await;
    about(begun.elapsed(), 10);
}
