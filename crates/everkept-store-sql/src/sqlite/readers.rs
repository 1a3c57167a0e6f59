//! The threads that read, each with a connection of its own; a read sees one moment of the database.
//!
//! Never answers once storage has failed.

use super::{
    executor::SqliteTx,
    fault::{Health, commit_fault, not_done, problem, sql_fault, store_fault},
};
use crate::op::Stop;
use everkept_store::StoreFault;
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Reads on a connection and answers by itself.
pub type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Serves reads, taking turns with the other readers, until nobody can send any more.
pub fn serve(connection: &Connection, reads: &Arc<Mutex<mpsc::Receiver<Read>>>) {
    loop {
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match next {
            Some(read) => read(connection),
            None => return,
        }
    }
}

/// One read at one moment of the database.
pub fn read<R>(
    connection: &Connection,
    directory: &Path,
    health: &Health,
    doing: impl Fn() -> String,
    body: impl FnOnce(&mut SqliteTx<'_>) -> Result<R, Stop>,
) -> Result<R, StoreFault> {
    let statement = |sql| {
        let done = connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map_err(|error| not_done(problem(sql_fault(&error, directory)), &doing()))
    };
    if let Some(problem) = health.problem() {
        return Err(not_done(problem, &doing()));
    }
    statement("BEGIN")?;
    let found = body(&mut SqliteTx::new(connection, directory));
    statement("COMMIT")?;
    match health.problem() {
        Some(problem) => Err(not_done(problem, &doing())),
        None => found.map_err(|stop| store_fault(commit_fault(stop, &doing()), &doing())),
    }
}
