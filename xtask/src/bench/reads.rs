//! Reading: the newest of a long log, and all of a shorter one.
//!
//! Never from anything but the real API, a page at a time.

use super::figure::{Figure, median};
use super::server::Server;
use super::{Options, floor, log};
use anyhow::{Context, ensure};
use std::time::Instant;

const LONG: u64 = 100_000;
const WHOLE: u64 = 10_000;
const SHORT: u64 = 1_000;
const PAGE: u64 = 1_000;
const TIMES: usize = 200;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let (long, whole, short) = (log::fill(&server, LONG)?, log::fill(&server, WHOLE)?, log::fill(&server, SHORT)?);
    server.settle()?;
    let database = floor::reader(&server.database())?;
    let mut connection = server.connect()?;
    let mut figures = Vec::new();
    for log in [&short, &long] {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        let path = format!("/api/sessions/{}/events?after={}&limit=50", log.session, log.head - 50);
        for _ in 0..options.rounds {
            for _ in 0..TIMES {
                let begun = Instant::now();
                let answer = connection.ask("GET", &path, &[])?;
                let took = begun.elapsed().as_secs_f64();
                ensure!(answer.body.len() > 50 * 100, "a short page");
                ours.push(took * 1e3);
            }
            let key = log.key()?;
            for _ in 0..TIMES {
                floors.push(floor::read_events(&database, &key, log.head - 50, 50)? * 1e3);
            }
        }
        figures.push(Figure::new(format!("last 50 of {} events", log.head), "ms", median(ours)).floor(median(floors)).at_most(1.0, 0.2));
    }
    let (mut streamed, mut paged, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds * 3 {
        let begun = Instant::now();
        let lines = server.connect()?.read_whole(&format!("/api/sessions/{}/export", whole.session))?;
        streamed.push(begun.elapsed().as_secs_f64() * 1e3);
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        check(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)?;
        let begun = Instant::now();
        let mut pages = Vec::new();
        for page in 0..WHOLE / PAGE {
            let path = format!("/api/sessions/{}/events?after={}&limit={PAGE}", whole.session, page * PAGE);
            pages.push(connection.ask("GET", &path, &[])?.body.to_vec());
        }
        paged.push(begun.elapsed().as_secs_f64() * 1e3);
        let mut events = Vec::new();
        for page in &pages {
            let mut page: serde_json::Value = serde_json::from_slice(page)?;
            events.append(page["items"].as_array_mut().context("a page has items")?);
        }
        check(events)?;
        floors.push(floor::read_events(&database, &whole.key()?, 0, WHOLE)? * 1e3);
    }
    let floor = median(floors);
    figures.push(Figure::new("read all of 10000 events", "ms", median(streamed)).floor(floor).times_floor(3.0, 1.5));
    figures.push(Figure::new("the same, 1000 a request", "ms", median(paged)).floor(floor));
    Ok(figures)
}

fn check(events: Vec<serde_json::Value>) -> anyhow::Result<()> {
    let mut next = 1;
    for event in events {
        ensure!(event["seq"] == next, "event {next} is missing or comes twice");
        next += 1;
    }
    ensure!(next == WHOLE + 1, "the log ends at {}", next - 1);
    Ok(())
}
