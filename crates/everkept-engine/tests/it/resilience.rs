//! REQUIREMENTS F: what the server does by itself when an agent fails, and where it stops.

use crate::world::*;
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Open, Opened};
use everkept_core::*;
use everkept_engine::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

/// Cannot be opened so many times, and then is the demo agent.
struct Reluctant {
    agent: Arc<dyn Agent>,
    refusals: AtomicU32,
}

impl Agent for Reluctant {
    fn abilities(&self) -> Abilities {
        self.agent.abilities()
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        if self.refusals.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return self.agent.open(open);
        }
        let fault = AgentFault {
            kind: AgentFaultKind::Exited,
            doing: "starting".into(),
            message: "it ended at once".into(),
            retryable: true,
            may_have_happened: false,
        };
        Box::pin(async move { Err(fault) })
    }
}

/// The demo agent cannot be opened `refusals` times.
async fn reluctant(refusals: u32) -> (World, Arc<Reluctant>) {
    let mut world = World::new().await;
    let demo = world.agents[&name("demo")].agent.clone();
    let reluctant = Arc::new(Reluctant { agent: demo, refusals: AtomicU32::new(refusals) });
    world.agents.insert(name("demo"), AgentEntry::new(reluctant.clone(), None));
    world.crash_and_restart().await;
    (world, reluctant)
}

async fn configured(change: impl Fn(AgentEntry) -> AgentEntry) -> World {
    let mut world = World::new().await;
    let demo = world.agents[&name("demo")].clone();
    world.agents.insert(name("demo"), change(demo));
    world.crash_and_restart().await;
    world
}

fn delayed(event: &Event) -> bool {
    matches!(event.body, Body::TurnDelayed(_))
}

async fn letters(world: &World) -> Vec<(TurnId, String)> {
    let query = LettersQuery { limit: 100, ..LettersQuery::default() };
    let page = world.engine.dead_letters(&admin(), query).await.unwrap();
    let text = |letter: &DeadLetter| {
        letter.input.iter().filter_map(|part| if let Part::Text { text, .. } = part { Some(text.as_str()) } else { None }).collect()
    };
    page.items.iter().map(|letter| (letter.turn.id, text(letter))).collect()
}

async fn breaker(world: &World) -> (BreakerState, u32) {
    let breakers = world.engine.breakers(&admin()).await.unwrap();
    breakers.first().map_or((BreakerState::Closed, 0), |card| (card.state, card.breaker.failures))
}

#[tokio::test(start_paused = true)]
async fn re_02_a_start_is_tried_again_four_times_and_the_prompt_is_given_once() {
    let (world, _) = reluctant(4).await;
    let (session, began) = (world.session().await, tokio::time::Instant::now());
    let (turn, answer) = world.ask(session, "hello").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 1 to: hello"));
    assert_eq!(turn.tries.opening, 4);
    let waited = began.elapsed();
    assert!((7_000..8_000).contains(&waited.as_millis()), "0.5 + 1 + 2 + 4 s: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn re_02_a_restart_in_the_middle_of_a_wait_goes_on_where_it_was() {
    let (mut world, reluctant) = reluctant(2).await;
    let session = world.session().await;
    let turn = world.send(session, "hello").await;
    world.until(session, |event| delayed(event) && event.body == world_second(event)).await;
    world.crash_and_restart().await;
    let turn = world.ended(turn.id).await;
    assert_eq!((turn.state, turn.tries.opening), (TurnState::Completed, 2), "what was tried before the crash is counted");
    assert_eq!(reluctant.refusals.load(SeqCst), 0);
    assert_eq!(world.kinds(session).await.iter().filter(|kind| **kind == "turn.started").count(), 1);
}

/// The same event, if it is the second delay.
fn world_second(event: &Event) -> Body {
    match &event.body {
        Body::TurnDelayed(data) => Body::TurnDelayed(TurnDelayed { tries: 2, ..data.clone() }),
        other => other.clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn re_n2_a_start_that_never_works_is_a_dead_letter_that_a_person_takes_up() {
    let (world, reluctant) = reluctant(1_000).await;
    let session = world.session().await;
    let (turn, _) = world.ask(session, "build it").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::DeadLettered, Some("agent_start_failed")));
    assert!(!turn.error.unwrap().may_have_happened, "nothing was given to anybody");
    assert_eq!(reluctant.refusals.load(SeqCst), 995);
    assert_eq!(letters(&world).await, [(turn.id, "build it".into())]);
    // Five failures in a row have opened the breaker; it lets the next one through after its time.
    assert_eq!(breaker(&world).await, (BreakerState::Open, 5));
    reluctant.refusals.store(0, SeqCst);
    let retry = Order::RetryLetter { turn: turn.id, input: Some(vec![PartIn::Text("build less".into())]) };
    let again = crate::world::turn(world.order(session, retry.clone()).await.unwrap());
    assert_eq!(crate::world::turn(world.order(session, retry).await.unwrap()).id, again.id, "pressed twice it is one");
    let again = world.ended(again.id).await;
    assert_eq!((again.state, world.answer(&again).await.as_str()), (TurnState::Completed, "reply 1 to: build less"));
    assert!(letters(&world).await.is_empty());
    assert_eq!(breaker(&world).await, (BreakerState::Closed, 0));
    assert_eq!(world.said(session).await, [(Role::User, "build less".into()), (Role::Assistant, "reply 1 to: build less".into())]);
}

#[tokio::test(start_paused = true)]
async fn re_03_a_dead_letter_is_put_away_and_foreign_ones_are_not_there() {
    let (world, _) = reluctant(1_000).await;
    let owned = NewSession { resource: Some(Resource::new("ann").unwrap()), ..NewSession::default() };
    let session = world.session_with(owned).await.id;
    let (turn, _) = world.ask(session, "build it").await;
    let bob = Caller { access: Access::Resource(Resource::new("bob").unwrap()), principal: "tok_bob".into() };
    let query = LettersQuery { limit: 10, ..LettersQuery::default() };
    assert!(world.engine.dead_letters(&bob, query).await.unwrap().items.is_empty());
    assert!(matches!(world.engine.breakers(&bob).await, Err(Failure::Forbidden)));
    world.order(session, Order::DismissLetter { turn: turn.id }).await.unwrap();
    world.order(session, Order::DismissLetter { turn: turn.id }).await.unwrap();
    assert!(letters(&world).await.is_empty());
    let retry = Order::RetryLetter { turn: turn.id, input: None };
    assert!(matches!(world.order(session, retry).await, Err(Failure::Refused(Refusal::TurnNotDeadLettered(_)))));
}

#[tokio::test(start_paused = true)]
async fn o5_a_failed_prompt_is_given_again_only_as_often_as_configured() {
    let world = World::new().await;
    let session = world.session().await;
    let (turn, _) = world.ask(session, "!fail once").await;
    assert_eq!((turn.state, world.kinds(session).await.contains(&"turn.retried")), (TurnState::Failed, false));
    let world = configured(|entry| AgentEntry { retry_prompts: 2, ..entry }).await;
    let session = world.session().await;
    let (first, _) = world.ask(session, "!fail thrice").await;
    assert_eq!(first.state, TurnState::Failed);
    world.until(session, |event| matches!(&event.body, Body::TurnEnded(data) if data.state == TurnEnd::DeadLettered)).await;
    let kinds = world.kinds(session).await;
    assert_eq!(kinds.iter().filter(|kind| **kind == "turn.started").count(), 3);
    assert_eq!(kinds.iter().filter(|kind| **kind == "message.added").count(), 1, "one stored question");
}

#[tokio::test(start_paused = true)]
async fn oc_03_a_fallback_asks_another_agent_the_same_and_the_lock_stays() {
    let world = configured(|entry| {
        let other = Fallback { agent: Some(name("other")), model: Some(model("other/small")) };
        AgentEntry { fallback: vec![other], ..entry }
    })
    .await;
    let session = world.session().await;
    world.ask(session, "before").await;
    // The demo agent crashes no more than it is asked to: here it fails, and the other one is asked the same.
    let first = world.send(session, "!fail build").await;
    let first = world.ended(first.id).await;
    assert_eq!(first.state, TurnState::Failed);
    let last = world.until(session, |event| matches!(&event.body, Body::TurnEnded(data) if data.state == TurnEnd::DeadLettered)).await;
    let second = world.engine.turn(&admin(), last.turn.unwrap()).await.unwrap();
    assert_eq!(
        (second.agent.as_str(), second.agent_because, second.model_because),
        ("other", AgentBecause::Fallback, ModelBecause::Fallback)
    );
    assert_eq!((second.continues, second.request_message, second.attempt), (Some(first.id), first.request_message, 2));
    let started = world.until(session, |event| event.turn == last.turn && matches!(event.body, Body::TurnStarted(_))).await;
    let Body::TurnStarted(started) = started.body else { panic!("it is one") };
    assert_eq!(started.given_messages, 2, "the newcomer is told what was said before, and not the request twice");
    let held = world.held(session).await;
    assert_eq!((held.agent, held.model), (None, None), "a fallback never rewrites the lock");
    let (after, answer) = world.ask(session, "after").await;
    assert_eq!((after.agent.as_str(), after.model, answer.as_str()), ("demo", None, "reply 3 to: after"));
}

#[tokio::test(start_paused = true)]
async fn re_02_an_open_breaker_survives_a_restart_and_lets_one_turn_find_out() {
    let (mut world, reluctant) = reluctant(5).await;
    let first = world.session().await;
    world.ask(first, "one").await;
    assert_eq!(breaker(&world).await, (BreakerState::Open, 5));
    world.crash_and_restart().await;
    assert_eq!(breaker(&world).await, (BreakerState::Open, 5));
    let sessions = [world.session().await, world.session().await, world.session().await];
    let mut turns = Vec::new();
    for session in sessions {
        turns.push(world.send(session, "!slow:1000 find out").await);
        world.until(session, delayed).await;
    }
    assert_eq!(world.opened().len(), 0, "nobody was sent to it");
    for turn in &turns {
        let turn = world.ended(turn.id).await;
        assert_eq!(turn.state, TurnState::Completed, "{turn:?}");
    }
    assert_eq!(breaker(&world).await, (BreakerState::Closed, 0));
    assert_eq!(reluctant.refusals.load(SeqCst), 0);
    let mut started = Vec::new();
    for turn in &turns {
        let turn = world.engine.turn(&admin(), turn.id).await.unwrap();
        started.push((turn.started_at.unwrap(), turn.ended_at.unwrap()));
    }
    started.sort();
    assert!(started[0].1 <= started[1].0, "the others waited for the one that found out: {started:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_or_interrupted_never_counts_for_the_breaker() {
    let world = World::new().await;
    let session = world.session().await;
    for text in ["!crash", "!crash", "!crash", "!crash", "!crash", "!crash"] {
        let (turn, _) = world.ask(session, text).await;
        assert_eq!(turn.state, TurnState::Interrupted);
    }
    for _ in 0..6 {
        let turn = world.send(session, "!hang").await;
        world.until(session, |event| event.turn == Some(turn.id) && matches!(event.body, Body::TurnStarted(_))).await;
        world.order(session, Order::Cancel { turn: turn.id }).await.unwrap();
        assert_eq!(world.ended(turn.id).await.state, TurnState::Cancelled);
    }
    assert!(world.engine.breakers(&admin()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_waits_for_its_next_try_can_be_cancelled_at_once() {
    let (world, _) = reluctant(1_000).await;
    let session = world.session().await;
    let turn = world.send(session, "hello").await;
    world.until(session, delayed).await;
    let began = tokio::time::Instant::now();
    world.order(session, Order::Cancel { turn: turn.id }).await.unwrap();
    assert_eq!(world.ended(turn.id).await.state, TurnState::Cancelled);
    assert!(began.elapsed() < Duration::from_millis(100));
}

/// Says over and over what gets nobody on.
struct Chatterbox;

impl Agent for Chatterbox {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: false,
            fork: false,
            cancel: true,
            ask_permission: false,
            set_model: false,
            report_usage: false,
            remember: true,
            transcript: false,
        }
    }

    fn open(&self, _: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let abilities = self.abilities();
        Box::pin(async move {
            let (orders, mut given) = tokio::sync::mpsc::channel(everkept_agent::ORDER_QUEUE);
            let (say, output) = tokio::sync::mpsc::channel(everkept_agent::OUTPUT_QUEUE);
            tokio::spawn(async move {
                let _prompt = given.recv().await;
                let said = || everkept_agent::Output::Said { raw: b"still here\n".as_slice().into(), said: Vec::new() };
                while say.send(said()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            });
            let agent_session = AgentSessionId::new("chatter-1").unwrap();
            Ok(Opened { agent_session, abilities, model_set: None, connection: everkept_agent::Connection { orders, output } })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn re_05_an_agent_that_only_chatters_is_given_up_on() {
    let mut world = World::new().await;
    world.agents.insert(name("demo"), AgentEntry::new(Arc::new(Chatterbox), None));
    world.crash_and_restart().await;
    let (session, began) = (world.session().await, tokio::time::Instant::now());
    let (turn, _) = world.ask(session, "hello").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::TimedOut, Some("agent_chattering")));
    assert_eq!(began.elapsed().as_secs(), 1_800);
}

#[tokio::test(start_paused = true)]
async fn re_04_a_turn_has_its_time_keeps_what_was_said_and_is_not_tried_again() {
    let mut world = World::with(|settings| settings.limits.turn = Duration::from_secs(60)).await;
    let demo = world.agents[&name("demo")].clone();
    world.agents.insert(name("demo"), AgentEntry { retry_prompts: 5, ..demo });
    world.crash_and_restart().await;
    let (session, began) = (world.session().await, tokio::time::Instant::now());
    let (turn, answer) = world.ask(session, "!long !slow:1000 count").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::TimedOut, Some("turn_overdue")));
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(answer.starts_with("reply 1 to: count and on"), "{answer}");
    assert!(!world.kinds(session).await.contains(&"turn.retried"));
    assert_eq!(world.ask(session, "next").await.1, "reply 2 to: next", "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn re_04_a_session_that_is_never_done_is_stopped_and_begins_anew() {
    let world = World::with(|settings| settings.limits.session = Duration::from_secs(100)).await;
    let session = world.session().await;
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.push(world.send(session, "!slow:20000 a").await.id);
    }
    let mut ends = Vec::new();
    for turn in turns {
        ends.push(world.ended(turn).await.reason.unwrap());
    }
    assert_eq!(ends, ["end_turn", "session_overdue", "end_turn"]);
}
