//! Opens the database file: looks before it touches, recovers, migrates, and writes back what may not be on disk.
//!
//! Never changes a file that is newer than this program, or that is not ours.

use super::{
    executor::SqliteTx,
    fault::{not_done, problem, sql_fault},
    files::Files,
    schema::{self, APPLICATION, KNOWN},
};
use crate::{op::Stop, tx::Tx};
use everkept_store::{Problem, StoreFault};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub const FILE: &str = "everkept.db";
const DOING: &str = "open the database";
/// The first SQLite without the WAL-reset bug.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long another process may keep us waiting for the file.
const BUSY: Duration = Duration::from_secs(1);
const STATEMENTS: usize = 128;
/// What the log file is cut back to after it had to grow, in bytes.
const WAL_LIMIT: i64 = 64 * 1024 * 1024;

/// Whether a start writes back what may not be on disk. Every start does; one that does not shows what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBack {
    Yes,
    No,
}

/// The connection that writes, once the file is known to be ours, recovered, of this version and on disk.
pub fn open_writer(directory: &Path, files: &dyn Files, write_back: WriteBack) -> Result<Connection, StoreFault> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(unopenable(format!("SQLite {} loses data in WAL mode", rusqlite::version())));
    }
    let path = directory.join(FILE);
    look(&path, files)?;
    if write_back == WriteBack::Yes && has_log(&path, files) {
        files.forget(&[&path, &wal(&path)]);
    }
    let mut connection = connect(&path, files, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let fault = |error: rusqlite::Error| open_fault(&error, directory);
    if connection.is_readonly("main").map_err(fault)? {
        return Err(not_done(Problem::ReadOnly(path.display().to_string()), DOING));
    }
    check_ours(&connection, &path, directory)?;
    configure(&connection, 16).map_err(fault)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        return Err(unopenable(format!("{} cannot be kept with a write-ahead log here", path.display())));
    }
    // SQLite does not sync the removal of the journal it used to come here. Were that journal to be there again after a power
    // cut, it would be rolled back into a database that has gone on.
    files.sync_directory(directory).map_err(|error| not_done(Problem::Failed(error.to_string()), DOING))?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(fault)?;
    schema::migrate(&mut connection).map_err(fault)?;
    if write_back == WriteBack::No {
        return Ok(connection);
    }
    // Whatever an earlier server may not have brought to disk is written again, and synced (promise D4).
    let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (busy, pages): (bool, i64) = moved.map_err(fault)?;
    if busy {
        return Err(not_done(Problem::Locked, DOING));
    }
    if pages < 0 {
        // SQLite says that there is a log, and goes on with a journal, when the disk failed as it was to be begun.
        return Err(not_done(Problem::Failed(format!("{} has no write-ahead log", path.display())), DOING));
    }
    Ok(connection)
}

/// A connection that only reads, on a file that a writer has opened.
pub fn open_reader(directory: &Path, files: &dyn Files) -> Result<Connection, StoreFault> {
    let connection = connect(&directory.join(FILE), files, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let configured = configure(&connection, 8).and_then(|()| connection.pragma_update(None, "query_only", true));
    // The writer is the one to close last and to tidy up.
    let configured = configured.and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
    configured.map_err(|error| open_fault(&error, directory))?;
    Ok(connection)
}

/// SQLite keeps the limit for this connection only: the one that writes.
pub async fn limit_pages(tx: &mut SqliteTx<'_>, pages: Option<u32>) -> Result<(), Stop> {
    tx.rows(&format!("PRAGMA max_page_count = {}", pages.unwrap_or(u32::MAX - 1)), &[]).await?;
    Ok(())
}

pub fn connect(path: &Path, files: &dyn Files, flags: OpenFlags) -> Result<Connection, StoreFault> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match files.vfs() {
        None => Connection::open_with_flags(path, flags),
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
    };
    let connection = connection.and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection));
    connection.map_err(|error| open_fault(&error, path.parent().unwrap_or(path)))
}

fn configure(connection: &Connection, cache_mib: i64) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On a Mac a plain sync does not reach the disk.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Otherwise a statement whose plan could depend on an argument is compiled anew for every one it is given.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -1024 * cache_mib)
}

/// Reads the file's header without SQLite, which would leave files beside one that is only looked at. To close a file
/// gives up all locks this process has on it: nothing else here may have it open yet.
fn look(path: &Path, files: &dyn Files) -> Result<(), StoreFault> {
    let unreadable = |error: std::io::Error| unopenable(format!("{}: {error}", path.display()));
    let Some(header) = files.first(path, 100).map_err(unreadable)? else { return Ok(()) };
    if header.is_empty() {
        return Ok(());
    }
    // Cut off in the middle of its very first write, the file is anything; SQLite takes that back by the journal beside it.
    let journal = beside(path, "-journal");
    if !header.starts_with(b"SQLite format 3\0") && files.length(&journal).is_some_and(|bytes| bytes > 0) {
        return Ok(());
    }
    let field = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let (Some(version), Some(application), true) = (field(60), field(68), header.starts_with(b"SQLite format 3\0")) else {
        return Err(unopenable(format!("{} is not a database", path.display())));
    };
    // A file whose first schema is still in the write-ahead log says 0.
    if application != APPLICATION as u32 && (application, version) != (0, 0) {
        return Err(unopenable(format!("{} is not a database of Everkept", path.display())));
    }
    refuse_newer(version)?;
    if files.is_read_only(path).map_err(unreadable)? {
        return Err(not_done(Problem::ReadOnly(path.display().to_string()), DOING));
    }
    // With a journal beside it (a cut in the very first start) nothing can be read before it is rolled back.
    if has_log(path, files) && files.length(&journal).is_none() {
        // The newest version may stand in the log only.
        let reader = connect(path, files, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // Closed like any other, the last connection would move the log into the database.
        let version = reader.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).and_then(|_| schema::version(&reader));
        let version = version.map_err(|error| open_fault(&error, path.parent().unwrap_or(path)))?;
        refuse_newer(version)?;
    }
    Ok(())
}

/// Whether the last server did not close the database.
fn has_log(path: &Path, files: &dyn Files) -> bool {
    files.length(&wal(path)).is_some_and(|bytes| bytes > 0)
}

fn wal(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn refuse_newer(found: u32) -> Result<(), StoreFault> {
    if found > KNOWN { Err(not_done(Problem::Newer { found, known: KNOWN }, DOING)) } else { Ok(()) }
}

/// A database without a version must be an empty one.
fn check_ours(connection: &Connection, path: &Path, directory: &Path) -> Result<(), StoreFault> {
    let fault = |error: rusqlite::Error| open_fault(&error, directory);
    refuse_newer(schema::version(connection).map_err(fault)?)?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fault)?;
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fault)?;
    if application != APPLICATION && tables > 0 {
        return Err(unopenable(format!("{} is not a database of Everkept", path.display())));
    }
    Ok(())
}

fn unopenable(text: String) -> StoreFault {
    not_done(Problem::Unopenable(text), DOING)
}

fn open_fault(error: &rusqlite::Error, directory: &Path) -> StoreFault {
    let found = match problem(sql_fault(error, directory)) {
        Problem::Failed(text) => Problem::Unopenable(text),
        other => other,
    };
    not_done(found, DOING)
}
