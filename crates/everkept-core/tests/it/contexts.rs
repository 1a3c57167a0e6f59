//! Clear, revert and fork: what is taken away from a conversation, what an agent still knows of it, and what is pinned.

use crate::support::*;
use everkept_core::*;

fn revert(n: u64) -> Command {
    Command::Revert { turn: Some(turn(n)) }
}

fn stale(world: &World, name: &str) -> bool {
    world.state.thread(&agent(name)).expect("it has run").stale
}

fn with_agent(n: u64, name: &str) -> Command {
    Command::SubmitTurn(SubmitTurn { agent: Some(agent(name)), ..submitted(n, "x") })
}

fn coder_answers(world: &mut World, n: u64, answer: &str) {
    let because = AgentSessionBecause::Detected;
    world.run_all([with_agent(n, "coder"), began(n, "coder-1", because), say(n, answer), end(n, TurnEnd::Completed)]);
}

fn unseen(world: &World, n: u64, fresh: bool) -> Vec<MessageId> {
    world.state.unseen(turn(n), fresh).messages
}

#[test]
fn ag_07_a_clear_takes_its_number_at_once() {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1)]);
    let cleared = world.run(Command::ClearContext);
    assert_eq!(cleared.len(), 1);
    assert_eq!((cleared[0].context, &cleared[0].body), (1, &Body::ContextCleared(ContextCleared {})));
    let later = world.run(say(1, "still here"));
    assert!(later.iter().all(|event| event.context == 1), "ag_06: all events of one batch carry one number");
    assert_eq!(world.turn(1).context, 0, "it began in the old one");
}

#[test]
fn ag_05_the_number_is_read_from_the_events() {
    let mut world = World::new();
    world.run_all([Command::ClearContext, Command::ClearContext]);
    assert_eq!(replay(&world.log).session.context, 2);
}

#[test]
fn o7_a_clear_begins_another_agent_session_and_keeps_the_old_pin() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run(Command::ClearContext);
    assert_eq!(world.state.agent_session(&agent("demo")), None);
    world.run_all([submit(2, "c"), began(2, "demo-2", AgentSessionBecause::Detected)]);
    let pins: Vec<_> = world.state.session.agent_sessions.iter().map(|pin| (pin.context, pin.first.as_str().to_owned())).collect();
    assert_eq!(pins, [(0, "demo-1".into()), (1, "demo-2".into())]);
}

#[test]
fn what_waits_through_a_clear_belongs_to_the_new_context() {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1), submit(2, "b"), Command::ClearContext]);
    assert_eq!(aligned(&world, &[(Role::User, "b")]), Aligned::Answered { turn: turn(2) });
    world.run_all([end(1, TurnEnd::Completed), began(2, "demo-2", AgentSessionBecause::Detected), say(2, "c")]);
    world.run(end(2, TurnEnd::Completed));
    assert_eq!(world.turn(2).context, 1);
    let sent = [(Role::User, "b"), (Role::Assistant, "c"), (Role::User, "d")];
    assert_eq!(aligned(&world, &sent), Aligned::New { from: 2 });
    world.run(with_agent(3, "coder"));
    assert_eq!(unseen(&world, 3, true)[0], message(2), "another agent is told what was said in this context");
}

#[test]
fn a_retry_after_a_clear_is_said_in_the_new_context() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "", TurnEnd::Failed);
    world.run_all([Command::ClearContext, retry(1, 2), began(2, "demo-2", AgentSessionBecause::Detected), say(2, "b")]);
    world.run(end(2, TurnEnd::Completed));
    let sent = [(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c")];
    assert_eq!(aligned(&world, &sent), Aligned::New { from: 2 });
}

#[test]
fn a_revert_hides_a_turn_and_all_after_it_until_it_is_undone() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.ask(2, "c", "d");
    world.ask(3, "e", "f");
    check(&world, revert(9), Err(Refusal::TurnNotFound));
    check(&world, Command::Unrevert, Err(Refusal::NothingReverted));
    world.run(revert(2));
    assert_eq!(world.hidden(), [(turn(2), None), (turn(3), None)]);
    check(&world, revert(3), Err(Refusal::TurnHidden(turn(3))));
    let further = Body::SessionReverted(SessionReverted { first_hidden: Some(turn(1)) });
    check(&world, Command::Revert { turn: None }, Ok(vec![(None, further)]));
    world.run(Command::Unrevert);
    assert_eq!((world.hidden(), world.state.session.revert), (vec![], None));
    world.run_all([revert(1), submit(4, "g")]);
    check(&world, Command::Unrevert, Err(Refusal::NothingReverted));
    assert_eq!(world.shown(), ["g"], "what is said after a revert makes it final");
}

#[test]
fn nothing_is_reverted_while_something_runs_or_where_nothing_is() {
    let mut world = World::new();
    check(&world, Command::Revert { turn: None }, Err(Refusal::NothingToRevert));
    world.run(submit(1, "a"));
    check(&world, Command::Revert { turn: None }, Err(Refusal::TurnOpen(turn(1))));
    world.run(begin(1));
    check(&world, revert(1), Err(Refusal::TurnOpen(turn(1))));
}

#[test]
fn a_revert_reaches_over_a_clear() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run(Command::ClearContext);
    world.run_all([submit(2, "c"), began(2, "demo-2", AgentSessionBecause::Detected), end(2, TurnEnd::Completed), revert(1)]);
    assert_eq!(world.hidden(), [(turn(1), None), (turn(2), None)]);
    world.run(submit(3, "d"));
    assert!(stale(&world, "demo"));
    assert_eq!(world.state.session.context, 1);
}

#[test]
fn o7_only_an_agent_that_knows_what_was_reverted_begins_anew() {
    let mut world = World::new();
    coder_answers(&mut world, 1, "x");
    world.ask(2, "a", "b");
    world.run_all([revert(2), submit(3, "c")]);
    assert!(stale(&world, "demo"));
    assert!(!stale(&world, "coder"), "it was never told");
    world.run(began(3, "demo-2", AgentSessionBecause::Reverted));
    assert!(!stale(&world, "demo"));
    let pinned = world.state.agent_session(&agent("demo")).expect("a pin");
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("demo-1", "demo-2"));
    assert_eq!(pinned.successors.iter().map(|after| after.cause).collect::<Vec<_>>(), [SuccessionCause::Revert]);
}

#[test]
fn a_turn_that_never_began_is_reverted_without_a_new_agent_session() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run_all([submit(2, "c"), end(2, TurnEnd::Failed), revert(2), submit(3, "d")]);
    assert!(!stale(&world, "demo"), "it was never told");
    let started = TurnStarted {
        agent_session: agent_session("demo-1"),
        agent_session_because: AgentSessionBecause::Detected,
        given_messages: 0,
        given: Vec::new(),
        model_set: None,
    };
    check(&world, begin(3), Ok(vec![(Some(turn(3)), started.into())]));
}

#[test]
fn an_agent_is_told_what_others_said_and_nothing_it_holds() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    coder_answers(&mut world, 2, "x");
    world.run(record(9, Role::Assistant, "from outside"));
    world.run(submit(3, "c"));
    let coders: Vec<_> = [message(2)].into_iter().chain(world.turn(2).response_messages.clone()).collect();
    let missed: Vec<_> = coders.iter().copied().chain([message(9)]).collect();
    assert_eq!(unseen(&world, 3, false), missed, "ws_n4: its own turn is not told again");
    let all: Vec<_> = [message(1)].into_iter().chain(world.turn(1).response_messages.clone()).chain(missed).collect();
    assert_eq!(unseen(&world, 3, true), all);
}

#[test]
fn ws_08_what_never_reached_the_agent_goes_along_with_the_next_prompt_unless_it_was_taken_back() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run_all([submit(2, "my name is Bob"), end(2, TurnEnd::Failed)]);
    world.run_all([submit(3, "delete it all"), Command::CancelTurn { turn: turn(3) }, submit(4, "who am I?")]);
    assert_eq!(unseen(&world, 4, false), [message(2)]);
    assert!(!unseen(&world, 4, true).contains(&message(3)));
}

#[test]
fn ws_n1_a_fork_changes_nothing_of_its_parent_and_takes_no_thread_and_no_pin_along() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let forked = fork(&world.state, forking(None), NOW).expect("allowed");
    assert_eq!((forked.cut, forked.parent_events), (world.state.head, vec![]));
    let child = child(&world, None);
    assert_eq!(child.state.session.agent_sessions, []);
    assert_eq!(child.state.origins, [ForkOrigin { agent: agent("demo"), agent_session: agent_session("demo-1") }]);
    assert_eq!(child.shown(), ["a", "b"]);
    assert_eq!(child.state.session.usage, Usage::default());
}

#[test]
fn a_fork_takes_over_the_thread_only_when_asked_to() {
    let mut world = World::new();
    world.state.session.thread = Some(Thread::new("t").expect("a name"));
    let took = fork(&world.state, Fork { take_thread: true, ..forking(None) }, NOW).expect("allowed");
    let released = Body::SessionUpdated(SessionUpdated { thread: Some(None), ..SessionUpdated::default() });
    assert_eq!(took.parent_events.into_iter().map(|event| event.body).collect::<Vec<_>>(), std::slice::from_ref(&released));
    check(&world, Command::ReleaseThread, Ok(vec![(None, released)]));
    let left = fork(&world.state, forking(None), NOW).expect("allowed");
    assert_eq!(left.parent_events, [], "nobody asked for it");
    let took = fork(&World::new().state, Fork { take_thread: true, ..forking(None) }, NOW).expect("allowed");
    assert_eq!(took.parent_events, [], "there is none to take");
    check(&World::new(), Command::ReleaseThread, Ok(vec![]));
}

#[test]
fn a_fork_is_cut_at_the_end_of_a_turn_and_never_through_one() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let end_of_1 = world.state.head;
    world.run_all([submit(2, "c"), begin(2), say(2, "d")]);
    let cut = |at| fork(&world.state, forking(at), NOW).map(|forked| forked.cut);
    assert_eq!(cut(Some(Cut::Turn(turn(1)))), Ok(end_of_1));
    assert_eq!(cut(Some(Cut::Turn(turn(2)))), Err(Refusal::TurnOpen(turn(2))));
    assert_eq!(cut(Some(Cut::Turn(turn(9)))), Err(Refusal::TurnNotFound));
    let started = world.log.iter().position(|event| event.turn == Some(turn(2)) && event.body.kind() == "turn.started").expect("began");
    assert_eq!(cut(None), Ok(started as u64), "right before the running turn began");
    let within = format!("lies within turn {}; fork at its end", turn(2));
    assert_eq!(cut(Some(Cut::Seq(world.state.head))), Err(Refusal::invalid("at", within)));
    let between = format!("must be between 1 and {}", world.state.head);
    assert_eq!(cut(Some(Cut::Seq(0))), Err(Refusal::invalid("at", between.clone())));
    assert_eq!(cut(Some(Cut::Seq(world.state.head + 1))), Err(Refusal::invalid("at", between)));
}

#[test]
fn a_fork_is_never_cut_through_a_message_of_several_events() {
    let mut world = World::new();
    let before = world.state.head;
    world.run(record(9, Role::User, &"x".repeat(3 * MAX_DELTA_BYTES)));
    let cut = |seq| fork(&world.state, forking(Some(Cut::Seq(seq))), NOW).map(|forked| forked.cut);
    let within = Err(Refusal::invalid("at", format!("lies within message {}", message(9))));
    for seq in before + 1..world.state.head {
        assert_eq!(cut(seq), within, "{seq}");
    }
    assert!(world.state.head > before + 2);
    assert_eq!((cut(before), cut(world.state.head)), (Ok(before), Ok(world.state.head)));
}

/// Else the log would be read for every fork.
#[test]
fn a_fork_behind_what_has_ended_is_made_from_the_state_and_one_before_an_end_is_not() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let end_of_1 = world.state.head;
    world.run(submit(2, "c"));
    let queued = world.state.head;
    world.run_all([begin(2), end(2, TurnEnd::Completed)]);
    let shells = |world: &World, cut| child_shell(&world.state, cut).is_some();
    let made: Vec<_> = [end_of_1, queued, world.state.head].into_iter().map(|cut| shells(&world, cut)).collect();
    assert_eq!(made, [true, false, true]);
    world.run(submit(3, "d"));
    assert_eq!((shells(&world, end_of_1), shells(&world, world.state.head)), (true, false));
    let shell = child_shell(&world.state, end_of_1).expect("it was");
    assert_eq!((shell.head, shell.session), (end_of_1, world.state.session));
}

#[test]
fn the_end_of_a_dropped_turn_may_lie_within_another() {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1), submit(2, "b"), Command::DropTurn { turn: turn(2) }, end(1, TurnEnd::Completed)]);
    let forked = fork(&world.state, forking(Some(Cut::Turn(turn(2)))), NOW);
    assert_eq!(forked, Err(Refusal::invalid("at", format!("lies within turn {}; fork at its end", turn(1)))));
}

#[test]
fn a_turn_that_waited_at_the_cut_goes_on_in_the_parent_only() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run(submit(2, "c"));
    let child = child(&world, None);
    assert_eq!((child.turn(2).state, child.turn(2).reason.as_deref()), (TurnState::Cancelled, Some("forked")));
    assert_eq!(child.shown(), ["a", "b"]);
    check(&child, begin(2), Err(Refusal::TurnNotQueued(turn(2))));
    check(&child, edit(2, 20, "x"), Err(Refusal::TurnNotQueued(turn(2))));
    check(&child, Command::DropTurn { turn: turn(2) }, Err(Refusal::TurnNotQueued(turn(2))));
    check(&child, Command::CancelTurn { turn: turn(2) }, Ok(vec![]));
    check(&child, retry(2, 3), Err(Refusal::TurnHidden(turn(2))));
}

#[test]
fn a_retry_that_waited_at_the_cut_leaves_the_older_attempt_to_the_child() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "half", TurnEnd::Failed);
    world.run_all([retry(1, 2), edit(2, 20, "A")]);
    let child = child(&world, None);
    assert_eq!(child.shown(), ["a", "half"]);
    check(&child, retry(1, 3), {
        let mut twin = World::new();
        twin.ask_in_vain(1, "a", "half", TurnEnd::Failed);
        Ok(twin.run(retry(1, 3)).into_iter().map(|event| (event.turn, event.body)).collect())
    });
}

#[test]
fn a_fork_of_a_reverted_session_has_nothing_of_what_was_reverted() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let first = world.state.head;
    world.ask(2, "secret", "hidden");
    world.run(revert(2));
    let at_revert = world.state.head;
    let reverted = child(&world, None);
    assert_eq!(reverted.shown(), ["a", "b"]);
    assert_eq!(reverted.state.origins, [], "the agent still knows what was reverted");
    assert_eq!(reverted.state.session.revert, None);
    check(&reverted, Command::Unrevert, Err(Refusal::NothingReverted));
    world.run(Command::Unrevert);
    assert!(child_shell(&world.state, at_revert).is_none(), "how it stood there is in the log only");
    assert_eq!(child(&world, Some(Cut::Seq(at_revert))).state.origins, []);
    assert_eq!(child(&world, None).state.origins.len(), 1);
    assert_eq!(child(&world, Some(Cut::Seq(first))).state.origins, [], "the agent knows more than the cut");
}

#[test]
fn a_child_that_clears_or_reverts_does_not_fork_the_parents_agent_session() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.ask(2, "c", "d");
    let mut cleared = child(&world, None);
    cleared.run(Command::ClearContext);
    assert_eq!(cleared.state.origins, []);
    let mut reverted = child(&world, None);
    reverted.run_all([revert(2), submit(3, "e")]);
    assert_eq!(reverted.state.origins, []);
    let mut undone = child(&world, None);
    undone.run_all([revert(2), Command::Unrevert, submit(3, "e")]);
    assert_eq!(undone.state.origins.len(), 1);
}

#[test]
fn a_fork_names_the_agent_sessions_that_know_no_more_than_the_cut_and_no_others() {
    let mut world = World::new();
    coder_answers(&mut world, 1, "x");
    world.ask(2, "a", "b");
    let origins = |world: &World, at| child(world, at).state.origins.into_iter().map(|origin| origin.agent).collect::<Vec<_>>();
    assert_eq!(origins(&world, Some(Cut::Turn(turn(1)))), [agent("coder")], "the other began later");
    world.run_all([with_agent(3, "coder"), began(3, "coder-1", AgentSessionBecause::Inherited), end(3, TurnEnd::Completed)]);
    let child = child(&world, Some(Cut::Turn(turn(2))));
    assert_eq!(child.state.origins.iter().map(|origin| origin.agent.clone()).collect::<Vec<_>>(), [agent("demo")]);
    let knowing: Vec<_> = child.state.threads.iter().map(|thread| thread.agent.clone()).collect();
    assert_eq!(knowing, [agent("demo")], "a new agent session of the other knows nothing");
}

#[test]
fn a_turn_in_another_agent_session_tells_the_pinned_one_nothing() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let seen = |world: &World| world.state.thread(&agent("demo")).expect("it has run").seen_seq;
    let before = seen(&world);
    let other = |n, id: &str| Command::SubmitTurn(SubmitTurn { agent_session: Some(agent_session(id)), ..submitted(n, "x") });
    world.run_all([other(2, "other"), began(2, "other", AgentSessionBecause::Request), end(2, TurnEnd::Completed)]);
    assert_eq!(seen(&world), before);
    world.run_all([other(3, "demo-1"), began(3, "demo-1", AgentSessionBecause::Request)]);
    assert_eq!(seen(&world), world.state.head);
}

#[test]
fn ws_n4_an_agent_that_forks_its_session_is_not_told_what_it_knows() {
    let mut world = World::new();
    world.run_all([record(8, Role::User, "old"), record(9, Role::Assistant, "older")]);
    world.ask(1, "a", "b");
    coder_answers(&mut world, 2, "x");
    let mut child = child(&world, None);
    child.run(submit(3, "c"));
    let coders: Vec<_> = [message(2)].into_iter().chain(world.turn(2).response_messages.clone()).collect();
    assert_eq!(unseen(&child, 3, false), coders, "only what the other agent said since");
    assert_eq!(unseen(&child, 3, true).len(), 6, "an agent that cannot fork is told everything");
}

#[test]
fn an_update_says_just_what_changed_and_nothing_where_nothing_did() {
    let none = SessionUpdated::default;
    let cases: [(UpdateSession, Body); 5] = [
        (
            UpdateSession { title: Some(Some("b".into())), ..UpdateSession::default() },
            SessionUpdated { title: Some(Some("b".into())), ..none() }.into(),
        ),
        (
            UpdateSession { agent: Some(Some(agent("coder"))), ..UpdateSession::default() },
            SessionUpdated { agent: Some(Some(agent("coder"))), ..none() }.into(),
        ),
        (
            UpdateSession { model: Some(Some(model("a/b"))), ..UpdateSession::default() },
            SessionUpdated { model: Some(Some(model("a/b"))), ..none() }.into(),
        ),
        (
            UpdateSession { metadata: Some(json(r#"{"a":1}"#)), ..UpdateSession::default() },
            SessionUpdated { metadata: Some(json(r#"{"a":1}"#)), ..none() }.into(),
        ),
        (UpdateSession { archived: Some(true), ..UpdateSession::default() }, SessionArchived { archived: true }.into()),
    ];
    let mut world = World::new();
    for (update, changed) in cases {
        check(&world, Command::UpdateSession(update.clone()), Ok(vec![(None, changed)]));
        world.run(Command::UpdateSession(update.clone()));
        check(&world, Command::UpdateSession(update), Ok(vec![]));
    }
}

#[test]
fn se_n2_agent_and_model_stay_through_revert_fork_and_clear() {
    let mut world = World::new();
    let lock = UpdateSession { agent: Some(Some(agent("coder"))), model: Some(Some(model("a/b"))), ..UpdateSession::default() };
    world.run(Command::UpdateSession(lock));
    coder_answers(&mut world, 1, "x");
    world.run_all([revert(1), Command::ClearContext, submit(2, "y")]);
    for state in [&world.state, &child(&world, None).state, &replay(&world.log)] {
        assert_eq!((&state.session.agent, &state.session.model), (&Some(agent("coder")), &Some(model("a/b"))));
    }
    assert_eq!((world.turn(2).agent.clone(), world.turn(2).agent_because), (agent("coder"), AgentBecause::Session));
}
