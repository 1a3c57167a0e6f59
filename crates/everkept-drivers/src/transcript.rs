//! The files an agent itself writes of its sessions: read on from where they are kept, and put back whole.
//!
//! Which files those are, and where one belongs, each driver says by its agent's own rules ([`Shelf`]).
//! Never: over a file that has something else in it, a file that is there by half, or one that others can read.

use bytes::Bytes;
use everkept_agent::{AgentFault, AgentFaultKind, BoxFuture, Kept, PIECE_BYTES, Piece, SoFar, Transcripts, Whole};
use everkept_core::{AgentSessionId, digest_of};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where one agent keeps its sessions.
pub trait Shelf: Send + Sync + 'static {
    /// The files of a session that are there, its own first.
    fn files(&self, kept: &Kept) -> io::Result<Vec<Found>>;

    /// Where the file of that name lies, however its agent came to have it there.
    fn find(&self, directory: &Path, name: &str) -> io::Result<Option<PathBuf>>;

    /// Where it belongs; none for what is no name of such a file.
    fn place(&self, directory: &Path, name: &str) -> Option<PathBuf>;
}

pub struct Found {
    pub name: String,
    pub path: PathBuf,
    /// What of it belongs to the session; none for all.
    pub until: Option<u64>,
}

pub struct Shelved<S> {
    /// The agent's, for whoever reads a fault.
    agent: String,
    shelf: Arc<S>,
}

impl<S: Shelf> Shelved<S> {
    pub fn new(agent: &str, shelf: S) -> Self {
        Self { agent: agent.to_owned(), shelf: Arc::new(shelf) }
    }

    /// Off the threads that answer: a disk may be slow.
    fn aside<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&S) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<Result<T, AgentFault>> {
        let (shelf, doing) = (self.shelf.clone(), format!("{doing} of {}", self.agent));
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&shelf)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
            done.map_err(|error| AgentFault {
                kind: AgentFaultKind::Refused,
                doing,
                message: error.to_string(),
                retryable: true,
                may_have_happened: false,
            })
        })
    }
}

impl<S: Shelf> Transcripts for Shelved<S> {
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>> {
        self.aside("copying a session", move |shelf| {
            let found = shelf.files(&kept)?;
            found.iter().filter_map(|found| read_on(found, kept.file(&found.name)).transpose()).collect()
        })
    }

    fn lacking(&self, kept: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        self.aside("looking for a session", move |shelf| {
            let mut lacking = Vec::new();
            for file in kept.files {
                let there = shelf.find(&kept.directory, &file.name)?.map(fs::metadata).transpose()?;
                if there.is_none_or(|there| there.len() < file.bytes) {
                    lacking.push(file.name);
                }
            }
            Ok(lacking)
        })
    }

    fn put_back(&self, directory: PathBuf, _session: AgentSessionId, files: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        self.aside("putting back a session", move |shelf| {
            let mut put = Vec::new();
            for Whole { file, bytes } in files {
                let Some(path) = shelf.find(&directory, &file)?.or_else(|| shelf.place(&directory, &file)) else { continue };
                if put_back(&path, &bytes)? {
                    put.push(file);
                }
            }
            Ok(put)
        })
    }
}

/// What the file has beyond what is kept of it, in whole lines; all of it when it does not go on from there.
fn read_on(found: &Found, kept: Option<&SoFar>) -> io::Result<Option<Piece>> {
    let mut file = File::open(&found.path)?;
    let there = file.metadata()?.len();
    let end = found.until.map_or(there, |until| until.min(there));
    let from = match kept {
        Some(kept) if goes_on(&mut file, kept, end)? => kept.bytes,
        Some(_) | None => 0,
    };
    let mut bytes = read(&mut file, from, end.saturating_sub(from).min(PIECE_BYTES as u64))?;
    // The agent may be in the middle of a line.
    let lines = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if found.until.is_none() && (lines > 0 || bytes.len() < PIECE_BYTES) {
        bytes.truncate(lines);
    }
    let more = from + (bytes.len() as u64) < end && bytes.len() > PIECE_BYTES / 2;
    Ok((!bytes.is_empty()).then(|| Piece { file: found.name.clone(), from, bytes: bytes.into(), more }))
}

/// Whether the last piece that is kept stands where it stood.
fn goes_on(file: &mut File, kept: &SoFar, end: u64) -> io::Result<bool> {
    let Some(from) = kept.bytes.checked_sub(kept.last.bytes).filter(|_| kept.bytes <= end) else { return Ok(false) };
    Ok(digest_of(read(file, from, kept.last.bytes)?) == kept.last.id)
}

fn read(file: &mut File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// False when there is something that is not the beginning of it.
fn put_back(path: &Path, bytes: &Bytes) -> io::Result<bool> {
    let begun = match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() || there.len() >= bytes.len() as u64 => return Ok(false),
        Ok(_) if !bytes.starts_with(&fs::read(path)?) => return Ok(false),
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return Ok(false) };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // No agent takes it for one of its own by this name.
    let unfinished = folder.join(format!(".{name}.unfinished"));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let put = match begun {
        true => fs::rename(&unfinished, path).map(|()| true),
        // Unlike a rename, this takes no other's place that came in the meantime.
        false => match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&unfinished).map(|()| false),
            linked => linked.and_then(|()| fs::remove_file(&unfinished)).map(|()| true),
        },
    };
    File::open(folder)?.sync_all()?;
    put
}

/// Whether it can be a part of a file's name and nothing else.
pub fn is_plain(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What is in a folder, the last by name first; nothing when there is none.
pub fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable_by(|one, other| other.cmp(one));
    Ok(paths)
}

#[cfg(test)]
mod tests;
