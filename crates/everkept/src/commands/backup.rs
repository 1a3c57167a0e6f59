//! `everkept backup`: a consistent copy of the database in one file, also while the server runs.
//!
//! Never: over a file that is there, or a copy that is reported and not on disk.

use crate::data::DataDir;
use anyhow::{anyhow, bail};
use everkept_store_sql::backup;
use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

pub async fn run(data: DataDir, file: &Path) -> anyhow::Result<ExitCode> {
    let database = data.database();
    let Some(directory) = database.parent().filter(|_| database.is_file()) else {
        bail!("{} is not there; name the data directory with --data", database.display());
    };
    let file = std::path::absolute(file)?;
    if file.exists() {
        return Err(anyhow!("{} exists; name a file that does not", file.display()));
    }
    backup(directory, &file)?;
    writeln!(io::stdout(), "{}", file.display())?;
    Ok(ExitCode::SUCCESS)
}
