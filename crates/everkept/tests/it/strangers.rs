//! What clients cost the real server's memory: strangers by the thousand, and readers that do not read.
//!
//! Figures are printed (`--nocapture`); the promises' bounds are what is asserted.

use crate::bench::*;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A8: what a stranger may hold.
const STRANGER: u64 = 64 * 1024;
/// L1: what a reader may cost.
const READER: u64 = 256 * 1024;

/// Memory of the server's own, in bytes: its heap and stacks, not the files it has mapped.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The most a count of strangers makes the server hold, each; they come all at once and say this much.
fn cost(server: &Server, count: u64, said: &[u8]) -> u64 {
    let address = server.address.split_once("//").unwrap().1;
    let before = memory(server);
    let mut most = before;
    let strangers: Vec<TcpStream> = (0..count)
        .map(|at| {
            let mut stranger = TcpStream::connect(address).unwrap();
            // Whoever says too much is cut off in the middle of it.
            _ = stranger.write_all(said);
            if at % 50 == 0 {
                most = most.max(memory(server));
            }
            stranger
        })
        .collect();
    let settled = Instant::now() + Duration::from_secs(1);
    while Instant::now() < settled {
        most = most.max(memory(server));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(strangers);
    (most - before) / count
}

/// Lets the program open as many files as it may.
fn raise_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_a_stranger_holds_at_most_64_kib() {
    // Both ends of each need a descriptor, in two processes.
    let count = (raise_limit() / 2).clamp(100, 1_000);
    let host = "host: 127.0.0.1\r\n";
    let many: String = (0..99).map(|at| format!("x-{at}: {}\r\n", "y".repeat(300))).collect();
    let body =
        format!("POST /login HTTP/1.1\r\n{{host}}content-type: application/json\r\ncontent-length: 4096\r\n\r\n{}", " ".repeat(4_095));
    let large = format!("POST /api/sessions HTTP/1.1\r\n{{host}}content-length: 1000000\r\n\r\n{}", " ".repeat(50_000));
    for (name, said) in [
        ("silent", String::new()),
        ("in a long header", format!("GET /api/health HTTP/1.1\r\n{host}x-long: {}", "y".repeat(32_000))),
        ("in many headers", format!("GET /api/health HTTP/1.1\r\n{host}{many}")),
        ("in a body", body),
        ("in a large body", large),
        ("that ask and do not read", "GET /login.js HTTP/1.1\r\n{host}\r\n".repeat(200)),
    ] {
        // A server that has seen nothing yet: what others gave back would be used again.
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path());
        let own = format!("host: {}\r\n", server.address.split_once("//").unwrap().1);
        let each = cost(&server, count, said.replace("{host}", &own).as_bytes());
        println!("{count} strangers, {name}: {each} bytes each");
        assert!(each <= STRANGER, "{name}: {each} bytes each");
        assert_eq!(server.get("/api/health").await["status"], "ok");
    }
}

/// Bytes that the kernel holds for the clients of the server.
fn in_kernel(server: &Server) -> u64 {
    let port: u16 = server.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let queued = rows.filter(|row| row[1].ends_with(&local)).map(|row| row[4].split(':').next().unwrap().to_owned());
    queued.map(|queue| u64::from_str_radix(&queue, 16).unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_a_stuck_reader_costs_at_most_256_kib_with_events_of_64_kib() {
    let count = (raise_limit() / 2).clamp(50, 100);
    let stream = "events HTTP/1.1\r\naccept: text/event-stream\r\n";
    let socket = "socket HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let export = "export HTTP/1.1\r\n";
    for (name, door) in [("server-sent events", stream), ("WebSocket", socket), ("an export", export)] {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path());
        let session = server.session(json!({})).await;
        let record = async |number: u32| {
            // Written down, each of these letters is six.
            let message = json!({ "role": "user", "content": format!("{number} {}", "\0".repeat(40 * 1024)) });
            server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": [message] })).await;
        };
        let host = server.address.split_once("//").unwrap().1;
        let request = format!("GET /api/sessions/{session}/{door}host: {host}\r\nauthorization: Bearer {}\r\n\r\n", server.token);
        let stuck = || {
            let mut reader = TcpStream::connect(host).unwrap();
            reader.write_all(request.as_bytes()).unwrap();
            reader
        };
        // What the session itself holds for all who read along is no single reader's.
        let first = stuck();
        for number in 0..70 {
            record(number).await;
        }
        let largest = server.events(&session).await.iter().map(|event| event.to_string().len()).max().unwrap();
        assert!(largest >= 60_000, "{largest}");
        let before = memory(&server);
        let readers: Vec<TcpStream> = (0..count).map(|_| stuck()).collect();
        // They fall behind what goes on as well as behind what is kept.
        for number in 70..140 {
            record(number).await;
        }
        let (held, queued) = ((memory(&server).saturating_sub(before)) / count, in_kernel(&server) / count);
        println!("{count} stuck readers of {name}: {held} bytes of the server's and {queued} of the kernel's each");
        assert!(queued > 0, "they are stuck");
        assert!(held + queued <= READER, "{name}: {held} + {queued}");
        drop((first, readers));
    }
}
