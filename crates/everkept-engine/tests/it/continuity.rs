//! REQUIREMENTS C and E: one agent session through everything, on the agent and model that were chosen.

use crate::failpoints::{Act, Gate};
use crate::world::*;
use everkept_agent::OpenSession;
use everkept_core::*;
use everkept_engine::*;
use everkept_store::MemoryStore;
use std::sync::Arc;
use std::time::Duration;

fn resume(id: &str) -> OpenSession {
    OpenSession::Resume(AgentSessionId::new(id).unwrap())
}

fn again(turn: &Turn) -> Order {
    Order::Retry { turn: turn.id, agent: None, model: None }
}

async fn first_ids(world: &World, session: SessionId) -> Vec<String> {
    world.held(session).await.agent_sessions.iter().map(|pinned| pinned.first.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn oc_01_the_first_message_pins_the_agent_session_it_detects() {
    let world = World::new().await;
    let session = world.session().await;
    let (turn, answer) = world.ask(session, "hello").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 1 to: hello"));
    let held = world.held(session).await;
    let ids: Vec<_> = held.agent_sessions.iter().map(|it| (it.first.as_str(), it.current.as_str(), it.successors.len())).collect();
    assert_eq!(ids, [("demo-1", "demo-1", 0)]);
    assert_eq!(world.opened(), [OpenSession::New]);
}

#[tokio::test(start_paused = true)]
async fn oc_02_the_second_message_runs_on_the_same_agent_session() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let (_, answer) = world.ask(session, "two").await;
    assert_eq!(answer, "reply 2 to: two");
    assert_eq!(first_ids(&world, session).await, ["demo-1"]);
    assert_eq!(world.opened(), [OpenSession::New], "an open agent is used again");
}

#[tokio::test(start_paused = true)]
async fn oc_03_continue_after_an_error_carries_the_request_and_keeps_the_agent_session() {
    let world = World::new().await;
    let session = world.session().await;
    let (failed, _) = world.ask(session, "build it !fail").await;
    assert_eq!(failed.state, TurnState::Failed);
    let order = Order::Continue { turn: failed.id, agent: None, model: Some(model("demo/fallback")) };
    let turn = turn(world.order(session, order).await.unwrap());
    assert_eq!((turn.continues, turn.request_message), (Some(failed.id), failed.request_message));
    assert_eq!(turn.model, Some(model("demo/fallback")));
    let turn = world.ended(turn.id).await;
    assert_eq!(turn.state, TurnState::Completed);
    assert_eq!(world.answer(&turn).await, "reply 2 to: Continue from where you left off.");
    assert_eq!(first_ids(&world, session).await, ["demo-1"]);
    assert_eq!(world.held(session).await.model, None, "a fallback never rewrites the lock");
}

#[tokio::test(start_paused = true)]
async fn oc_04_oc_05_oc_06_build_and_redo_keep_the_agent_session() {
    let world = World::new().await;
    let session = world.session().await;
    let (built, _) = world.ask(session, "proceed with build").await;
    let redo = turn(world.order(session, Order::Redo { turn: built.id, agent: None, model: None }).await.unwrap());
    let redo = world.ended(redo.id).await;
    assert_eq!((redo.attempt, redo.request_message), (2, built.request_message));
    assert_eq!(first_ids(&world, session).await, ["demo-1"]);
    let held = world.held(session).await;
    assert_eq!(held.hidden, [HiddenTurn { turn: built.id, by: Some(redo.id) }], "the old answer is superseded");
    let said = world.said(session).await;
    let roles: Vec<Role> = said.iter().map(|(role, _)| *role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant], "no second copy of the user message");
}

#[tokio::test(start_paused = true)]
async fn oc_07_after_a_restart_the_pinned_agent_session_is_resumed() {
    let mut world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    world.crash_and_restart().await;
    let (_, answer) = world.ask(session, "two").await;
    assert_eq!(answer, "reply 2 to: two");
    assert_eq!(world.opened(), [OpenSession::New, resume("demo-1")]);
    assert_eq!(first_ids(&world, session).await, ["demo-1"]);
}

#[tokio::test(start_paused = true)]
async fn oc_08_oc_10_an_explicit_agent_session_wins_for_its_turn_and_never_replaces_the_pinned_one() {
    let world = World::new().await;
    let other = world.session().await;
    world.ask(other, "elsewhere").await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let explicit = AgentSessionId::new("demo-1").unwrap();
    let turn = world.submit(session, NewTurn { agent_session: Some(explicit.clone()), ..turn_of("two") }).await;
    let turn = world.ended(turn.id).await;
    assert_eq!(world.answer(&turn).await, "reply 2 to: two", "it ran on the named one, which had seen one prompt");
    let (_, answer) = world.ask(session, "three").await;
    assert_eq!(answer, "reply 3 to: three", "the next runs on the pinned one again, which is told what was said elsewhere");
    let pinned = &world.held(session).await.agent_sessions[0];
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("demo-2", "demo-2"));
    let listed: Vec<_> = pinned.successors.iter().map(|it| (it.id.clone(), it.cause, it.turn)).collect();
    assert_eq!(listed, [(explicit, SuccessionCause::Explicit, Some(turn.id))]);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_named_twice_stays_the_turns_own() {
    let world = World::new().await;
    let other = world.session().await;
    world.ask(other, "elsewhere").await;
    let session = world.session().await;
    world.ask(session, "one").await;
    for text in ["two", "three"] {
        let turn = world.submit(session, NewTurn { agent_session: AgentSessionId::new("demo-1").ok(), ..turn_of(text) }).await;
        assert_eq!(world.ended(turn.id).await.state, TurnState::Completed);
    }
    let (_, answer) = world.ask(session, "four").await;
    assert_eq!(answer, "reply 4 to: four", "back on the pinned one, which is told of both");
    let pinned = &world.held(session).await.agent_sessions[0];
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("demo-2", "demo-2"));
    assert!(pinned.successors.iter().all(|it| it.cause == SuccessionCause::Explicit), "{pinned:?}");
}

#[tokio::test(start_paused = true)]
async fn oc_n2_an_agent_session_that_was_opened_for_a_cancelled_turn_is_the_next_ones() {
    for opened_first in [true, false] {
        let gate = Arc::new(Gate::new(Some((Failpoint::AgentOpened, 1)), Act::Pause));
        let runtime = Runtime { failpoints: Some(gate.clone()), ..TokioRuntime::runtime() };
        let world = World::on(Arc::new(MemoryStore::new()), runtime, |_| {}).await;
        let session = world.session().await;
        let given_up = world.send(session, "never mind").await;
        gate.came().await;
        world.order(session, Order::Cancel { turn: given_up.id }).await.unwrap();
        if opened_first {
            gate.let_through();
            // Long enough for the session to hear of it, and not for the agent to be let go.
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let turn = world.send(session, "hello").await;
        gate.let_through();
        assert_eq!(world.ended(given_up.id).await.state, TurnState::Cancelled);
        let turn = world.ended(turn.id).await;
        assert_eq!((turn.state, world.answer(&turn).await), (TurnState::Completed, "reply 1 to: hello".into()));
        assert_eq!((world.opened(), first_ids(&world, session).await), (vec![OpenSession::New], vec!["demo-1".into()]));
    }
}

#[tokio::test(start_paused = true)]
async fn oc_09_an_agent_session_that_cannot_be_validated_is_handed_over_and_the_agent_decides() {
    let world = World::new().await;
    let explicit = AgentSessionId::new("gone").unwrap();
    let session = world.session_with(NewSession { agent_session: Some(explicit), ..NewSession::default() }).await;
    let (turn, _) = world.ask(session.id, "hello").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::Failed, Some("agent_session_unknown")));
    assert_eq!(world.opened(), [resume("gone")]);
    assert_eq!(first_ids(&world, session.id).await, ["gone"]);
}

#[tokio::test(start_paused = true)]
async fn oc_11_oc_n1_nothing_overwrites_the_first_id() {
    let mut world = World::new().await;
    let session = world.session().await;
    let (failed, _) = world.ask(session, "x !fail").await;
    let retry = turn(world.order(session, again(&failed)).await.unwrap());
    world.ended(retry.id).await;
    let again = turn(world.order(session, Order::Retry { turn: retry.id, agent: None, model: Some(model("demo/2")) }).await.unwrap());
    world.ended(again.id).await;
    world.crash_and_restart().await;
    world.ask(session, "y").await;
    assert_eq!(first_ids(&world, session).await, ["demo-1"]);
    let pins = world.kinds(session).await.into_iter().filter(|kind| kind.starts_with("agent_session.")).collect::<Vec<_>>();
    assert_eq!(pins, ["agent_session.pinned"]);
}

#[tokio::test(start_paused = true)]
async fn oc_12_every_resolution_of_the_agent_session_is_in_the_log() {
    let mut world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    world.ask(session, "two").await;
    world.crash_and_restart().await;
    let explicit = Some(AgentSessionId::new("demo-1").unwrap());
    let turn = world.submit(session, NewTurn { agent_session: explicit, ..turn_of("three") }).await;
    world.ended(turn.id).await;
    let started = |event: &Event| match &event.body {
        Body::TurnStarted(data) => Some(data.agent_session_because),
        _ => None,
    };
    let because: Vec<_> = world.events(session).await.iter().filter_map(started).collect();
    assert_eq!(because, [AgentSessionBecause::Detected, AgentSessionBecause::Inherited, AgentSessionBecause::Request]);
}

#[tokio::test(start_paused = true)]
async fn oc_n2_oc_n3_no_flow_makes_a_new_agent_session() {
    let mut world = World::new().await;
    let session = world.session().await;
    let (failed, _) = world.ask(session, "first !fail").await;
    let retry = turn(world.order(session, again(&failed)).await.unwrap());
    let retry = world.ended(retry.id).await;
    let go_on = turn(world.order(session, Order::Continue { turn: retry.id, agent: None, model: None }).await.unwrap());
    world.ended(go_on.id).await;
    let fallback = turn(world.order(session, Order::Retry { turn: retry.id, agent: None, model: Some(model("demo/b")) }).await.unwrap());
    world.ended(fallback.id).await;
    world.crash_and_restart().await;
    let (built, _) = world.ask(session, "build").await;
    let redo = turn(world.order(session, Order::Redo { turn: built.id, agent: None, model: None }).await.unwrap());
    world.ended(redo.id).await;
    let made = world.opened().iter().filter(|open| **open == OpenSession::New).count();
    assert_eq!(made, 1);
}

#[tokio::test(start_paused = true)]
async fn oc_n4_what_the_agent_makes_by_itself_does_not_displace_an_id_that_was_passed() {
    let world = World::new().await;
    let other = world.session().await;
    world.ask(other, "elsewhere").await;
    let passed = AgentSessionId::new("demo-1").unwrap();
    let session = world.session_with(NewSession { agent_session: Some(passed), ..NewSession::default() }).await;
    world.ask(session.id, "here").await;
    assert_eq!(first_ids(&world, session.id).await, ["demo-1"]);
    assert_eq!(world.opened(), [OpenSession::New, resume("demo-1")]);
}

#[tokio::test(start_paused = true)]
async fn o7_a_cleared_context_begins_another_agent_session_and_keeps_the_old_pin() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let reply = world.order(session, Order::Clear).await.unwrap();
    assert!(matches!(reply, Reply::Context { context: 1, .. }), "{reply:?}");
    let (_, answer) = world.ask(session, "two").await;
    assert_eq!(answer, "reply 1 to: two", "nothing of the old context went along");
    let pins: Vec<_> = world.held(session).await.agent_sessions.iter().map(|it| (it.context, it.first.to_string())).collect();
    assert_eq!(pins, [(0, "demo-1".into()), (1, "demo-2".into())]);
}

#[tokio::test(start_paused = true)]
async fn se_01_se_02_agent_and_model_survive_failure_revert_and_restart() {
    let mut world = World::new().await;
    let parent = world.session().await;
    let new = NewSession {
        agent: Some(name("other")),
        model: Some(model("other/small")),
        parent: Some(Parent { kind: ParentKind::Child, session: parent, seq: 1 }),
        ..NewSession::default()
    };
    let session = world.session_with(new).await.id;
    let (failed, _) = world.ask(session, "x !fail").await;
    assert_eq!(failed.state, TurnState::Failed);
    world.order(session, Order::Revert { turn: None }).await.unwrap();
    world.crash_and_restart().await;
    let (turn, _) = world.ask(session, "again").await;
    assert_eq!((turn.agent, turn.agent_because), (name("other"), AgentBecause::Session));
    assert_eq!((turn.model, turn.model_because), (Some(model("other/small")), ModelBecause::Session));
    let held = world.held(session).await;
    assert_eq!((held.agent, held.model), (Some(name("other")), Some(model("other/small"))));
}

#[tokio::test(start_paused = true)]
async fn se_03_agent_and_model_are_resolved_in_order_and_the_rule_is_written_down() {
    let world = World::new().await;
    let session = world.session().await;
    let (turn, _) = world.ask(session, "a").await;
    assert_eq!(
        (turn.agent, turn.agent_because, turn.model, turn.model_because),
        (name("demo"), AgentBecause::Default, None, ModelBecause::Unset)
    );
    let by_input = world.submit(session, NewTurn { model: Some(model("demo/m")), ..turn_of("b") }).await;
    assert_eq!((by_input.model, by_input.model_because), (Some(model("demo/m")), ModelBecause::Input));
    world.ended(by_input.id).await;
    let (last_used, _) = world.ask(session, "c").await;
    assert_eq!((last_used.model, last_used.model_because), (Some(model("demo/m")), ModelBecause::LastUsed));
    let other = world.submit(session, NewTurn { agent: Some(name("other")), ..turn_of("d") }).await;
    assert_eq!((other.agent, other.agent_because), (name("other"), AgentBecause::Input));
    assert_eq!((other.model, other.model_because), (Some(model("other/big")), ModelBecause::Agent));
    world.ended(other.id).await;
    let lock = UpdateSession { agent: Some(Some(name("other"))), model: Some(Some(model("other/s"))), ..UpdateSession::default() };
    world.order(session, Order::Update(lock)).await.unwrap();
    let (locked, _) = world.ask(session, "e").await;
    assert_eq!((locked.agent_because, locked.model_because), (AgentBecause::Session, ModelBecause::Session));
    let unknown = world.order(session, Order::Submit(NewTurn { agent: Some(name("nobody")), ..turn_of("f") })).await;
    assert!(matches!(unknown, Err(Failure::Refused(Refusal::Invalid { field: "agent", .. }))), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn se_05_se_06_se_n3_a_change_while_an_answer_streams_is_for_later_sends() {
    let world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!slow:100 one two three four").await;
    world.until(session, |event| matches!(event.body, Body::PartDelta(_))).await;
    let lock = UpdateSession { agent: Some(Some(name("other"))), model: Some(Some(model("other/s"))), ..UpdateSession::default() };
    world.order(session, Order::Update(lock)).await.unwrap();
    let next = world.send(session, "next").await;
    let running = world.ended(running.id).await;
    assert_eq!((running.agent, running.model), (name("demo"), None));
    let next = world.ended(next.id).await;
    assert_eq!((next.agent, next.model), (name("other"), Some(model("other/s"))));
}

#[tokio::test(start_paused = true)]
async fn se_n2_a_session_never_snaps_back_to_another_agent() {
    let mut world = World::new().await;
    let session = world.session_with(NewSession { agent: Some(name("other")), ..NewSession::default() }).await.id;
    let (one, _) = world.ask(session, "one").await;
    world.order(session, Order::Revert { turn: Some(one.id) }).await.unwrap();
    world.order(session, Order::Unrevert).await.unwrap();
    world.crash_and_restart().await;
    let (two, _) = world.ask(session, "two").await;
    assert_eq!(two.agent, name("other"));
}

#[tokio::test(start_paused = true)]
async fn se_03_a_session_whose_agent_is_gone_falls_back_and_says_so() {
    let mut world = World::new().await;
    let session = world.session_with(NewSession { agent: Some(name("other")), ..NewSession::default() }).await.id;
    world.agents.remove(&name("other"));
    world.crash_and_restart().await;
    let (turn, _) = world.ask(session, "hello").await;
    assert_eq!((turn.agent, turn.agent_because, turn.state), (name("demo"), AgentBecause::SessionAgentGone, TurnState::Completed));
    assert_eq!(world.held(session).await.agent, Some(name("other")), "the lock is left alone");
}

#[tokio::test(start_paused = true)]
async fn ws_13_ws_14_ws_15_ws_n1_a_fork_runs_on_a_fork_of_the_agents_session_and_leaves_the_parent_alone() {
    let world = World::new().await;
    let parent = world.session().await;
    world.ask(parent, "one").await;
    let before = world.events(parent).await;
    let fork = as_session(world.order(parent, Order::Fork(NewFork::default())).await.unwrap());
    assert_eq!(fork.parent, Some(Parent { kind: ParentKind::Fork, session: parent, seq: before.len() as u64 }));
    assert!(fork.agent_sessions.is_empty() && fork.thread.is_none());
    let (_, answer) = world.ask(fork.id, "two").await;
    assert_eq!(answer, "reply 2 to: two", "the child's agent knows what the parent's knew");
    let (_, answer) = world.ask(parent, "two b").await;
    assert_eq!(answer, "reply 2 to: two b");
    let forked = world.opened().into_iter().filter(|open| matches!(open, OpenSession::Fork(_))).count();
    assert_eq!(forked, 1);
    let child: Vec<_> = world.said(fork.id).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(child, ["one", "reply 1 to: one", "two", "reply 2 to: two"]);
    assert_eq!(world.events(parent).await[..before.len()], before, "the parent's events are as they were");
    let unknown = world.engine.order(&admin(), SessionId(uuid::Uuid::nil()), Order::Fork(NewFork::default()), None).await;
    assert_eq!(unknown.err(), Some(Refusal::SessionNotFound.into()));
}

#[tokio::test(start_paused = true)]
async fn a_fork_from_an_earlier_turn_is_given_the_transcript_and_the_log_says_so() {
    let world = World::new().await;
    let parent = world.session().await;
    let (first, _) = world.ask(parent, "one").await;
    world.ask(parent, "two").await;
    let fork = Order::Fork(NewFork { at: Some(Cut::Turn(first.id)), ..NewFork::default() });
    let fork = as_session(world.order(parent, fork).await.unwrap());
    let (_, answer) = world.ask(fork.id, "other two").await;
    assert_eq!(answer, "reply 2 to: other two", "one prompt was in the transcript");
    let given = world.events(fork.id).await.iter().rev().find_map(|event| match &event.body {
        Body::TurnStarted(data) => Some(data.given_messages),
        _ => None,
    });
    assert_eq!(given, Some(2));
    let texts: Vec<_> = world.said(fork.id).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "other two", "reply 2 to: other two"]);
}

#[tokio::test(start_paused = true)]
async fn a_fork_of_a_fork_reads_through_and_survives_a_restart() {
    let mut world = World::new().await;
    let root = world.session().await;
    world.ask(root, "a").await;
    let middle = as_session(world.order(root, Order::Fork(NewFork::default())).await.unwrap()).id;
    world.ask(middle, "b").await;
    let leaf = as_session(world.order(middle, Order::Fork(NewFork::default())).await.unwrap()).id;
    world.crash_and_restart().await;
    world.ask(leaf, "c").await;
    let texts: Vec<_> = world.said(leaf).await.into_iter().filter(|(role, _)| *role == Role::User).map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_changes_its_agent_hands_over_what_the_newcomer_missed() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let turn = world.submit(session, NewTurn { agent: Some(name("other")), ..turn_of("two") }).await;
    let turn = world.ended(turn.id).await;
    assert_eq!(world.answer(&turn).await, "reply 2 to: two");
    let (_, answer) = world.ask(session, "three").await;
    assert_eq!(answer, "reply 3 to: three", "back on its own session, which was told of the second prompt");
    let pins: Vec<_> = world.held(session).await.agent_sessions.iter().map(|it| (it.agent.to_string(), it.first.to_string())).collect();
    assert_eq!(pins, [("demo".into(), "demo-1".into()), ("other".into(), "other-1".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_revert_takes_turns_back_and_the_agent_goes_on_without_them() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "one").await;
    let (two, _) = world.ask(session, "two").await;
    world.order(session, Order::Revert { turn: None }).await.unwrap();
    assert_eq!(world.said(session).await.len(), 2);
    world.order(session, Order::Unrevert).await.unwrap();
    assert_eq!(world.said(session).await.len(), 4);
    world.order(session, Order::Revert { turn: Some(two.id) }).await.unwrap();
    let (_, answer) = world.ask(session, "three").await;
    assert_eq!(answer, "reply 2 to: three", "the new agent session was given the first prompt only");
    let pinned = &world.held(session).await.agent_sessions[0];
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("demo-1", "demo-2"));
    assert_eq!(pinned.successors[0].cause, SuccessionCause::Revert);
    let late = world.order(session, Order::Unrevert).await;
    assert_eq!(late.err(), Some(Refusal::NothingReverted.into()));
}
