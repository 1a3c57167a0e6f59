//! Forks: nothing is copied, and everything up to the cut is there.

use super::{
    Stores,
    hand::{Hand, id, log},
    ok,
};
use crate::{CHAIN_START, CommitFault, EventsQuery, LogWrite, PlaceQuery, Store, link};
use everkept_core::{Command, Cut, MAX_DELTA_BYTES, MessageRecord, Record, Role, SessionId, TurnId, TurnRecord};

fn all(session: SessionId) -> PlaceQuery {
    PlaceQuery { session, after: None, before: None, backward: false, limit: u32::MAX }
}

async fn turns(store: &dyn Store, session: SessionId) -> Vec<TurnId> {
    ok(store.turns(all(session))).await.iter().map(|turn: &TurnRecord| turn.turn.id).collect()
}

pub async fn a_fork_reads_its_parent_up_to_the_cut(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(Some("parent")).await;
    let first = hand.talk(parent, "one", &["1 ", "2"]).await;
    let cut = hand.state(parent).head;
    let second = hand.talk(parent, "two", &["3"]).await;
    let child = hand.fork(parent, Some(Cut::Turn(first))).await;
    let third = hand.talk(child, "three", &["4"]).await;
    let (parents, childs) = (log(&*store, parent).await, log(&*store, child).await);
    let shared = usize::try_from(cut).unwrap_or(usize::MAX);
    assert_eq!(childs[..shared], parents[..shared]);
    assert_eq!(childs[shared].kind, "session.forked");
    assert_eq!(childs.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=hand.state(child).head).collect::<Vec<_>>());
    assert_eq!(turns(&*store, parent).await, [first, second]);
    assert_eq!(turns(&*store, child).await, [first, third]);
    for limit in [1, shared - 1, shared, shared + 1] {
        let page = EventsQuery { session: Some(child), limit: u32::try_from(limit).unwrap_or(u32::MAX), ..EventsQuery::default() };
        assert_eq!(ok(store.events(page)).await, childs[..limit], "a page ends where it is full, in whichever log");
    }
    ok(store.pack(parent, first)).await;
    assert_eq!(log(&*store, child).await, childs);
}

pub async fn a_fork_of_a_fork_reads_through_all_of_them(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let mut line = vec![hand.create(None).await];
    let mut said = Vec::new();
    for n in 0..6 {
        let at = line[n];
        said.push(hand.talk(at, &format!("turn {n}"), &["a ", "b"]).await);
        line.push(hand.fork(at, None).await);
        // What the parent goes on to say is not the child's.
        hand.talk(at, "afterwards", &["no"]).await;
    }
    for (n, session) in line.iter().enumerate().skip(1) {
        let mine = turns(&*store, *session).await;
        assert_eq!(mine[..n], said[..n]);
        let state = hand.state(*session);
        assert_eq!(log(&*store, *session).await.len() as u64, state.head);
        let replayed: Vec<_> = hand.replay(*session, state.head).await;
        let mut again = everkept_core::State::new(*session);
        replayed.iter().for_each(|event| again.apply(event));
        assert_eq!(again.session, state.session);
    }
    // A cut that lies in what the fork itself inherited.
    let first_end = hand.state(line[0]).turn(said[0]).and_then(|entry| entry.ended_seq).expect("the turn ended");
    let early = hand.fork(line[5], Some(Cut::Seq(first_end))).await;
    hand.talk(early, "on from there", &["yes"]).await;
    assert_eq!(turns(&*store, early).await[..1], said[..1]);
    assert_eq!(turns(&*store, early).await.len(), 2);
    assert_eq!(log(&*store, early).await.len() as u64, hand.state(early).head);
}

pub async fn a_fork_shows_whole_turns_and_capped_messages_only(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(None).await;
    let first = hand.talk(parent, "one", &["1"]).await;
    let running = hand.submit(parent, "two").await;
    let waiting = hand.submit(parent, "three").await;
    hand.begin(parent, running).await;
    let child = hand.fork(parent, None).await;
    hand.say(parent, running, "late").await;
    let growing = ok(store.messages(all(parent))).await.last().copied();
    assert_eq!(growing.map(|message| (message.turn, message.last_seq)), Some((Some(running), None)));
    hand.end(parent, running).await;
    let cut = hand.state(child).session.parent.map_or(0, |parent| parent.seq);
    assert_eq!(turns(&*store, child).await, [first]);
    assert_eq!(turns(&*store, parent).await, [first, running, waiting]);
    let messages: Vec<MessageRecord> = ok(store.messages(all(child))).await;
    // Requests that were queued before the cut are in the log; their turns are not.
    assert_eq!(messages.iter().map(|message| message.role).collect::<Vec<_>>(), [Role::User, Role::Assistant, Role::User, Role::User]);
    assert!(messages.iter().all(|message| message.first_seq <= cut && message.last_seq.is_some_and(|last| last <= cut)));
    let own = ok(store.messages(all(parent))).await;
    assert_eq!(own[..4], messages[..]);
    assert_eq!(own.len(), 5);
    let long = hand.submit(parent, &"long ".repeat(3 * MAX_DELTA_BYTES)).await;
    let whole = ok(store.messages(all(parent))).await.pop().expect("the message was sent");
    let cut = whole.first_seq + 1;
    let child = hand.fork(parent, Some(Cut::Seq(cut))).await;
    let capped = MessageRecord { last_seq: Some(cut), ..whole };
    assert_eq!((whole.turn, ok(store.messages(all(child))).await.pop()), (Some(long), Some(capped)));
    assert_eq!(ok(store.turn(first)).await.map(|turn| turn.turn.session), Some(parent));
    assert_eq!(ok(store.turn(id(TurnId::PREFIX, 9_999))).await, None);
}

pub async fn a_row_of_what_is_inherited_stays_in_the_log_it_was_written_to(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(Some("parent")).await;
    let turn = hand.submit(parent, "one").await;
    let queued = ok(store.turn(turn)).await.expect("it was queued");
    let message = ok(store.messages(all(parent))).await.pop().expect("it has a request");
    for cut in [queued.queued_seq, message.first_seq] {
        let child = hand.fork(parent, Some(Cut::Seq(cut))).await;
        let before = ok(store.messages(all(child))).await;
        let (mut write, state) = hand.write(child, hand.decide(child, Command::ClearContext).expect("a context can always be cleared"));
        write.records.push(Record::Turn(TurnRecord { ended_seq: Some(cut + 2), ..queued.clone() }));
        write.records.extend(before.iter().map(|message| Record::Message(*message)));
        ok(store.commit(hand.commit_of(vec![write]))).await;
        hand.states.insert(child, state);
        assert_eq!(ok(store.messages(all(child))).await, before);
        assert_eq!((turns(&*store, child).await, ok(store.turn(turn)).await), (vec![], Some(queued.clone())));
    }
    assert_eq!(ok(crate::verify(&*store, &mut |_| {})).await.damages, []);
}

pub async fn d6_a_fork_goes_on_from_the_chain_at_its_cut_wherever_that_is(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(None).await;
    let turn = hand.talk(parent, "chained", &["a", "b", "c", "d"]).await;
    ok(store.pack(parent, turn)).await;
    let events = hand.decide(parent, Command::ClearContext).expect("a context can always be cleared");
    let mut chain = CHAIN_START;
    for (cut, event) in (0..).zip(log(&*store, parent).await) {
        let child = hand.fresh(SessionId::PREFIX);
        let fork_of = Some((parent, cut));
        let write = LogWrite { session: child, expected_head: cut, fence: 1, fork_of, events: events.clone(), records: Vec::new() };
        let own = ok(store.commit(hand.commit_of(vec![write]))).await.concat();
        let (_, expected) = link(&chain, &own[0].bytes);
        assert_eq!(ok(store.chains(child, cut, 1)).await, [(cut + 1, expected)], "after event {cut}");
        (_, chain) = link(&chain, &event.bytes);
    }
}

pub async fn a_fork_of_nothing_is_refused(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(None).await;
    let unknown = id(SessionId::PREFIX, 800);
    for (from, cut) in [(unknown, 0), (unknown, 1), (parent, 5)] {
        let child = hand.fresh(SessionId::PREFIX);
        let write =
            LogWrite { session: child, expected_head: cut, fence: 1, fork_of: Some((from, cut)), events: Vec::new(), records: Vec::new() };
        assert!(matches!(hand.refused(hand.commit_of(vec![write])).await, CommitFault::Conflict { session } if session == child));
        assert_eq!(ok(store.head(child)).await, None);
    }
}
