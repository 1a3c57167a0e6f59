//! Bytes kept beside the events.

use super::{
    Stores,
    hand::{Hand, assert_same, blob_of, id, log},
    ok,
};
use crate::{Commit, Raw, Store};
use bytes::Bytes;
use everkept_core::{Command, SessionId, TextDigest, TurnId};

async fn read_all(store: &dyn Store, session: SessionId, turn: TurnId) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let piece = ok(store.raw(session, turn, all.len() as u64)).await;
        if piece.is_empty() {
            return all;
        }
        let size = piece.len();
        assert!(size <= 128 * 1024, "one read returns about 64 KiB at most");
        all.extend_from_slice(&piece);
        let more = !ok(store.raw(session, turn, all.len() as u64)).await.is_empty();
        assert!(!more || size >= 32 * 1024, "and not much less while there is more: {size}");
    }
}

pub async fn d7_what_an_agent_sent_is_read_back_to_the_byte(stores: &impl Stores) {
    let store = stores.fresh();
    let (session, turn, other): (SessionId, TurnId, TurnId) = (id("ses_", 1), id("trn_", 2), id("trn_", 3));
    assert!(ok(store.raw(session, turn, 0)).await.is_empty());
    let mut sent = Vec::new();
    let mut seed = 9u8;
    let sizes = [1, 0, 2, 3, 4, 5, 6, 300, 70_000, 600_000, 3, 1_500_000];
    for size in sizes {
        let mut next = || {
            seed = seed.wrapping_mul(37).wrapping_add(11);
            seed
        };
        let bytes: Vec<u8> = (0..size).map(|_| next()).collect();
        sent.extend_from_slice(&bytes);
        for (turn, bytes) in [(turn, Bytes::from(bytes)), (other, Bytes::from_static(b"\x00\xff"))] {
            ok(store.commit(Commit { raw: Some(Raw { session, turn, bytes }), ..Commit::default() })).await;
        }
    }
    assert_eq!(read_all(&*store, session, turn).await, sent);
    assert_eq!(read_all(&*store, session, other).await, b"\x00\xff".repeat(sizes.len()));
    for from in [0, 1, 2, 17, 299, 301, 70_300, 70_301, 262_144, 400_000, 2_170_303] {
        let piece = ok(store.raw(session, turn, from as u64)).await;
        assert_eq!(piece[..], sent[from..from + piece.len()], "from {from}");
        assert!(!piece.is_empty());
    }
    assert!(ok(store.raw(session, turn, sent.len() as u64)).await.is_empty());
    assert!(ok(store.raw(session, turn, u64::MAX)).await.is_empty());
}

pub async fn blobs_are_kept_once_and_know_their_sessions(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let (a, b) = (hand.create(None).await, hand.create(None).await);
    let content: Bytes = vec![0xfe; 200_000].into();
    let blob = blob_of(&content);
    assert_eq!((ok(store.blob(blob.id)).await, ok(store.blob_sessions(blob.id)).await), (None, vec![]));
    for session in [b, a, b] {
        let cleared = hand.decide(session, Command::ClearContext).expect("a context can always be cleared");
        let (write, state) = hand.write(session, cleared);
        let commit = Commit { blobs: vec![(blob, content.clone())], ..hand.commit_of(vec![write]) };
        ok(store.commit(commit)).await;
        hand.states.insert(session, state);
    }
    assert_eq!(ok(store.blob(blob.id)).await, Some(content));
    assert_eq!(ok(store.blob_sessions(blob.id)).await, [a, b]);
    assert_eq!(ok(store.blob(TextDigest([0; 32]))).await, None);
}

pub async fn packing_changes_no_byte_of_what_is_read(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(None).await;
    let strange = ["\u{0}", "\"", "\\", "\",\"text\":\"", "\u{1f980}\u{200d}", "\n\t\r", ",\"at\":\"", "\"}}", "\u{7f}\u{2028}", "plain"];
    let long = "long ".repeat(3_000);
    let turn = hand.submit(session, &"a long question ".repeat(2_000)).await;
    hand.begin(session, turn).await;
    for n in 0..40 {
        for text in strange {
            hand.later(if n % 7 == 0 { 1 } else { 999_983 });
            hand.say(session, turn, &format!("{text}{n}")).await;
        }
        if n % 9 == 0 {
            hand.say(session, turn, &long).await;
        }
    }
    hand.act(session, Command::ClearContext).await;
    hand.say(session, turn, "in the next context").await;
    let before = log(&*store, session).await;
    ok(store.pack(session, turn)).await;
    assert_same(&log(&*store, session).await, &before);
    hand.end(session, turn).await;
    let other = hand.talk(session, "short", &["one"]).await;
    let before = log(&*store, session).await;
    let child = hand.fork(session, None).await;
    for turn in [turn, other, turn, id(TurnId::PREFIX, 7_777)] {
        ok(store.pack(session, turn)).await;
        assert_same(&log(&*store, session).await, &before);
    }
    ok(store.pack(child, turn)).await;
    assert_same(&log(&*store, child).await[..before.len()], &before);
    // Every single event and every page that begins or ends inside a packed row.
    for step in [1, 7, 64] {
        for from in (0..before.len()).step_by(11) {
            let query = crate::EventsQuery {
                session: Some(session),
                after: from as u64,
                until: Some((from + step) as u64),
                limit: 50,
                ..crate::EventsQuery::default()
            };
            assert_same(&ok(store.events(query)).await, &before[from..(from + step.min(50)).min(before.len())]);
        }
    }
    let report = ok(crate::verify(&*store, &mut |_| {})).await;
    assert_eq!(report.damages, []);
}
