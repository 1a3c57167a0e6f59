//! Idempotency keys, and the time they go by.

use super::{
    Stores,
    hand::{Hand, session_id},
    ok,
};
use crate::{Boot, Commit, CommitFault, KeptAnswer};
use everkept_core::{TextDigest, Timestamp};

fn answer(key: &str, body: &str, expires_at: Option<Timestamp>) -> KeptAnswer {
    KeptAnswer {
        principal: "anna".into(),
        key: key.into(),
        digest: TextDigest([3; 32]),
        status: 202,
        body: body.to_owned().into(),
        expires_at,
        session: Some(session_id(1)),
    }
}

fn keeping(answer: KeptAnswer, wall: Timestamp) -> Commit {
    Commit { answer: Some(answer), wall, ..Commit::default() }
}

const SECOND: i64 = 1_000_000;

pub async fn o3_a_key_has_one_answer(stores: &impl Stores) {
    let store = stores.fresh();
    let now = Timestamp(50 * SECOND);
    let first = answer("k", "first", None);
    ok(store.commit(keeping(first.clone(), now))).await;
    assert_eq!(ok(store.kept_answer("anna".into(), "k".into(), now)).await, Some(first.clone()));
    assert_eq!(ok(store.kept_answer("bert".into(), "k".into(), now)).await, None);
    assert_eq!(ok(store.kept_answer("anna".into(), "K".into(), now)).await, None);
    let mut hand = Hand::new(&*store);
    let session = session_id(1_000);
    let created = hand.decide(session, Hand::creation(session, None, None, None)).expect("a session can be created");
    let (write, _) = hand.write(session, created);
    let again = Commit { writes: vec![write], ..keeping(answer("k", "second", None), now) };
    assert!(matches!(hand.refused(again).await, CommitFault::KeyUsed(held) if *held == first));
    assert_eq!(ok(store.head(session)).await, None);
    hand.later(1);
    let of_bert = KeptAnswer { principal: "bert".into(), ..answer("k", "third", None) };
    ok(store.commit(keeping(of_bert.clone(), now))).await;
    assert_eq!(ok(store.kept_answer("bert".into(), "k".into(), now)).await, Some(of_bert));
}

pub async fn o3_one_key_at_the_same_time_has_one_effect(stores: &impl Stores) {
    let store = stores.fresh();
    let hand = Hand::new(&*store);
    let mut asked = Vec::new();
    for n in 0..16 {
        let session = session_id(n);
        let created = hand.decide(session, Hand::creation(session, None, None, None)).expect("a session can be created");
        let (write, _) = hand.write(session, created);
        asked.push(store.commit(Commit { writes: vec![write], ..keeping(answer("k", &n.to_string(), None), hand.now) }));
    }
    let answers = futures::future::join_all(asked).await;
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    let used = answers.iter().filter(|answer| matches!(answer, Err(CommitFault::KeyUsed(_)))).count();
    assert_eq!((done, used), (1, 15));
    assert_eq!(ok(store.all_sessions(None, 100)).await.len(), 1);
}

pub async fn l3_an_expired_answer_is_not_revived_by_the_clock(stores: &impl Stores) {
    let store = stores.fresh();
    let at = |seconds: i64| Timestamp(seconds * SECOND);
    let short = answer("k", "short", Some(at(100)));
    ok(store.commit(keeping(short.clone(), at(10)))).await;
    let kept = |now| store.kept_answer("anna".into(), "k".into(), now);
    assert_eq!(ok(kept(at(99))).await, Some(short.clone()));
    assert_eq!(ok(kept(at(100))).await, None);
    let early = store.commit(keeping(answer("k", "too early", None), at(99))).await;
    assert!(matches!(early, Err(CommitFault::KeyUsed(held)) if *held == short));
    // Wall time that was kept counts, even when the clock goes back.
    ok(store.commit(Commit { wall: at(200), ..Commit::default() })).await;
    assert_eq!(ok(kept(at(20))).await, None);
    let next = answer("k", "next", Some(at(300)));
    ok(store.commit(keeping(next.clone(), at(20)))).await;
    assert_eq!(ok(kept(at(20))).await, Some(next));
    while !ok(store.forget_expired()).await {}
    assert!(ok(kept(at(20))).await.is_some());
}

pub async fn boots_are_counted_and_time_does_not_go_back(stores: &impl Stores) {
    let store = stores.fresh();
    let at = |seconds: i64| Timestamp(seconds * SECOND);
    assert_eq!(ok(store.boot(at(10))).await, Boot { number: 1, latest_wall: at(10) });
    assert_eq!(ok(store.boot(at(5))).await, Boot { number: 2, latest_wall: at(10) });
    ok(store.commit(Commit { wall: at(60), ..Commit::default() })).await;
    assert_eq!(ok(store.boot(at(30))).await, Boot { number: 3, latest_wall: at(60) });
}
