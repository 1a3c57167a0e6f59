//! The index's file: made, looked at, made anew.
//!
//! Never trusted: whatever cannot be read as an index of this version is thrown away.

use crate::sqlite::{
    fault::{not_done, problem, sql_fault},
    files::Files,
    open::{beside, connect},
};
use everkept_store::{Problem, StoreFault};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

const FILE: &str = "search.db";
/// Another version of the schema, or another way to read texts, begins a new index.
const VERSION: u32 = 1;
/// Marks the file as our index: `EVKS`.
const APPLICATION: i32 = 0x4556_4b53;
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_CREATE);
const DOING: &str = "open the full-text index";

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Makes sure that there is an index of this version, perhaps an empty one.
pub fn prepare(directory: &Path, files: &dyn Files) -> Result<(), StoreFault> {
    let connection = connect(&path(directory), files, FLAGS)?;
    if is_current(&connection).is_ok_and(|current| current) {
        return Ok(());
    }
    drop(connection);
    begin_again(directory, files)
}

/// Throws the index away and makes an empty one. Nobody has it open.
pub fn begin_again(directory: &Path, files: &dyn Files) -> Result<(), StoreFault> {
    let path = path(directory);
    for ending in ["", "-wal", "-shm", "-journal"] {
        let path = beside(&path, ending);
        if files.length(&path).is_some() {
            let removed = files.remove(&path);
            removed.map_err(|error| not_done(Problem::Unopenable(format!("{}: {error}", path.display())), DOING))?;
        }
    }
    let mut connection = connect(&path, files, FLAGS)?;
    create(&mut connection).map_err(|error| not_done(problem(sql_fault(&error, directory)), DOING))
}

fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: u32 =
        connection.query_row("SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('indexed', 'search')", [], |row| row.get(0))?;
    Ok((application, version, tables) == (APPLICATION, VERSION, 2))
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let step = connection.transaction()?;
    step.execute_batch(include_str!("schema.sql"))?;
    step.pragma_update(None, "application_id", APPLICATION)?;
    step.pragma_update(None, "user_version", VERSION)?;
    step.commit()
}

/// Lets a connection to the database see the index, as `words`.
pub fn attach(connection: &Connection, directory: &Path) -> Result<(), StoreFault> {
    let path = path(directory);
    let attached = connection.execute("ATTACH ?1 AS words", [path.to_string_lossy()]).and_then(|_| {
        // What a crash takes from it is indexed again.
        connection.pragma_update(Some("words"), "synchronous", "NORMAL")
    });
    attached.map_err(|error| not_done(problem(sql_fault(&error, directory)), DOING))
}

/// The end of [`attach`].
pub fn detach(connection: &Connection, directory: &Path) -> Result<(), StoreFault> {
    // A statement that is kept would keep the file.
    connection.flush_prepared_statement_cache();
    let detached = connection.execute("DETACH words", []);
    detached.map(|_| ()).map_err(|error| not_done(problem(sql_fault(&error, directory)), DOING))
}
