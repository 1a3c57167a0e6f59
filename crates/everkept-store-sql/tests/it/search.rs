//! The full-text index is only ever as good as the log it was made from, and is made anew when it is not.

use crate::{BOTH, furnish, open, raw};
use everkept_core::{Command, NewMessage, NewPart, Role, SessionId};
use everkept_store::{
    Problem, SessionsQuery, Store, StoreFault,
    conformance::{Hand, block_on, hand::id},
};
use everkept_store_sql::SqliteStore;
use rusqlite::Connection;
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
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

/// A second name of the index's file, by which it is known again.
fn known_again(directory: &Path) -> impl Fn() -> bool + '_ {
    let index = directory.join("search.db");
    fs::hard_link(&index, directory.join("the same")).unwrap();
    move || fs::metadata(&index).unwrap().nlink() == 2
}

/// Overwrites where a table begins.
fn damage(directory: &Path, file: &str, table: &str) {
    let find = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u32 = Connection::open(directory.join(file)).unwrap().query_row(find, [table], |row| row.get(0)).unwrap();
    let mut file = fs::File::options().write(true).open(directory.join(file)).unwrap();
    file.seek(SeekFrom::Start(u64::from(page - 1) * 4_096)).unwrap();
    file.write_all(&[0xa5; 4_096]).unwrap();
}

#[test]
fn an_index_that_is_whole_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let (session, _) = block_on(furnish(&open(directory.path())));
    let same = known_again(directory.path());
    assert_eq!(found(&open(directory.path()), "second question"), [session]);
    assert!(same());
}

#[test]
fn d6_damage_of_the_database_is_no_reason_to_make_the_index_anew() {
    for table in ["event", "session"] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let (session, _) = block_on(furnish(&store));
        if table == "session" {
            assert_eq!(found(&store, "second question"), [session]);
        }
        drop(store);
        let same = known_again(directory.path());
        damage(directory.path(), "everkept.db", table);
        let store = open(directory.path());
        let query = SessionsQuery { search: Some("question".into()), limit: 100, ..SessionsQuery::default() };
        let fault = || match table {
            "event" => block_on(store.index()).map(drop),
            _ => block_on(store.sessions(query.clone())).map(drop),
        };
        for fault in [fault(), fault()] {
            assert!(matches!(fault, Err(StoreFault { problem: Problem::Failed(_), .. })), "{table}: {fault:?}");
        }
        assert!(same(), "{table}");
    }
}

#[test]
fn d6_who_searches_a_damaged_index_waits_until_all_of_it_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut hand = Hand::new(&store);
    assert_eq!(found(&store, "nothing"), []);
    // More than is indexed in one piece.
    for n in 0..40 {
        let session = block_on(hand.create(None));
        block_on(hand.submit(session, &format!("{} word{n}", "filling ".repeat(10_000))));
    }
    assert_eq!(found(&store, "word39").len(), 1);
    drop(store);
    damage(directory.path(), "search.db", "search_data");
    let store = open(directory.path());
    let query = SessionsQuery { search: Some("filling".into()), limit: 100, ..SessionsQuery::default() };
    assert_eq!(block_on(store.count_sessions(query)).unwrap(), 40);
}

#[test]
fn a_log_of_many_messages_is_indexed_to_its_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut hand = Hand::new(&store);
    let session = block_on(hand.create(None));
    let message = |n| NewMessage { id: id("msg_", n), role: Role::User, parts: vec![NewPart::Text(format!("word{n}"))] };
    // Three times as many as are looked at together, and one.
    block_on(hand.act(session, Command::RecordMessages { messages: (1..=3 * 512 + 1).map(message).collect() }));
    for word in ["word1", "word512", "word513", "word1536", "word1537"] {
        assert_eq!(found(&store, word), [session], "{word}");
    }
}

#[test]
fn d6_a_message_that_cannot_be_read_is_not_found_and_those_around_it_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut hand = Hand::new(&store);
    let session = block_on(hand.create(Some("a title")));
    let message = |n| NewMessage { id: id("msg_", n), role: Role::User, parts: vec![NewPart::Text(format!("word{n}"))] };
    block_on(hand.act(session, Command::RecordMessages { messages: (1..=3).map(message).collect() }));
    assert_eq!(raw(directory.path()).execute("UPDATE event SET body = zeroblob(9) WHERE seq = 3", []), Ok(1));
    for (word, there) in [("title", true), ("word1", true), ("word2", false), ("word3", true)] {
        assert_eq!(found(&store, word) == [session], there, "{word}");
    }
}
