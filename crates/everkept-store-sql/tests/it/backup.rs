//! A backup is a store of its own, as everything stood at one moment.

use crate::{BOTH, open};
use everkept_store::{
    Problem, Store,
    conformance::{Hand, block_on, log},
    verify,
};
use everkept_store_sql::SqliteStore;
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

#[test]
fn r6_a_backup_under_load_is_a_consistent_prefix_of_every_session() {
    let (directory, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = SqliteStore::open(directory.path(), BOTH[1]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                let mut hand = Hand::new(&store);
                let sessions = [hand.create(Some("one")).await, hand.create(Some("two")).await];
                while !done.load(Ordering::Relaxed) {
                    for session in sessions {
                        hand.talk(session, "more", &["and ", "more"]).await;
                    }
                }
            });
        });
        for n in 0..4 {
            let to = copies.path().join(n.to_string());
            fs::create_dir(&to).unwrap();
            while block_on(store.all_sessions(None, 2)).unwrap().len() < 2 {
                std::thread::yield_now();
            }
            let to = to.join("everkept.db");
            if n % 2 == 0 { block_on(store.backup(to)) } else { everkept_store_sql::backup(directory.path(), &to) }.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    for n in 0..4 {
        let copy = open(&copies.path().join(n.to_string()));
        assert_eq!(block_on(verify(&copy, &mut |_| {})).unwrap().damages, []);
        let sessions = block_on(copy.all_sessions(None, 10)).unwrap();
        assert_eq!(sessions.len(), 2);
        for session in sessions {
            let (prefix, whole) = (block_on(log(&copy, session)), block_on(log(&store, session)));
            assert!(!prefix.is_empty());
            assert_eq!(prefix[..], whole[..prefix.len()]);
        }
    }
}

#[test]
fn a_backup_never_overwrites() {
    for mode in BOTH {
        let (directory, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        for held in ["something", ""] {
            let to = copies.path().join("copy.db");
            fs::write(&to, held).unwrap();
            let fault = block_on(store.backup(to.clone())).unwrap_err();
            assert!(matches!(fault.problem, Problem::Unopenable(_)));
            assert_eq!(fs::read_to_string(&to).unwrap(), held);
        }
        let fault = block_on(store.backup(copies.path().join("no/such/place"))).unwrap_err();
        assert!(!fault.may_have_happened);
    }
}
