use super::*;
use crate::{Mode, SqliteStore};
use everkept_store::conformance::{Hand, block_on};
use std::{path::PathBuf, sync::Mutex};

/// The system's files, with a note of what is made and synced. One kind of work fails.
struct Watched {
    asked: Mutex<Vec<(&'static str, PathBuf)>>,
    fails: Option<(&'static str, io::ErrorKind)>,
}

impl Watched {
    fn new(fails: Option<(&'static str, io::ErrorKind)>) -> Self {
        Watched { asked: Mutex::default(), fails }
    }

    fn ask(&self, work: &'static str, path: &Path) -> io::Result<()> {
        self.asked.lock().unwrap().push((work, path.to_owned()));
        self.fails.filter(|(fails, _)| *fails == work).map_or(Ok(()), |(_, kind)| Err(kind.into()))
    }
}

impl Files for Watched {
    fn vfs(&self) -> Option<&str> {
        SystemFiles.vfs()
    }

    fn first(&self, path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        SystemFiles.first(path, bytes)
    }

    fn length(&self, path: &Path) -> Option<u64> {
        SystemFiles.length(path)
    }

    fn is_read_only(&self, path: &Path) -> io::Result<bool> {
        SystemFiles.is_read_only(path)
    }

    fn forget(&self, paths: &[&Path]) {
        SystemFiles.forget(paths);
    }

    fn create_new(&self, path: &Path) -> io::Result<()> {
        self.ask("create", path).and_then(|()| SystemFiles.create_new(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.ask("sync", path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.ask("sync directory", path)
    }
}

#[test]
fn r6_a_backup_is_synced_and_so_is_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    block_on(Hand::new(&store).create(Some("kept")));
    let (files, to) = (Watched::new(None), directory.path().join("copy.db"));
    backup_of(directory.path(), &files, &to).unwrap();
    let asked = [("create", to.as_path()), ("sync", &to), ("sync directory", directory.path())].map(|(work, path)| (work, path.to_owned()));
    assert_eq!(*files.asked.lock().unwrap(), asked);
    let here = Watched::new(None);
    sync(Path::new("copy.db"), &here).unwrap();
    assert_eq!(*here.asked.lock().unwrap(), [("sync", "copy.db".into()), ("sync directory", ".".into())]);
}

#[test]
fn r6_a_backup_that_is_not_on_disk_is_reported_and_not_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path(), Mode::Inline).unwrap());
    for (work, kind, is_full) in [
        ("create", io::ErrorKind::StorageFull, true),
        ("create", io::ErrorKind::QuotaExceeded, true),
        ("create", io::ErrorKind::PermissionDenied, false),
        ("sync", io::ErrorKind::StorageFull, true),
        ("sync", io::ErrorKind::Other, false),
        ("sync directory", io::ErrorKind::Other, false),
    ] {
        let to = directory.path().join("copy.db");
        let fault = backup_of(directory.path(), &Watched::new(Some((work, kind))), &to).unwrap_err();
        let expected = if is_full { matches!(fault.problem, Problem::Full) } else { matches!(fault.problem, Problem::Unopenable(_)) };
        assert!(expected && !fault.may_have_happened && !to.exists(), "{work} {kind}: {fault:?}");
    }
}
