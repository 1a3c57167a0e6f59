//! What is on disk comes back, whoever was there at the end.

use crate::{BOTH, furnish, raw};
use everkept_core::{Command, Timestamp};
use everkept_store::{
    LogWrite, Store,
    conformance::{Hand, block_on, log},
    verify,
};
use everkept_store_sql::SqliteStore;
use std::fs;

#[test]
fn d1_everything_acknowledged_is_there_after_a_restart() {
    for mode in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        block_on(store.boot(Timestamp(7_000_000))).unwrap();
        let (session, _) = block_on(furnish(&store));
        let before = (block_on(log(&store, session)).clone(), block_on(store.rows(session)).unwrap(), block_on(store.owed()).unwrap());
        drop(store);
        let mut left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["everkept.db", "search.db"], "a store that closes tidies up");
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        assert_eq!(block_on(store.boot(Timestamp(0))).unwrap().number, 2);
        let after = (block_on(log(&store, session)), block_on(store.rows(session)).unwrap(), block_on(store.owed()).unwrap());
        assert_eq!(after, before);
        assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
    }
}

#[test]
fn d4_a_start_brings_what_is_in_the_write_ahead_log_into_the_database() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = SqliteStore::open(one.path(), BOTH[0]).unwrap();
    let (session, _) = block_on(furnish(&store));
    // As a killed server leaves it.
    for name in ["everkept.db", "everkept.db-wal"] {
        fs::copy(one.path().join(name), other.path().join(name)).unwrap();
    }
    assert!(fs::metadata(other.path().join("everkept.db-wal")).unwrap().len() > 0);
    let again = SqliteStore::open(other.path(), BOTH[0]).unwrap();
    assert_eq!(fs::metadata(other.path().join("everkept.db-wal")).unwrap().len(), 0);
    assert_eq!(block_on(log(&again, session)), block_on(log(&store, session)));
    assert_eq!(block_on(again.boot(Timestamp(1))).unwrap().number, 1);
    let synced: i64 = raw(other.path()).query_row("SELECT COUNT(*) FROM boot", [], |row| row.get(0)).unwrap();
    assert_eq!(synced, 1);
}

#[test]
fn many_at_once_share_commits_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), BOTH[1]).unwrap();
    let heads = std::thread::scope(|scope| {
        let talkers: Vec<_> = (0..8)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    block_on(async {
                        let mut hand = Hand::new(store);
                        for _ in 0..n {
                            hand.fresh::<everkept_core::SessionId>("ses_");
                        }
                        // Ids of their own: every hand counts from another place.
                        for _ in 0..n * 1_000 {
                            hand.fresh::<everkept_core::TurnId>("trn_");
                        }
                        let session = hand.create(None).await;
                        for _ in 0..5 {
                            hand.talk(session, "at the same time", &["a ", "b ", "c"]).await;
                        }
                        (session, hand.state(session).head)
                    })
                })
            })
            .collect();
        talkers.into_iter().map(|talker| talker.join().unwrap()).collect::<Vec<_>>()
    });
    for (session, head) in heads {
        assert_eq!(block_on(store.head(session)).unwrap().map(|head| head.seq), Some(head));
    }
    assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
}

/// The refused ones have changed something by the time they are refused; the others of their batch keep what they did.
#[test]
fn one_that_is_refused_late_takes_nothing_along() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), BOTH[1]).unwrap();
    block_on(async {
        let mut hand = Hand::new(&store);
        let mut sessions = Vec::new();
        for _ in 0..24 {
            sessions.push(hand.create(None).await);
        }
        for round in 0..20 {
            let commits = sessions.iter().enumerate().map(|(n, session)| {
                let (write, _) = hand.write(*session, hand.decide(*session, Command::ClearContext).unwrap());
                let late = LogWrite { expected_head: 999, ..write.clone() };
                let writes = if n % 5 == 3 { vec![write, late] } else { vec![write] };
                store.commit(hand.commit_of(writes))
            });
            let answers = futures::future::join_all(commits).await;
            for (n, answer) in answers.into_iter().enumerate() {
                assert_eq!(answer.is_ok(), n % 5 != 3, "{answer:?}");
                if n % 5 != 3 {
                    let events = hand.decide(sessions[n], Command::ClearContext).unwrap();
                    let (_, state) = hand.write(sessions[n], events);
                    hand.states.insert(sessions[n], state);
                }
                let head = store.head(sessions[n]).await.unwrap().map(|head| head.seq);
                assert_eq!(head, Some(if n % 5 == 3 { 1 } else { round + 2 }));
            }
        }
    });
    assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
}
