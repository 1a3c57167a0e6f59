//! What the same work costs without a server.
//!
//! Never gentler than the real thing: the same file system, the same durability.

use super::server::Folder;
use rusqlite::Connection;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A file to append to and to sync.
pub struct Synced {
    file: File,
    _folder: Folder,
}

impl Synced {
    pub fn new() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        Ok(Synced { file: File::create(folder.0.join("file"))?, _folder: folder })
    }

    /// Seconds that one synced append takes, now: a disk that is shared is another one a moment later.
    pub fn once(&mut self) -> anyhow::Result<f64> {
        let before = Instant::now();
        self.file.write_all(&[7; 4_096])?;
        self.file.sync_data()?;
        Ok(before.elapsed().as_secs_f64())
    }
}

/// The middle one of fifty.
pub fn fsync() -> anyhow::Result<f64> {
    let mut file = Synced::new()?;
    Ok(super::figure::median((0..50).map(|_| file.once()).collect::<anyhow::Result<_>>()?))
}

/// Durable appends a second: one writer that commits whatever waits, so many clients that each wait for theirs.
pub fn group_commit(clients: usize, body: &[u8], seconds: Duration) -> anyhow::Result<f64> {
    let folder = Folder::new()?;
    let connection = Connection::open(folder.0.join("floor.db"))?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE event (log INTEGER NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (log, seq)) WITHOUT ROWID",
    )?;
    let (give, take) = mpsc::channel::<(usize, u64, mpsc::Sender<()>)>();
    let until = Instant::now() + seconds;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let written = scope.spawn(move || write(&connection, &take, body));
        for client in 0..clients {
            let give = give.clone();
            scope.spawn(move || {
                let (reply, answer) = mpsc::channel();
                let mut seq = 0;
                while Instant::now() < until {
                    seq += 1;
                    if give.send((client, seq, reply.clone())).is_err() || answer.recv().is_err() {
                        return;
                    }
                }
            });
        }
        drop(give);
        let written = written.join().expect("the writer does not panic")?;
        Ok(written as f64 / begun.elapsed().as_secs_f64())
    })
}

fn write(connection: &Connection, take: &mpsc::Receiver<(usize, u64, mpsc::Sender<()>)>, body: &[u8]) -> rusqlite::Result<u64> {
    let mut written = 0;
    let mut batch = Vec::new();
    while let Ok(first) = take.recv() {
        batch.push(first);
        batch.extend(take.try_iter().take(255));
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut insert = connection.prepare_cached("INSERT INTO event (log, seq, body) VALUES (?1, ?2, ?3)")?;
        for (client, seq, _) in &batch {
            insert.execute((*client as i64, *seq as i64, body))?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")?;
        written += batch.len() as u64;
        for (_, _, reply) in batch.drain(..) {
            // A client that is done waits no more.
            _ = reply.send(());
        }
    }
    Ok(written)
}

/// Seconds that a read of the server's own rows takes: `rows` rows after `after`.
pub fn read_events(connection: &Connection, session: &[u8], after: u64, rows: u64) -> anyhow::Result<f64> {
    let before = Instant::now();
    let sql = "SELECT seq, count, kind, sum, body FROM event WHERE log = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query((session, after as i64, rows as i64))?;
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        bytes += row.get_ref(4)?.as_blob()?.len();
    }
    anyhow::ensure!(bytes > 0, "the floor found nothing to read");
    Ok(before.elapsed().as_secs_f64())
}

/// A connection beside the server's that only reads.
pub fn reader(database: &std::path::Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.pragma_update(None, "query_only", true)?;
    // The server is the one to tidy up.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}
