//! The one place that writes: jobs in batches, one synced commit for each batch.
//!
//! A batch is whatever arrived while the last commit ran. A job that is refused takes nothing along: where it had changed
//! something already, the batch is begun again with a savepoint for each job. Savepoints cost a copy of every page that is
//! touched, and refusals after a change are rare. Never answers a job, not even with a refusal, before its batch is on disk.

use super::{
    executor::{SqliteTx, answer},
    fault::{Health, commit_fault, not_done, problem, sql_fault},
};
use crate::{
    op::{self, Stop},
    tx::SqlFault,
};
use everkept_core::Timestamp;
use everkept_store::{CommitFault, Problem, StoreFault};
use rusqlite::{Connection, config::DbConfig};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// The most jobs in one commit: bounds how long the first of them waits for the last.
const BATCH: usize = 256;
/// From how many pages in the write-ahead log on it is moved into the database: when nobody waits, and in any case.
const CHECKPOINT_IDLE: u32 = 1_000;
const CHECKPOINT_BUSY: u32 = 4_000;
/// How far the kept wall time may lag behind, in microseconds.
const WALL_STEP: i64 = 1_000_000;

/// Something to do in a transaction, and somebody who waits for it.
pub trait Job: Send {
    /// Does it, perhaps again; what comes of it last is kept until the transaction's fate is known.
    fn run(&mut self, tx: &mut SqliteTx<'_>) -> Ran;
    /// The wall time it came with.
    fn wall(&self) -> Option<Timestamp>;
    /// Tells who waits: what came of it, or that it did not come to be.
    fn settle(self: Box<Self>, fate: Result<(), Fate>);
}

/// How far a job got.
pub enum Ran {
    Done,
    /// Refused: what it did is undone, the rest of the batch goes on.
    Refused,
    /// SQLite would not go on.
    Stopped(SqlFault),
}

/// Why a whole batch did not come to be.
#[derive(Debug, Clone)]
pub struct Fate {
    pub problem: Problem,
    pub may_have_happened: bool,
}

/// A job made of a closure.
pub struct Write<D, F, R> {
    pub doing: D,
    pub wall: Option<Timestamp>,
    pub body: F,
    pub said: Option<Result<R, Stop>>,
    pub reply: oneshot::Sender<Result<R, CommitFault>>,
}

impl<D, F, R> Job for Write<D, F, R>
where
    D: Fn() -> String + Send,
    F: Fn(&mut SqliteTx<'_>) -> Result<R, Stop> + Send,
    R: Send,
{
    fn run(&mut self, tx: &mut SqliteTx<'_>) -> Ran {
        let said = (self.body)(tx);
        let ran = match &said {
            Ok(_) => Ran::Done,
            Err(Stop::Sql(fault)) => Ran::Stopped(fault.clone()),
            Err(Stop::Conflict(_) | Stop::KeyUsed(_) | Stop::ThreadTaken(_) | Stop::Corrupt(..) | Stop::Oversized(_)) => Ran::Refused,
        };
        self.said = Some(said);
        ran
    }

    fn wall(&self) -> Option<Timestamp> {
        self.wall
    }

    fn settle(self: Box<Self>, fate: Result<(), Fate>) {
        let Write { doing, body, said, reply, .. } = *self;
        // What goes with the write ends before anybody hears of it.
        drop(body);
        let answer = match (fate, said) {
            (Ok(()), Some(Ok(answer))) => Ok(answer),
            (Ok(()), Some(Err(stop))) => Err(commit_fault(stop, &doing())),
            (Ok(()), None) => Err(not_done(Problem::Failed("the job was never begun".into()), &doing()).into()),
            (Err(Fate { problem, may_have_happened }), _) => Err(StoreFault { problem, doing: doing(), may_have_happened }.into()),
        };
        // Nobody waits any more: what was done stays done.
        let _ = reply.send(answer);
    }
}

/// The connection that writes.
pub struct Writer {
    pub connection: Connection,
    directory: PathBuf,
    health: Arc<Health>,
    /// The latest wall time that is on disk.
    wall: Timestamp,
    /// Pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicU32>,
}

impl Writer {
    pub fn new(mut connection: Connection, directory: &Path, health: Arc<Health>) -> Result<Self, StoreFault> {
        let wal_pages = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&wal_pages);
        // This also takes the place of SQLite's own checkpoints, whose errors nobody would see.
        let hooked = connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            counted.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }));
        let wall = hooked
            .map_err(|error| Stop::Sql(sql_fault(&error, directory)))
            .and_then(|()| answer(op::latest_wall(&mut SqliteTx::new(&connection, directory))))
            .map_err(|stop| super::fault::store_fault(commit_fault(stop, "open the database"), "open the database"))?;
        Ok(Writer { connection, directory: directory.to_owned(), health, wall, wal_pages })
    }

    /// Does jobs until nobody can send any more.
    pub fn serve(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            self.write(&mut batch);
            self.checkpoint(jobs.is_empty());
        }
    }

    /// One batch, begun, committed and answered.
    pub fn write(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        if let Some(problem) = self.health.problem() {
            return settle(batch, &Err(Fate { problem, may_have_happened: false }));
        }
        let fate = self.commit(batch);
        settle(batch, &fate);
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Fate> {
        self.run_all(batch).map_err(|fault| self.give_up(fault))?;
        let wall = batch.iter().filter_map(|job| job.wall()).max().filter(|wall| wall.0 >= self.wall.0.saturating_add(WALL_STEP));
        if let Some(wall) = wall {
            self.note_wall(wall).map_err(|fault| self.give_up(fault))?;
        }
        match self.statement("COMMIT") {
            Ok(()) => {
                self.wall = wall.unwrap_or(self.wall);
                Ok(())
            }
            Err(SqlFault::Full) => Err(self.give_up(SqlFault::Full)),
            Err(fault) => {
                // Whether the commit is on disk cannot be known.
                let fate = self.give_up(SqlFault::Storage(problem(fault).to_string()));
                Err(Fate { may_have_happened: true, ..fate })
            }
        }
    }

    /// Runs every job in one transaction, and leaves it open.
    fn run_all(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), SqlFault> {
        self.statement("BEGIN IMMEDIATE")?;
        for job in batch.iter_mut() {
            let before = self.connection.total_changes();
            if !self.run(job.as_mut())? && self.connection.total_changes() != before {
                self.statement("ROLLBACK")?;
                return self.run_each(batch);
            }
        }
        Ok(())
    }

    /// The same with a savepoint for each job, to undo those that are refused.
    fn run_each(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), SqlFault> {
        self.statement("BEGIN IMMEDIATE")?;
        for job in batch.iter_mut() {
            self.statement("SAVEPOINT job")?;
            if !self.run(job.as_mut())? {
                self.statement("ROLLBACK TO job")?;
            }
            self.statement("RELEASE job")?;
        }
        Ok(())
    }

    /// Whether what the job did may stay. A fault is one of the whole batch.
    fn run(&self, job: &mut dyn Job) -> Result<bool, SqlFault> {
        match job.run(&mut SqliteTx::new(&self.connection, &self.directory)) {
            Ran::Done => Ok(true),
            Ran::Refused => Ok(false),
            // An error can end SQLite's transaction by itself; then nothing of the batch is left.
            Ran::Stopped(fault @ (SqlFault::Refused(_) | SqlFault::Damaged(_))) if self.connection.is_autocommit() => Err(fault),
            Ran::Stopped(SqlFault::Refused(_) | SqlFault::Damaged(_)) => Ok(false),
            Ran::Stopped(fault @ (SqlFault::Full | SqlFault::Storage(_) | SqlFault::ReadOnly(_) | SqlFault::Busy)) => Err(fault),
        }
    }

    /// Undoes the whole transaction and says what becomes of its jobs.
    fn give_up(&mut self, fault: SqlFault) -> Fate {
        match &fault {
            SqlFault::Storage(why) | SqlFault::ReadOnly(why) => self.fail(why),
            SqlFault::Full | SqlFault::Busy | SqlFault::Refused(_) | SqlFault::Damaged(_) => {}
        }
        if !self.connection.is_autocommit()
            && let Err(rollback) = self.connection.execute_batch("ROLLBACK")
        {
            self.fail(&format!("a transaction could not be undone: {rollback}"));
        }
        let problem = self.health.problem().unwrap_or_else(|| problem(fault));
        Fate { problem, may_have_happened: false }
    }

    /// Storage has failed: the files are left as they are for the next start.
    fn fail(&mut self, why: &str) {
        self.health.poison(why);
        if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, "the write-ahead log may be moved on closing");
        }
    }

    fn note_wall(&mut self, wall: Timestamp) -> Result<(), SqlFault> {
        match answer(op::note_wall(&mut SqliteTx::new(&self.connection, &self.directory), wall)) {
            Ok(()) => Ok(()),
            Err(Stop::Sql(fault)) => Err(fault),
            Err(stop) => Err(SqlFault::Refused(format!("the wall time was not kept: {stop:?}"))),
        }
    }

    /// Moves the write-ahead log into the database when it has grown.
    pub fn checkpoint(&mut self, idle: bool) {
        let due = if idle { CHECKPOINT_IDLE } else { CHECKPOINT_BUSY };
        if self.wal_pages.load(Ordering::Relaxed) < due || self.health.problem().is_some() {
            return;
        }
        let moved: rusqlite::Result<(bool, u32, u32)> =
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        match moved {
            // What readers still hold stays for the next time, after as many pages again.
            Ok((_, pages, moved)) => self.wal_pages.store(pages.saturating_sub(moved), Ordering::Relaxed),
            Err(error) => match sql_fault(&error, &self.directory) {
                // The log keeps everything; there may be space for it later.
                SqlFault::Full | SqlFault::Busy => self.wal_pages.store(0, Ordering::Relaxed),
                fault @ (SqlFault::Storage(_) | SqlFault::ReadOnly(_) | SqlFault::Refused(_) | SqlFault::Damaged(_)) => {
                    self.fail(&format!("the write-ahead log could not be moved: {}", problem(fault)));
                }
            },
        }
    }

    fn statement(&self, sql: &str) -> Result<(), SqlFault> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map(|_| ()).map_err(|error| sql_fault(&error, &self.directory))
    }
}

fn settle(batch: &mut Vec<Box<dyn Job>>, fate: &Result<(), Fate>) {
    for job in batch.drain(..) {
        job.settle(fate.clone());
    }
}
