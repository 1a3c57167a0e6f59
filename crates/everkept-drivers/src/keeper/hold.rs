//! How long, where and how much is held when a server dies; and how the server after it finds the keeper.
//!
//! Never: a folder that other users can look into.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

const SOCKET: &str = "socket";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Where keepers can be found.
    pub folder: PathBuf,
    /// How long an agent outlives its server.
    pub time: Duration,
    /// How much is kept of what it says in a turn.
    pub room: u64,
}

/// Where a server that comes is waited for; its name goes with it.
pub struct Door {
    pub listener: UnixListener,
    path: PathBuf,
}

impl Hold {
    /// As the keeper's arguments.
    pub fn args(&self) -> [OsString; 4] {
        let number = |number: u128| OsString::from(number.to_string());
        ["--hold".into(), self.folder.clone().into(), number(self.time.as_millis()), number(self.room.into())]
    }

    /// Takes them off the front, when they are there.
    pub fn read(words: &mut Vec<OsString>) -> Option<Self> {
        if words.first()? != "--hold" {
            return None;
        }
        let number = |at: usize| words.get(at)?.to_str()?.parse::<u64>().ok();
        let hold = Self { folder: words.get(1)?.into(), time: Duration::from_millis(number(2)?), room: number(3)? };
        words.drain(..4);
        Some(hold)
    }

    pub fn make_folder(folder: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    }

    /// Opens this process's own door.
    pub fn door(&self) -> io::Result<Door> {
        let name = format!("{}.{SOCKET}", std::process::id());
        let path = self.folder.join(&name);
        match fs::remove_file(&path) {
            // Of a process that had this number once.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = within(&self.folder, &name, |path| UnixListener::bind(path))?;
        let door = Door { listener, path };
        fs::set_permissions(&door.path, fs::Permissions::from_mode(0o600))?;
        door.listener.set_nonblocking(true)?;
        Ok(door)
    }

    /// Every keeper that answers; the names of those that are gone are taken away.
    pub fn knock(folder: &Path) -> io::Result<Vec<UnixStream>> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| Path::new(name).extension().is_some_and(|end| end == SOCKET)) else { continue };
            match within(folder, name, |path| UnixStream::connect(path)) {
                Ok(stream) => found.push(stream),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(folder.join(name))?,
                // It went in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nobody is behind it any more; whoever knocks sees that too.
        _ = fs::remove_file(&self.path);
    }
}

/// A socket's path has room for about a hundred bytes, and a folder may be deep: by its descriptor its path is short.
fn within<T>(folder: &Path, name: &str, open: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if !cfg!(target_os = "linux") {
        return open(&folder.join(name));
    }
    let folder = fs::File::open(folder)?;
    open(&PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_in_a_deep_folder_is_found_and_one_that_nobody_is_behind_is_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("deep".repeat(40)).join("er");
        Hold::make_folder(&folder).unwrap();
        let hold = Hold { folder: folder.clone(), time: Duration::from_millis(30_000), room: 7 };
        let door = hold.door().unwrap();
        assert_eq!(fs::metadata(&door.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Hold::knock(&folder).unwrap().len(), 1);
        fs::rename(&door.path, folder.join("1.socket")).unwrap();
        drop(door);
        assert_eq!(Hold::knock(&folder).unwrap().len(), 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn what_is_told_by_arguments_is_read_from_them() {
        let hold = Hold { folder: "/a b".into(), time: Duration::from_millis(1_500), room: 9 };
        let mut words: Vec<OsString> = hold.args().into_iter().chain(["--".into(), "sh".into()]).collect();
        assert_eq!(Hold::read(&mut words), Some(hold));
        assert_eq!(words, ["--", "sh"]);
        assert_eq!(Hold::read(&mut words), None);
    }
}
