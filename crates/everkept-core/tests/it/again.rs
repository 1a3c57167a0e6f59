//! Retry, redo and continue: one request message, one line of attempts, however odd the order they are asked in.

use crate::support::*;
use everkept_core::*;

fn queued(n: u64, attempt: u32, continues: Option<u64>) -> Body {
    Body::TurnQueued(TurnQueued {
        request_message: Some(message(n)),
        agent: agent("demo"),
        agent_because: AgentBecause::Default,
        model: None,
        model_because: ModelBecause::Unset,
        attempt,
        continues: continues.map(turn),
        agent_session: None,
        tries: None,
    })
}

fn retried(by: u64, cause: RetryCause) -> Body {
    Body::TurnRetried(TurnRetried { by: turn(by), cause })
}

#[test]
fn oc_n3_a_retry_is_the_next_attempt_at_the_same_request() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "I", TurnEnd::Failed);
    let expected = vec![(Some(turn(1)), retried(2, RetryCause::Retry)), (Some(turn(2)), queued(1, 2, None))];
    check(&world, retry(1, 2), Ok(expected));
    world.run(retry(1, 2));
    assert_eq!(world.hidden(), [(turn(1), Some(turn(2)))]);
    assert_eq!(world.shown(), ["build"], "one stored question");
}

#[test]
fn a_retry_pressed_twice_is_one_attempt() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "I", TurnEnd::Failed);
    world.run(retry(1, 2));
    check(&world, retry(1, 3), Ok(vec![]));
    check(&world, retry(2, 3), Ok(vec![]));
    check(&world, redo(1, 3), Ok(vec![]));
    world.run_all([begin(2), say(2, "done"), end(2, TurnEnd::Completed)]);
    check(&world, retry(1, 3), Ok(vec![]));
    check(&world, retry(2, 3), Err(Refusal::TurnCompleted(turn(2))));
}

#[test]
fn a_redo_is_for_a_completed_turn_and_a_retry_for_any_other() {
    let mut world = World::new();
    world.ask(1, "build", "built");
    check(&world, retry(1, 2), Err(Refusal::TurnCompleted(turn(1))));
    let expected = vec![(Some(turn(1)), retried(2, RetryCause::Redo)), (Some(turn(2)), queued(1, 2, None))];
    check(&world, redo(1, 2), Ok(expected));
    let mut world = World::new();
    world.ask_in_vain(1, "build", "", TurnEnd::TimedOut);
    check(&world, redo(1, 2), Err(Refusal::TurnNotCompleted(turn(1))));
    check(&world, retry(9, 2), Err(Refusal::TurnNotFound));
    check(&world, redo(9, 2), Err(Refusal::TurnNotFound));
    check(&world, go_on(9, 2), Err(Refusal::TurnNotFound));
}

#[test]
fn oc_06_a_redo_asked_while_another_turn_runs_waits_for_its_place() {
    let mut world = World::new();
    world.ask(1, "one", "eins");
    world.run_all([submit(2, "two"), begin(2), redo(1, 3)]);
    assert_eq!(world.state.queue, [turn(3)]);
    check(&world, begin(3), Err(Refusal::SessionBusy(turn(2))));
    world.run_all([say(2, "zwei"), end(2, TurnEnd::Completed), begin(3), say(3, "uno"), end(3, TurnEnd::Completed)]);
    assert_eq!(world.shown(), ["one", "two", "zwei", "uno"]);
}

#[test]
fn oc_03_a_continuation_is_a_turn_of_its_own_for_the_same_request() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    check(&world, go_on(1, 2), Ok(vec![(Some(turn(2)), queued(1, 1, Some(1)))]));
    world.run(go_on(1, 2));
    check(&world, go_on(1, 3), Ok(vec![]));
    check(&world, go_on(2, 3), Err(Refusal::TurnOpen(turn(2))));
    world.run_all([begin(2), say(2, " done"), end(2, TurnEnd::Completed)]);
    assert_eq!(world.shown(), ["build", "half", " done"]);
    check(&world, go_on(2, 3), Ok(vec![(Some(turn(3)), queued(1, 1, Some(2)))]));
}

/// The continuation has the same request message, but it is not an attempt at it.
#[test]
fn a_retry_of_a_continued_turn_takes_the_place_of_that_turn_and_not_of_its_continuation() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([go_on(1, 2), begin(2), say(2, " more"), end(2, TurnEnd::Failed), retry(1, 3)]);
    assert_eq!(world.hidden(), [(turn(1), Some(turn(3)))]);
    assert_eq!(world.state.latest_attempt(turn(1)).map(|entry| entry.turn.id), Some(turn(3)));
    assert_eq!(world.state.latest_attempt(turn(2)).map(|entry| entry.turn.id), Some(turn(2)));
}

#[test]
fn a_retry_of_one_of_two_continuations_takes_the_place_of_that_one() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([go_on(1, 2), begin(2), say(2, "a"), end(2, TurnEnd::Failed)]);
    world.run_all([go_on(1, 3), begin(3), say(3, "b"), end(3, TurnEnd::Completed), retry(2, 4)]);
    assert_eq!(world.hidden(), [(turn(2), Some(turn(4)))]);
}

#[test]
fn an_answer_that_no_longer_counts_is_not_continued() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([retry(1, 2), begin(2), end(2, TurnEnd::Completed)]);
    check(&world, go_on(1, 3), Err(Refusal::TurnHidden(turn(1))));
}

#[test]
fn what_a_revert_took_back_is_not_tried_again() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.ask(2, "then", "yes");
    world.run(Command::Revert { turn: Some(turn(1)) });
    check(&world, retry(1, 3), Err(Refusal::TurnHidden(turn(1))));
    check(&world, redo(2, 3), Err(Refusal::TurnHidden(turn(2))));
    check(&world, go_on(1, 3), Err(Refusal::TurnHidden(turn(1))));
}

#[test]
fn an_archived_session_takes_no_new_turn_by_any_way() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "", TurnEnd::Failed);
    world.ask(2, "b", "c");
    world.run(Command::UpdateSession(UpdateSession { archived: Some(true), ..UpdateSession::default() }));
    for command in [submit(3, "d"), retry(1, 3), redo(2, 3), go_on(1, 3)] {
        check(&world, command, Err(Refusal::SessionArchived(session(1))));
    }
}

#[test]
fn an_agent_session_that_was_asked_for_goes_to_no_other_agent() {
    let mut world = World::new();
    world.run(Command::SubmitTurn(SubmitTurn { agent_session: Some(agent_session("mine")), ..submitted(1, "a") }));
    world.run_all([began(1, "mine", AgentSessionBecause::Request), end(1, TurnEnd::Failed)]);
    world.run(retry(1, 2));
    assert_eq!(world.turn(2).agent_session, Some(agent_session("mine")), "oc_08: the message's id wins in the retry");
    world.run(Command::EditTurn(EditTurn { agent: Some(agent("coder")), ..edited(2) }));
    assert_eq!(world.turn(2).agent_session, None, "an edit that changes the agent");
    world.run_all([Command::DropTurn { turn: turn(2) }]);
    world.run(Command::RetryTurn(AgainTurn { agent: Some(agent("coder")), ..again(1, 3) }));
    assert_eq!(world.turn(3).agent_session, None, "a retry with another agent");
}

#[test]
fn a_fallback_says_so_on_the_turn_and_leaves_the_lock() {
    let mut world = World::new();
    world.run(Command::UpdateSession(UpdateSession { model: Some(Some(model("a/lock"))), ..UpdateSession::default() }));
    world.ask_in_vain(1, "x", "", TurnEnd::Failed);
    world.run(Command::RetryTurn(AgainTurn { model: Some(model("b/fallback")), ..again(1, 2) }));
    assert_eq!((&world.turn(2).model, world.turn(2).model_because), (&Some(model("b/fallback")), ModelBecause::Input));
    assert_eq!(world.state.session.model, Some(model("a/lock")));
}

#[test]
fn agent_and_model_are_the_first_that_is_named_and_the_turn_says_by_what() {
    let mut world = World::new();
    let chosen = |world: &World, n| {
        let turn = world.turn(n);
        (turn.agent.clone(), turn.agent_because, turn.model.clone(), turn.model_because)
    };
    let asks =
        |n, name: &str, model: Option<ModelName>| Command::SubmitTurn(SubmitTurn { agent: Some(agent(name)), model, ..submitted(n, "x") });
    let ended = |n| end(n, TurnEnd::Failed);
    world.run_all([asks(1, "demo", Some(model("maker/one"))), ended(1), asks(2, "coder", Some(model("maker/two"))), ended(2)]);
    world.run_all([submit(3, "x"), ended(3), asks(4, "demo", Some(model("maker/four"))), ended(4), retry(3, 5), ended(5)]);
    let last_used = (agent("demo"), AgentBecause::Default, Some(model("maker/one")), ModelBecause::LastUsed);
    assert_eq!(chosen(&world, 3), last_used, "the last used with this agent");
    assert_eq!(chosen(&world, 5), last_used, "the same agent is tried again with the same model");
    world.run_all([Command::RetryTurn(AgainTurn { agent: Some(agent("coder")), ..again(5, 6) }), ended(6)]);
    assert_eq!(chosen(&world, 6), (agent("coder"), AgentBecause::Input, Some(model("maker/coder")), ModelBecause::Agent));
    let without_coder = KnownAgents { default: agent("demo"), agents: [(agent("demo"), KnownAgent::default())].into() };
    let fallback = (agent("demo"), AgentBecause::SessionAgentGone, Some(model("maker/one")), ModelBecause::LastUsed);
    world.run(Command::UpdateSession(UpdateSession { agent: Some(Some(agent("coder"))), ..UpdateSession::default() }));
    world.run_all([Command::RetryTurn(AgainTurn { known: without_coder.clone(), ..again(6, 7) }), ended(7)]);
    assert_eq!(chosen(&world, 7), fallback, "a retry of a turn whose agent is gone");
    world.run(Command::SubmitTurn(SubmitTurn { known: without_coder, ..submitted(8, "x") }));
    assert_eq!(chosen(&world, 8), fallback, "a session whose agent is gone");
}

#[test]
fn an_edited_attempt_that_is_dropped_gives_the_older_one_its_request_back() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([retry(1, 2), edit(2, 20, "build it"), edit(2, 21, "build it all")]);
    assert_eq!(world.shown(), ["build it all"]);
    world.run(Command::DropTurn { turn: turn(2) });
    assert_eq!(world.shown(), ["build", "half"]);
    assert_eq!(world.state.latest_attempt(turn(2)).map(|entry| entry.turn.id), Some(turn(1)));
}

#[test]
fn an_edited_attempt_that_runs_has_its_own_request() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([retry(1, 2), edit(2, 20, "build it"), begin(2), say(2, "ok"), end(2, TurnEnd::Completed)]);
    assert_eq!(world.shown(), ["build it", "ok"]);
    assert_eq!(aligned(&world, &[(Role::User, "build it")]), Aligned::Answered { turn: turn(2) });
}

#[test]
fn a_continuation_has_no_request_of_its_own_to_edit() {
    let mut world = World::new();
    world.ask_in_vain(1, "build", "half", TurnEnd::Failed);
    world.run_all([submit(2, "x"), begin(2), go_on(1, 3)]);
    check(&world, edit(3, 30, "other"), refused("input", "cannot be edited: the turn continues another and asks nothing itself"));
}
