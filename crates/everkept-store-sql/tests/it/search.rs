//! The full-text index is only ever as good as the log it was made from, and is made anew when it is not.

use crate::{BOTH, furnish, open};
use everkept_core::SessionId;
use everkept_store::{
    SessionsQuery, Store,
    conformance::{Hand, block_on},
};
use everkept_store_sql::SqliteStore;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

fn found(store: &dyn Store, words: &str) -> Vec<SessionId> {
    while !block_on(store.index()).unwrap() {}
    let query = SessionsQuery { search: Some(words.into()), limit: 100, ..SessionsQuery::default() };
    block_on(store.sessions(query)).unwrap().items.iter().map(|session| session.id).collect()
}

#[test]
fn what_was_not_indexed_before_a_restart_is_indexed_after_it() {
    for mode in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let mut hand = Hand::new(&store);
        let session = block_on(hand.create(Some("indexed")));
        let turn = block_on(hand.submit(session, "a question"));
        block_on(hand.begin(session, turn));
        block_on(hand.say(session, turn, "half an answer"));
        assert_eq!(found(&store, "question"), [session]);
        assert_eq!(found(&store, "half"), []);
        block_on(hand.end(session, turn));
        block_on(hand.submit(session, "left behind"));
        drop(store);
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        for words in ["indexed", "question", "half", "behind"] {
            assert_eq!(found(&store, words), [session], "{words}");
        }
    }
}

#[test]
fn an_index_that_is_missing_or_no_index_at_all_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("search.db");
    let store = open(directory.path());
    let (session, _) = block_on(furnish(&store));
    assert_eq!(found(&store, "second question"), [session]);
    drop(store);
    for broken in [None, Some(vec![]), Some(b"no index, but as long as the header of a database file is: 100 bytes ".repeat(9))] {
        match broken {
            None => fs::remove_file(&index).unwrap(),
            Some(bytes) => fs::write(&index, bytes).unwrap(),
        }
        assert_eq!(found(&open(directory.path()), "second question"), [session]);
    }
}

#[test]
fn d6_a_damaged_index_is_made_anew_while_the_store_goes_on() {
    for mode in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, _) = block_on(furnish(&store));
        assert_eq!(found(&store, "second question"), [session]);
        drop(store);
        let index = directory.path().join("search.db");
        let pages = fs::metadata(&index).unwrap().len() / 4_096;
        assert!(pages > 5, "{pages}");
        // The first page is looked at when it is opened; any other one shows when it is needed.
        for page in 1..pages {
            let mut file = fs::File::options().write(true).open(&index).unwrap();
            file.seek(SeekFrom::Start(page * 4_096)).unwrap();
            file.write_all(&[0xa5; 4_096]).unwrap();
        }
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        assert_eq!(found(&store, "second question"), [session]);
        assert_eq!(found(&store, "first question").len(), 1);
    }
}

#[test]
fn an_index_of_another_log_is_not_gone_by() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |directory: &Path, title: &str, message: &str| {
        let store = open(directory);
        let mut hand = Hand::new(&store);
        let session = block_on(hand.create(Some(title)));
        block_on(hand.submit(session, message));
        assert_eq!(found(&store, message), [session]);
        session
    };
    let same = write(one.path(), "tea", "green leaves");
    assert_eq!(write(other.path(), "coffee", "brown beans"), same, "the hand gives the same ids");
    fs::copy(other.path().join("everkept.db"), one.path().join("everkept.db")).unwrap();
    let store = open(one.path());
    assert_eq!(found(&store, "brown beans"), [same]);
    assert_eq!(found(&store, "coffee"), [same]);
    for gone in ["green", "leaves", "tea"] {
        assert_eq!(found(&store, gone), [], "{gone}");
    }
}
