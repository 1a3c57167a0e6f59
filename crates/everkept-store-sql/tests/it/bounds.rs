//! What the store holds to whoever writes to it: how large an event may be, and that what is over goes piece by piece.

use crate::{open, raw};
use everkept_core::{Body, Command, MAX_EVENT_BYTES, PartDelta, TextKind, Timestamp, TurnId};
use everkept_store::{
    Commit, CommitFault, Problem, Store, StoreFault, StoredEvent,
    conformance::{
        Hand, block_on,
        hand::{blob_of, id},
    },
    encode,
};
use std::fs;

#[test]
fn an_event_of_the_largest_size_is_kept_and_a_larger_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    block_on(async {
        let mut hand = Hand::new(&store);
        let session = hand.create(None).await;
        let turn: TurnId = hand.fresh(TurnId::PREFIX);
        let mut event = hand.decide(session, Command::ClearContext).unwrap().remove(0);
        let delta = |text| PartDelta { message: id("msg_", 1), part: id("prt_", 1), kind: TextKind::Text, text };
        (event.turn, event.body) = (Some(turn), Body::PartDelta(delta(String::new())));
        let rest = MAX_EVENT_BYTES - encode(&event, 2).len();
        for (bytes, kept) in [(rest + 1, false), (rest + 1_000, false), (rest, true)] {
            event.body = Body::PartDelta(delta("x".repeat(bytes)));
            let (write, _) = hand.write(session, vec![event.clone()]);
            match store.commit(hand.commit_of(vec![write])).await {
                Ok(stored) => {
                    let bytes = encode(&event, 2).into();
                    assert_eq!((kept, stored), (true, vec![vec![StoredEvent { seq: 2, kind: "part.delta", bytes }]]));
                }
                Err(CommitFault::Store(StoreFault { problem: Problem::Failed(why), may_have_happened: false, .. })) => {
                    assert_eq!((kept, why), (false, format!("an event of {} bytes is too large", MAX_EVENT_BYTES - rest + bytes)));
                }
                Err(fault) => panic!("{fault:?}"),
            }
        }
    });
}

#[test]
fn answers_whose_time_is_over_are_forgotten_to_the_last_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let file = raw(directory.path());
    let kept = |answers: u32, expires_at: Option<i64>| {
        let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
            INSERT INTO answer (principal, key, digest, status, body, expires_at)
            SELECT 'anna', COALESCE(?2, 'none') || n, zeroblob(32), 200, x'', ?2 FROM n";
        file.execute(sql, rusqlite::params![answers, expires_at]).unwrap();
    };
    let left = || file.query_row("SELECT COUNT(*) FROM answer", [], |row| row.get::<_, u32>(0)).unwrap();
    kept(1_500, Some(10));
    kept(2, Some(11));
    kept(3, None);
    block_on(async {
        store.boot(Timestamp(10)).await.unwrap();
        assert_eq!((store.forget_expired().await.unwrap(), left()), (false, 505), "a piece of them");
        assert_eq!((store.forget_expired().await.unwrap(), left()), (true, 5), "the rest");
        assert_eq!((store.forget_expired().await.unwrap(), left()), (true, 5), "and no more");
        kept(1_000, Some(9));
        assert_eq!((store.forget_expired().await.unwrap(), left()), (false, 5), "there may be more");
    });
}

#[test]
fn d8_a_purge_takes_everything_however_much_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut hand = Hand::new(&store);
    let session = block_on(hand.create(None));
    block_on(hand.act(session, Command::DeleteSession { keep_ms: Some(0) }));
    let file = raw(directory.path());
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1300)
        INSERT INTO raw (session, turn, place, size, bytes) SELECT ?1, zeroblob(16), n, 1, x'00' FROM n";
    assert_eq!(file.execute(sql, [session.0.as_bytes()]), Ok(1_300));
    assert!(block_on(store.purge(session, Timestamp(i64::MAX))).unwrap());
    for table in ["raw", "event", "log", "purging"] {
        let left: u32 = file.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(block_on(store.due(Timestamp(i64::MAX), 9)).unwrap(), []);
}

/// In one piece for each four megabytes: not at every commit, and never more than a piece behind.
#[test]
fn what_stands_in_the_write_ahead_log_is_moved_into_the_database_when_it_has_grown() {
    const MIB: u64 = 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let length = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
    let mut written = 0;
    let mut write_up_to = |mib: u64| {
        while written < mib * 8 {
            written += 1;
            let content = bytes::Bytes::from(vec![u8::try_from(written).unwrap(); 128 * 1024]);
            block_on(store.commit(Commit { blobs: vec![(blob_of(&content), content)], ..Commit::default() })).unwrap();
        }
    };
    write_up_to(3);
    assert!(length("everkept.db-wal") > 3 * MIB && length("everkept.db") < MIB, "nothing is moved yet");
    write_up_to(16);
    assert!(length("everkept.db-wal") < 5 * MIB && length("everkept.db") > 12 * MIB, "all but the last piece is");
}
