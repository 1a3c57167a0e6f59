//! Lists and their pages: sessions, turns, messages, what is owed.

use super::{
    Stores,
    hand::{Hand, agent, id, resource, thread},
    ok,
};
use crate::{CommitFault, Page, PlaceQuery, SessionsQuery, Store};
use everkept_core::{
    Command, CreateSession, Effect, Parent, ParentKind, Session, SessionId, SessionState, Timestamp, TurnRecord, UpdateSession,
};

fn query() -> SessionsQuery {
    SessionsQuery { limit: 100, ..SessionsQuery::default() }
}

async fn ids(store: &dyn Store, query: SessionsQuery) -> Vec<SessionId> {
    let counted = ok(store.count_sessions(query.clone())).await;
    let page = ok(store.sessions(query)).await;
    assert_eq!((counted, page.has_more), (page.items.len() as u64, false));
    page.items.iter().map(|session| session.id).collect()
}

/// Every page of the list, one after the other.
async fn paged(store: &dyn Store, limit: u32) -> Vec<SessionId> {
    let all = ok(store.count_sessions(query())).await;
    let mut found: Vec<SessionId> = Vec::new();
    let mut before: Option<(Timestamp, SessionId)> = None;
    loop {
        let Page { items, has_more } = ok(store.sessions(SessionsQuery { before, limit, ..query() })).await;
        let last: Option<&Session> = items.last();
        before = last.map(|session| (session.updated_at, session.id));
        found.extend(items.iter().map(|session| session.id));
        assert!(!has_more || items.len() == limit as usize);
        assert_eq!(has_more, (found.len() as u64) < all);
        if !has_more {
            return found;
        }
    }
}

pub async fn sessions_are_listed_by_newest_activity(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let mut made = Vec::new();
    for _ in 0..7 {
        hand.later(1_000);
        made.push(hand.create(None).await);
    }
    hand.later(1_000);
    hand.submit(made[2], "now the newest").await;
    let expected: Vec<SessionId> = [2, 6, 5, 4, 3, 1, 0].map(|at| made[at]).into();
    assert_eq!(ids(&*store, query()).await, expected);
    for limit in [1, 2, 3, 7, 8] {
        assert_eq!(paged(&*store, limit).await, expected);
    }
    assert_eq!(ok(store.session(made[2])).await.as_ref(), Some(&hand.state(made[2]).session));
    assert_eq!(ok(store.session(id(SessionId::PREFIX, 800))).await, None);
}

pub async fn equal_activity_is_ordered_by_id_and_no_page_skips_one(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let mut made = Vec::new();
    for n in 0..12 {
        if n % 5 == 0 {
            hand.later(1);
        }
        made.push(hand.create(None).await);
    }
    made.sort_by_key(|session| std::cmp::Reverse((hand.state(*session).session.updated_at, *session)));
    for limit in 1..=13 {
        assert_eq!(paged(&*store, limit).await, made);
    }
}

pub async fn sessions_are_filtered(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let anna = hand.create_for(None, Some("anna"), Some("a")).await;
    let other = hand.create_for(None, Some("anna"), None).await;
    let bert = hand.create_for(None, Some("bert"), Some("a")).await;
    let update = UpdateSession { agent: Some(Some(agent("other"))), ..UpdateSession::default() };
    hand.act(other, Command::UpdateSession(update)).await;
    hand.act(bert, Command::UpdateSession(UpdateSession { archived: Some(true), ..UpdateSession::default() })).await;
    hand.submit(anna, "busy").await;
    let trash = hand.create_for(None, Some("anna"), None).await;
    hand.act(trash, Command::DeleteSession { keep_ms: None }).await;
    let newest_first = |mut wanted: Vec<SessionId>| {
        wanted.sort_by_key(|session| std::cmp::Reverse((hand.state(*session).session.updated_at, *session)));
        wanted
    };
    let cases = [
        (query(), vec![anna, other, bert]),
        (SessionsQuery { deleted: true, ..query() }, vec![trash]),
        (SessionsQuery { resource: Some(resource("anna")), ..query() }, vec![anna, other]),
        (SessionsQuery { resource: Some(resource("anna")), thread: Some(thread("a")), ..query() }, vec![anna]),
        (SessionsQuery { with_thread: true, ..query() }, vec![anna, bert]),
        (SessionsQuery { agent: Some(agent("other")), ..query() }, vec![other]),
        (SessionsQuery { state: Some(SessionState::Running), ..query() }, vec![anna]),
        (SessionsQuery { state: Some(SessionState::Waiting), ..query() }, vec![]),
        (SessionsQuery { archived: Some(true), ..query() }, vec![bert]),
        (SessionsQuery { archived: Some(false), ..query() }, vec![anna, other]),
        (SessionsQuery { resource: Some(resource("nobody")), ..query() }, vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(&*store, query.clone()).await, newest_first(expected), "{query:?}");
    }
}

pub async fn one_session_has_a_thread_and_the_trash_has_none(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let (anna, name) = (resource("anna"), thread("t"));
    let first = hand.create_for(None, Some("anna"), Some("t")).await;
    let of_bert = hand.create_for(None, Some("bert"), Some("t")).await;
    let found = ok(store.session_of_thread(anna.clone(), name.clone())).await.map(|session| session.id);
    assert_eq!(found, Some(first));
    let second: SessionId = hand.fresh(SessionId::PREFIX);
    let creation =
        hand.decide(second, Hand::creation(second, None, Some("anna"), Some("t"))).expect("the store refuses this, not the core");
    let (write, state) = hand.write(second, creation);
    assert!(matches!(hand.refused(hand.commit_of(vec![write.clone()])).await, CommitFault::ThreadTaken(held) if held == first));
    assert_eq!(ok(store.head(second)).await, None);

    hand.act(first, Command::DeleteSession { keep_ms: None }).await;
    assert_eq!(ok(store.session_of_thread(anna.clone(), name.clone())).await, None);
    ok(store.commit(hand.commit_of(vec![write]))).await;
    hand.states.insert(second, state);
    assert_eq!(ok(store.session_of_thread(anna, name.clone())).await.map(|session| session.id), Some(second));
    let restored = hand.decide(first, Command::RestoreSession).expect("what is in the trash can be restored");
    let (write, _) = hand.write(first, restored);
    assert!(matches!(hand.refused(hand.commit_of(vec![write])).await, CommitFault::ThreadTaken(held) if held == second));
    assert_eq!(ok(store.session_of_thread(resource("bert"), name)).await.map(|session| session.id), Some(of_bert));
}

pub async fn a_thread_passes_from_parent_to_fork_in_one_step(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create_for(None, Some("anna"), Some("t")).await;
    hand.talk(parent, "before", &["yes"]).await;
    let child = hand.try_fork(parent, None, Some(thread("t"))).await.expect("this session can be forked");
    let found = ok(store.session_of_thread(resource("anna"), thread("t"))).await.map(|session| session.id);
    assert_eq!(found, Some(child));
    assert_eq!(ok(store.session(parent)).await.and_then(|session| session.thread), None);
}

pub async fn children_are_listed_oldest_first(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create(None).await;
    hand.later(10);
    let fork = hand.fork(parent, None).await;
    hand.later(10);
    let helper: SessionId = hand.fresh(SessionId::PREFIX);
    let Command::CreateSession(creation) = Hand::creation(helper, None, None, None) else { return };
    let belongs = Some(Parent { kind: ParentKind::Child, session: parent, seq: 1 });
    hand.act(helper, Command::CreateSession(CreateSession { parent: belongs, ..creation })).await;
    hand.later(10);
    let gone = hand.fork(parent, None).await;
    hand.act(gone, Command::DeleteSession { keep_ms: None }).await;
    let grandchild = hand.fork(fork, None).await;
    let names = |sessions: Vec<Session>| sessions.iter().map(|session| session.id).collect::<Vec<_>>();
    assert_eq!(names(ok(store.children(parent)).await), [fork, helper]);
    assert_eq!(names(ok(store.children(fork)).await), [grandchild]);
    assert!(ok(store.children(grandchild)).await.is_empty());
}

pub async fn turns_and_messages_are_paged_both_ways(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let root = hand.create(None).await;
    for n in 0..4 {
        hand.talk(root, &format!("turn {n}"), &["yes"]).await;
    }
    let child = hand.fork(root, None).await;
    for n in 0..3 {
        hand.talk(child, &format!("further {n}"), &["yes"]).await;
    }
    let session = hand.fork(child, None).await;
    hand.talk(session, "last", &["yes"]).await;
    let turns = |query: PlaceQuery| async { ok(store.turns(query)).await.iter().map(place).collect::<Vec<u64>>() };
    let messages =
        |query: PlaceQuery| async { ok(store.messages(query)).await.iter().map(|message| message.first_seq).collect::<Vec<u64>>() };
    let whole = PlaceQuery { session, after: None, before: None, backward: false, limit: 100 };
    let (all_turns, all_messages) = (turns(whole.clone()).await, messages(whole.clone()).await);
    assert_eq!((all_turns.len(), all_messages.len()), (8, 16));
    assert!(all_turns.is_sorted() && all_messages.is_sorted());
    for (all, n) in [(&all_turns, 0), (&all_messages, 1)] {
        for limit in [1, 3, 5, 100] {
            for at in [None, Some(all[0]), Some(all[4]), Some(all[4] + 1), Some(all[all.len() - 1])] {
                let forward = PlaceQuery { after: at, limit, ..whole.clone() };
                let backward = PlaceQuery { before: at, backward: true, limit, ..whole.clone() };
                let later: Vec<u64> = all.iter().copied().filter(|place| at.is_none_or(|at| *place > at)).collect();
                let earlier: Vec<u64> = all.iter().copied().filter(|place| at.is_none_or(|at| *place < at)).collect();
                let (found, before) = match n {
                    0 => (turns(forward).await, turns(backward).await),
                    _ => (messages(forward).await, messages(backward).await),
                };
                let limit = limit as usize;
                assert_eq!(found, later[..later.len().min(limit)]);
                assert_eq!(before, earlier[earlier.len() - earlier.len().min(limit)..]);
            }
        }
    }
    let between = PlaceQuery { after: Some(all_turns[1]), before: Some(all_turns[5]), ..whole };
    assert_eq!(turns(between).await, all_turns[2..5]);
}

fn place(turn: &TurnRecord) -> u64 {
    turn.queued_seq
}

pub async fn all_sessions_are_listed_by_id(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(hand.create(None).await);
    }
    hand.act(made[1], Command::DeleteSession { keep_ms: None }).await;
    made.push(hand.fork(made[0], None).await);
    made.sort();
    assert_eq!(ok(store.all_sessions(None, 100)).await, made);
    assert_eq!(ok(store.all_sessions(None, 2)).await, made[..2]);
    assert_eq!(ok(store.all_sessions(Some(made[1]), 3)).await, made[2..5]);
    assert!(ok(store.all_sessions(made.last().copied(), 3)).await.is_empty());
}

pub async fn what_is_owed_is_kept_until_it_is_done(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let (a, b) = (hand.create(None).await, hand.create(None).await);
    assert!(ok(store.owed()).await.is_empty());
    let turn = hand.submit(a, "do it").await;
    let other = hand.submit(b, "and this").await;
    hand.begin(b, other).await;
    let (run, hear) = (Effect::RunTurn { turn }, Effect::AwaitTurn { turn: other });
    assert_eq!(ok(store.owed()).await, [(a, vec![run]), (b, vec![hear])]);
    hand.act(b, Command::CancelTurn { turn: other }).await;
    assert_eq!(ok(store.owed()).await[1].1, [hear, Effect::CancelTurn { turn: other }]);
    hand.end(b, other).await;
    assert_eq!(ok(store.owed()).await, [(a, vec![run])]);
    hand.act(a, Command::DropTurn { turn }).await;
    assert!(ok(store.owed()).await.is_empty());
}
