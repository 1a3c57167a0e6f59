//! What the demo agent remembers of its sessions: how many user prompts each has seen.
//!
//! A real agent keeps its transcripts where it runs; so does this one, or in RAM where nothing need last.
//! Never: anything a caller could not lose. It survives the process, not the power: nothing here is synced.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// A file that is being written; it gets its real name once it is whole.
const UNFINISHED: &str = "unfinished";

pub trait DemoMemory: Send + Sync {
    /// A new session that has seen `prompts` already.
    fn begin(&self, session: &str, prompts: u64) -> io::Result<()>;

    /// None for a session that was never begun.
    fn prompts(&self, session: &str) -> io::Result<Option<u64>>;

    /// The session has seen so many more; the sum is given back.
    fn see(&self, session: &str, more: u64) -> io::Result<u64>;
}

/// Remembers as long as it lives.
#[derive(Default)]
pub struct MemoryInRam(Mutex<BTreeMap<String, u64>>);

impl MemoryInRam {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().expect("nothing panics while it holds the sessions")
    }
}

impl DemoMemory for MemoryInRam {
    fn begin(&self, session: &str, prompts: u64) -> io::Result<()> {
        self.sessions().insert(session.to_owned(), prompts);
        Ok(())
    }

    fn prompts(&self, session: &str) -> io::Result<Option<u64>> {
        Ok(self.sessions().get(session).copied())
    }

    fn see(&self, session: &str, more: u64) -> io::Result<u64> {
        let mut sessions = self.sessions();
        let seen = sessions.get_mut(session).ok_or_else(forgotten)?;
        *seen += more;
        Ok(*seen)
    }
}

/// One file per session in one folder; the file has one byte for each prompt seen.
pub struct FileMemory {
    folder: PathBuf,
}

impl FileMemory {
    /// Makes the folder when it is not there.
    pub fn open(folder: impl AsRef<Path>) -> io::Result<Self> {
        let folder = folder.as_ref().to_owned();
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// A session's id may come from anybody, so what is not plainly a file name names no file.
    fn file(&self, session: &str) -> Option<PathBuf> {
        let plain = session.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        (plain && (1..=128).contains(&session.len())).then(|| self.folder.join(session))
    }
}

impl DemoMemory for FileMemory {
    fn begin(&self, session: &str, prompts: u64) -> io::Result<()> {
        let file = self.file(session).ok_or_else(forgotten)?;
        let unfinished = file.with_extension(UNFINISHED);
        fs::write(&unfinished, tallies(prompts))?;
        fs::rename(unfinished, file)
    }

    fn prompts(&self, session: &str) -> io::Result<Option<u64>> {
        let Some(file) = self.file(session) else { return Ok(None) };
        match fs::metadata(file) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn see(&self, session: &str, more: u64) -> io::Result<u64> {
        let file = self.file(session).ok_or_else(forgotten)?;
        let mut file = fs::OpenOptions::new().append(true).open(file)?;
        file.write_all(&tallies(more))?;
        Ok(file.metadata()?.len())
    }
}

fn tallies(count: u64) -> Vec<u8> {
    (0..count).map(|_| b'|').collect()
}

fn forgotten() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the session was never begun")
}
