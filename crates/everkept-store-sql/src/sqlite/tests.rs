//! What happens when storage fails, made to happen from within.

use super::*;
use crate::tx::SqlFault;
use everkept_core::Command;
use everkept_store::conformance::{Hand, block_on};

fn poisoned<T: std::fmt::Debug>(answer: Result<T, StoreFault>) -> bool {
    matches!(answer, Err(StoreFault { problem: Problem::Failed(_), may_have_happened: false, .. }))
}

/// A session with one event, and a commit that would add a second.
fn begun(store: &SqliteStore) -> (SessionId, Commit) {
    let mut hand = Hand::new(store);
    let session = block_on(hand.create(None));
    let (write, _) = hand.write(session, hand.decide(session, Command::ClearContext).unwrap());
    (session, hand.commit_of(vec![write]))
}

#[test]
fn d4_after_a_commit_that_failed_nothing_is_answered_until_a_new_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let (session, commit) = begun(&store);
    let Runner::Inline(writer) = &store.runner else { panic!("the store is inline") };
    held(writer).connection.commit_hook(Some(|| true)).unwrap();
    let fault = block_on(store.commit(commit.clone())).unwrap_err();
    let CommitFault::Store(StoreFault { problem: Problem::Failed(_), may_have_happened: true, .. }) = fault else {
        panic!("the commit may be on disk: {fault:?}");
    };
    held(writer).connection.commit_hook(None::<fn() -> bool>).unwrap();
    assert!(block_on(store.commit(commit.clone())).is_err());
    assert!(poisoned(block_on(store.head(session))));
    assert!(poisoned(block_on(store.boot(Timestamp(0)))));
    assert!(poisoned(block_on(store.tokens())));
    assert!(poisoned(block_on(store.backup(directory.path().join("copy")))));
    drop(store);
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    assert_eq!(block_on(store.boot(Timestamp(0))).unwrap().number, 1);
    assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 1, fence: 1 }));
    assert_eq!(block_on(store.commit(commit)).unwrap()[0].len(), 1);
}

#[test]
fn d4_an_error_of_storage_in_one_job_stops_the_whole_store() {
    for mode in [Mode::Inline, Mode::Threads { readers: 1 }] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, commit) = begun(&store);
        let broken = |_: &mut SqliteTx<'_>| Err::<(), Stop>(Stop::Sql(SqlFault::Storage("disk I/O error".into())));
        assert!(poisoned(block_on(store.put(|| "try".into(), broken))));
        assert!(block_on(store.commit(commit)).is_err());
        assert!(poisoned(block_on(store.session(session))));
        drop(store);
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 1, fence: 1 }));
    }
}

#[test]
fn an_error_that_is_not_of_storage_undoes_one_job_only() {
    for mode in [Mode::Inline, Mode::Threads { readers: 1 }] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, commit) = begun(&store);
        let half = |tx: &mut SqliteTx<'_>| -> Result<(), Stop> {
            answer(op::note_wall(tx, Timestamp(77)))?;
            answer(async { Ok(crate::tx::Tx::exec(tx, "INSERT INTO boot (number, at) VALUES (NULL, 'x')", &[]).await?) }).map(|_| ())
        };
        let (refused, done) = block_on(async {
            let refused = store.put(|| "try".into(), half);
            let done = store.commit(commit);
            futures::join!(refused, done)
        });
        assert!(poisoned(refused));
        assert_eq!(done.unwrap()[0].len(), 1);
        assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 2, fence: 1 }));
        assert_ne!(block_on(store.read(|| "look".into(), |tx| answer(op::latest_wall(tx)))).unwrap(), Timestamp(77));
    }
}
