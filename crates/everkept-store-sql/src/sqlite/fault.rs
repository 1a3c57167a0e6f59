//! What SQLite's errors mean for the store, and the one place where it is noted that storage has failed.
//!
//! Never: an unknown write error taken for a full disk. Only what is proved to be lack of space may be tried again.

#[cfg(test)]
mod tests;

use crate::{op::Stop, tx::SqlFault};
use everkept_store::{CommitFault, Problem, StoreFault};
use rusqlite::{Error, ErrorCode, ffi};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::OnceLock,
};

/// Whether storage has failed: from then on nothing is answered until a new start (promise D4).
#[derive(Debug, Default)]
pub struct Health {
    failed: OnceLock<String>,
}

impl Health {
    pub fn poison(&self, why: &str) {
        if self.failed.set(why.to_owned()).is_ok() {
            tracing::error!(why, "storage failed; nothing more is answered until a new start");
        }
    }

    pub fn problem(&self) -> Option<Problem> {
        self.failed.get().cloned().map(Problem::Failed)
    }
}

/// Reads an error of SQLite's; `directory` is where there may be no space.
pub fn sql_fault(error: &Error, directory: &Path) -> SqlFault {
    let text = error.to_string();
    let Error::SqliteFailure(code, _) = error else { return SqlFault::Refused(text) };
    match code.code {
        ErrorCode::DiskFull => SqlFault::Full,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SqlFault::Busy,
        ErrorCode::ReadOnly => SqlFault::ReadOnly(text),
        ErrorCode::SystemIoFailure if may_be_space(code.extended_code) && is_full(directory) => SqlFault::Full,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => SqlFault::Damaged(text),
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => SqlFault::Storage(format!("{text} (code {})", code.extended_code)),
        _ => SqlFault::Refused(text),
    }
}

/// Writes that no sync has begun after. What a failed sync leaves on disk is never known.
fn may_be_space(extended: i32) -> bool {
    matches!(extended, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMMAP)
}

/// SQLite tells a full quota and a failing disk by the system's error number, which it does not hand out here: so it is
/// tried whether a file can grow.
fn is_full(directory: &Path) -> bool {
    let path = directory.join("everkept.space");
    let tried = File::create(&path).and_then(|mut file| file.write_all(&[0; 64 * 1024]).and_then(|()| file.sync_all()));
    // Left behind it would only be overwritten by the next try.
    let _ = fs::remove_file(&path);
    tried.is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

pub fn problem(fault: SqlFault) -> Problem {
    match fault {
        SqlFault::Full => Problem::Full,
        SqlFault::Storage(text) | SqlFault::Damaged(text) | SqlFault::Refused(text) => Problem::Failed(text),
        SqlFault::Busy => Problem::Locked,
        SqlFault::ReadOnly(text) => Problem::ReadOnly(text),
    }
}

/// A fault of something that certainly did not happen.
pub fn not_done(problem: Problem, doing: &str) -> StoreFault {
    StoreFault { problem, doing: doing.to_owned(), may_have_happened: false }
}

pub fn commit_fault(stop: Stop, doing: &str) -> CommitFault {
    match stop {
        Stop::Conflict(session) => CommitFault::Conflict { session },
        Stop::KeyUsed(answer) => CommitFault::KeyUsed(answer),
        Stop::ThreadTaken(session) => CommitFault::ThreadTaken(session),
        Stop::Corrupt(session, seq) => not_done(Problem::Corrupt { session, seq }, doing).into(),
        Stop::Oversized(bytes) => not_done(Problem::Failed(format!("an event of {bytes} bytes is too large")), doing).into(),
        Stop::Sql(fault) => not_done(problem(fault), doing).into(),
    }
}

/// For operations that no rule of the store refuses.
pub fn store_fault(fault: CommitFault, doing: &str) -> StoreFault {
    match fault {
        CommitFault::Store(fault) => fault,
        refused @ (CommitFault::Conflict { .. } | CommitFault::KeyUsed(_) | CommitFault::ThreadTaken(_)) => {
            not_done(Problem::Failed(refused.to_string()), doing)
        }
    }
}
