//! What clients cost the real server's memory: strangers by the thousand.
//!
//! Figures are printed (`--nocapture`); the promise's bound is what is asserted.

use crate::bench::*;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A8: what a stranger may hold.
const STRANGER: u64 = 64 * 1024;

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
