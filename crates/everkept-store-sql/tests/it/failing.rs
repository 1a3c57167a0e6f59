//! A disk whose writes fail: nothing more is acknowledged, and a new start has all that was (promise D4).

use crate::{BOTH, disk::FailingDisk, full::append_until_fault};
use everkept_core::Timestamp;
use everkept_store::{
    Problem, Store,
    conformance::{Hand, block_on},
    verify,
};
use everkept_store_sql::SqliteStore;

/// With one size the write-ahead log cannot be synced, with the other the database.
#[test]
fn d4_after_a_sync_that_failed_a_new_start_brings_everything_acknowledged_to_the_disk() {
    for (mode, size) in [(BOTH[0], "3m"), (BOTH[1], "3m"), (BOTH[0], "6m"), (BOTH[1], "6m")] {
        let disk = FailingDisk::mount(size).expect("a file system can be mounted: run this as root");
        let store = SqliteStore::open(disk.path(), mode).unwrap();
        let (session, acknowledged) = block_on(async {
            let mut hand = Hand::new(&store);
            let session = hand.create(Some("kept")).await;
            let fault = append_until_fault(&mut hand, session).await;
            assert!(matches!(fault.problem, Problem::Failed(_)), "{fault:?}");
            let read = store.session(session).await.unwrap_err();
            assert!(matches!(read.problem, Problem::Failed(_)), "{read:?}");
            (session, hand.state(session).head)
        });
        drop(store);
        disk.repair();
        let store = SqliteStore::open(disk.path(), mode).unwrap();
        assert_eq!(block_on(store.boot(Timestamp(0))).unwrap().number, 1);
        let head = block_on(store.head(session)).unwrap().unwrap().seq;
        assert!((acknowledged..=acknowledged + 1).contains(&head), "{acknowledged} were acknowledged and {head} are there");
        drop(store);
        disk.take_out_and_put_back();
        let store = SqliteStore::open(disk.path(), mode).unwrap();
        assert_eq!(block_on(store.head(session)).unwrap().unwrap().seq, head);
        assert_eq!(block_on(verify(&store, &mut |_| {})).unwrap().damages, []);
    }
}
