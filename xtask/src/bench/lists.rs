//! The newest 50 sessions of an owner who has many.
//!
//! Never filled but over the API.

use super::figure::{Figure, median};
use super::server::Server;
use super::{Options, floor};
use anyhow::ensure;
use serde_json::json;
use std::time::Instant;

const CLIENTS: usize = 32;
const FEW: usize = 1_000;
const TIMES: usize = 200;
const OWNER: &str = "ann";

pub fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut made = 0;
    let mut figures = Vec::new();
    for count in [FEW, options.sessions] {
        fill(&server, count - made)?;
        made = count;
        server.settle()?;
        figures.push(list(&server, options, made)?);
    }
    Ok(figures)
}

fn fill(server: &Server, count: usize) -> anyhow::Result<()> {
    let body = json!({ "resource": OWNER, "title": "a session" }).to_string();
    let body = body.as_bytes();
    std::thread::scope(|scope| {
        let fill = |client| {
            let mine = count / CLIENTS + usize::from(client < count % CLIENTS);
            scope.spawn(move || -> anyhow::Result<()> {
                let mut connection = server.connect()?;
                (0..mine).try_for_each(|_| connection.ask("POST", "/api/sessions", body).map(|_| ()))
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(fill).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("clients do not panic"))
    })
}

fn list(server: &Server, options: &Options, made: usize) -> anyhow::Result<Figure> {
    let database = floor::reader(&server.database())?;
    let sql = "SELECT id, record FROM session WHERE deleted = 0 AND resource = ?1 ORDER BY updated_at DESC, id DESC LIMIT 51";
    let mut bare = database.prepare(sql)?;
    let mut connection = server.connect()?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for _ in 0..TIMES {
            let begun = Instant::now();
            let answer = connection.ask("GET", &format!("/api/sessions?resource={OWNER}&limit=50"), &[])?;
            let took = begun.elapsed().as_secs_f64();
            ensure!(answer.body.len() > 50 * 100, "a short list");
            ours.push(took * 1e3);
        }
        for _ in 0..TIMES {
            let begun = Instant::now();
            let mut rows = bare.query([OWNER])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                bytes += row.get_ref(1)?.as_blob()?.len();
            }
            ensure!(bytes > 0, "the floor found nothing to list");
            floors.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let listed = connection.get(&format!("/api/sessions?resource={OWNER}&limit=50"))?;
    ensure!(listed["items"].as_array().is_some_and(|items| items.len() == 50), "50 sessions are listed");
    Ok(Figure::new(format!("list 50 of {made} sessions of one owner"), "ms", median(ours)).floor(median(floors)).at_most(1.0, 0.4))
}
