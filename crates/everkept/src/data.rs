//! The data directory: what stands in it, who may read it, and the lock that lets one server at a time use it.
//!
//! Never: a file another user can read, or a secret that is not on disk before it is used.

use anyhow::{Context, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// How long a lock that is taken is asked for again.
const LOCK_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// Where the running server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    pub address: String,
    pub pid: i32,
}

/// Held as long as the server runs; the kernel lets go of it with the process, whatever ends it.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl DataDir {
    pub fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => path,
            None => default_directory()?,
        };
        Ok(Self { path: std::path::absolute(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("everkept.db")
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Private folders of sessions that were given none.
    pub fn directories(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// What the demo agent remembers.
    pub fn demo(&self) -> PathBuf {
        self.path.join("demo")
    }

    /// Where agents are found that outlived a server.
    pub fn keepers(&self) -> PathBuf {
        self.path.join("keepers")
    }

    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn server_file(&self) -> PathBuf {
        self.path.join("server.json")
    }

    /// As `--data DIR` says it, for messages that tell what to type.
    pub fn flag(&self) -> String {
        match default_directory() {
            Ok(default) if default == self.path => String::new(),
            Ok(_) | Err(_) => format!(" --data {}", self.path.display()),
        }
    }

    /// Makes the directory, for its owner only.
    pub fn create(&self) -> anyhow::Result<()> {
        let path = self.path.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.path)
            .with_context(|| format!("cannot make the data directory {path}; choose another with --data"))?;
        let metadata = fs::metadata(&self.path)?;
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(DIRECTORY_MODE)).map_err(|error| match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem => self.unwritable(&error),
                _ => anyhow!("the data directory {path} is open to other users and cannot be closed ({error}); chmod 700 it"),
            })?;
        }
        Ok(())
    }

    fn unwritable(&self, error: &io::Error) -> anyhow::Error {
        anyhow!("the data directory {} cannot be written ({error}); make it writable or choose another with --data", self.path.display())
    }

    /// Fails when another server has it, and says which.
    ///
    /// A server that was killed while it started a process leaves its lock to that process until it has become another
    /// program, a moment later: what is taken now may be free at once.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.lock_file();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let mut file =
            file.map_err(
                |error| if is_unwritable(&error) { self.unwritable(&error) } else { anyhow!("cannot open {}: {error}", path.display()) },
            )?;
        let until = Instant::now() + LOCK_WITHIN;
        let mut file = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => break locked,
                Err((_, error)) if error != nix::errno::Errno::EWOULDBLOCK => bail!("cannot lock {}: {error}", path.display()),
                Err((taken, _)) => file = taken,
            }
            if Instant::now() >= until {
                return Err(self.in_use(&mut file));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    fn in_use(&self, file: &mut File) -> anyhow::Error {
        let holder = read_pid(file).map(|pid| format!(" (process {pid})")).unwrap_or_default();
        let (path, flag) = (self.path.display(), self.flag());
        anyhow!("another server{holder} uses the data directory {path}; end it with `everkept stop{flag}` or choose another with --data")
    }

    /// The server that holds the lock, as far as it has said who it is.
    pub fn holder(&self) -> anyhow::Result<Option<Holder>> {
        let mut file = match File::open(self.lock_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.lock_file().display())),
        };
        let pid = read_pid(&mut file);
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => Ok(None),
            Err(_) => Ok(Some(Holder { pid })),
        }
    }

    /// Written once the server listens; removed by the server when it ends cleanly.
    pub fn write_server_file(&self, server: &ServerFile) -> anyhow::Result<()> {
        let text = serde_json::to_string(server)?;
        self.write_private(&self.server_file(), text.as_bytes())
    }

    pub fn server_file_contents(&self) -> Option<ServerFile> {
        let text = fs::read(self.server_file()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub fn remove_server_file(&self) {
        if self.server_file_contents().is_some_and(|server| u32::try_from(server.pid) == Ok(std::process::id())) {
            // The next server writes its own; a stale one is seen through by the lock.
            _ = fs::remove_file(self.server_file());
        }
    }

    /// The token that may do everything, made on the first start; on disk, synced, when this returns.
    pub fn admin_token(&self, fresh: impl FnOnce() -> String) -> anyhow::Result<String> {
        let path = self.admin_token_file();
        if let Some(token) = self.read_admin_token()? {
            if fs::metadata(&path)?.mode() & 0o077 != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(FILE_MODE))?;
            }
            File::open(&path)?.sync_all()?;
            return Ok(token);
        }
        self.renew_admin_token(fresh)
    }

    /// Another one in place of the one that stands there.
    pub fn renew_admin_token(&self, fresh: impl FnOnce() -> String) -> anyhow::Result<String> {
        let token = fresh();
        self.write_private(&self.admin_token_file(), format!("{token}\n").as_bytes())?;
        Ok(token)
    }

    /// None when there has been no server on this directory yet.
    pub fn read_admin_token(&self) -> anyhow::Result<Option<String>> {
        let path = self.admin_token_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let token = text.trim();
        if token.is_empty() {
            bail!("{} is empty; delete it, and the next start of the server makes a new one", path.display());
        }
        Ok(Some(token.to_owned()))
    }

    /// The whole file or none of it, durable, for its owner only.
    fn write_private(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            File::open(&self.path)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// Who holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub pid: Option<i32>,
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 1)
}

fn default_directory() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Ok(data.join("everkept")),
        (None, Some(home)) => Ok(home.join(".local/share/everkept")),
        (None, None) => bail!("neither XDG_DATA_HOME nor HOME is set; say where the data is with --data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_has_the_directory() {
        let (_folder, data) = fresh();
        let lock = data.lock().unwrap();
        let error = data.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("another server (process {}) uses", std::process::id())), "{error}");
        assert_eq!(data.holder().unwrap(), Some(Holder { pid: i32::try_from(std::process::id()).ok() }));
        drop(lock);
        assert_eq!(data.holder().unwrap(), None);
        data.lock().unwrap();
    }

    #[test]
    fn the_admin_token_is_made_once_and_for_its_owner_only() {
        let (_folder, data) = fresh();
        assert_eq!(data.admin_token(|| "first".into()).unwrap(), "first");
        fs::set_permissions(data.admin_token_file(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(data.admin_token(|| "second".into()).unwrap(), "first");
        assert_eq!(fs::metadata(data.admin_token_file()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(data.path()).unwrap().mode() & 0o777, 0o700);
        fs::write(data.admin_token_file(), " \n").unwrap();
        assert!(data.admin_token(|| "third".into()).unwrap_err().to_string().contains("delete it"));
    }

    #[test]
    fn only_the_server_that_wrote_it_takes_the_server_file_away() {
        let (_folder, data) = fresh();
        let mut server = ServerFile { address: "http://127.0.0.1:1".into(), pid: 1 };
        data.write_server_file(&server).unwrap();
        data.remove_server_file();
        assert_eq!(data.server_file_contents(), Some(server.clone()));
        server.pid = i32::try_from(std::process::id()).unwrap();
        data.write_server_file(&server).unwrap();
        data.remove_server_file();
        assert_eq!(data.server_file_contents(), None);
    }

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(Some(folder.path().join("data"))).unwrap();
        data.create().unwrap();
        (folder, data)
    }
}
