//! Damage in the file: reported where it is, and nothing else is held back.

use crate::{furnish, open, raw};
use everkept_core::SessionId;
use everkept_store::{
    CommitFault, Damage, EventsQuery, LogWrite, Place, Problem, Report, Store, StoreFault,
    conformance::{Hand, block_on, hand::session_id, log},
    verify,
};
use everkept_store_sql::SqliteStore;
use rusqlite::params;
use std::path::Path;

fn query(session: SessionId) -> EventsQuery {
    EventsQuery { session: Some(session), limit: 1_000, ..EventsQuery::default() }
}

fn key(session: SessionId) -> [u8; 16] {
    *session.0.as_bytes()
}

/// Flips the lowest bit of the middle byte of an event's body, as a disk would.
fn flip(directory: &Path, session: SessionId, seq: u64) {
    let file = raw(directory);
    let find = "SELECT body FROM event WHERE log = ?1 AND seq = ?2";
    let mut body: Vec<u8> = file.query_row(find, params![key(session), seq as i64], |row| row.get(0)).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    let changed = file.execute("UPDATE event SET body = ?3 WHERE log = ?1 AND seq = ?2", params![key(session), seq as i64, body]);
    assert_eq!(changed.unwrap(), 1);
}

fn verified(store: &SqliteStore) -> Report {
    block_on(verify(store, &mut |_| {})).unwrap()
}

/// The places of all damages of one session.
fn places(report: &Report, session: SessionId) -> Vec<Place> {
    report.damages.iter().filter(|damage| damage.session == session).map(|Damage { place, .. }| place.clone()).collect()
}

#[test]
fn d6_a_flipped_bit_is_reported_at_that_event_and_others_stay_readable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (session, _) = block_on(furnish(&store));
    let whole = block_on(log(&store, session));
    let last = whole.len() as u64;
    for seq in [1, 4, last] {
        flip(directory.path(), session, seq);
        let found = block_on(store.events(query(session)));
        let Err(StoreFault { problem, may_have_happened: false, .. }) = found else { panic!("{found:?}") };
        assert_eq!(problem, Problem::Corrupt { session, seq });
        let before = block_on(store.events(EventsQuery { until: Some(seq - 1), ..query(session) })).unwrap();
        let after = block_on(store.events(EventsQuery { after: seq, ..query(session) })).unwrap();
        let at = usize::try_from(seq).unwrap();
        assert_eq!((before.as_slice(), after.as_slice()), (&whole[..at - 1], &whole[at..]));
        assert_eq!(places(&verified(&store), session), [Place::Event(seq)]);
        flip(directory.path(), session, seq);
        assert_eq!(verified(&store).damages, []);
    }
}

/// Found by flipped bits: in an event's key, one of them had readers pass over it without a word.
#[test]
fn d6_an_event_that_is_not_where_it_belongs_is_reported_and_not_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (session, _) = block_on(furnish(&store));
    let whole = block_on(log(&store, session));
    let away = "UPDATE event SET log = zeroblob(16) WHERE log = ?1 AND seq = 4";
    assert_eq!(raw(directory.path()).execute(away, [key(session)]).unwrap(), 1);
    for after in [0, 3] {
        let found = block_on(store.events(EventsQuery { after, ..query(session) }));
        let Err(StoreFault { problem, .. }) = found else { panic!("{found:?}") };
        assert_eq!(problem, Problem::Corrupt { session, seq: 4 });
        assert!(block_on(store.lines(EventsQuery { after, ..query(session) })).is_err());
    }
    assert_eq!(block_on(store.events(EventsQuery { after: 4, ..query(session) })).unwrap(), whole[4..]);
    assert_eq!(block_on(store.events(EventsQuery { until: Some(3), ..query(session) })).unwrap(), whole[..3]);
    assert_eq!(places(&verified(&store), session), [Place::Event(4)]);
}

#[test]
fn d6_a_flipped_bit_in_a_parent_is_reported_to_its_forks_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (session, _) = block_on(furnish(&store));
    let child = block_on(store.children(session)).unwrap()[0].id;
    flip(directory.path(), session, 2);
    let report = verified(&store);
    assert_eq!((places(&report, session), places(&report, child)), (vec![Place::Event(2)], vec![Place::Event(2)]));
}

#[test]
fn d6_a_flipped_bit_in_a_packed_row_is_reported_where_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (session, turn) = block_on(furnish(&store));
    let whole = block_on(log(&store, session));
    block_on(store.pack(session, turn)).unwrap();
    let deltas: Vec<u64> = whole.iter().filter(|event| event.kind == "part.delta").map(|event| event.seq).collect();
    let (first, last) = (deltas[0], deltas[3]);
    flip(directory.path(), session, last);
    for after in [0, first - 1, first] {
        let found = block_on(store.events(EventsQuery { after, ..query(session) }));
        let Err(StoreFault { problem, .. }) = found else { panic!("{found:?}") };
        assert_eq!(problem, Problem::Corrupt { session, seq: first.max(after + 1) });
    }
    assert!(block_on(store.events(EventsQuery { after: last, ..query(session) })).is_ok());
    assert!(block_on(store.events(EventsQuery { until: Some(first - 1), ..query(session) })).is_ok());
    assert_eq!(places(&verified(&store), session), deltas.into_iter().map(Place::Event).collect::<Vec<_>>());
}

#[test]
fn d6_a_missing_event_a_broken_chain_and_a_wrong_row_are_found() {
    let cases = [
        ("UPDATE event SET chain = zeroblob(32) WHERE log = ?1 AND seq = 7", Some(Place::Event(7))),
        ("UPDATE log SET chain = zeroblob(32) WHERE session = ?1", None),
        ("DELETE FROM event WHERE log = ?1 AND seq = (SELECT head FROM log WHERE session = ?1)", None),
        ("DELETE FROM event WHERE log = ?1 AND seq = 5", Some(Place::Event(5))),
        (
            "UPDATE session SET record = CAST(replace(CAST(record AS TEXT), 'a title', 'another') AS BLOB) WHERE id = ?1",
            Some(Place::Row("session".into())),
        ),
        ("UPDATE session SET record = x'00' WHERE id = ?1", Some(Place::Row("the row at event 0".into()))),
        ("DELETE FROM owed WHERE session = ?1", Some(Place::Row("owed".into()))),
        ("DELETE FROM turn WHERE log = ?1 AND ended_seq IS NULL", None),
        ("UPDATE message SET last_seq = 1 WHERE log = ?1 AND role = 'assistant'", None),
        ("INSERT INTO message SELECT log, 9000, id, turn, role, last_seq FROM message WHERE log = ?1 LIMIT 1", None),
    ];
    for (change, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let (session, _) = block_on(furnish(&store));
        assert_eq!(verified(&store).damages, []);
        assert!(raw(directory.path()).execute(change, params![key(session)]).unwrap() > 0, "{change}");
        let found = places(&verified(&store), session);
        assert!(!found.is_empty(), "{change}");
        if let Some(expected) = expected {
            assert_eq!(found[0], expected, "{change}");
        }
    }
}

#[test]
fn d6_nothing_is_forked_at_an_event_that_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (session, _) = block_on(furnish(&store));
    let hand = Hand::new(&store);
    let child = session_id(900);
    let fork = LogWrite { session: child, expected_head: 5, fence: 1, fork_of: Some((session, 5)), events: vec![], records: vec![] };
    assert_eq!(raw(directory.path()).execute("DELETE FROM event WHERE log = ?1 AND seq = 5", params![key(session)]), Ok(1));
    let fault = block_on(hand.refused(hand.commit_of(vec![fork])));
    assert!(matches!(fault, CommitFault::Conflict { session } if session == child), "{fault:?}");
}
