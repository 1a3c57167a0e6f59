//! What waits: first come first served, edited, dropped, interrupted, and what a trashed session does with it.

use crate::support::*;
use everkept_core::*;

fn cancelled(n: u64, reason: &str) -> (Option<TurnId>, Body) {
    (Some(turn(n)), Body::TurnEnded(TurnEnded { state: TurnEnd::Cancelled, reason: reason.into(), error: None }))
}

fn cancelling(n: u64) -> (Option<TurnId>, Body) {
    (Some(turn(n)), Body::TurnCancelling(TurnCancelling {}))
}

fn busy(n: u64, if_busy: IfBusy) -> Command {
    Command::SubmitTurn(SubmitTurn { if_busy, ..submitted(n, "x") })
}

/// Turn 1 runs, turns 2 and 3 wait.
fn waiting() -> World {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1), submit(2, "b"), submit(3, "c")]);
    world
}

#[test]
fn on_05_a_message_is_in_the_log_before_its_turn_can_begin() {
    let mut world = World::new();
    let events = world.run(submit(1, "hello"));
    let kinds: Vec<_> = events.iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["turn.queued", "message.added"]);
    assert_eq!(owed(&world.state), [Effect::RunTurn { turn: turn(1) }]);
    assert_eq!(effects(&world.state, &events[0]), [Effect::RunTurn { turn: turn(1) }]);
}

#[test]
fn the_first_that_came_is_the_first_that_runs() {
    let mut world = waiting();
    check(&world, begin(2), Err(Refusal::SessionBusy(turn(1))));
    world.run(end(1, TurnEnd::Completed));
    check(&world, begin(3), Err(Refusal::SessionBusy(turn(2))));
    check(&world, begin(1), Err(Refusal::TurnNotQueued(turn(1))));
    check(&world, begin(9), Err(Refusal::TurnNotFound));
    world.run(begin(2));
    assert_eq!((world.state.running, world.state.queue.clone()), (Some(turn(2)), [turn(3)].into()));
}

#[test]
fn a_message_may_refuse_to_wait() {
    check(&waiting(), busy(4, IfBusy::Reject), Err(Refusal::SessionBusy(turn(1))));
    let mut world = World::new();
    world.run(submit(1, "a"));
    check(&world, busy(2, IfBusy::Reject), Err(Refusal::SessionBusy(turn(1))));
}

#[test]
fn a_message_that_interrupts_ends_what_runs_and_what_waits() {
    let mut world = waiting();
    let events = world.run(busy(4, IfBusy::Interrupt));
    let bodies: Vec<_> = events.into_iter().take(3).map(|event| (event.turn, event.body)).collect();
    assert_eq!(bodies, [cancelled(2, "cancelled"), cancelled(3, "cancelled"), cancelling(1)]);
    assert_eq!(world.state.queue, [turn(4)]);
    assert_eq!(owed(&world.state), [Effect::AwaitTurn { turn: turn(1) }, Effect::CancelTurn { turn: turn(1) }]);
}

#[test]
fn a_full_queue_takes_no_more_but_an_interruption_empties_it() {
    let mut world = World::new();
    for n in 0..MAX_QUEUE as u64 {
        world.run(submit(n, "x"));
    }
    let full = Refusal::QueueFull { limit: MAX_QUEUE };
    check(&world, submit(5_000, "x"), Err(full.clone()));
    world.run(busy(5_000, IfBusy::Interrupt));
    assert_eq!(world.state.queue, [turn(5_000)]);
}

#[test]
fn history_has_no_place_in_the_middle_of_a_turn() {
    let earlier = vec![NewMessage { id: message(8), role: Role::User, parts: text("old") }];
    let with = |if_busy| Command::SubmitTurn(SubmitTurn { earlier: earlier.clone(), if_busy, ..submitted(4, "x") });
    check(&waiting(), with(IfBusy::Queue), Err(Refusal::SessionBusy(turn(1))));
    check(&waiting(), with(IfBusy::Interrupt), Err(Refusal::SessionBusy(turn(1))));
    check(&waiting(), record(9, Role::User, "x"), Err(Refusal::SessionBusy(turn(1))));
}

#[test]
fn what_waits_can_be_taken_back_and_what_runs_cannot() {
    let mut world = waiting();
    check(&world, Command::DropTurn { turn: turn(1) }, Err(Refusal::TurnNotQueued(turn(1))));
    check(&world, Command::DropTurn { turn: turn(9) }, Err(Refusal::TurnNotFound));
    check(&world, Command::DropTurn { turn: turn(2) }, Ok(vec![cancelled(2, "dropped")]));
    world.run(Command::DropTurn { turn: turn(2) });
    check(&world, Command::DropTurn { turn: turn(2) }, Err(Refusal::TurnNotQueued(turn(2))));
    assert_eq!(world.hidden(), [(turn(2), None)]);
    assert_eq!(world.shown(), ["a", "c"]);
}

#[test]
fn a_cancel_ends_what_waits_and_asks_what_runs_to_end() {
    let mut world = waiting();
    let cancel = |n| Command::CancelTurn { turn: turn(n) };
    check(&world, cancel(2), Ok(vec![cancelled(2, "cancelled")]));
    check(&world, cancel(1), Ok(vec![cancelling(1)]));
    check(&world, cancel(9), Err(Refusal::TurnNotFound));
    world.run(cancel(1));
    check(&world, cancel(1), Ok(vec![]));
    world.run(end(1, TurnEnd::Cancelled));
    check(&world, cancel(1), Ok(vec![]));
}

/// The agent is being opened: nothing is claimed, so nothing has to be told to anybody.
#[test]
fn a_cancel_while_the_agent_opens_leaves_nothing_to_begin() {
    let mut world = World::new();
    world.run_all([submit(1, "a"), Command::CancelTurn { turn: turn(1) }]);
    check(&world, begin(1), Err(Refusal::TurnNotQueued(turn(1))));
    assert_eq!(owed(&world.state), []);
}

#[test]
fn an_edit_replaces_the_request_of_what_waits() {
    let mut world = waiting();
    check(&world, edit(1, 10, "A"), Err(Refusal::TurnNotQueued(turn(1))));
    check(&world, edit(9, 10, "A"), Err(Refusal::TurnNotFound));
    check(&world, edit(2, 20, ""), refused("input", "must not be empty"));
    check(&world, Command::EditTurn(edited(2)), Ok(vec![]));
    world.run(edit(2, 20, "B"));
    assert_eq!(world.shown(), ["a", "c", "B"]);
    assert_eq!(world.turn(2).request_message, Some(message(20)));
}

#[test]
fn se_03_an_edit_that_names_the_same_agent_keeps_the_model_that_was_chosen() {
    let mut world = World::new();
    world.run(Command::SubmitTurn(SubmitTurn { model: Some(model("a/b")), ..submitted(1, "x") }));
    world.run(Command::EditTurn(EditTurn { agent: Some(agent("demo")), ..edited(1) }));
    assert_eq!((&world.turn(1).model, world.turn(1).model_because), (&Some(model("a/b")), ModelBecause::Input));
    assert_eq!(world.turn(1).agent_because, AgentBecause::Input);
    world.run(Command::EditTurn(EditTurn { agent: Some(agent("coder")), ..edited(1) }));
    assert_eq!((&world.turn(1).model, world.turn(1).model_because), (&Some(model("maker/coder")), ModelBecause::Agent));
    let unknown = Command::EditTurn(EditTurn { agent: Some(agent("who")), ..edited(1) });
    check(&world, unknown, refused("agent", "who is not a configured agent"));
}

#[test]
fn a_trashed_session_ends_what_runs_and_keeps_what_waits_for_its_return() {
    let mut world = waiting();
    check(
        &world,
        Command::DeleteSession { keep_ms: None },
        Ok(vec![cancelling(1), (None, Body::SessionDeleted(SessionDeleted { purge_at: None }))]),
    );
    world.run_all([Command::DeleteSession { keep_ms: None }, end(1, TurnEnd::Cancelled)]);
    assert_eq!(owed(&world.state), [], "nothing begins in the trash");
    check(&world, Command::DeleteSession { keep_ms: None }, Ok(vec![]));
    let gone = [
        begin(2),
        submit(4, "x"),
        retry(1, 4),
        redo(1, 4),
        go_on(1, 4),
        edit(2, 20, "x"),
        record(9, Role::User, "x"),
        answer(1, "x", 4),
        Command::CancelTurn { turn: turn(2) },
        Command::DropTurn { turn: turn(2) },
        Command::ClearContext,
        Command::Revert { turn: None },
        Command::Unrevert,
        Command::ReleaseThread,
        Command::RemoveRule { rule: question(1) },
        Command::UpdateSession(UpdateSession::default()),
    ];
    for command in gone {
        check(&world, command, Err(Refusal::SessionNotFound));
    }
    world.run(Command::RestoreSession);
    check(&world, Command::RestoreSession, Ok(vec![]));
    assert_eq!(owed(&world.state), [Effect::RunTurn { turn: turn(2) }]);
}

#[test]
fn nothing_can_be_done_with_a_session_that_was_never_made() {
    let mut world = World::new();
    world.state = State::new(session(1));
    let nothing = [
        submit(1, "x"),
        record(1, Role::User, "x"),
        Command::ClearContext,
        Command::DeleteSession { keep_ms: None },
        Command::RestoreSession,
        Command::ReleaseThread,
        Command::Revert { turn: None },
        Command::Unrevert,
        Command::UpdateSession(UpdateSession { title: Some(None), archived: Some(true), ..UpdateSession::default() }),
    ];
    for command in nothing {
        check(&world, command, Err(Refusal::SessionNotFound));
    }
    check(&world, settle(1), Ok(vec![]));
    assert_eq!(fork(&world.state, forking(None), NOW), Err(Refusal::SessionNotFound));
}
