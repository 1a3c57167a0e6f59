//! Opening a database: what is refused is refused before anything is touched.

use crate::{BOTH, furnish, open, raw};
use everkept_core::{Command, Said, TextDigest, Timestamp, Usage};
use everkept_store::{
    Problem, SessionsQuery, Store, StoreFault, UsageBy, UsageQuery,
    conformance::{Hand, block_on},
    verify,
};
use everkept_store_sql::SqliteStore;
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

fn refusal(directory: &Path) -> Problem {
    let mut problems = BOTH.map(|mode| match SqliteStore::open(directory, mode) {
        Err(StoreFault { problem, may_have_happened: false, .. }) => problem,
        Err(fault) => panic!("{fault:?}"),
        Ok(_) => panic!("{} must not open", directory.display()),
    });
    assert_eq!(problems[0], problems[1]);
    std::mem::replace(&mut problems[0], Problem::Full)
}

/// Every file there and what is in it.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn r5_newer_schema_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    block_on(furnish(&open(directory.path())));
    raw(directory.path()).pragma_update(None, "user_version", 99).unwrap();
    let before = files(directory.path());
    assert_eq!(before.keys().map(|path| path.file_name().unwrap()).collect::<Vec<_>>(), ["everkept.db", "search.db"]);
    assert_eq!(refusal(directory.path()), Problem::Newer { found: 99, known: 5 });
    assert_eq!(files(directory.path()), before);
}

#[test]
fn r5_a_newer_schema_that_stands_in_the_write_ahead_log_only_is_refused_untouched() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(one.path()));
    let newer = raw(one.path());
    newer.pragma_update(None, "user_version", 99).unwrap();
    // As after a power cut: the connection has not closed.
    for name in ["everkept.db", "everkept.db-wal"] {
        fs::copy(one.path().join(name), other.path().join(name)).unwrap();
    }
    let before = files(other.path());
    assert_eq!(refusal(other.path()), Problem::Newer { found: 99, known: 5 });
    let mut after = files(other.path());
    after.remove(&other.path().join("everkept.db-shm"));
    assert_eq!(after, before);
}

#[test]
fn a_file_that_is_not_ours_is_refused_untouched() {
    let garbage = tempfile::tempdir().unwrap();
    fs::write(garbage.path().join("everkept.db"), "no database at all, but long enough to have a header".repeat(9)).unwrap();
    let foreign = tempfile::tempdir().unwrap();
    raw(foreign.path()).execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1;").unwrap();
    let unversioned = tempfile::tempdir().unwrap();
    raw(unversioned.path()).execute_batch("CREATE TABLE theirs (x);").unwrap();
    for directory in [garbage, foreign, unversioned] {
        let before = files(directory.path());
        assert!(matches!(refusal(directory.path()), Problem::Unopenable(_)));
        assert_eq!(files(directory.path()), before);
    }
}

/// As after a power cut: what the connection has written, without its having closed.
fn cut_short(writer: &Connection, from: &Path, names: &[&str]) -> TempDir {
    let left = tempfile::tempdir().unwrap();
    writer.cache_flush().unwrap();
    for name in names {
        fs::copy(from.join(name), left.path().join(name)).unwrap();
    }
    left
}

#[test]
fn a_first_start_that_was_cut_in_its_first_write_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let writer = raw(directory.path());
    writer.execute_batch("BEGIN; CREATE TABLE session (x); INSERT INTO session VALUES (zeroblob(100000))").unwrap();
    let left = cut_short(&writer, directory.path(), &["everkept.db", "everkept.db-journal"]);
    let (file, journal) = (left.path().join("everkept.db"), left.path().join("everkept.db-journal"));
    let begun = fs::read(&journal).unwrap();
    fs::write(&file, "SQLite form, torn off and long enough to have a header".repeat(9)).unwrap();
    for journal_bytes in [None, Some(&[][..])] {
        match journal_bytes {
            None => fs::remove_file(&journal).unwrap(),
            Some(bytes) => fs::write(&journal, bytes).unwrap(),
        }
        let why = format!("{} is not a database", file.display());
        assert_eq!(refusal(left.path()), Problem::Unopenable(why), "nothing says that it was ours");
    }
    fs::write(&journal, begun).unwrap();
    assert_eq!(block_on(open(left.path()).boot(Timestamp(0))).unwrap().number, 1);
}

/// The removal of the first journal need not be on disk: it may be there again beside a log, and goes first.
#[test]
fn a_journal_that_is_there_again_beside_a_log_is_gone_by_first() {
    let directory = tempfile::tempdir().unwrap();
    let writer = raw(directory.path());
    writer.execute_batch("CREATE TABLE x (y); DROP TABLE x").unwrap();
    writer.execute_batch("BEGIN; CREATE TABLE session (x); INSERT INTO session VALUES (zeroblob(100000))").unwrap();
    let left = cut_short(&writer, directory.path(), &["everkept.db", "everkept.db-journal"]);
    fs::write(left.path().join("everkept.db-wal"), "no log that can be read").unwrap();
    assert_eq!(block_on(open(left.path()).boot(Timestamp(0))).unwrap().number, 1);
}

#[test]
fn r5_a_newer_schema_that_was_cut_in_a_write_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let writer = raw(directory.path());
    let named = format!("PRAGMA application_id = {}; PRAGMA user_version = 99;", 0x4556_4b54);
    writer.execute_batch(&format!("{named} BEGIN; CREATE TABLE newer (x); INSERT INTO newer VALUES (zeroblob(100000))")).unwrap();
    let left = cut_short(&writer, directory.path(), &["everkept.db", "everkept.db-journal"]);
    let before = files(left.path());
    assert_eq!(refusal(left.path()), Problem::Newer { found: 99, known: 5 });
    assert_eq!(files(left.path()), before);
}

#[test]
fn r5_a_first_schema_that_stands_in_the_write_ahead_log_only_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let writer = raw(directory.path());
    let keep = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;";
    let first = include_str!("../../src/sqlite/schema/1.sql");
    let named = "PRAGMA application_id = 1163283284; PRAGMA user_version = 1;";
    writer.execute_batch(&format!("{keep} BEGIN; {first} {named} COMMIT;")).unwrap();
    let left = cut_short(&writer, directory.path(), &["everkept.db", "everkept.db-wal"]);
    assert_eq!(block_on(open(left.path()).boot(Timestamp(0))).unwrap().number, 1);
}

#[test]
fn r5_what_turns_cost_before_schema_5_is_counted_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let sums = |store: &SqliteStore| {
        let by = UsageBy { day: true, resource: true, agent: true, model: true, session: true };
        block_on(store.usage(UsageQuery { by, limit: 10, ..UsageQuery::default() })).unwrap()
    };
    let before = {
        let store = open(directory.path());
        block_on(async {
            let mut hand = Hand::new(&store);
            let session = hand.create(None).await;
            let figures = [[Some(1), Some(2), Some(3), Some(4), Some(5), Some(6)], [Some(u64::MAX), None, None, None, None, None]];
            for usage in figures.map(Usage::from_figures) {
                let turn = hand.submit(session, "hello").await;
                hand.begin(session, turn).await;
                hand.act(session, Command::HearAgent { turn, said: vec![Said::Usage(usage)] }).await;
                hand.end(session, turn).await;
            }
            hand.talk(session, "without", &["a figure"]).await;
        });
        sums(&store)
    };
    assert_eq!(before.items[0].turns, 2);
    raw(directory.path()).execute_batch("DROP TABLE usage; PRAGMA user_version = 4;").unwrap();
    let store = open(directory.path());
    assert_eq!(sums(&store), before);
    assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
}

#[test]
fn the_version_that_is_built_in_is_a_version() {
    let numbers: Vec<_> = everkept_store_sql::version().split('.').map(|number| number.parse::<u32>().unwrap()).collect();
    assert!(numbers.len() == 3 && numbers[0] == 3, "{numbers:?}");
}

#[test]
fn a_missing_directory_cannot_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(&directory.path().join("missing")), Problem::Unopenable(_)));
}

#[test]
fn a_locked_database_is_refused_as_locked() {
    for lock in ["BEGIN IMMEDIATE", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE wall SET at = 1"] {
        let directory = tempfile::tempdir().unwrap();
        block_on(furnish(&open(directory.path())));
        let other = raw(directory.path());
        other.execute_batch(lock).unwrap();
        assert_eq!(refusal(directory.path()), Problem::Locked, "{lock}");
        drop(other);
        assert_eq!(block_on(open(directory.path()).boot(Timestamp(0))).unwrap().number, 1);
    }
}

#[test]
fn a_read_only_file_is_refused_as_read_only() {
    let directory = tempfile::tempdir().unwrap();
    block_on(furnish(&open(directory.path())));
    let before = files(directory.path());
    fs::set_permissions(directory.path().join("everkept.db"), fs::Permissions::from_mode(0o444)).unwrap();
    assert!(matches!(refusal(directory.path()), Problem::ReadOnly(_)));
    assert_eq!(files(directory.path()), before);
}

#[test]
fn an_empty_file_is_a_new_database() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("everkept.db"), "").unwrap();
    assert_eq!(block_on(open(directory.path()).boot(Timestamp(5))).unwrap().number, 1);
}

/// Where each session's log ends and the hash chain there: the same bytes lead to the same chain, and no others do.
fn ends(store: &dyn Store) -> String {
    let mut lines = String::new();
    for session in block_on(store.all_sessions(None, 100)).unwrap() {
        let (seq, chain) = block_on(store.chains(session, 0, u32::MAX)).unwrap().pop().unwrap();
        lines += &format!("{session} {seq} {}\n", TextDigest(chain));
    }
    lines
}

/// A copy of the database that a program of schema `version` wrote, and its logs' ends.
fn fixture(version: u32) -> (TempDir, String) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema_{version}.db"));
    let written = kept.with_extension("txt");
    if std::env::var_os("EVERKEPT_WRITE_FIXTURE").is_some() && !kept.exists() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let (session, turn) = block_on(furnish(&store));
        block_on(store.pack(session, turn)).unwrap();
        block_on(store.backup(kept.clone())).unwrap();
        fs::write(&written, ends(&store)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::copy(kept, directory.path().join("everkept.db")).expect("every schema version has its fixture");
    (directory, fs::read_to_string(written).unwrap())
}

#[test]
fn r5_a_database_of_every_schema_opens_and_reads_as_it_was_written() {
    for version in 1..=5 {
        let (directory, written) = fixture(version);
        let store = open(directory.path());
        block_on(store.boot(Timestamp(1))).unwrap();
        assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
        assert_eq!(ends(&store), written);
        while !block_on(store.index()).unwrap() {}
        let searched = SessionsQuery { search: Some("pieces".into()), limit: 10, ..SessionsQuery::default() };
        assert_eq!(block_on(store.sessions(searched)).unwrap().items.len(), 1);
        drop(store);
        let now: u32 = raw(directory.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(now, 5);
    }
}
