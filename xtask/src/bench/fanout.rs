//! One session's events to many readers at once, beside the same server on a store in memory, and beside bare threads.
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

/// Clients that send at the same time, the requests of each after each other, and the events of a request.
const SENDERS: usize = 4;
const REQUESTS: usize = 5;
const EVENTS: usize = 20;
/// Events of a round: one more ends it.
const SENT: usize = SENDERS * REQUESTS * EVENTS + 1;
const STACK: usize = 256 * 1024;
/// What the last message says.
const END: &str = "the last one";

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for readers in [1, 100, 1_000] {
        let (real, floor) = (Feed::new(Server::start()?)?, Feed::new(Server::without_store()?)?);
        let (mut ours, mut floors, mut bares, mut each) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for round in 0..options.rounds {
            let before = real.server.memory()?;
            let streams = real.follow(readers, round)?;
            each = f64::max(each, (real.server.memory()? - before) / 1024.0 / readers as f64);
            let (took, bytes) = real.deliver(streams, round)?;
            let delivered = (SENT * readers) as f64;
            ours.push(delivered / took);
            floors.push(delivered / floor.deliver(floor.follow(readers, round)?, round)?.0);
            bares.push(delivered / bare(readers, &bytes)?);
        }
        let what = format!("one stream to {readers} reader{}", if readers == 1 { "" } else { "s" });
        let delivered = format!("{what}: events/s delivered");
        figures.push(Figure::new(&delivered, "/s", median(ours.clone())).floor(median(floors)).part_of_floor(0.4, 0.7));
        figures.push(Figure::new(format!("{what}: beside bare threads"), "/s", median(ours)).floor(median(bares)));
        if readers > 1 {
            figures.push(Figure::new(format!("{what}: memory each"), "KB", each * 1.024).at_most(40.0, 10.0));
        }
    }
    Ok(figures)
}

/// A session whose events are followed, round after round.
struct Feed {
    server: Server,
    session: String,
}

impl Feed {
    fn new(server: Server) -> anyhow::Result<Self> {
        let session = server.session(&json!({"title": "a title"}))?;
        Ok(Feed { server, session })
    }

    /// The last event before a round: the session's creation is one.
    fn head(round: usize) -> u64 {
        1 + (round * SENT) as u64
    }

    fn follow(&self, readers: usize, round: usize) -> anyhow::Result<Vec<Stream>> {
        (0..readers).map(|_| self.server.connect()?.follow(&self.session, Self::head(round))).collect()
    }

    /// The seconds a round took, and what each reader was sent.
    fn deliver(&self, streams: Vec<Stream>, round: usize) -> anyhow::Result<(f64, Vec<u8>)> {
        let (took, streams) = deliver(streams, || post(&self.server, &self.session))?;
        let sent = (Self::head(round) + 1..=Self::head(round + 1)).collect::<Vec<_>>();
        ensure!(streams.iter().all(|stream| stream.numbers() == sent), "a reader lost or doubled events");
        Ok((took, streams.into_iter().next().context("a reader")?.bytes))
    }
}

fn post(server: &Server, session: &str) -> anyhow::Result<()> {
    let path = format!("/api/sessions/{session}/messages");
    let body = |text: &str, count| json!({ "messages": vec![json!({"role": "user", "content": text}); count] }).to_string();
    let send = |text: &str, count, requests| {
        let mut connection = server.connect()?;
        (0..requests).try_for_each(|_| connection.ask("POST", &path, body(text, count).as_bytes()).map(drop))
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| send(&"x".repeat(300), EVENTS, REQUESTS))).collect();
        senders.into_iter().try_for_each(|sender| sender.join().expect("senders do not panic"))
    })?;
    send(END, 1, 1)
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
    let piece = bytes.len().div_ceil(SENDERS * REQUESTS);
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
