//! The real server with hardly a file descriptor to its name: those who are in go on, those who knock wait or are turned
//! away, and the database does not notice.

use crate::bench::*;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// The server of a shell that may open so many files.
fn limited(data: &std::path::Path, descriptors: u32) -> Server {
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVERKEPT_")) {
        command.env_remove(name);
    }
    let line = format!("ulimit -n {descriptors}; exec \"$0\" serve --listen 127.0.0.1:0 --data \"$1\"");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_everkept")]).arg(data);
    Server::launch(command, data, |_| data.to_owned())
}

fn knock(server: &Server) -> TcpStream {
    TcpStream::connect(server.address.trim_start_matches("http://")).unwrap()
}

/// User and system time of the server so far, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count()
}

/// A request over a connection that is open already; the status.
fn ask(server: &Server, stream: &mut TcpStream, request: &str, body: &str) -> u16 {
    let host = server.address.trim_start_matches("http://");
    let (token, length) = (&server.token, body.len());
    let head = format!("{request} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = [0; 64 * 1024];
    let read = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).unwrap().parse().unwrap()
}

fn verified(mut server: Server) {
    server.kill();
    let verified = everkept().args(["verify", "--data"]).arg(&server.data).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_whoever_knocks_does_not_take_the_descriptors_of_database_and_agents() {
    let data = tempfile::tempdir().unwrap();
    with_scripted_agent(data.path());
    let server = limited(data.path(), 360);
    let session = server.session(json!({})).await;
    let mut inside = knock(&server);
    assert_eq!(ask(&server, &mut inside, "GET /api/sessions", ""), 200);
    // Forty places; the rest of the descriptors is not for clients.
    let knocking: Vec<TcpStream> = (0..200).map(|_| knock(&server)).collect();
    let refused = knocking.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut answer = [0; 16];
        let mut stream: &TcpStream = stream;
        stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 503"))
    });
    assert!(refused.count() > 100, "what is too much is told so at once");
    assert!(open_files(&server) < 120, "{} files are open", open_files(&server));
    // An agent's process is started and its answer kept in the middle of it.
    let turns = format!("POST /api/sessions/{session}/turns");
    assert_eq!(ask(&server, &mut inside, &turns, r#"{"input":"hello"}"#), 202);
    drop(knocking);
    let until = Instant::now() + PATIENCE;
    while server.client.get(server.url("/api/health")).send().await.is_ok_and(|answer| answer.status() == 503) {
        assert!(Instant::now() < until, "the places are free again");
    }
    let events = server.events(&session).await;
    let turn = events.iter().find(|event| event["kind"] == "turn.queued").unwrap()["turn"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&turn).await["state"], "completed");
    verified(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_without_a_descriptor_left_the_server_waits_without_spinning_and_goes_on_when_there_are_some() {
    let data = tempfile::tempdir().unwrap();
    // So few that not even those who may come in can.
    let server = limited(data.path(), 1_000);
    let at_rest = u32::try_from(open_files(&server)).unwrap();
    let mut server = server;
    server.kill();
    let server = limited(data.path(), at_rest + 6);
    let session = server.session(json!({})).await;
    let mut inside = knock(&server);
    assert_eq!(ask(&server, &mut inside, "GET /api/sessions", ""), 200);
    let mut waiting: Vec<TcpStream> = (0..40).map(|_| knock(&server)).collect();
    let until = Instant::now() + PATIENCE;
    while !stderr(&server.data).contains("could not be accepted") {
        assert!(Instant::now() < until, "{} files of {} are open\n{}", open_files(&server), at_rest + 6, stderr(&server.data));
        std::thread::sleep(Duration::from_millis(20));
    }
    // Two seconds of that: it tries again twenty times a second, and no more.
    let (before, lines) = (cpu_ticks(&server), stderr(&server.data).lines().count());
    let begun = Instant::now();
    let turns = format!("POST /api/sessions/{session}/turns");
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(ask(&server, &mut inside, &turns, r#"{"input":"hello"}"#), 202, "who is in goes on");
        asked += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    let (spent, tried) = (cpu_ticks(&server) - before, stderr(&server.data).lines().count() - lines);
    println!("without descriptors: {spent} hundredths of a second of CPU, {tried} tries and {asked} turns in two seconds");
    assert!(spent < 100, "{spent} hundredths of a second of CPU in two seconds");
    assert!(tried < 60, "{tried} tries in two seconds");
    // The one that has waited longest is answered when there is room again.
    let mut last = waiting.pop().unwrap();
    drop(waiting);
    assert_eq!(ask(&server, &mut last, "GET /api/health", ""), 200);
    let page = server.get(&format!("/api/sessions/{session}/turns?limit=100")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), asked);
    verified(server);
}
