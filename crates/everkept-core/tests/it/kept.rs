//! What is kept of an agent's own sessions, and what an agent is told after it was given one back.

use crate::support::*;
use everkept_core::*;

fn blob(text: &str) -> BlobRef {
    BlobRef { id: digest_of(text), bytes: text.len() as u64 }
}

fn piece(from: u64, text: &str) -> FileKept {
    FileKept { file: "s.jsonl".into(), from, pieces: vec![blob(text)] }
}

fn keep(n: u64, files: Vec<FileKept>) -> Command {
    Command::KeepAgentSession(KeepAgentSession { turn: turn(n), agent_session: agent_session("demo-1"), files })
}

fn put_back(n: u64) -> Command {
    let files = vec![FilePutBack { file: "s.jsonl".into(), bytes: 5 }];
    Command::PutBackAgentSession(PutBackAgentSession { turn: turn(n), agent_session: agent_session("demo-1"), files })
}

fn pieces(world: &World) -> Vec<BlobRef> {
    let kept = world.state.kept(&agent("demo"), &agent_session("demo-1")).expect("it is kept");
    kept.file("s.jsonl").expect("it has one file").pieces.clone()
}

fn unseen(world: &World, n: u64) -> Vec<MessageId> {
    world.state.unseen(turn(n), false).messages
}

/// Turns 1 and 2 are answered, and the agent's own record of the first is kept.
fn one_of_two_kept() -> World {
    let mut world = World::new();
    world.ask(1, "a", "b");
    world.run(keep(1, vec![piece(0, "aa")]));
    world.ask(2, "c", "d");
    world
}

#[test]
fn a_turn_adds_a_piece_and_a_file_that_was_written_anew_begins_anew() {
    let mut world = one_of_two_kept();
    world.run(keep(2, vec![piece(2, "bbb")]));
    assert_eq!(pieces(&world), [blob("aa"), blob("bbb")]);
    world.run(keep(2, vec![piece(5, "c")]));
    assert_eq!(pieces(&world), [blob("aa"), blob("bbb"), blob("c")]);
    world.run(keep(2, vec![piece(2, "dd")]));
    assert_eq!(pieces(&world), [blob("aa"), blob("dd")], "what is kept again takes the place of what was there");
    world.run(keep(2, vec![piece(0, "x")]));
    assert_eq!(pieces(&world), [blob("x")]);
    assert_eq!(replay(&world.log).kept, world.state.kept);
}

#[test]
fn a_copy_goes_on_where_a_piece_ends_or_is_refused() {
    let world = one_of_two_kept();
    for from in [1, 3] {
        let refused = decide(&world.state, keep(2, vec![piece(from, "x")]), NOW);
        assert!(matches!(refused, Err(Refusal::Invalid { field: "files", .. })), "{from}: {refused:?}");
    }
    let other = FileKept { file: "other".into(), ..piece(2, "x") };
    assert!(decide(&world.state, keep(2, vec![other]), NOW).is_err(), "nothing is kept of it");
}

#[test]
fn what_was_read_while_the_agent_went_on_is_not_kept() {
    let mut world = one_of_two_kept();
    check(&world, keep(1, vec![piece(2, "half")]), Ok(vec![]));
    check(&world, keep(2, vec![]), Ok(vec![]));
    world.run_all([submit(3, "e"), begin(3)]);
    check(&world, keep(2, vec![piece(2, "half")]), Ok(vec![]));
    check(&world, keep(3, vec![piece(2, "half")]), Err(Refusal::TurnOpen(turn(3))));
}

#[test]
fn the_turn_of_another_agent_does_not_keep_a_copy_from_being_made() {
    let mut world = one_of_two_kept();
    let coder = SubmitTurn { agent: Some(agent("coder")), ..submitted(3, "e") };
    world.run_all([Command::SubmitTurn(coder), began(3, "coder-1", AgentSessionBecause::Detected)]);
    world.run(keep(2, vec![piece(2, "bbb")]));
    assert_eq!(pieces(&world), [blob("aa"), blob("bbb")]);
}

#[test]
fn o7_an_agent_that_was_given_its_session_back_is_told_what_the_copy_does_not_hold_and_nothing_twice() {
    let mut world = one_of_two_kept();
    world.run(submit(3, "e"));
    assert_eq!(unseen(&world, 3), []);
    let seen = world.run(put_back(3));
    assert_eq!(seen.len(), 1);
    let second: Vec<_> = [message(2)].into_iter().chain(world.turn(2).response_messages.clone()).collect();
    assert_eq!(unseen(&world, 3), second, "the copy was made before it");
    world.run(begin(3));
    world.run_all([end(3, TurnEnd::Completed), submit(4, "f")]);
    assert_eq!(unseen(&world, 4), [], "it went along with the prompt");

    let mut world = one_of_two_kept();
    world.run_all([keep(2, vec![piece(2, "bbb")]), submit(3, "e"), put_back(3)]);
    assert_eq!(unseen(&world, 3), [], "the copy holds all of it");
}

#[test]
fn a_fork_goes_on_from_what_was_kept_at_its_cut() {
    let world = one_of_two_kept();
    let mut child = child(&world, None);
    assert_eq!(child.state.kept, world.state.kept);
    child.run_all([submit(3, "e"), put_back(3)]);
    let second: Vec<_> = [message(2)].into_iter().chain(world.turn(2).response_messages.clone()).collect();
    assert_eq!(unseen(&child, 3), second, "forked from a copy that was made before it");
}

#[test]
fn oc_08_what_was_said_in_a_session_named_for_one_turn_is_told_to_the_pinned_one_once() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    let named = |n| Command::SubmitTurn(SubmitTurn { agent_session: Some(agent_session("mine")), ..submitted(n, "c") });
    let on_named = |n| began(n, "mine", AgentSessionBecause::Request);
    world.run(named(2));
    assert_eq!(unseen(&world, 2), [], "what it holds is for those to know who named it");
    world.run_all([on_named(2), say(2, "d"), end(2, TurnEnd::Completed), submit(3, "e")]);
    let second: Vec<_> = [message(2)].into_iter().chain(world.turn(2).response_messages.clone()).collect();
    assert_eq!(unseen(&world, 3), second);
    world.run_all([begin(3), end(3, TurnEnd::Completed), submit(4, "f")]);
    assert_eq!(unseen(&world, 4), []);

    // What somebody else said meanwhile the named one is told once as well.
    world.run_all([begin(4), end(4, TurnEnd::Completed), record(9, Role::User, "from outside"), named(5)]);
    assert_eq!(unseen(&world, 5), [message(9)]);
    world.run_all([on_named(5), end(5, TurnEnd::Completed), named(6)]);
    assert_eq!(unseen(&world, 6), []);
    world.run_all([on_named(6), end(6, TurnEnd::Completed), submit(7, "g")]);
    assert_eq!(unseen(&world, 7), [message(9), message(5), message(6)], "and the pinned one, once");
}

#[test]
fn what_goes_along_is_named_as_it_lies_in_the_conversation() {
    let mut world = World::new();
    world.run(record(8, Role::User, "before"));
    world.ask(1, "a", "b");
    world.run_all([record(9, Role::User, "x"), record(10, Role::Assistant, "y"), submit(2, "c")]);
    let run = |first, last| GivenMessages { first, last };
    assert_eq!(world.state.unseen(turn(2), false).runs, [run(message(9), message(10))]);
    let all = world.state.unseen(turn(2), true);
    assert_eq!(all.runs, [run(message(8), message(10))]);
    assert_eq!(all.messages.len(), 5);

    // A message that was taken back before anybody read it lies between.
    world.run_all([Command::CancelTurn { turn: turn(2) }, record(11, Role::User, "z"), submit(3, "d")]);
    let unseen = world.state.unseen(turn(3), false);
    assert_eq!(unseen.runs, [run(message(9), message(10)), run(message(11), message(11))]);
    assert_eq!(unseen.messages, [message(9), message(10), message(11)]);
}

#[test]
fn no_more_runs_are_named_than_an_event_has_room_for() {
    let mut world = World::new();
    world.ask(1, "a", "b");
    for n in 0..=MAX_RUNS as u64 {
        let dropped = 1_000 + n;
        world.run_all([record(2_000 + n, Role::User, "x"), submit(dropped, "no"), Command::CancelTurn { turn: turn(dropped) }]);
    }
    world.run_all([record(5_000, Role::User, "y"), record(5_001, Role::User, "y"), submit(2, "c")]);
    let unseen = world.state.unseen(turn(2), false);
    assert_eq!((unseen.messages.len(), unseen.runs.len()), (MAX_RUNS + 3, MAX_RUNS));
    let last = message(2_000 + MAX_RUNS as u64 - 1);
    assert_eq!(unseen.runs.last(), Some(&GivenMessages { first: last, last }));
}
