//! Forks of short and long logs: what they take, and what they leave on the disk.
//!
//! Never measures the fill.

use super::figure::{Figure, median};
use super::server::Server;
use super::{Options, floor, log};
use anyhow::ensure;
use std::time::Instant;

const FORKS: usize = 30;

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut figures = Vec::new();
    for length in [100, 10_000, 100_000] {
        let log = log::fill(&server, length)?;
        server.settle()?;
        let mut connection = server.connect()?;
        let path = format!("/api/sessions/{}/fork", log.session);
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        let mut synced = floor::Synced::new()?;
        let before = size(&server)?;
        for _ in 0..options.rounds {
            for _ in 0..FORKS {
                floors.push(synced.once()? * 1e3);
                let begun = Instant::now();
                connection.ask("POST", &path, b"{}")?;
                ours.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        let child = connection.post(&path, b"{}")?;
        let child = child["id"].as_str().unwrap_or_default().to_owned();
        let page = connection.get(&format!("/api/sessions/{child}/events?after={}", length - 1))?;
        ensure!(page["items"][0]["seq"] == length && page["items"][1]["seq"] == length + 1, "the fork does not begin where it was made");
        server.settle()?;
        let grown = (size(&server)? - before) / (options.rounds * FORKS + 1) as f64 / 1024.0;
        let sync = median(floors);
        let what = format!("fork of {length} events");
        figures.push(Figure::new(what.clone(), "ms", median(ours)).floor(sync).at_most(10.0, sync + 2.0));
        figures.push(Figure::new(format!("{what}: the database grows by"), "KiB", grown).at_most(16.0, 16.0));
    }
    Ok(figures)
}

/// Bytes of all pages, those included that are in the write-ahead log only.
fn size(server: &Server) -> anyhow::Result<f64> {
    let database = floor::reader(&server.database())?;
    let pages: i64 = database.query_row("SELECT page_count FROM pragma_page_count()", [], |row| row.get(0))?;
    let size: i64 = database.query_row("SELECT page_size FROM pragma_page_size()", [], |row| row.get(0))?;
    Ok((pages * size) as f64)
}
