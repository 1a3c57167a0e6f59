//! `everkept backup`: a consistent copy of the database in one file, also while the server runs.
//!
//! It reads along as one more reader, so that it never holds the server's writer up.
//! Never: over a file that is there, or a copy that is reported and not on disk.

use crate::data::DataDir;
use anyhow::{Context, anyhow, bail};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
    time::Duration,
};

/// How long another process may keep us waiting for the database.
const BUSY: Duration = Duration::from_secs(10);
const FILE_MODE: u32 = 0o600;

pub async fn run(data: DataDir, file: &Path) -> anyhow::Result<ExitCode> {
    let database = data.database();
    if !database.is_file() {
        bail!("{} is not there; name the data directory with --data", database.display());
    }
    let file = std::path::absolute(file)?;
    // Made here and empty: a file that was there before is refused, whoever else makes one at the same time.
    File::options().write(true).create_new(true).mode(FILE_MODE).open(&file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => anyhow!("{} exists; name a file that does not", file.display()),
        _ => anyhow!("cannot make {}: {error}", file.display()),
    })?;
    if let Err(error) = copy(&database, &file).and_then(|()| Ok(sync(&file)?)) {
        // Half a copy is worse than none; the error that matters is the one before.
        _ = fs::remove_file(&file);
        return Err(error).with_context(|| format!("cannot copy {} to {}", database.display(), file.display()));
    }
    writeln!(io::stdout(), "{}", file.display())?;
    Ok(ExitCode::SUCCESS)
}

fn copy(database: &Path, file: &Path) -> anyhow::Result<()> {
    let name = file.to_str().context("its name is not UTF-8")?;
    // A reader of a write-ahead log needs to write beside it, though never to the database itself.
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    source.busy_timeout(BUSY)?;
    // Tidying up is the server's.
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    source.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

fn sync(file: &Path) -> io::Result<()> {
    File::options().write(true).open(file)?.sync_all()?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
