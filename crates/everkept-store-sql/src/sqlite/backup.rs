//! A consistent copy of the database in a new file, made while the store goes on.
//!
//! Never writes over a file that is there, and never reports a copy that is not on disk.

#[cfg(test)]
mod tests;

use super::{
    fault::{not_done, problem, sql_fault},
    files::{Files, SystemFiles},
    open::open_reader,
};
use everkept_store::{Problem, StoreFault};
use rusqlite::Connection;
use std::{io, path::Path};

/// Copies the database in `directory`, which a server may be using, to the new file `to`.
pub fn backup(directory: &Path, to: &Path) -> Result<(), StoreFault> {
    backup_of(directory, &SystemFiles, to)
}

/// Copies what `directory` holds to the file `to`.
pub fn backup_of(directory: &Path, files: &dyn Files, to: &Path) -> Result<(), StoreFault> {
    let doing = format!("make the backup {}", to.display());
    let failed = |error: &io::Error| {
        let found = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Problem::Full,
            _ => Problem::Unopenable(format!("{}: {error}", to.display())),
        };
        not_done(found, &doing)
    };
    // Made here and empty: a file that was there before is refused, whoever else makes one at the same time.
    files.create_new(to).map_err(|error| failed(&error))?;
    let copied = open_reader(directory, files).and_then(|connection| copy(&connection, directory, to, &doing));
    let synced = copied.and_then(|()| sync(to, files).map_err(|error| failed(&error)));
    if synced.is_err()
        && let Err(error) = files.remove(to)
    {
        tracing::warn!(%error, path = %to.display(), "an incomplete backup was left behind");
    }
    synced
}

fn copy(connection: &Connection, directory: &Path, to: &Path, doing: &str) -> Result<(), StoreFault> {
    let fault = |error: rusqlite::Error| {
        let found = match problem(sql_fault(&error, directory)) {
            Problem::Failed(text) => Problem::Unopenable(text),
            other => other,
        };
        not_done(found, doing)
    };
    let name = to.to_str().ok_or_else(|| not_done(Problem::Unopenable(format!("{} is not UTF-8", to.display())), doing))?;
    connection.pragma_update(None, "query_only", false).map_err(fault)?;
    connection.execute("VACUUM INTO ?1", [name]).map(|_| ()).map_err(fault)
}

fn sync(file: &Path, files: &dyn Files) -> io::Result<()> {
    files.sync(file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files.sync_directory(directory)
}
