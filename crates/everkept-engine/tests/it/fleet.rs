//! REQUIREMENTS D and the rest of E: events of many agents, their contexts, and what interprets the effects.

use crate::world::*;
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{FaultyStore, MemoryStore, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn ag_01_ag_02_every_thing_said_is_an_event_with_number_turn_context_time_kind_and_data() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "!think !tool hello").await;
    let kinds = world.kinds(session).await;
    for kind in ["message.added", "part.delta", "tool.started", "tool.completed", "usage", "turn.queued", "turn.started", "turn.ended"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    let query = EventsQuery { session: Some(session), limit: 1_000, ..EventsQuery::default() };
    for stored in world.engine.events(&admin(), query).await.unwrap() {
        let event: serde_json::Value = serde_json::from_slice(&stored.bytes).unwrap();
        let keys: Vec<_> = event.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.len(), 7, "{event}");
        assert!(event["at"].as_str().unwrap().ends_with('Z') && event["context"] == 0 && event["data"].is_object(), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn ag_03_ag_11_activity_and_keep_alives_cost_no_rows() {
    let world = World::new().await;
    let session = world.session().await;
    let mut feed = world.engine.feed();
    world.ask(session, "hello").await;
    let mut states = Vec::new();
    while let Ok(hint) = feed.try_recv() {
        states.push(hint.state);
    }
    assert!(states.contains(&SessionState::Running) && states.last() == Some(&SessionState::Idle), "{states:?}");
    let kinds = world.kinds(session).await;
    assert!(kinds.iter().all(|kind| Body::KINDS.contains(kind)), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind.contains("activity") || kind.contains("keep") || kind.contains("control")), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn ag_04_a_store_without_space_holds_the_agent_back_and_loses_nothing_it_says() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    let turn = world.send(session, "!slow:20 one two three four five six seven eight nine ten").await;
    world.until(session, |event| matches!(event.body, Body::PartDelta(_))).await;
    store.fill_for(20);
    let ended = world.ended(turn.id).await;
    assert_eq!(ended.state, TurnState::Completed);
    assert_eq!(world.answer(&ended).await, "reply 1 to: one two three four five six seven eight nine ten");
    assert_eq!(store.still_full_for(), 0, "it was full for a while");
}

#[tokio::test(start_paused = true)]
async fn d5_a_write_without_space_is_refused_whole_and_works_again_later() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    let head = world.events(session).await.len();
    store.fill_for(1);
    let refused = world.order(session, Order::Submit(turn_of("no room"))).await;
    assert!(matches!(refused, Err(Failure::Store(StoreFault { problem: Problem::Full, .. }))), "{refused:?}");
    assert_eq!(world.events(session).await.len(), head);
    let (_, answer) = world.ask(session, "room again").await;
    assert_eq!(answer, "reply 1 to: room again");
}

#[tokio::test(start_paused = true)]
async fn d5_an_order_that_found_no_space_takes_nothing_from_the_turn_that_runs() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    let turn = world.send(session, "!slow:20 one two three four five").await;
    world.until(session, |event| matches!(event.body, Body::PartDelta(_))).await;
    store.fill_for(1);
    world.order(session, Order::Clear).await.unwrap_err();
    let ended = world.ended(turn.id).await;
    assert_eq!((ended.state, world.answer(&ended).await.as_str()), (TurnState::Completed, "reply 1 to: one two three four five"));
}

#[tokio::test(start_paused = true)]
async fn a_fork_that_cannot_have_its_thread_takes_nothing_from_the_turn_that_runs() {
    let world = World::new().await;
    let (owner, thread) = (Resource::new("ann").unwrap(), Thread::new("taken").unwrap());
    let new = NewSession { resource: Some(owner.clone()), thread: Some(thread.clone()), ..NewSession::default() };
    world.session_with(new).await;
    let session = world.session_with(NewSession { resource: Some(owner), ..NewSession::default() }).await.id;
    let turn = world.send(session, "!slow:20 one two three four five").await;
    world.until(session, |event| matches!(event.body, Body::PartDelta(_))).await;
    let fork = Order::Fork(NewFork { thread: Some(thread), ..NewFork::default() });
    assert!(matches!(world.order(session, fork).await, Err(Failure::ThreadTaken(_))));
    let ended = world.ended(turn.id).await;
    assert_eq!((ended.state, world.answer(&ended).await.as_str()), (TurnState::Completed, "reply 1 to: one two three four five"));
}

#[tokio::test(start_paused = true)]
async fn d4_after_a_storage_error_nothing_is_acknowledged_or_shown() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    let mut tail = world.engine.tail(&admin(), session, 0).await.unwrap();
    tail.next().await.unwrap();
    store.break_commits(Some(Problem::Failed("the disk says no".into())));
    let failed = world.order(session, Order::Clear).await;
    assert!(matches!(&failed, Err(failure) if failure.is_storage_failed()), "{failed:?}");
    assert!(world.engine.storage_failed());
    store.break_commits(None);
    assert!(world.order(session, Order::Clear).await.is_err(), "not even when storage seems well again");
    assert!(world.engine.session(&admin(), session).await.is_err());
    assert!(tail.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn ag_06_ag_09_ag_n3_all_that_comes_after_a_clear_carries_its_number_usage_too() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    world.order(session, Order::Clear).await.unwrap();
    world.ask(session, "two").await;
    let events = world.events(session).await;
    let usage: Vec<u32> = events.iter().filter(|event| event.body.kind() == "usage").map(|event| event.context).collect();
    assert_eq!(usage, [0, 1]);
    let contexts: Vec<u32> = events.iter().map(|event| event.context).collect();
    assert!(contexts.is_sorted(), "{contexts:?}");
}

#[tokio::test(start_paused = true)]
async fn ag_n2_the_context_is_what_the_events_say_however_often_the_server_starts() {
    let mut world = World::new().await;
    let session = world.session().await;
    for context in 1..4 {
        let reply = world.order(session, Order::Clear).await.unwrap();
        assert!(matches!(reply, Reply::Context { context: held, .. } if held == context), "{reply:?}");
        world.ask(session, "usage is reported here").await;
        world.crash_and_restart().await;
        assert_eq!(world.held(session).await.context, context);
    }
}

#[tokio::test(start_paused = true)]
async fn ag_08_a_session_nobody_uses_is_let_go() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let takes = store.takes();
    world.ask(session, "two").await;
    assert_eq!(store.takes(), takes, "its task is still there");
    tokio::time::sleep(Duration::from_secs(600)).await;
    world.ask(session, "three").await;
    assert_eq!(store.takes(), takes + 1, "it had been let go, and took the log over again");
}

#[tokio::test(start_paused = true)]
async fn of_many_sessions_that_have_nothing_to_do_few_stay_in_memory() {
    let world = World::new().await;
    let before = world.running();
    let first = world.session().await;
    for _ in 0..3_000 {
        world.session().await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let crowd = world.running() - before;
    assert!((900..=1_001).contains(&crowd), "those beyond a thousand are let go soon, and the others stay: {crowd}");
    assert_eq!(world.ask(first, "are you there").await.1, "reply 1 to: are you there");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.running() - before, 0, "in the end all are let go");
}

#[tokio::test(start_paused = true)]
async fn ag_17_of_a_hundred_that_want_an_idle_session_one_gets_it() {
    let world = World::new().await;
    let session = world.session().await;
    let claim = |_| world.order(session, Order::Submit(NewTurn { if_busy: IfBusy::Reject, ..turn_of("!slow:50 me") }));
    let all = futures::future::join_all((0..100).map(claim)).await;
    let got = all.iter().filter(|answer| answer.is_ok()).count();
    let busy = all.iter().filter(|answer| matches!(answer, Err(Failure::Refused(Refusal::SessionBusy(_))))).count();
    assert_eq!((got, busy), (1, 99));
}

#[tokio::test(start_paused = true)]
async fn tu_07_the_same_script_on_memory_and_on_sqlite_gives_the_same_log_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sqlite: Arc<dyn Store> =
        Arc::new(everkept_store_sql::SqliteStore::open(directory.path(), everkept_store_sql::Mode::Inline).unwrap());
    let mut logs = Vec::new();
    for store in [memory, sqlite] {
        let world = World::on(store, fixed(), |settings| settings.private_directories = "/tmp/everkept-script".into()).await;
        let session = world.session().await;
        world.ask(session, "one !tool !think").await;
        let (failed, _) = world.ask(session, "two !fail").await;
        let retry = turn(world.order(session, Order::Retry { turn: failed.id, agent: Some(name("other")), model: None }).await.unwrap());
        world.ended(retry.id).await;
        world.order(session, Order::Clear).await.unwrap();
        world.ask(session, "three").await;
        world.order(session, Order::Revert { turn: None }).await.unwrap();
        world.ask(session, "four").await;
        let fork = as_session(world.order(session, Order::Fork(NewFork::default())).await.unwrap());
        world.ask(fork.id, "five").await;
        let mut log = Vec::new();
        for session in [session, fork.id] {
            let query = EventsQuery { session: Some(session), limit: 10_000, ..EventsQuery::default() };
            log.extend(world.engine.events(&admin(), query).await.unwrap().into_iter().map(|event| event.bytes));
        }
        logs.push(log);
    }
    assert!(logs[0].len() > 60);
    assert_eq!(logs[0], logs[1]);
}

/// Ids that count, and a wall clock that stands still.
fn fixed() -> Runtime {
    struct Fixed(AtomicU64, Arc<dyn Clock>);
    impl Ids for Fixed {
        fn uuid(&self) -> uuid::Uuid {
            uuid::Uuid::from_u128(u128::from(self.0.fetch_add(1, SeqCst) + 1))
        }
    }
    impl Clock for Fixed {
        fn wall(&self) -> Timestamp {
            Timestamp(1_700_000_000_000_000)
        }
        fn monotonic(&self) -> Duration {
            self.1.monotonic()
        }
        fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
            self.1.sleep(duration)
        }
    }
    let real = TokioRuntime::runtime();
    let fixed = Arc::new(Fixed(AtomicU64::new(0), real.clock.clone()));
    Runtime { clock: fixed.clone(), ids: fixed, ..real }
}

#[tokio::test(start_paused = true)]
async fn re_n2_a_prompt_whose_file_is_gone_ends_its_turn_and_the_session_goes_on() {
    let (world, store) = on_faulty().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    let file = PartIn::File { name: None, media_type: "text/plain".into(), bytes: "in a file".into() };
    let input = Intake::Input(vec![PartIn::Text("read it".into()), file]);
    let unreadable = world.submit(session, NewTurn { intake: input, ..turn_of("") }).await;
    let later = world.send(session, "later").await;
    store.lose_blobs();
    world.order(session, Order::Cancel { turn: running.id }).await.unwrap();
    let failed = world.ended(unreadable.id).await;
    assert_eq!((failed.state, failed.reason.as_deref(), failed.started_at), (TurnState::Failed, Some("corrupt"), None));
    assert_eq!(failed.error.map(|error| error.may_have_happened), Some(false));
    assert_eq!(world.ended(later.id).await.state, TurnState::Completed);
}

async fn on_faulty() -> (World, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::default());
    (World::on(store.clone(), TokioRuntime::runtime(), |_| {}).await, store)
}
