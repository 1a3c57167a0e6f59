use super::*;

#[test]
fn what_cannot_be_looked_at_is_no_missing_file_and_what_is_missing_is_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let (missing, within) = (directory.path().join("missing"), file.join("within"));
    SystemFiles.create_new(&file).unwrap();
    fs::write(&file, "bytes").unwrap();
    assert_eq!(SystemFiles.first(&file, 3).unwrap().as_deref(), Some(&b"byt"[..]));
    assert_eq!(SystemFiles.first(&missing, 3).unwrap(), None);
    assert!(SystemFiles.first(&within, 3).is_err(), "a file is no directory");
    assert_eq!((SystemFiles.length(&file), SystemFiles.length(&missing)), (Some(5), None));
    SystemFiles.sync(&file).unwrap();
    SystemFiles.sync_directory(directory.path()).unwrap();
    assert!(SystemFiles.sync(&missing).is_err() && SystemFiles.sync_directory(&missing).is_err());
}
