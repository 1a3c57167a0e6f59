//! What follows a failure: as many tries as are stated, what stands in, and a dead letter at the end of them.

use crate::support::*;
use everkept_core::*;

fn fail(command: FailTurn) -> Command {
    Command::FailTurn(command)
}

fn by_policy(command: FailTurn) -> Command {
    Command::FailTurn(FailTurn { known: persistent(), ..command })
}

fn ended(how: TurnEnd, reason: &str, code: &str) -> Body {
    Body::TurnEnded(TurnEnded { state: how, reason: reason.into(), error: Some(failure(code)) })
}

fn delayed(tries: u32, ms: i64) -> Body {
    Body::TurnDelayed(TurnDelayed { tries, until: Timestamp(NOW.0 + ms * 1_000), error: failure("agent_start_failed") })
}

fn retried(by: u64, cause: RetryCause) -> Body {
    Body::TurnRetried(TurnRetried { by: turn(by), cause })
}

/// Turn `n` was given to its agent and failed.
fn fails(world: &mut World, n: u64, by: u64) {
    world.run_all([begin(n), by_policy(failed(n, by))]);
}

#[test]
fn re_02_an_agent_that_does_not_start_is_tried_again_after_half_a_second_one_two_and_four() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for (tries, ms) in [(1, 500), (2, 1_000), (3, 2_000), (4, 4_000)] {
        check(&world, fail(not_opened(1, 2, true)), Ok(vec![(Some(turn(1)), delayed(tries, ms))]));
        let events = world.run(fail(not_opened(1, 2, true)));
        assert_eq!(effects(&world.state, &events[0]), [Effect::RunTurn { turn: turn(1) }]);
        assert_eq!(owed(&world.state), [Effect::RunTurn { turn: turn(1) }], "a restart goes on with it");
    }
    let letter = ended(TurnEnd::DeadLettered, "agent_start_failed", "agent_start_failed");
    check(&world, fail(not_opened(1, 2, true)), Ok(vec![(Some(turn(1)), letter)]));
    world.run(fail(not_opened(1, 2, true)));
    assert!(owed(&world.state).is_empty(), "re_n2: it is not tried for ever");
}

#[test]
fn a_try_waits_as_long_as_it_cannot_work() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    let not_before = Some(Timestamp(NOW.0 + 30_000_000));
    let failure = TurnFailure::Opening { error: failure("agent_start_failed"), again: true, not_before };
    check(&world, fail(FailTurn { failure, ..not_opened(1, 2, true) }), Ok(vec![(Some(turn(1)), delayed(1, 30_000))]));
}

#[test]
fn what_cannot_work_and_what_nobody_has_a_rule_for_just_fails() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    let just_failed = ended(TurnEnd::Failed, "agent_start_failed", "agent_start_failed");
    check(&world, fail(not_opened(1, 2, false)), Ok(vec![(Some(turn(1)), just_failed)]));
    check(&world, fail(failed(1, 2)), refused("failure", "must be another: the turn has not begun"));
    world.run(begin(1));
    check(&world, fail(failed(1, 2)), Ok(vec![(Some(turn(1)), ended(TurnEnd::Failed, "agent_error", "overloaded"))]));
    check(&world, fail(not_opened(1, 2, true)), Err(Refusal::TurnNotQueued(turn(1))));
    world.run(fail(failed(1, 2)));
    check(&world, fail(failed(1, 2)), Err(Refusal::TurnEnded(turn(1))));
}

#[test]
fn o5_a_prompt_is_given_again_only_where_that_is_configured_and_comes_before_what_waits() {
    let mut world = World::new();
    world.run_all([submit(1, "build"), begin(1), submit(2, "next")]);
    let queued = TurnQueued {
        request_message: Some(message(1)),
        agent: agent("demo"),
        agent_because: AgentBecause::Default,
        model: None,
        model_because: ModelBecause::Unset,
        attempt: 2,
        continues: None,
        agent_session: None,
        tries: Some(Tries { prompts: 1, not_before: Some(Timestamp(NOW.0 + 500_000)), ..Tries::default() }),
    };
    let expected = vec![
        (Some(turn(1)), ended(TurnEnd::Failed, "agent_error", "overloaded")),
        (Some(turn(1)), retried(3, RetryCause::Retry)),
        (Some(turn(3)), queued.into()),
    ];
    check(&world, by_policy(failed(1, 3)), Ok(expected));
    world.run(by_policy(failed(1, 3)));
    assert_eq!(world.state.queue, [turn(3), turn(2)]);
    assert_eq!(world.shown(), ["build", "next"], "one stored question");
}

#[test]
fn oc_03_a_fallback_is_a_continuation_with_the_same_request_and_leaves_the_sessions_own_agent_and_model() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    fails(&mut world, 1, 2);
    fails(&mut world, 2, 3);
    let (third, because) = (world.turn(3).clone(), (world.turn(3).agent_because, world.turn(3).model_because));
    assert_eq!(
        (third.agent, third.model, because),
        (agent("demo"), Some(model("maker/cheap")), (AgentBecause::Default, ModelBecause::Fallback))
    );
    assert_eq!((third.continues, third.request_message), (Some(turn(2)), Some(message(1))));
    // The next one listed is retried once too, and then an agent that is not there is passed over.
    fails(&mut world, 3, 4);
    fails(&mut world, 4, 5);
    let fifth = world.turn(5).clone();
    assert_eq!((fifth.agent, fifth.agent_because, fifth.model), (agent("coder"), AgentBecause::Fallback, Some(model("maker/coder"))));
    assert_eq!(fifth.continues, Some(turn(4)));
    assert_eq!((world.state.session.agent.clone(), world.state.session.model.clone()), (None, None));
    world.run_all([begin(5), say(5, "built"), end(5, TurnEnd::Completed)]);
    assert_eq!(world.shown(), ["build", "built"], "one question, one answer");
    let (model, because) = resolve_model(&world.state, &agent("demo"), None, &known());
    assert_eq!((model, because), (None, ModelBecause::Unset), "a fallback is not what was last used");
}

#[test]
fn re_n2_at_the_end_of_the_list_the_turn_is_a_dead_letter() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for n in 1..=5 {
        fails(&mut world, n, n + 1);
    }
    assert_eq!(world.turn(5).state, TurnState::DeadLettered);
    assert!(world.state.turn(turn(6)).is_none() && owed(&world.state).is_empty());
    let letters: Vec<_> = world.state.turns.iter().filter(|entry| entry.dead_letter).map(|entry| entry.turn.id).collect();
    assert_eq!(letters, [turn(5)]);
}

#[test]
fn a_failure_of_what_was_cancelled_or_deleted_is_followed_by_nothing() {
    let mut world = World::new();
    world.run_all([submit(1, "build"), begin(1), Command::CancelTurn { turn: turn(1) }]);
    let cancelled = TurnEnded { state: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None };
    check(&world, by_policy(failed(1, 2)), Ok(vec![(Some(turn(1)), cancelled.into())]));
    let mut world = World::new();
    world.run_all([submit(1, "build"), Command::DeleteSession { keep_ms: None }]);
    let just_failed = ended(TurnEnd::Failed, "agent_start_failed", "agent_start_failed");
    check(&world, by_policy(not_opened(1, 2, false)), Ok(vec![(Some(turn(1)), just_failed)]));
}

fn dead() -> World {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for _ in 0..=OPENINGS {
        world.run(fail(not_opened(1, 2, true)));
    }
    world
}

#[test]
fn re_03_a_dead_letter_is_taken_up_once_and_asks_what_was_asked() {
    let mut world = dead();
    world.run(retry_letter(1, 2, None));
    assert!(!world.state.turn(turn(1)).expect("it is there").dead_letter);
    assert_eq!((world.turn(2).attempt, world.turn(2).request_message), (2, Some(message(1))));
    assert!(world.turn(2).tries.is_none(), "it is tried as often as the first");
    check(&world, retry_letter(1, 3, None), Ok(vec![]));
    check(&world, retry_letter(2, 3, None), Err(Refusal::TurnNotDeadLettered(turn(2))));
}

#[test]
fn re_03_a_dead_letter_can_be_taken_up_with_another_request() {
    let mut world = dead();
    check(&world, retry_letter(1, 2, Some((7, ""))), refused("input", "must not be empty"));
    world.run(retry_letter(1, 2, Some((7, "build less"))));
    world.run_all([begin(2), say(2, "built"), end(2, TurnEnd::Completed)]);
    assert_eq!(world.shown(), ["build less", "built"]);
}

#[test]
fn re_03_a_dead_letter_that_was_put_away_is_none_any_more() {
    let mut world = dead();
    let dismiss = Command::DismissLetter { turn: turn(1) };
    check(&world, dismiss.clone(), Ok(vec![(Some(turn(1)), TurnDismissed {}.into())]));
    world.run(dismiss.clone());
    check(&world, dismiss, Ok(vec![]));
    check(&world, retry_letter(1, 2, None), Err(Refusal::TurnNotDeadLettered(turn(1))));
    world.ask(3, "other", "done");
    check(&world, Command::DismissLetter { turn: turn(3) }, Err(Refusal::TurnNotDeadLettered(turn(3))));
    check(&world, Command::DismissLetter { turn: turn(9) }, Err(Refusal::TurnNotFound));
}

#[test]
fn a_retry_of_what_stood_in_asks_what_was_asked_for_again() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for n in 1..=5 {
        fails(&mut world, n, n + 1);
    }
    world.run(retry_letter(5, 6, None));
    let again = world.turn(6);
    assert_eq!((again.agent.clone(), again.agent_because, again.continues), (agent("demo"), AgentBecause::Default, None));
    assert_eq!((again.model.clone(), again.attempt), (None, 6));
}

#[test]
fn o4_a_conversation_that_somebody_stood_in_for_is_known_when_it_is_sent_again() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for n in 1..=4 {
        fails(&mut world, n, n + 1);
    }
    assert_eq!(aligned(&world, &[(Role::User, "build")]), Aligned::Answered { turn: turn(5) }, "while it is asked");
    world.run_all([begin(5), say(5, "built"), end(5, TurnEnd::Completed)]);
    assert_eq!(aligned(&world, &[(Role::User, "build")]), Aligned::Answered { turn: turn(5) });
    let next = [(Role::User, "build"), (Role::Assistant, "built"), (Role::User, "and now")];
    assert_eq!(aligned(&world, &next), Aligned::New { from: 2 });
}

#[test]
fn ws_n4_an_agent_that_was_asked_itself_is_told_the_answer_of_who_stood_in_and_not_the_request() {
    let mut world = World::new();
    world.run(submit(1, "build"));
    for n in 1..=4 {
        fails(&mut world, n, n + 1);
    }
    world.run_all([begin(5), say(5, "built"), end(5, TurnEnd::Completed), submit(6, "and now")]);
    let answered = world.turn(5).response_messages.clone();
    assert_eq!(world.turn(5).agent, agent("coder"));
    assert_eq!(world.state.unseen(turn(6), false).messages, answered);
    assert_eq!(world.state.unseen(turn(6), true).messages, [vec![message(1)], answered].concat());
}
