//! Appending and reading events: numbers, conflicts, filters, the chain.

use super::{
    Stores,
    hand::{Hand, blob_of, id, log},
    ok,
};
use crate::{CHAIN_START, CommitFault, EventsQuery, Head, KeptAnswer, Lines, StoredEvent, link};
use everkept_core::{Body, Command, SessionId, TextDigest, TurnId};

fn query(session: SessionId) -> EventsQuery {
    EventsQuery { session: Some(session), limit: u32::MAX, ..EventsQuery::default() }
}

fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

pub async fn o1_events_are_numbered_from_one_without_a_gap(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let (a, b) = (hand.create(None).await, hand.create(None).await);
    for n in 0..5 {
        hand.talk(a, &format!("question {n}"), &["an ", "answer"]).await;
        hand.talk(b, "another", &["one"]).await;
    }
    for session in [a, b] {
        let events = log(&*store, session).await;
        let head = hand.state(session).head;
        assert_eq!(numbers(&events), (1..=head).collect::<Vec<_>>());
        assert_eq!(ok(store.head(session)).await, Some(Head { seq: head, fence: 1 }));
        let page = ok(store.events(EventsQuery { after: 3, until: Some(7), ..query(session) })).await;
        assert_eq!(numbers(&page), [4, 5, 6, 7]);
        let page = ok(store.events(EventsQuery { after: 3, limit: 2, ..query(session) })).await;
        assert_eq!(numbers(&page), [4, 5]);
        assert!(ok(store.events(EventsQuery { after: head, ..query(session) })).await.is_empty());
        assert!(ok(store.events(EventsQuery { limit: 0, ..query(session) })).await.is_empty());
        let all = ok(store.events(query(session))).await;
        for (after, limit) in [(0, 100), (3, 2), (head, 1)] {
            let asked = EventsQuery { after, limit, ..query(session) };
            assert_eq!(ok(store.lines(asked.clone())).await, Lines::of(&ok(store.events(asked)).await, after));
        }
        for count in 1..all.len() {
            let bytes = all[..count].iter().map(|event| event.bytes.len()).sum();
            let found = |max_bytes| store.events(EventsQuery { max_bytes: Some(max_bytes), ..query(session) });
            assert_eq!(ok(found(bytes)).await, all[..count], "the last one reaches the bound");
            assert_eq!(ok(found(bytes + 1)).await, all[..=count], "the last one passes the bound");
        }
    }
    let unknown: SessionId = id(SessionId::PREFIX, 999);
    assert!(log(&*store, unknown).await.is_empty());
    assert_eq!(ok(store.head(unknown)).await, None);
}

pub async fn d3_what_is_read_is_what_was_answered(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(Some("a \u{0} title \u{feff} \u{2028} \"quoted\"")).await;
    let turn = hand.fresh(TurnId::PREFIX);
    let message = hand.fresh("msg_");
    let mut answered = hand.act(session, Hand::submission(turn, message, "nul \u{0} and \u{1f600}")).await;
    answered.insert(0, log(&*store, session).await[0].clone());
    assert_eq!(log(&*store, session).await, answered);
}

pub async fn a_commit_on_an_old_head_or_fence_changes_nothing(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(Some("first")).await;
    let before = (log(&*store, session).await, ok(store.rows(session)).await);
    let (write, _) = hand.write(session, decided(&hand, session));
    for (expected_head, fence) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
        let write = crate::LogWrite { expected_head, fence, ..write.clone() };
        let fault = hand.refused(hand.commit_of(vec![write])).await;
        assert!(matches!(fault, CommitFault::Conflict { session: held } if held == session), "{fault:?}");
    }
    let forked = crate::LogWrite { fork_of: Some((session, 1)), ..write.clone() };
    assert!(matches!(hand.refused(hand.commit_of(vec![forked])).await, CommitFault::Conflict { .. }));
    let unknown = crate::LogWrite { session: id(SessionId::PREFIX, 77), ..write };
    assert!(matches!(hand.refused(hand.commit_of(vec![unknown])).await, CommitFault::Conflict { .. }));
    assert_eq!((log(&*store, session).await, ok(store.rows(session)).await), before);
}

fn decided(hand: &Hand<'_>, session: SessionId) -> Vec<everkept_core::Event> {
    hand.decide(session, Command::ClearContext).expect("a context can always be cleared")
}

pub async fn a_commit_is_all_of_it_or_none_of_it(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let (a, b) = (hand.create(None).await, hand.create(None).await);
    let (good, _) = hand.write(a, decided(&hand, a));
    let (bad, _) = hand.write(b, decided(&hand, b));
    let bad = crate::LogWrite { expected_head: 9, ..bad };
    let mut commit = hand.commit_of(vec![good, bad]);
    let blob = blob_of(b"brought along");
    commit.blobs.push((blob, b"brought along".as_slice().into()));
    let digest = TextDigest([7; 32]);
    let answer =
        KeptAnswer { principal: "me".into(), key: "k".into(), digest, status: 200, body: "{}".into(), expires_at: None, session: Some(a) };
    commit.answer = Some(answer);
    assert!(matches!(hand.refused(commit.clone()).await, CommitFault::Conflict { session } if session == b));
    assert_eq!((log(&*store, a).await.len(), log(&*store, b).await.len()), (1, 1));
    assert_eq!(ok(store.blob(blob.id)).await, None);
    assert_eq!(ok(store.kept_answer("me".into(), "k".into(), hand.now)).await, None);
    commit.writes[1].expected_head = 1;
    let stored = ok(store.commit(commit)).await;
    assert_eq!(stored.iter().map(|events| numbers(events)).collect::<Vec<_>>(), [[2], [2]]);
    assert_eq!((log(&*store, a).await.len(), log(&*store, b).await.len()), (2, 2));
    assert!(ok(store.blob(blob.id)).await.is_some());
    assert!(ok(store.kept_answer("me".into(), "k".into(), hand.now)).await.is_some());
}

pub async fn two_writes_of_one_commit_to_one_log_follow_each_other(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(None).await;
    let (first, state) = hand.write(session, decided(&hand, session));
    hand.states.insert(session, state);
    let (second, _) = hand.write(session, decided(&hand, session));
    let again = crate::LogWrite { expected_head: first.expected_head, ..second.clone() };
    assert!(matches!(hand.refused(hand.commit_of(vec![first.clone(), again])).await, CommitFault::Conflict { .. }));
    let stored = ok(store.commit(hand.commit_of(vec![first, second]))).await;
    assert_eq!(stored.iter().map(|events| numbers(events)).collect::<Vec<_>>(), [[2], [3]]);
}

pub async fn a_taken_log_refuses_its_old_owner(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(None).await;
    assert_eq!(ok(store.take(session)).await, Some(Head { seq: 1, fence: 2 }));
    assert_eq!(ok(store.take(id(SessionId::PREFIX, 5_000))).await, None);
    let (write, _) = hand.write(session, decided(&hand, session));
    assert!(matches!(hand.refused(hand.commit_of(vec![write])).await, CommitFault::Conflict { .. }));
    hand.fences.insert(session, 2);
    hand.act(session, Command::ClearContext).await;
    assert_eq!(ok(store.head(session)).await, Some(Head { seq: 2, fence: 2 }));
}

pub async fn events_are_filtered_by_kind_turn_and_context(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(None).await;
    hand.talk(session, "one", &["1 ", "2 ", "3"]).await;
    hand.act(session, Command::ClearContext).await;
    let second = hand.talk(session, "two", &["4 ", "5 ", "6"]).await;
    hand.talk(session, "three", &["7"]).await;
    ok(store.pack(session, second)).await;
    let all = log(&*store, session).await;
    let context_of = |event: &StoredEvent| crate::decode(&event.bytes).map(|(_, event)| (event.turn, event.context));
    let told: Vec<_> = all.iter().map(|event| context_of(event).expect("a store returns events that can be read")).collect();
    for kinds in [&["part.delta"][..], &["turn.queued", "turn.ended"], &["part.delta", "message.added"], &["no.such"]] {
        for turn in [None, Some(second)] {
            for context in [None, Some(0), Some(1), Some(2)] {
                let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).into()).collect();
                let fits = |at: &usize| {
                    let (held_turn, held_context) = told[*at];
                    kinds.iter().any(|kind| kind == all[*at].kind)
                        && (turn.is_none() || turn == held_turn)
                        && context.is_none_or(|context| context == held_context)
                };
                let expected: Vec<StoredEvent> = (0..all.len()).filter(fits).map(|at| all[at].clone()).collect();
                let found = ok(store.events(EventsQuery { kinds, turn, context, ..query(session) })).await;
                assert_eq!(found, expected);
            }
        }
    }
    assert!(all.iter().all(|event| Body::KINDS.contains(&event.kind)));
}

pub async fn d6_events_are_chained(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(None).await;
    let turn = hand.talk(session, "chained", &["a", "b", "c", "d"]).await;
    ok(store.pack(session, turn)).await;
    let child = hand.fork(session, None).await;
    hand.talk(child, "further", &["e"]).await;
    for session in [session, child] {
        let mut chain = CHAIN_START;
        let mut expected = Vec::new();
        for event in log(&*store, session).await {
            (_, chain) = link(&chain, &event.bytes);
            expected.push((event.seq, chain));
        }
        // The chain that the next event goes on from.
        expected.extend(expected.last().copied());
        let found = ok(store.chains(session, 0, u32::MAX)).await;
        assert!(found.iter().all(|link| expected.contains(link)));
        assert_eq!(found[found.len() - 2..], expected[expected.len() - 2..]);
        assert_eq!(ok(store.chains(session, found[2].0, 2)).await, found[3..5]);
    }
    assert!(ok(store.chains(id(SessionId::PREFIX, 5_000), 0, 9)).await.is_empty());
}
