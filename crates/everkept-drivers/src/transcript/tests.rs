use super::*;
use everkept_core::BlobRef;
use std::os::unix::fs::PermissionsExt;

fn found(path: &Path, until: Option<u64>) -> Found {
    Found { name: "s".into(), path: path.to_owned(), until }
}

fn kept(bytes: u64, last: &str) -> SoFar {
    SoFar { name: "s".into(), bytes, last: BlobRef { id: digest_of(last), bytes: last.len() as u64 } }
}

fn piece(from: u64, bytes: &'static str) -> Option<Piece> {
    Some(Piece { file: "s".into(), from, bytes: Bytes::from_static(bytes.as_bytes()), more: false })
}

#[test]
fn a_file_is_read_on_in_whole_lines_from_where_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, "one\ntwo\nthr").unwrap();
    let read = |kept: Option<SoFar>| read_on(&found(&path, None), kept.as_ref()).unwrap();
    assert_eq!(read(None), piece(0, "one\ntwo\n"));
    assert_eq!(read(Some(kept(4, "one\n"))), piece(4, "two\n"));
    assert_eq!(read(Some(kept(8, "two\n"))), None);
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    assert_eq!(read(Some(kept(8, "two\n"))), piece(8, "three\n"));
    assert_eq!(read(Some(kept(8, "TWO\n"))), piece(0, "one\ntwo\nthree\n"), "it was written anew");
    assert_eq!(read(Some(kept(99, "two\n"))), piece(0, "one\ntwo\nthree\n"), "it became shorter");
    assert_eq!(read_on(&found(&path, Some(5)), None).unwrap(), piece(0, "one\nt"), "only so much of it is the session's");
    assert_eq!(read_on(&found(&path, Some(8)), Some(&kept(8, "two\n"))).unwrap(), None);
}

#[test]
fn a_long_file_is_read_a_piece_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let line = format!("{}\n", "x".repeat(1_000_000));
    let whole = line.repeat(9);
    fs::write(&path, &whole).unwrap();
    let mut held = String::new();
    let mut last: Option<SoFar> = None;
    let mut reads = Vec::new();
    while let Some(piece) = read_on(&found(&path, None), last.as_ref()).unwrap() {
        assert_eq!(piece.from, held.len() as u64);
        let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
        held.push_str(&text);
        last = Some(kept(held.len() as u64, &text));
        reads.push((piece.bytes.len() / line.len(), piece.more));
    }
    assert_eq!((held == whole, reads), (true, vec![(4, true), (4, true), (1, false)]));
    // A line of more than a piece is read all the same.
    fs::write(&path, "y".repeat(2 * PIECE_BYTES)).unwrap();
    let piece = read_on(&found(&path, None), None).unwrap().unwrap();
    assert_eq!((piece.bytes.len(), piece.more), (PIECE_BYTES, true));
}

#[test]
fn a_file_is_put_back_whole_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/s.jsonl");
    assert!(put_back(&path, &Bytes::from_static(b"one\ntwo\n")).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(entries(path.parent().unwrap()).unwrap(), [path], "nothing else is left there");
}

#[test]
fn what_is_there_stays_unless_it_is_the_beginning_of_what_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.jsonl");
    let kept = Bytes::from_static(b"one\ntwo\n");
    for there in ["one\ntwo\n", "one\ntwo\nthree\n", "ONE\n", "another of eight"] {
        fs::write(&path, there).unwrap();
        assert!(!put_back(&path, &kept).unwrap(), "{there:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), there);
    }
    for there in ["", "one\n", "one\ntw"] {
        fs::write(&path, there).unwrap();
        assert!(put_back(&path, &kept).unwrap(), "{there:?}");
        assert_eq!(fs::read(&path).unwrap(), kept);
    }
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "one\n").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(!put_back(&path, &kept).unwrap());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"one\n");
    // What a crash left in the middle is in nobody's way.
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join(".s.jsonl.unfinished"), "one\nt").unwrap();
    assert!(put_back(&path, &kept).unwrap());
    assert_eq!(fs::read(&path).unwrap(), kept);
}
