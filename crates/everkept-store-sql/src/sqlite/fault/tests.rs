use super::*;

#[test]
fn every_error_of_sqlite_means_what_the_store_may_do_next() {
    let directory = tempfile::tempdir().unwrap();
    let storage = |code: i32| Problem::Failed(format!("{} (code {code})", Error::SqliteFailure(ffi::Error::new(code), None)));
    let text = |code: i32| Error::SqliteFailure(ffi::Error::new(code), None).to_string();
    for (code, fault, meaning) in [
        (ffi::SQLITE_FULL, "Full", Problem::Full),
        (ffi::SQLITE_BUSY, "Busy", Problem::Locked),
        (ffi::SQLITE_LOCKED, "Busy", Problem::Locked),
        (ffi::SQLITE_READONLY_DIRECTORY, "ReadOnly", Problem::ReadOnly(text(ffi::SQLITE_READONLY_DIRECTORY))),
        // There is space here: it was the disk.
        (ffi::SQLITE_IOERR_WRITE, "Storage", storage(ffi::SQLITE_IOERR_WRITE)),
        (ffi::SQLITE_IOERR_FSYNC, "Storage", storage(ffi::SQLITE_IOERR_FSYNC)),
        (ffi::SQLITE_CANTOPEN, "Storage", storage(ffi::SQLITE_CANTOPEN)),
        (ffi::SQLITE_CORRUPT, "Damaged", Problem::Failed(text(ffi::SQLITE_CORRUPT))),
        (ffi::SQLITE_NOTADB, "Damaged", Problem::Failed(text(ffi::SQLITE_NOTADB))),
        (ffi::SQLITE_CONSTRAINT_UNIQUE, "Refused", Problem::Failed(text(ffi::SQLITE_CONSTRAINT_UNIQUE))),
    ] {
        let found = sql_fault(&Error::SqliteFailure(ffi::Error::new(code), None), directory.path());
        assert!(format!("{found:?}").starts_with(fault), "{code}: {found:?}");
        assert_eq!(problem(found), meaning, "{code}");
    }
    assert!(matches!(sql_fault(&Error::QueryReturnedNoRows, directory.path()), SqlFault::Refused(_)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "what was tried is gone");
    for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMOPEN, ffi::SQLITE_IOERR_SHMMAP] {
        assert!(may_be_space(code), "{code}");
    }
    assert!(!may_be_space(ffi::SQLITE_IOERR_FSYNC), "what a failed sync leaves is never known");
}

/// A write to `/dev/full` finds no space, and so does who tries whether a file can grow there.
#[cfg(target_os = "linux")]
#[test]
fn d5_a_write_that_failed_where_no_file_can_grow_is_a_full_disk_and_a_sync_that_failed_is_not() {
    let directory = tempfile::tempdir().unwrap();
    for (code, full) in [(ffi::SQLITE_IOERR_WRITE, true), (ffi::SQLITE_IOERR_FSYNC, false)] {
        std::os::unix::fs::symlink("/dev/full", directory.path().join("everkept.space")).unwrap();
        let found = sql_fault(&Error::SqliteFailure(ffi::Error::new(code), None), directory.path());
        assert_eq!(found == SqlFault::Full, full, "{found:?}");
        // Only who tried has cleared up.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), usize::from(!full));
    }
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let health = Health::default();
    assert_eq!(health.problem(), None);
    health.poison("the disk");
    health.poison("and what came of it");
    assert_eq!(health.problem(), Some(Problem::Failed("the disk".into())));
}
