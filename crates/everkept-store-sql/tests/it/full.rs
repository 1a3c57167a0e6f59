//! A full disk is a read-only server, and no more than that (promise D5).

use crate::{BOTH, disk::SmallDisk, open};
use everkept_core::{Command, NewMessage, NewPart, Role, SessionId, State};
use everkept_store::{
    CommitFault, Problem, Store, StoreFault,
    conformance::{Hand, block_on, log},
    verify,
};
use everkept_store_sql::{Mode, SqliteStore};
use std::fs;

/// Appends until the store is full; what was refused changed nothing.
async fn fill(hand: &mut Hand<'_>, session: SessionId) -> State {
    let fault = append_until_fault(hand, session).await;
    assert!(matches!(fault, StoreFault { problem: Problem::Full, may_have_happened: false, .. }), "{fault:?}");
    hand.state(session).clone()
}

/// Appends until the store does not take any more.
pub async fn append_until_fault(hand: &mut Hand<'_>, session: SessionId) -> StoreFault {
    for n in 0..10_000 {
        let id = hand.fresh("msg_");
        let parts = vec![NewPart::Text(format!("{n} {}", "filling ".repeat(1_000)))];
        let record = Command::RecordMessages { messages: vec![NewMessage { id, role: Role::User, parts }] };
        let (write, after) = hand.write(session, hand.decide(session, record).unwrap());
        match hand.store.commit(hand.commit_of(vec![write])).await {
            Ok(_) => {
                hand.states.insert(session, after);
            }
            Err(CommitFault::Store(fault)) => return fault,
            Err(fault) => panic!("{fault:?}"),
        }
    }
    panic!("there is no end of space");
}

/// Everything that was acknowledged is there, reads go on, nothing is half done.
async fn still_reads(store: &dyn Store, state: &State) {
    let session = state.session.id;
    assert_eq!(log(store, session).await.len() as u64, state.head);
    assert_eq!(store.session(session).await.unwrap().as_ref(), Some(&state.session));
    assert_eq!(verify(store, &mut |_| {}).await.unwrap().damages, []);
}

#[test]
fn d5_a_full_database_goes_on_reading_and_writes_again_when_there_is_space() {
    for mode in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        block_on(async {
            let mut hand = Hand::new(&store);
            let session = hand.create(Some("full")).await;
            store.limit_pages(Some(200)).await.unwrap();
            let state = fill(&mut hand, session).await;
            still_reads(&store, &state).await;
            // Full is not failed: it is full again, and in other sessions too.
            assert_eq!(fill(&mut hand, session).await.head, state.head);
            store.limit_pages(None).await.unwrap();
            hand.act(session, Command::ClearContext).await;
            hand.talk(session, "is there space", &["yes"]).await;
            still_reads(&store, hand.state(session)).await;
        });
        drop(store);
        assert_eq!(block_on(verify(&open(directory.path()), &mut |_| {})).unwrap().damages, []);
    }
}

/// Shown where file systems can be mounted; the test above shows the rest everywhere.
#[test]
fn d5_a_full_disk_goes_on_reading_and_writes_again_when_there_is_space() {
    for mode in BOTH {
        let disk = SmallDisk::mount("3m").expect("a file system can be mounted: run this as root");
        let ballast = disk.path().join("ballast");
        let store = SqliteStore::open(disk.path(), mode).unwrap();
        fs::write(&ballast, vec![0; 1024 * 1024]).unwrap();
        let state = block_on(async {
            let mut hand = Hand::new(&store);
            let session = hand.create(Some("full")).await;
            let state = fill(&mut hand, session).await;
            still_reads(&store, &state).await;
            assert_eq!(fill(&mut hand, session).await.head, state.head);
            fs::remove_file(&ballast).unwrap();
            hand.act(session, Command::ClearContext).await;
            hand.talk(session, "is there space", &["yes"]).await;
            still_reads(&store, hand.state(session)).await;
            fill(&mut hand, session).await
        });
        drop(store);
        // A start on a full disk shows what is there or says that there is no space; it damages nothing.
        match SqliteStore::open(disk.path(), Mode::Inline) {
            Ok(store) => block_on(still_reads(&store, &state)),
            Err(fault) => assert_eq!(fault.problem, Problem::Full),
        }
    }
}
