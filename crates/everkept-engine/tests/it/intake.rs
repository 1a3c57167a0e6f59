//! REQUIREMENTS A: whole histories come in, only what is new is kept.

use crate::world::*;
use everkept_core::Role::{Assistant, System, User};
use everkept_core::*;
use everkept_engine::*;

#[tokio::test(start_paused = true)]
async fn on_01_on_04_a_first_exchange_keeps_one_user_and_one_assistant_message() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.submit(session, history(&[(User, "one")], IfEdited::Fork)).await;
    world.ended(turn.id).await;
    assert_eq!(world.said(session).await, [(User, "one".into()), (Assistant, "reply 1 to: one".into())]);
}

#[tokio::test(start_paused = true)]
async fn on_07_on_n1_a_history_sent_again_adds_only_its_last_message() {
    let world = World::new().await;
    let session = world.session().await;
    let (_, answer) = world.ask(session, "one").await;
    let turn = world.submit(session, history(&[(User, "one"), (Assistant, &answer), (User, "two")], IfEdited::Fork)).await;
    world.ended(turn.id).await;
    let texts: Vec<_> = world.said(session).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "two", "reply 2 to: two"]);
}

#[tokio::test(start_paused = true)]
async fn on_04_a_system_message_is_kept_once_and_may_change() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.submit(session, history(&[(System, "be brief"), (User, "one")], IfEdited::Refuse)).await;
    world.ended(turn.id).await;
    let sent = [(System, "be long"), (User, "one"), (Assistant, "reply 1 to: one"), (User, "two")];
    let turn = world.submit(session, history(&sent, IfEdited::Refuse)).await;
    world.ended(turn.id).await;
    let roles: Vec<_> = world.said(session).await.into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, [System, User, Assistant, User, Assistant]);
}

#[tokio::test(start_paused = true)]
async fn on_05_on_06_the_user_message_is_on_disk_before_the_agent_runs() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let kinds = world.kinds(session).await;
    let place = |kind: &str| kinds.iter().position(|held| *held == kind).unwrap();
    assert!(place("message.added") < place("turn.started") && place("turn.started") < place("part.delta"), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn on_08_on_n2_the_user_message_stays_when_the_agent_fails() {
    let world = World::new().await;
    let session = world.session().await;
    let (turn, _) = world.ask(session, "keep me !fail").await;
    assert_eq!(turn.state, TurnState::Failed);
    assert_eq!(world.said(session).await[0], (User, "keep me !fail".into()));
    let (turn, _) = world.ask(session, "me too !crash").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::Interrupted, Some("agent_exited")));
    assert!(world.said(session).await.contains(&(User, "me too !crash".into())));
}

#[tokio::test(start_paused = true)]
async fn o4_the_same_history_again_gives_the_stored_answer_and_prompts_nobody() {
    let world = World::new().await;
    let session = world.session().await;
    let first = world.submit(session, history(&[(User, "one")], IfEdited::Fork)).await;
    let first = world.ended(first.id).await;
    let head = world.events(session).await.len();
    let again = world.submit(session, history(&[(User, "one")], IfEdited::Fork)).await;
    assert_eq!(again, first);
    assert_eq!(world.events(session).await.len(), head);
}

#[tokio::test(start_paused = true)]
async fn o4_two_identical_consecutive_messages_are_both_kept() {
    let world = World::new().await;
    let session = world.session().await;
    let (_, answer) = world.ask(session, "again").await;
    let turn = world.submit(session, history(&[(User, "again"), (Assistant, &answer), (User, "again")], IfEdited::Refuse)).await;
    let turn = world.ended(turn.id).await;
    assert_eq!(world.answer(&turn).await, "reply 2 to: again");
}

#[tokio::test(start_paused = true)]
async fn o4_an_edited_earlier_message_is_refused_or_becomes_a_fork() {
    let world = World::new().await;
    let pair =
        NewSession { resource: Some(Resource::new("ann").unwrap()), thread: Some(Thread::new("t").unwrap()), ..NewSession::default() };
    let session = world.session_with(pair).await.id;
    world.ask(session, "one").await;
    world.ask(session, "two").await;
    let head = world.events(session).await;
    let edited = [(User, "one"), (Assistant, "reply 1 to: one"), (User, "zwei")];
    let refused = world.order(session, Order::Submit(history(&edited, IfEdited::Refuse))).await;
    assert!(matches!(refused, Err(Failure::Refused(Refusal::HistoryDiverged { at: 2, held: Some(_) }))), "{refused:?}");
    assert_eq!(world.events(session).await, head);
    let turn = world.submit(session, history(&edited, IfEdited::Fork)).await;
    let turn = world.ended(turn.id).await;
    assert_ne!(turn.session, session);
    let texts: Vec<_> = world.said(turn.session).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "zwei", "reply 2 to: zwei"]);
    let named = world.engine.thread(&admin(), &Resource::new("ann").unwrap(), &Thread::new("t").unwrap()).await.unwrap();
    assert_eq!(named.id, turn.session, "the name goes along with the conversation the client goes on with");
}

#[tokio::test(start_paused = true)]
async fn a_history_nobody_kept_is_taken_along_and_given_to_the_agent() {
    let world = World::new().await;
    let session = world.session().await;
    let sent = [(User, "one"), (Assistant, "eins"), (User, "two")];
    let turn = world.submit(session, history(&sent, IfEdited::Fork)).await;
    let turn = world.ended(turn.id).await;
    assert_eq!(world.answer(&turn).await, "reply 2 to: two");
    assert_eq!(world.said(session).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_history_sent_again_after_a_failure_tries_the_same_request_again() {
    let world = World::new().await;
    let session = world.session().await;
    let (failed, _) = world.ask(session, "one !fail").await;
    let turn = world.submit(session, history(&[(User, "one !fail")], IfEdited::Fork)).await;
    assert_eq!((turn.attempt, turn.request_message), (2, failed.request_message));
    world.ended(turn.id).await;
    assert_eq!(world.said(session).await.iter().filter(|(role, _)| *role == User).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outside_loop_records_only_what_is_new_and_no_agent_runs() {
    let world = World::new().await;
    let session = world.session().await;
    let record = |messages: &[(Role, &str)]| Order::Record { messages: messages_in(messages), history: true };
    world.order(session, record(&[(User, "a"), (Assistant, "b")])).await.unwrap();
    let reply = world.order(session, record(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")])).await.unwrap();
    assert!(matches!(&reply, Reply::Recorded { messages, .. } if messages.len() == 2), "{reply:?}");
    let none = world.order(session, record(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")])).await.unwrap();
    assert!(matches!(&none, Reply::Recorded { messages, .. } if messages.is_empty()), "{none:?}");
    assert!(world.opened().is_empty());
    let differs = world.order(session, record(&[(User, "a"), (Assistant, "X")])).await;
    assert!(matches!(differs, Err(Failure::Refused(Refusal::HistoryDiverged { at: 1, .. }))), "{differs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_message_is_split_and_reads_whole() {
    let world = World::new().await;
    let session = world.session().await;
    let long = "äöü ".repeat(40_000);
    let (turn, answer) = world.ask(session, &long).await;
    assert_eq!(turn.state, TurnState::Completed);
    assert_eq!(world.said(session).await[0], (User, long.clone()));
    let again = world.submit(session, history(&[(User, &long), (Assistant, &answer), (User, "next")], IfEdited::Refuse)).await;
    assert_eq!(world.ended(again.id).await.state, TurnState::Completed);
}

#[tokio::test(start_paused = true)]
async fn o3_the_same_key_has_one_effect_and_one_answer() {
    let world = World::new().await;
    let session = world.session().await;
    let submit = |key: &'static str, body: &'static str| {
        let engine = world.engine.clone();
        async move { engine.order(&admin(), session, Order::Submit(turn_of("once")), Some(keyed(key, body))).await }
    };
    let all = futures::future::join_all((0..20).map(|_| submit("k", "body"))).await;
    let fresh: Vec<_> = all.iter().filter(|answer| matches!(answer, Ok(Answered::Fresh(_)))).collect();
    assert_eq!((fresh.len(), all.iter().filter(|answer| answer.is_ok()).count()), (1, 20));
    assert_eq!(submit("k", "another body").await.err(), Some(Failure::KeyReused));
    let turns = world.kinds(session).await.into_iter().filter(|kind| *kind == "turn.queued").count();
    assert_eq!(turns, 1);
    assert_eq!(kept(submit("k", "body").await.unwrap()).0, 202);
}

#[tokio::test(start_paused = true)]
async fn o3_a_key_on_creation_makes_one_session() {
    let world = World::new().await;
    let create = || async { world.engine.create_session(&admin(), NewSession::default(), Some(keyed("c", "b"))).await };
    let all = futures::future::join_all((0..20).map(|_| create())).await;
    assert_eq!(all.iter().filter(|answer| matches!(answer, Ok(Answered::Fresh(_)))).count(), 1, "{all:?}");
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(world.engine.count_sessions(&admin(), SessionsQuery::default()).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn ws_01_ws_05_a_hundred_parallel_first_messages_of_a_pair_make_one_session() {
    let world = World::new().await;
    let (resource, thread) = (Resource::new("ann").unwrap(), Thread::new("t1").unwrap());
    let send = |n: usize| {
        let (engine, resource, thread) = (world.engine.clone(), resource.clone(), thread.clone());
        async move {
            let order = Order::Submit(turn_of(&format!("m{n}")));
            engine.order_thread(&admin(), resource, thread, NewSession::default(), order, None).await
        }
    };
    let all = futures::future::join_all((0..100).map(send)).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(world.engine.count_sessions(&admin(), SessionsQuery::default()).await.unwrap(), 1);
    let session = world.engine.thread(&admin(), &resource, &thread).await.unwrap().id;
    let turns = world.kinds(session).await.into_iter().filter(|kind| *kind == "turn.queued").count();
    assert_eq!(turns, 100);
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_is_refused_leaves_no_session_behind() {
    let world = World::new().await;
    let (resource, thread) = (Resource::new("ann").unwrap(), Thread::new("t1").unwrap());
    let order = |text: &str| {
        let (engine, order) = (world.engine.clone(), Order::Submit(turn_of(text)));
        let (resource, thread) = (resource.clone(), thread.clone());
        async move { engine.order_thread(&admin(), resource, thread, NewSession::default(), order, Some(keyed("k", "b"))).await }
    };
    let refused = order("").await;
    assert!(matches!(refused, Err(Failure::Refused(Refusal::Invalid { field: "input", .. }))), "{refused:?}");
    assert_eq!(world.engine.count_sessions(&admin(), SessionsQuery::default()).await.unwrap(), 0);
    assert!(matches!(order("hello").await, Ok(Answered::Fresh(Reply::Turn(_)))));
    assert_eq!(kept(order("hello").await.unwrap()).0, 202, "the key holds for the session and its turn together");
    let session = world.engine.thread(&admin(), &resource, &thread).await.unwrap().id;
    assert_eq!(world.kinds(session).await.into_iter().filter(|kind| *kind == "turn.queued").count(), 1);
}
