//! How long the server waits, in virtual time over a pipe.

use crate::server::engine;
use everkept_server::{BODY_LIMIT, Server};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::Instant,
};

struct Pipe {
    admin: String,
    engine: everkept_engine::Engine,
    client: DuplexStream,
    serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// `holds` is what the pipe takes before a writer waits.
async fn pipe(holds: usize) -> Pipe {
    let directory = tempfile::tempdir().unwrap();
    let (engine, admin, _) = engine(directory.path()).await;
    let (stop, ended) = tokio::sync::watch::channel(false);
    let server = Server::new(engine.clone(), 7070, BODY_LIMIT, ended).unwrap();
    let (client, io) = tokio::io::duplex(holds);
    let serving = tokio::spawn(async move { server.serve_connection(io).await });
    Pipe { admin, engine, client, serving, _directory: directory, _stop: stop }
}

impl Pipe {
    fn request(&self, line: &str, headers: &str) -> String {
        format!("{line} HTTP/1.1\r\nhost: localhost:7070\r\nauthorization: Bearer {}\r\n{headers}\r\n", self.admin)
    }

    /// How long until the server gives the connection up.
    async fn given_up(self) -> Duration {
        let begun = Instant::now();
        tokio::time::timeout(Duration::from_secs(3_600), self.serving).await.expect("it is given up").unwrap();
        begun.elapsed()
    }
}

pub fn about(took: Duration, seconds: u64) {
    assert!(took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 3), "{took:?}, not about {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a8_a_head_that_does_not_come_is_given_up_after_10_s() {
    about(pipe(65_536).await.given_up().await, 10);
    let mut half = pipe(65_536).await;
    half.client.write_all(b"GET /api/health HTTP/1.1\r\nhost: localhost:7070\r\nx-slow: ").await.unwrap();
    about(half.given_up().await, 10);
}

#[tokio::test(start_paused = true)]
async fn a8_an_idle_connection_is_given_up() {
    let mut idle = pipe(65_536).await;
    let health = idle.request("GET /api/health", "");
    idle.client.write_all(health.as_bytes()).await.unwrap();
    about(idle.given_up().await, 10);
}

#[tokio::test(start_paused = true)]
async fn a8_a_stranger_gets_one_answer() {
    let mut stranger = pipe(65_536).await;
    let login = b"GET /login HTTP/1.1\r\nhost: localhost:7070\r\n\r\n";
    stranger.client.write_all(&login.repeat(100)).await.unwrap();
    let mut answers = String::new();
    stranger.client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"));
    about(stranger.given_up().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a8_a_stranger_that_sends_slowly_is_told_so() {
    let mut slow = pipe(65_536).await;
    let head = b"POST /login HTTP/1.1\r\nhost: localhost:7070\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.client.write_all(head).await.unwrap();
    let begun = Instant::now();
    let mut answer = [0; 12];
    slow.client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    about(begun.elapsed(), 5);
}

/// Sends pieces a second apart, for as long as they are taken; how long the server had patience.
async fn trickled(mut pipe: Pipe, pieces: impl Iterator<Item = Vec<u8>>) -> Duration {
    let begun = Instant::now();
    for piece in pieces {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if pipe.client.write_all(&piece).await.is_err() {
            break;
        }
    }
    tokio::time::timeout(Duration::from_secs(3_600), pipe.serving).await.expect("it is given up").unwrap();
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a8_a_stranger_is_cut_off_after_10_s_whatever_it_is_in_the_middle_of() {
    let head = "POST /login HTTP/1.1\r\nhost: localhost:7070\r\ncontent-type: application/json\r\ncontent-length: 4000\r\n\r\n";
    // A head that never ends, a byte at a time.
    let letters = head.bytes().take(100).map(|byte| vec![byte]);
    about(trickled(pipe(65_536).await, letters).await, 10);
    // Nine seconds for the head, and then a body that comes slowly.
    let pieces = head.as_bytes().chunks(head.len().div_ceil(9)).map(<[u8]>::to_vec).chain((0..60).map(|_| b" ".to_vec()));
    about(trickled(pipe(65_536).await, pieces).await, 10);
    // An answer that is not read.
    let mut deaf = pipe(64).await;
    deaf.client.write_all(b"GET /login HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    about(deaf.given_up().await, 10);
    // Many requests, none of them with a credential that is good.
    let mut wrong = pipe(65_536).await;
    let guess = "GET /api/health HTTP/1.1\r\nhost: localhost:7070\r\nauthorization: Bearer ek_wrong\r\n\r\n";
    wrong.client.write_all(guess.as_bytes()).await.unwrap();
    about(wrong.given_up().await, 1);
}

#[tokio::test(start_paused = true)]
async fn l1_a_reader_that_does_not_read_is_closed_and_can_resume() {
    let mut stuck = pipe(4_096).await;
    let made = stuck.request("POST /api/threads/ann/t/turns", "content-type: application/json\r\ncontent-length: 23\r\n");
    let body = json!({ "input": "!big:512" }).to_string();
    let made = made.replace("content-length: 23", &format!("content-length: {}", body.len()));
    stuck.client.write_all(format!("{made}{body}").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = stuck.client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let session = answer.split("\"session\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let events = stuck.request(&format!("GET /api/sessions/{session}/events"), "accept: text/event-stream\r\n");
    stuck.client.write_all(events.as_bytes()).await.unwrap();
    // Nothing is read: the first write that finds the pipe full is the last.
    about(stuck.given_up().await, 30);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_says_that_it_is_alive() {
    let mut quiet = pipe(65_536).await;
    let feed = quiet.request("GET /api/feed", "");
    quiet.client.write_all(feed.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let mut read = Vec::new();
    while !read.windows(3).any(|piece| piece == b":\n\n") {
        let mut piece = [0; 1_024];
        let length = quiet.client.read(&mut piece).await.unwrap();
        assert_ne!(length, 0);
        read.extend_from_slice(&piece[..length]);
    }
    about(begun.elapsed(), 15);
    assert!(!quiet.serving.is_finished(), "who has shown a credential may stay");
    assert!(String::from_utf8(read).unwrap().contains("retry: 1000"));
    drop(quiet.engine);
}
