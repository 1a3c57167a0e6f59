//! A conversation that is sent again: what is new of it, what is kept, and where it parts from the one that is held.

use crate::support::*;
use everkept_core::Role::{Assistant, System, User};
use everkept_core::*;
use proptest::prelude::*;

fn world(exchanges: &[(&str, &str)]) -> World {
    let mut world = World::new();
    for (n, (asked, answered)) in (1..).zip(exchanges) {
        world.ask(n, asked, answered);
    }
    world
}

fn diverged(at: usize, held: MessageId, cut: u64) -> Aligned {
    Aligned::Diverged { at, held: Some(held), cut }
}

fn answer_of(world: &World, n: u64) -> MessageId {
    world.turn(n).response_messages[0]
}

fn end_of(world: &World, n: u64) -> u64 {
    world.state.turn(turn(n)).and_then(|entry| entry.ended_seq).expect("it has ended")
}

#[test]
fn on_04_on_07_only_what_follows_the_kept_conversation_is_new() {
    let world = world(&[("a", "x"), ("b", "y")]);
    let sent = [(System, "be brief"), (User, "a"), (Assistant, "x"), (User, "b"), (Assistant, "y"), (User, "c")];
    assert_eq!(aligned(&world, &sent), Aligned::New { from: 5 });
    assert_eq!(aligned(&World::new(), &sent), Aligned::New { from: 0 });
    assert_eq!(aligned(&World::new(), &[]), Aligned::Kept);
}

#[test]
fn o4_the_same_conversation_again_is_the_stored_answer_again() {
    let world = world(&[("a", "x"), ("b", "y")]);
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "x"), (User, "b")]), Aligned::Answered { turn: turn(2) });
    assert_eq!(aligned(&world, &[(User, "a")]), Aligned::Answered { turn: turn(1) }, "a history cut short at its end");
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "x")]), Aligned::Kept);
}

#[test]
fn two_identical_consecutive_messages_are_two() {
    let world = world(&[("hi", "x"), ("hi", "x")]);
    assert_eq!(aligned(&world, &[(User, "hi"), (Assistant, "x"), (User, "hi")]), Aligned::Answered { turn: turn(2) });
    let third = [(User, "hi"), (Assistant, "x"), (User, "hi"), (Assistant, "x"), (User, "hi")];
    assert_eq!(aligned(&world, &third), Aligned::New { from: 4 });
    let mut failed = World::new();
    failed.ask_in_vain(1, "hi", "", TurnEnd::Failed);
    assert_eq!(aligned(&failed, &[(User, "hi"), (User, "hi")]), Aligned::New { from: 1 });
}

#[test]
fn an_edited_earlier_message_parts_from_the_conversation_at_its_place() {
    let world = world(&[("a", "x"), ("b", "y")]);
    let sent = [(User, "a"), (Assistant, "x"), (User, "B"), (Assistant, "y"), (User, "c")];
    assert_eq!(aligned(&world, &sent), diverged(2, message(2), end_of(&world, 1)));
    assert_eq!(aligned(&world, &[(User, "A")]), diverged(0, message(1), 0));
}

/// A log is never cut within an exchange: the question goes along with the answer that was edited.
#[test]
fn an_edited_answer_takes_its_question_along() {
    let world = world(&[("a", "x"), ("b", "y")]);
    let sent = [(User, "a"), (Assistant, "x"), (User, "b"), (Assistant, "Y"), (User, "c")];
    assert_eq!(aligned(&world, &sent), diverged(2, answer_of(&world, 2), end_of(&world, 1)));
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "X"), (User, "c")]), diverged(0, answer_of(&world, 1), 0));
}

#[test]
fn a_history_without_its_beginning_is_another_one() {
    let world = world(&[("a", "x"), ("b", "y")]);
    assert_eq!(aligned(&world, &[(User, "b"), (Assistant, "y"), (User, "c")]), diverged(0, message(1), 0));
}

#[test]
fn the_partial_answer_of_a_failed_turn_may_be_sent_or_left_out() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "half", TurnEnd::Failed);
    world.ask(2, "b", "y");
    for sent in [
        &[(User, "a"), (User, "b"), (Assistant, "y"), (User, "c")][..],
        &[(User, "a"), (Assistant, "half"), (User, "b"), (Assistant, "y"), (User, "c")],
    ] {
        assert_eq!(aligned(&world, sent), Aligned::New { from: sent.len() - 1 });
    }
    let other = [(User, "a"), (Assistant, "an apology"), (User, "b")];
    assert_eq!(aligned(&world, &other), diverged(1, message(2), end_of(&world, 1)));
}

#[test]
fn system_messages_are_not_compared() {
    let world = world(&[("a", "x")]);
    assert_eq!(aligned(&world, &[(System, "1"), (User, "a"), (System, "2"), (Assistant, "x")]), Aligned::Kept);
    let sent = [(System, "1"), (User, "a"), (Assistant, "x"), (System, "2"), (System, "3"), (User, "b")];
    assert_eq!(aligned(&world, &sent), Aligned::New { from: 3 }, "those right before the new message belong to it");
    assert_eq!(aligned(&world, &[(System, "only")]), Aligned::Kept);
}

#[test]
fn parts_and_a_string_of_the_same_text_are_the_same() {
    let mut world = World::new();
    let parts = vec![NewPart::Text("one ".into()), NewPart::Text(String::new()), NewPart::Text("two".into())];
    world.run(Command::SubmitTurn(SubmitTurn { parts, ..submitted(1, "") }));
    assert_eq!(aligned(&world, &[(User, "one two")]), Aligned::Answered { turn: turn(1) });
    let long = "äöü ".repeat(MAX_DELTA_BYTES);
    world.run_all([begin(1), end(1, TurnEnd::Failed), submit(2, &long)]);
    assert_eq!(aligned(&world, &[(User, "one two"), (User, &long)]), Aligned::Answered { turn: turn(2) });
}

#[test]
fn an_answer_in_several_messages_is_compared_as_one_and_reasoning_not_at_all() {
    let mut world = World::new();
    let text = |name: &str, text: &str| Said::Text { message: Some(name.into()), text: text.into() };
    let thought = Said::Reasoning { message: Some("m1".into()), text: "hm".into() };
    world.run_all([submit(1, "a"), begin(1), hear(1, [thought, text("m1", "x"), text("m2", "y")]), end(1, TurnEnd::Completed)]);
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "xy"), (User, "b")]), Aligned::New { from: 2 });
}

#[test]
fn recorded_messages_are_held_like_any_other() {
    let mut world = World::new();
    world.run_all([record(1, User, "a"), record(2, Assistant, "x"), record(3, User, "b")]);
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "x"), (User, "b")]), Aligned::Kept, "no turn answers it");
    let cut = world.state.message(message(1)).and_then(|held| held.last_seq).expect("whole");
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "X")]), diverged(1, message(2), cut));
}

#[test]
fn a_cleared_context_begins_an_empty_conversation() {
    let mut world = world(&[("a", "x")]);
    world.run(Command::ClearContext);
    assert_eq!(aligned(&world, &[(User, "b")]), Aligned::New { from: 0 });
}

#[test]
fn what_is_reverted_is_not_held() {
    let mut world = world(&[("a", "x"), ("b", "y")]);
    let whole = [(User, "a"), (Assistant, "x"), (User, "b")];
    world.run(Command::Revert { turn: Some(turn(2)) });
    assert_eq!(aligned(&world, &whole), Aligned::New { from: 2 });
    world.run(Command::Unrevert);
    assert_eq!(aligned(&world, &whole), Aligned::Answered { turn: turn(2) });
}

#[test]
fn the_answer_of_the_last_attempt_counts() {
    let mut world = world(&[("a", "x")]);
    world.run_all([redo(1, 2), begin(2), say(2, "z"), end(2, TurnEnd::Completed)]);
    assert_eq!(aligned(&world, &[(User, "a")]), Aligned::Answered { turn: turn(2) });
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "z"), (User, "b")]), Aligned::New { from: 2 });
    assert_eq!(aligned(&world, &[(User, "a"), (Assistant, "x"), (User, "b")]), diverged(0, answer_of(&world, 2), 0));
}

/// The redone answer stands after the turn that came in between: there is no cut with the one and without the other.
#[test]
fn a_cut_never_takes_along_what_was_not_sent() {
    let mut world = world(&[("a", "x"), ("b", "y"), ("c", "z")]);
    world.run_all([redo(2, 4), begin(4), say(4, "Y"), end(4, TurnEnd::Completed)]);
    let sent = [(User, "a"), (Assistant, "x"), (User, "b"), (Assistant, "Y"), (User, "C")];
    assert_eq!(aligned(&world, &sent), diverged(2, message(3), end_of(&world, 1)));
}

/// Found by the fuzzer: the answer was taken for the failed one, and the recorded one was missed.
#[test]
fn an_answer_that_was_left_out_is_not_mistaken_for_the_same_words_after_it() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "x", TurnEnd::Failed);
    world.run(record(8, Assistant, "x"));
    world.ask(2, "b", "y");
    let left_out = [(User, "a"), (Assistant, "x"), (User, "b"), (Assistant, "y"), (User, "c")];
    assert_eq!(aligned(&world, &left_out), Aligned::New { from: 4 });
    assert_eq!(aligned(&world, &left_out[..3]), Aligned::Answered { turn: turn(2) });
    let given = [(User, "a"), (Assistant, "x"), (Assistant, "x"), (User, "b"), (Assistant, "y"), (User, "c")];
    assert_eq!(aligned(&world, &given), Aligned::New { from: 5 });
    let other = [(User, "a"), (Assistant, "x"), (User, "B")];
    assert_eq!(aligned(&world, &other), diverged(2, message(8), end_of(&world, 1)), "as far as the first way led");
}

/// Found by the fuzzer: a client that goes by the list of messages had the retried answer stored twice.
#[test]
fn o4_an_answer_that_came_late_is_known_where_it_is_listed_and_where_it_belongs() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "x", TurnEnd::Interrupted);
    world.run_all([record(8, Assistant, "b"), retry(1, 2), begin(2), say(2, "y"), end(2, TurnEnd::Interrupted)]);
    let listed = [(User, "a"), (Assistant, "b"), (Assistant, "y"), (User, "c")];
    assert_eq!(aligned(&world, &listed), Aligned::New { from: 3 });
    assert_eq!(aligned(&world, &listed[..3]), Aligned::Kept);
    let in_its_place = [(User, "a"), (Assistant, "y"), (Assistant, "b"), (User, "c")];
    assert_eq!(aligned(&world, &in_its_place), Aligned::New { from: 3 });
}

/// Every one of them may have been left out: there are more ways than anybody could try.
#[test]
fn many_answers_that_may_be_left_out_are_compared_in_no_time() {
    let mut world = World::new();
    world.ask_in_vain(1, "a", "x", TurnEnd::Interrupted);
    for n in 2..60 {
        world.run_all([go_on(n - 1, n), begin(n), say(n, "x"), end(n, TurnEnd::Interrupted)]);
    }
    let mut sent = vec![(User, "a")];
    sent.extend([(Assistant, "x"); 40]);
    assert_eq!(aligned(&world, &sent), Aligned::Kept);
    world.ask(60, "b", "y");
    sent.push((User, "c"));
    assert!(matches!(aligned(&world, &sent), Aligned::Diverged { .. }));
}

#[test]
fn a_fork_keeps_all_before_it_parts_although_something_was_reverted_there() {
    let mut world = world(&[("a", "x"), ("b", "y")]);
    world.run(Command::Revert { turn: Some(turn(2)) });
    world.ask(3, "c", "z");
    world.ask(4, "d", "w");
    let sent = [(User, "a"), (Assistant, "x"), (User, "c"), (Assistant, "z"), (User, "D")];
    assert_eq!(aligned(&world, &sent), diverged(4, message(4), end_of(&world, 3)));
}

#[derive(Debug, Clone)]
enum Step {
    Ask { text: &'static str, answer: &'static str, end: TurnEnd },
    Record { role: Role, text: &'static str },
    Redo(usize),
    Revert(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let text = || prop::sample::select(vec!["a", "b"]);
    let answer = prop::sample::select(vec!["x", "y", ""]);
    let end = prop::sample::select(vec![TurnEnd::Completed, TurnEnd::Completed, TurnEnd::Failed, TurnEnd::Interrupted]);
    prop_oneof![
        6 => (text(), answer, end).prop_map(|(text, answer, end)| Step::Ask { text, answer, end }),
        1 => (prop::sample::select(vec![User, Assistant, System]), text()).prop_map(|(role, text)| Step::Record { role, text }),
        1 => (0..8_usize).prop_map(Step::Redo),
        1 => (0..8_usize).prop_map(Step::Revert),
    ]
}

/// One message as the model holds it, and whether it may be left out.
type Held = (Role, &'static str, bool);

/// An exchange or a recorded message: the turn that counts in it, and since which step each of its messages is there.
type Place = (Option<u64>, Vec<(u64, Held)>);

/// The obvious model: exchanges in their places, each with the answer that counts; and the same as it is listed.
fn play(steps: &[Step]) -> (World, [Vec<Held>; 2]) {
    let mut world = World::new();
    let mut places: Vec<Place> = Vec::new();
    let mut fresh = 0;
    let answered = |asked: (u64, Held), at: u64, answer: &'static str, end: TurnEnd| {
        let optional = end != TurnEnd::Completed || answer.is_empty();
        vec![asked, (if answer.is_empty() { asked.0 } else { at }, (Assistant, answer, optional))]
    };
    for step in steps {
        fresh += 1;
        let turns: Vec<usize> = (0..places.len()).filter(|n| places[*n].0.is_some()).collect();
        let pick = |n: usize| turns.get(n % turns.len().max(1)).copied();
        match step {
            Step::Ask { text, answer, end: how } => {
                world.ask_in_vain(fresh, text, answer, *how);
                places.push((Some(fresh), answered((fresh, (User, *text, false)), fresh, answer, *how)));
            }
            Step::Record { role, text } => {
                world.run(record(fresh, *role, text));
                places.push((None, vec![(fresh, (*role, *text, false))]));
            }
            Step::Redo(n) => {
                let Some(at) = pick(*n) else { continue };
                let old = places[at].0.expect("a turn");
                let again = if world.turn(old).state == TurnState::Completed { redo } else { retry };
                world.run_all([again(old, fresh), begin(fresh), say(fresh, "z"), end(fresh, TurnEnd::Completed)]);
                places[at] = (Some(fresh), answered(places[at].1[0], fresh, "z", TurnEnd::Completed));
            }
            Step::Revert(n) => {
                let Some(at) = pick(*n) else { continue };
                world.run(Command::Revert { turn: places[at].0.map(turn) });
                places.truncate(at);
            }
        }
    }
    let mut held: Vec<_> = places.into_iter().flat_map(|place| place.1).filter(|(_, held)| held.0 != System).collect();
    let as_conversation = held.iter().map(|(_, held)| *held).collect();
    held.sort_by_key(|(since, _)| *since);
    (world, [as_conversation, held.into_iter().map(|(_, held)| held).collect()])
}

/// The later, the more of what was sent is held.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Diverged,
    New(usize),
    Kept,
}

/// Tries every way to leave out what may be left out.
fn verdict(held: &[Held], sent: &[(Role, &str)], at: usize) -> Verdict {
    let Some(((role, text), rest)) = sent.split_first() else { return Verdict::Kept };
    let Some(((held_role, held_text, optional), held_rest)) = held.split_first() else { return Verdict::New(at) };
    let taken = if role == held_role && text == held_text { verdict(held_rest, rest, at + 1) } else { Verdict::Diverged };
    match taken {
        Verdict::Diverged if *optional => verdict(held_rest, sent, at),
        taken => taken,
    }
}

/// What is held, with one message changed, left out or added, or cut short.
fn resend(held: &[Held], cut: usize, change: usize, how: u8) -> Vec<(Role, &'static str)> {
    let mut sent: Vec<_> = held.iter().map(|(role, text, _)| (*role, *text)).collect();
    let at = change % (sent.len() + 1);
    match how {
        0 => sent.truncate(cut % (sent.len() + 1)),
        1 if at < sent.len() => sent[at].1 = "changed",
        2 if at < sent.len() => drop(sent.remove(at)),
        3 => sent.retain(|(_, text)| !text.is_empty()),
        _ => {}
    }
    if how % 2 == 1 {
        sent.push((User, "new"));
    }
    sent
}

proptest! {
    #![proptest_config(crate::support::config())]

    #[test]
    fn o4_alignment_is_what_the_model_says_and_a_fork_goes_on_where_it_parts(
        steps in prop::collection::vec(step(), 0..8), cut in 0..20_usize, change in 0..20_usize, how in 0..8_u8, listed in any::<bool>(),
    ) {
        let (world, orders) = play(&steps);
        let sent = resend(&orders[usize::from(listed)], cut, change, how);
        let aligned_now = aligned(&world, &sent);
        let expected = orders.iter().map(|held| verdict(held, &sent, 0)).max().expect("two orders");
        match aligned_now {
            Aligned::New { from } => prop_assert_eq!(expected, Verdict::New(from)),
            Aligned::Answered { .. } | Aligned::Kept => prop_assert_eq!(expected, Verdict::Kept),
            Aligned::Diverged { at, cut, .. } => {
                prop_assert_eq!(expected, Verdict::Diverged);
                if cut == 0 {
                    prop_assert_eq!(at, 0, "all of it is said again");
                } else {
                    let fork = child(&world, Some(Cut::Seq(cut)));
                    prop_assert_eq!(aligned(&fork, &sent), Aligned::New { from: at }, "nothing lost, nothing twice");
                }
            }
        }
    }
}
