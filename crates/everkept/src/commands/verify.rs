//! `everkept verify`: reads everything that is kept, of a stopped server or in a backup, and says what does not add up.
//!
//! Never: a repair, or a change to a backup (it is read from a copy).

use crate::{args, data::DataDir, terminal::Style};
use anyhow::{Context, bail};
use everkept_store::{Damage, verify};
use everkept_store_sql::{Mode, SqliteStore};
use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Sessions between two signs of life.
const PROGRESS_STEP: u64 = 10;

pub async fn run(data: DataDir, args: args::Verify) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.file {
        let copy = Copy::of(file)?;
        return report(&copy.directory, args.listing.json).await;
    }
    if !data.database().is_file() {
        bail!("{} is not there; name a data directory with --data, or a backup with --file", data.database().display());
    }
    let lock = data.lock().context("only the data of a stopped server can be verified; make a backup and verify that")?;
    let code = report(data.path(), args.listing.json).await;
    drop(lock);
    code
}

async fn report(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let store = SqliteStore::open(directory, Mode::Inline)?;
    let lively = io::stderr().is_terminal();
    let mut progress = |sessions: u64| {
        if lively && sessions.is_multiple_of(PROGRESS_STEP) {
            // Progress that cannot be shown is no reason to stop.
            _ = write!(io::stderr(), "\r\x1b[2K{sessions} sessions");
        }
    };
    let report = verify(&store, &mut progress).await?;
    if lively {
        write!(io::stderr(), "\r\x1b[2K")?;
    }
    let mut out = io::stdout().lock();
    if json {
        let damages: Vec<_> = report.damages.iter().map(damage).collect();
        let value = serde_json::json!({ "sessions": report.sessions, "events": report.events, "damages": damages });
        writeln!(out, "{value}")?;
    } else {
        let style = Style::of_stdout();
        for damage in &report.damages {
            writeln!(out, "{} session {}, {}: {}", style.red("damaged:"), damage.session, damage.place, damage.what)?;
        }
        let verdict = match report.damages.len() {
            0 => style.green("all of it adds up"),
            1 => style.red("1 damage"),
            count => style.red(&format!("{count} damages")),
        };
        writeln!(out, "{} sessions, {} events: {verdict}", report.sessions, report.events)?;
    }
    Ok(if report.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn damage(damage: &Damage) -> serde_json::Value {
    serde_json::json!({ "session": damage.session.to_string(), "place": damage.place.to_string(), "what": damage.what })
}

/// A backup where it may be opened: opening a database writes to it.
struct Copy {
    directory: PathBuf,
}

impl Copy {
    fn of(file: &Path) -> anyhow::Result<Self> {
        let copy = Copy { directory: std::env::temp_dir().join(format!("everkept-verify-{}", uuid::Uuid::now_v7().simple())) };
        let data = DataDir::new(Some(copy.directory.clone()))?;
        data.create()?;
        fs::copy(file, data.database()).with_context(|| format!("cannot read the backup {}", file.display()))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It stands among temporary files; the system clears up what is left.
        _ = fs::remove_dir_all(&self.directory);
    }
}
