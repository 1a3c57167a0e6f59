//! What an agent says, kept on disk for the server that may come: a file without a name, of bounded size.
//!
//! Never: a byte left on the disk when the keeper is gone, whatever ended it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

const COPY: usize = 64 * 1024;

/// Bytes by their place in all that was said.
pub struct Spool {
    file: File,
    base: u64,
    end: u64,
    room: u64,
}

impl Spool {
    /// An empty one for what is said from `at` on.
    pub fn new(folder: &Path, room: u64, at: u64) -> io::Result<Self> {
        let path = folder.join(format!("{}.spool", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file, base: at, end: at, room })
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let after = self.end + bytes.len() as u64;
        if after - self.base > self.room {
            return Err(io::Error::other(format!("it said more than {} bytes", self.room)));
        }
        self.file.write_all_at(bytes, self.end - self.base)?;
        self.end = after;
        Ok(())
    }

    /// At least one byte of what was said from `from` on, which must be some.
    pub fn read(&self, from: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - from).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        match self.file.read_at(&mut buffer[..wanted], from - self.base)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }

    /// Forgets what was said before `at`.
    pub fn forget_before(&mut self, at: u64) -> io::Result<()> {
        let mut buffer = vec![0; COPY];
        let mut from = at;
        while from < self.end {
            let length = self.read(from, &mut buffer)?;
            self.file.write_all_at(&buffer[..length], from - at)?;
            from += length as u64;
        }
        self.base = at;
        self.file.set_len(self.end - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_stays_and_nothing_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), 300_000, 10).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let said: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        spool.append(&said).unwrap();
        assert!(spool.append(&said).is_err(), "there is room for 300,000");
        spool.forget_before(100_010).unwrap();
        spool.append(&said).unwrap();
        let mut got = Vec::new();
        let mut buffer = vec![0; 70_000];
        while got.len() < 300_000 {
            let length = spool.read(100_010 + got.len() as u64, &mut buffer).unwrap();
            got.extend_from_slice(&buffer[..length]);
        }
        assert!(got == [&said[100_000..], &said].concat());
        assert_eq!(spool.file.metadata().unwrap().len(), 300_000, "no more is kept");
    }
}
