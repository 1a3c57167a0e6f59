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
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads on a connection and answers by itself.
pub type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The reads that wait. Each wakes one reader; a channel that readers take turns at would wake one more to stand at it.
pub struct Queue {
    room: Arc<Semaphore>,
    waiting: Mutex<VecDeque<(Read, OwnedSemaphorePermit)>>,
    filled: Condvar,
}

impl Queue {
    pub fn new(room: usize) -> Self {
        Queue { room: Arc::new(Semaphore::new(room)), waiting: Mutex::default(), filled: Condvar::new() }
    }

    /// Waits for room. Whether there is somebody to read: no more once the queue is closed.
    pub async fn put(&self, read: Read) -> bool {
        let Ok(place) = Arc::clone(&self.room).acquire_owned().await else { return false };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back((read, place));
        self.filled.notify_one();
        true
    }

    pub fn close(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.room.close();
        drop(waiting);
        self.filled.notify_all();
    }

    /// Serves reads until the queue is closed and empty.
    pub fn serve(&self, connection: &Connection) {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |waiting: &mut VecDeque<_>| waiting.is_empty() && !self.room.is_closed();
            let mut waiting = self.filled.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
            let Some((read, _place)) = waiting.pop_front() else { return };
            drop(waiting);
            read(connection);
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
    attempt(connection, directory, health, &doing, body)?.map_err(|stop| store_fault(commit_fault(stop, &doing()), &doing()))
}

/// The same, with what stopped it as it is.
pub fn attempt<R>(
    connection: &Connection,
    directory: &Path,
    health: &Health,
    doing: impl Fn() -> String,
    body: impl FnOnce(&mut SqliteTx<'_>) -> Result<R, Stop>,
) -> Result<Result<R, Stop>, StoreFault> {
    let statement = |sql| {
        let done = connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map_err(|error| not_done(problem(sql_fault(&error, directory)), &doing()))
    };
    if let Some(problem) = health.problem() {
        return Err(not_done(problem, &doing()));
    }
    statement("BEGIN")?;
    let found = body(&mut SqliteTx::new(connection, directory));
    let ended = statement("COMMIT");
    match (health.problem(), found) {
        (Some(problem), _) => Err(not_done(problem, &doing())),
        (None, Ok(found)) => ended.map(|_| Ok(found)),
        // What is damaged can fail the end as well, which then says less.
        (None, Err(stop)) => Ok(Err(stop)),
    }
}
