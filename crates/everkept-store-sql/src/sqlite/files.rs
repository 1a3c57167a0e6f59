//! What is done to the database's files beside SQLite, and where: on the system's disk, or on one of a test's own.
//!
//! Never: anything that SQLite itself can do. Every file here is one that its VFS sees, too.

#[cfg(test)]
mod tests;

use super::cache;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// Where the database is.
pub trait Files: Send + Sync {
    /// The VFS by which SQLite reaches the files; none is its default.
    fn vfs(&self) -> Option<&str>;
    /// The first bytes of a file; none when it is not there. Closing a file gives up all locks this process has on it.
    fn first(&self, path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>>;
    /// None when it is not there.
    fn length(&self, path: &Path) -> Option<u64>;
    fn is_read_only(&self, path: &Path) -> io::Result<bool>;
    /// Lets go of what is held of the files in memory and is not on disk.
    fn forget(&self, paths: &[&Path]);
    /// For its owner alone. Refuses a file that is there.
    fn create_new(&self, path: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn sync(&self, path: &Path) -> io::Result<()>;
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Debug)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn vfs(&self) -> Option<&str> {
        None
    }

    fn first(&self, path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let mut found = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(bytes).read_to_end(&mut found).map(|_| Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn length(&self, path: &Path) -> Option<u64> {
        fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    fn is_read_only(&self, path: &Path) -> io::Result<bool> {
        fs::metadata(path).map(|metadata| metadata.permissions().readonly())
    }

    fn forget(&self, paths: &[&Path]) {
        cache::forget(paths);
    }

    fn create_new(&self, path: &Path) -> io::Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map(|_| ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::options().write(true).open(path)?.sync_all()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
