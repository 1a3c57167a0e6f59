//! One session's events to many readers at once, beside the same bytes handed round by bare threads.
//!
//! Never trusts a count: each reader's numbers have to rise by one from the first to the last.

use super::Options;
use super::figure::{Figure, median};
use super::http::Stream;
use super::server::Server;
use anyhow::{Context, ensure};
use serde_json::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

const BATCHES: usize = 20;
/// Events in one request, and so in one batch.
const EVENTS: usize = 20;
const STACK: usize = 256 * 1024;
/// What the last message says.
const END: &str = "the last one";

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for readers in [1, 100, 1_000] {
        let server = Server::start()?;
        let session = server.session(&json!({"title": "a title"}))?;
        let (mut ours, mut floors, mut each) = (Vec::new(), Vec::new(), 0.0);
        let mut head = 1;
        for _ in 0..options.rounds {
            let before = server.memory()?;
            let streams = (0..readers).map(|_| server.connect()?.follow(&session, head)).collect::<anyhow::Result<Vec<_>>>()?;
            each = f64::max(each, (server.memory()? - before) / 1024.0 / readers as f64);
            let (took, streams) = deliver(streams, || post(&server, &session))?;
            let first = streams.first().context("a reader")?.bytes.clone();
            let sent = (BATCHES * EVENTS) as u64;
            for stream in &streams {
                ensure!(stream.numbers() == (head + 1..=head + sent).collect::<Vec<_>>(), "a reader lost or doubled events");
            }
            drop(streams);
            head += sent;
            ours.push(sent as f64 * readers as f64 / took);
            floors.push(sent as f64 * readers as f64 / bare(readers, &first)?);
        }
        let what = format!("one stream to {readers} reader{}", if readers == 1 { "" } else { "s" });
        figures.push(Figure::new(format!("{what}: events/s delivered"), "/s", median(ours)).floor(median(floors)).part_of_floor(0.4, 0.7));
        if readers > 1 {
            figures.push(Figure::new(format!("{what}: memory each"), "KB", each * 1.024).at_most(40.0, 10.0));
        }
    }
    Ok(figures)
}

fn post(server: &Server, session: &str) -> anyhow::Result<()> {
    let mut connection = server.connect()?;
    let path = format!("/api/sessions/{session}/messages");
    for batch in 1..=BATCHES {
        let text = |n| if (batch, n) == (BATCHES, EVENTS) { END.to_owned() } else { "x".repeat(300) };
        let messages: Vec<_> = (1..=EVENTS).map(|n| json!({"role": "user", "content": text(n)})).collect();
        connection.ask("POST", &path, json!({ "messages": messages }).to_string().as_bytes())?;
    }
    Ok(())
}

/// Seconds until every reader has the end of what `send` sends.
fn deliver(streams: Vec<Stream>, send: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(f64, Vec<Stream>)> {
    let read = |mut stream: Stream| {
        std::thread::Builder::new().stack_size(STACK).spawn(move || stream.read_until(END).map(|()| (Instant::now(), stream)))
    };
    let readers = streams.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    send()?;
    let mut last = begun;
    let mut streams = Vec::new();
    for reader in readers {
        let (at, stream) = reader.join().expect("readers do not panic")?;
        last = last.max(at);
        streams.push(stream);
    }
    Ok(((last - begun).as_secs_f64(), streams))
}

/// The same bytes in as many pieces, written to every reader in turn by two threads that know nothing else.
fn bare(readers: usize, bytes: &[u8]) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut streams, mut sockets) = (Vec::new(), Vec::new());
    for _ in 0..readers {
        streams.push(Stream { stream: TcpStream::connect(address)?, bytes: Vec::new() });
        let socket = listener.accept()?.0;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let piece = bytes.len().div_ceil(BATCHES);
    let (took, _) = deliver(streams, || {
        let half = sockets.len().div_ceil(2);
        std::thread::scope(|scope| {
            let write = |sockets: &mut [TcpStream]| {
                bytes.chunks(piece).try_for_each(|piece| sockets.iter_mut().try_for_each(|to| to.write_all(piece)))
            };
            let writers: Vec<_> = sockets.chunks_mut(half).map(|sockets| scope.spawn(move || write(sockets))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("writers do not panic"))
        })?;
        Ok(())
    })?;
    Ok(took)
}
