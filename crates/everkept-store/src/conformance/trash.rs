//! What goes out of the trash for good, and when (promise D8).

use super::{
    Stores,
    hand::{Hand, blob_of},
    ok,
};
use crate::{Commit, CommitFault, EventsQuery, KeptAnswer, PlaceQuery, Raw};
use bytes::Bytes;
use everkept_core::{Command, SessionId, Timestamp, digest_of};

const DAY: i64 = 86_400_000_000;

pub async fn d8_the_trash_is_purged_after_its_stated_time_and_not_before(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let delete = |days: Option<u64>| Command::DeleteSession { keep_ms: days.map(|days| days * 86_400_000) };
    let stated = hand.create_for(Some("stated words"), Some("anna"), Some("t")).await;
    let turn = hand.talk(stated, "question", &["an ", "answer"]).await;
    let for_good = hand.create(None).await;
    let restored = hand.create(None).await;
    let alive = hand.create(None).await;
    let (other, asked) = super::questions::ask(&mut hand, alive, &["of its own"]).await;
    hand.act(stated, delete(Some(30))).await;
    hand.act(for_good, delete(None)).await;
    hand.act(restored, delete(Some(30))).await;
    hand.act(restored, Command::RestoreSession).await;
    let over = Timestamp(hand.now.0 + 30 * DAY);
    let before = Timestamp(over.0 - 1);
    assert!(ok(store.due(before, 10)).await.is_empty());
    assert!(!ok(store.purge(stated, before)).await);
    assert_eq!(ok(store.due(over, 10)).await, [stated]);
    for kept in [for_good, restored, alive] {
        assert!(!ok(store.purge(kept, Timestamp(i64::MAX))).await);
    }

    let key = KeptAnswer {
        principal: "anna".into(),
        key: "k".into(),
        digest: digest_of("x"),
        status: 200,
        body: Bytes::from_static(b"{}"),
        expires_at: None,
        session: Some(stated),
    };
    let [only, both] = ["only there", "there and elsewhere"].map(|text| (blob_of(text.as_bytes()), Bytes::from(text)));
    let raw = Raw { session: stated, turn, bytes: Bytes::from_static(b"raw") };
    let (write, state) = hand.write(stated, hand.decide(stated, Command::RestoreSession).expect("it is in the trash"));
    let parts = Commit { answer: Some(key), blobs: vec![only.clone(), both.clone()], raw: Some(raw), ..hand.commit_of(vec![write]) };
    ok(store.commit(parts)).await;
    hand.states.insert(stated, state);
    let (write, state) = hand.write(alive, hand.decide(alive, Command::ClearContext).expect("it is there"));
    ok(store.commit(Commit { blobs: vec![both.clone()], ..hand.commit_of(vec![write]) })).await;
    hand.states.insert(alive, state);
    hand.act(stated, delete(Some(30))).await;

    assert!(ok(store.purge(stated, over)).await);
    assert!(ok(store.due(Timestamp(i64::MAX), 10)).await.is_empty());
    assert!(!ok(store.purge(stated, over)).await, "it is gone already");
    assert_eq!((ok(store.session(stated)).await, ok(store.head(stated)).await, ok(store.turn(turn)).await), (None, None, None));
    let events = EventsQuery { session: Some(stated), limit: 10, ..EventsQuery::default() };
    assert!(ok(store.events(events)).await.is_empty());
    let places = PlaceQuery { session: stated, after: None, before: None, backward: false, limit: 10 };
    assert!(ok(store.turns(places.clone())).await.is_empty() && ok(store.messages(places)).await.is_empty());
    assert!(ok(store.raw(stated, turn, 0)).await.is_empty());
    assert_eq!(ok(store.kept_answer("anna".into(), "k".into(), over)).await, None);
    assert_eq!((ok(store.blob(only.0.id)).await.is_some(), ok(store.blob(both.0.id)).await.is_some()), (false, true));
    assert_eq!(ok(store.all_sessions(None, 10)).await, sorted(vec![for_good, restored, alive]));
    let held = (ok(store.turn(other)).await.map(|turn| turn.turn.id), ok(store.question(asked[0])).await.map(|question| question.id));
    assert_eq!(held, (Some(other), Some(asked[0])), "what others have stays");
    assert!(super::search::found(&*store, "stated").await.is_empty());
    assert!(ok(crate::verify(&*store, &mut |_| {})).await.damages.is_empty());
    // Whoever still has its state in mind finds out.
    let (late, _) = hand.write(stated, hand.decide(stated, Command::RestoreSession).expect("it is in the trash"));
    assert!(matches!(hand.refused(hand.commit_of(vec![late])).await, CommitFault::Conflict { session } if session == stated));
}

pub async fn a_parent_stays_until_no_fork_needs_it(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let delete = || Command::DeleteSession { keep_ms: Some(0) };
    let parent = hand.create(None).await;
    hand.talk(parent, "inherited", &["text"]).await;
    let child = hand.fork(parent, None).await;
    hand.act(parent, delete()).await;
    let later = Timestamp(hand.now.0 + DAY);
    assert!(ok(store.due(later, 10)).await.is_empty() && !ok(store.purge(parent, later)).await);
    hand.act(child, delete()).await;
    // The child could be restored up to now.
    assert_eq!(ok(store.due(later, 10)).await, [child]);
    assert!(!ok(store.purge(parent, later)).await);
    assert!(ok(store.purge(child, later)).await);
    assert!(ok(store.purge(parent, later)).await);
    assert!(ok(store.all_sessions(None, 10)).await.is_empty());
}

fn sorted(mut ids: Vec<SessionId>) -> Vec<SessionId> {
    ids.sort();
    ids
}
