//! What an agent says: texts joined into parts, calls matched, questions durable, announcements listed once.

use crate::support::*;
use everkept_core::*;

fn running() -> World {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1)]);
    world
}

fn bodies(events: Vec<Event>) -> Vec<Body> {
    events.into_iter().map(|event| event.body).collect()
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.body.kind()).collect()
}

fn answer_message(n: u64) -> MessageId {
    MessageId::derive(turn(1).0, "message", n)
}

fn part(n: u64) -> PartId {
    PartId::derive(turn(1).0, "part", n)
}

fn delta(n: u64, text: &str) -> Body {
    Body::PartDelta(PartDelta { message: answer_message(0), part: part(n), kind: TextKind::Text, text: text.into() })
}

fn announce(id: &str) -> Said {
    Said::AgentSession(agent_session(id))
}

#[test]
fn tu_05_pieces_of_one_batch_are_one_delta_and_of_two_batches_are_two() {
    let mut world = running();
    let added = MessageAdded { message: answer_message(0), role: Role::Assistant, parts: vec![], agent_message: None };
    assert_eq!(bodies(world.run(hear(1, [said("ab"), said("c")]))), [added.into(), delta(0, "abc")]);
    assert_eq!(bodies(world.run(hear(1, [said("d")]))), [delta(0, "d")]);
    let closed = PartCompleted { message: answer_message(0), part: part(0), bytes: 4, digest: digest_of("abcd") };
    let ended = TurnEnded { state: TurnEnd::Completed, reason: "end_turn".into(), error: None };
    assert_eq!(bodies(world.run(end(1, TurnEnd::Completed))), [closed.into(), ended.into()]);
}

#[test]
fn a_long_text_becomes_deltas_of_the_size_an_event_has_room_for() {
    let mut world = running();
    let long = format!("x{}", "ä".repeat(MAX_DELTA_BYTES));
    let events = world.run(say(1, &long));
    let texts = events.iter().filter_map(|event| if let Body::PartDelta(delta) = &event.body { Some(delta.text.as_str()) } else { None });
    let texts: Vec<_> = texts.collect();
    assert!(texts.iter().all(|text| text.len() <= MAX_DELTA_BYTES));
    assert_eq!(texts.concat(), long);
}

#[test]
fn a_text_of_ten_thousand_bytes_is_one_delta() {
    assert_eq!(kinds(&running().run(say(1, &"x".repeat(10_000)))), ["message.added", "part.delta"]);
}

#[test]
fn parts_are_counted_through_all_batches_of_a_turn() {
    let mut world = running();
    let tool = |call: &str| Said::ToolUpdated { call: call.into(), status: None, title: None, input: None, output: None };
    world.run_all([say(1, "a"), say(1, "b"), hear(1, [tool("c")]), say(1, "d"), hear(1, [tool("e")])]);
    let mut fold = Fold::default();
    world.log.iter().for_each(|event| fold.apply(event));
    let parts: Vec<_> = fold.into_messages()[1].parts.iter().map(Part::id).collect();
    assert_eq!(parts, [part(0), part(1), part(2), part(3)]);
}

#[test]
fn an_update_without_a_status_leaves_a_tool_its_own() {
    let mut world = running();
    let tool = |call: &str, status| Said::ToolUpdated { call: call.into(), status, title: None, input: None, output: None };
    world.run(hear(1, [tool("a", Some(ToolStatus::Pending)), tool("b", Some(ToolStatus::Running))]));
    world.run(hear(1, [tool("a", Some(ToolStatus::Completed))]));
    assert_eq!(kinds(&world.run(hear(1, [tool("a", None)]))), ["tool.completed"]);
    assert_eq!(kinds(&world.run(hear(1, [tool("b", None)]))), ["tool.updated"]);
}

/// What lists of sessions and turns show does not change by it.
#[test]
fn the_flow_of_an_answer_is_told_from_all_else() {
    let mut world = running();
    let tool = |status| Said::ToolUpdated { call: "c".into(), status: Some(status), title: None, input: None, output: None };
    let heard = [
        said("a"),
        tool(ToolStatus::Running),
        tool(ToolStatus::Completed),
        Said::Plan { entries: Payload::Json(json("[]")) },
        Said::Raw(AgentRaw::Text("?".into())),
        Said::Usage(Usage::default()),
        Said::Asked(asked(1)),
    ];
    world.run_all([hear(1, heard), end(1, TurnEnd::Completed)]);
    let flow = ["part.delta", "part.completed", "tool.started", "tool.updated", "tool.completed", "plan.updated", "agent.raw"];
    for event in &world.log {
        assert_eq!(event.body.is_flow(), flow.contains(&event.body.kind()), "{}", event.body.kind());
    }
    assert!(flow.iter().all(|kind| kinds(&world.log).contains(kind)));
}

#[test]
fn a_message_is_whole_with_its_last_event_and_an_answer_with_its_turn() {
    let mut world = World::new();
    let whole = |world: &World, id| world.state.message(id).expect("a message of the test").last_seq;
    for (n, role) in [(7, Role::User), (8, Role::Assistant), (9, Role::System)] {
        world.run(record(n, role, "x"));
        assert_eq!(whole(&world, message(n)), Some(world.state.head), "{role:?}");
    }
    world.run(record(10, Role::User, &"x".repeat(3 * MAX_DELTA_BYTES)));
    assert_eq!(whole(&world, message(10)), Some(world.state.head), "a long text comes in several events");
    world.run(submit(1, "a"));
    let queued = world.state.head;
    world.run_all([begin(1), say(1, "b")]);
    assert_eq!((whole(&world, message(1)), whole(&world, answer_message(0))), (Some(queued), None));
    world.run(end(1, TurnEnd::Completed));
    assert_eq!(whole(&world, answer_message(0)), Some(world.state.head));
}

#[test]
fn reasoning_tools_and_texts_are_parts_of_one_message_in_their_order() {
    let mut world = running();
    let input = || Some(Payload::Json(json(r#"{"n":1e400}"#)));
    let events = world.run(hear(
        1,
        [
            Said::Reasoning { message: None, text: "hm".into() },
            said("so"),
            Said::ToolStarted { call: "c".into(), name: "ls".into(), title: None, status: ToolStatus::Pending, input: input() },
            Said::ToolUpdated { call: "c".into(), status: Some(ToolStatus::Completed), title: None, input: None, output: input() },
            said("there"),
        ],
    ));
    let expected =
        ["message.added", "part.delta", "part.completed", "part.delta", "part.completed", "tool.started", "tool.completed", "part.delta"];
    assert_eq!(kinds(&events), expected);
    let mut fold = Fold::default();
    world.log.iter().for_each(|event| fold.apply(event));
    let parts: Vec<_> = fold.into_messages()[1].parts.iter().map(Part::id).collect();
    assert_eq!(parts, [part(0), part(1), part(2), part(3)]);
}

#[test]
fn a_tool_is_read_as_its_newest_words_say_and_keeps_what_they_leave_out() {
    let mut world = running();
    let payload = |text: &str| Some(Payload::Json(json(text)));
    let begun = |call: &str| Said::ToolStarted {
        call: call.into(),
        name: "ls".into(),
        title: Some("list".into()),
        status: ToolStatus::Pending,
        input: payload("1"),
    };
    let update = |call: &str, status, title: Option<&str>, output| Said::ToolUpdated {
        call: call.into(),
        status: Some(status),
        title: title.map(str::to_owned),
        input: None,
        output,
    };
    world.run(hear(1, [begun("a"), begun("b"), update("a", ToolStatus::Running, Some("list all"), payload("2"))]));
    world.run(hear(1, [update("a", ToolStatus::Completed, None, payload("3")), update("b", ToolStatus::Running, None, None)]));
    let mut fold = Fold::default();
    world.log.iter().for_each(|event| fold.apply(event));
    let tool = |n, call: &str, title: &str, status, output| {
        let (call, title) = (call.into(), Some(title.into()));
        Part::Tool(ToolPart { id: part(n), call, name: "ls".into(), title, status, input: payload("1"), output })
    };
    let expected = [tool(0, "a", "list all", ToolStatus::Completed, payload("3")), tool(1, "b", "list", ToolStatus::Running, None)];
    assert_eq!(fold.into_messages()[1].parts, expected);
}

#[test]
fn another_name_of_the_agents_begins_another_message_and_none_goes_on_with_the_last() {
    let cases: [(&[Option<&str>], &[&str]); 5] = [
        (&[None, None], &["01"]),
        (&[Some("a"), Some("a"), Some("b"), Some("c")], &["01", "2", "3"]),
        (&[Some("a"), None, Some("a")], &["012"]),
        (&[None, Some("a")], &["01"]),
        (&[Some("a"), Some("b"), Some("a")], &["0", "1", "2"]),
    ];
    for (names, messages) in cases {
        let said = |(n, name): (usize, &Option<&str>)| Said::Text { message: name.map(str::to_owned), text: n.to_string() };
        let mut at_once = running();
        at_once.run(hear(1, names.iter().enumerate().map(said)));
        let mut one_by_one = running();
        one_by_one.run_all(names.iter().enumerate().map(|name| hear(1, [said(name)])));
        for world in [at_once, one_by_one] {
            assert_eq!(world.shown()[1..], *messages, "{names:?}");
            let ids: Vec<_> = (0..).take(messages.len()).map(answer_message).collect();
            assert_eq!(world.turn(1).response_messages, ids, "{names:?}");
        }
    }
}

#[test]
fn an_unknown_call_is_begun_by_its_update() {
    let update = Said::ToolUpdated { call: "c".into(), status: Some(ToolStatus::Failed), title: None, input: None, output: None };
    assert_eq!(kinds(&running().run(hear(1, [update]))), ["message.added", "tool.started", "tool.completed"]);
}

#[test]
fn a_turn_that_has_ended_hears_nothing() {
    let mut world = running();
    world.run(end(1, TurnEnd::Completed));
    check(&world, say(1, "late"), Err(Refusal::TurnEnded(turn(1))));
    check(&world, end(1, TurnEnd::Failed), Err(Refusal::TurnEnded(turn(1))));
    check(&world, say(9, "x"), Err(Refusal::TurnEnded(turn(9))));
    check(&world, end(9, TurnEnd::Failed), Err(Refusal::TurnNotFound));
}

#[test]
fn tu_04_a_turn_that_never_began_does_not_complete() {
    let mut world = World::new();
    world.run(submit(1, "a"));
    for how in [TurnEnd::Completed, TurnEnd::Interrupted] {
        check(&world, end(1, how), refused("end", "must be another: the turn has not begun"));
    }
    let failed = TurnEnded { state: TurnEnd::Failed, reason: "end_turn".into(), error: None };
    check(&world, end(1, TurnEnd::Failed), Ok(vec![(Some(turn(1)), failed.into())]));
}

#[test]
fn o7_an_announced_successor_is_listed_once_and_the_first_id_stands() {
    let mut world = running();
    let succeeded = |id: &str| {
        let agent_session = agent_session(id);
        let succeeded = AgentSessionSucceeded { agent: agent("demo"), agent_session, cause: SuccessionCause::Agent };
        (Some(turn(1)), Body::AgentSessionSucceeded(succeeded))
    };
    check(&world, hear(1, [announce("demo-1")]), Ok(vec![]));
    check(&world, hear(1, [announce("demo-2"), announce("demo-2")]), Ok(vec![succeeded("demo-2")]));
    let there_and_back = hear(1, [announce("demo-2"), announce("demo-1")]);
    check(&world, there_and_back, Ok(vec![succeeded("demo-2"), succeeded("demo-1")]));
    world.run(hear(1, [announce("demo-2")]));
    let pinned = world.state.agent_session(&agent("demo")).expect("a pin");
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("demo-1", "demo-2"));
}

#[test]
fn oc_10_an_id_seen_in_events_does_not_replace_one_that_was_passed() {
    let mut world = World::new();
    world.run(Command::SubmitTurn(SubmitTurn { agent_session: Some(agent_session("mine")), ..submitted(1, "a") }));
    world.run(began(1, "mine", AgentSessionBecause::Request));
    check(&world, hear(1, [announce("mine")]), Ok(vec![]));
    let other = AgentSessionSucceeded { agent: agent("demo"), agent_session: agent_session("other"), cause: SuccessionCause::Explicit };
    check(&world, hear(1, [announce("other")]), Ok(vec![(Some(turn(1)), other.into())]));
    world.run(hear(1, [announce("other")]));
    let pinned = world.state.agent_session(&agent("demo")).expect("a pin");
    assert_eq!((pinned.first.as_str(), pinned.current.as_str()), ("mine", "mine"));
}

#[test]
fn a_question_makes_its_turn_wait_until_the_last_one_is_settled() {
    let mut world = running();
    let events = world.run(hear(1, [Said::Asked(asked(1)), Said::Asked(asked(2))]));
    assert_eq!(kinds(&events), ["question.asked", "turn.waiting", "question.asked", "turn.waiting"]);
    assert_eq!((world.turn(1).state, world.state.session.state), (TurnState::Waiting, SessionState::Waiting));
    world.run(answer(1, "no", 5));
    assert_eq!(world.turn(1).state, TurnState::Waiting);
    assert_eq!(owed(&world.state)[1..], [Effect::AnswerQuestion { question: question(1) }]);
    world.run(Command::ExpireQuestion { question: question(2), because: ExpiredBecause::Timeout });
    assert_eq!((world.turn(1).state, world.state.session.state), (TurnState::Running, SessionState::Running));
}

#[test]
fn a_question_taken_back_in_the_same_breath_is_closed() {
    let world = running();
    let events = decide(&world.state, hear(1, [Said::Asked(asked(1)), Said::Withdrew { request: "request-1".into() }]), NOW);
    assert_eq!(kinds(&events.expect("allowed")), ["question.asked", "turn.waiting", "question.expired"]);
    check(&world, hear(1, [Said::Withdrew { request: "request-9".into() }]), Ok(vec![]));
    let mut world = running();
    world.run(hear(1, [Said::Asked(asked(1))]));
    let expired = QuestionExpired { question: question(1), because: ExpiredBecause::Withdrawn };
    let twice = hear(1, [Said::Withdrew { request: "request-1".into() }, Said::Withdrew { request: "request-1".into() }]);
    check(&world, twice, Ok(vec![(Some(turn(1)), expired.into())]));
}

#[test]
fn a_question_is_answered_once_with_one_of_its_options() {
    let mut world = running();
    world.run(hear(1, [Said::Asked(asked(1))]));
    check(&world, answer(9, "no", 5), Err(Refusal::QuestionNotFound));
    check(&world, answer(1, "maybe", 5), refused("option", "must be one of once, always, no"));
    let answered = QuestionAnswered { question: question(1), option: "no".into(), note: None, rule: None, by_rule: None };
    check(&world, answer(1, "no", 5), Ok(vec![(Some(turn(1)), answered.into())]));
    world.run(answer(1, "no", 5));
    check(&world, answer(1, "no", 5), Err(Refusal::QuestionAnswered(question(1))));
    check(&world, Command::ExpireQuestion { question: question(1), because: ExpiredBecause::Timeout }, Ok(vec![]));
    let unknown = Command::ExpireQuestion { question: question(9), because: ExpiredBecause::Timeout };
    check(&world, unknown, Err(Refusal::QuestionNotFound));
}

#[test]
fn questions_expire_with_their_turn() {
    let mut world = running();
    world.run(hear(1, [Said::Asked(asked(1))]));
    let events = world.run(settle(2));
    assert_eq!(kinds(&events), ["question.expired", "turn.ended", "question.asked"]);
    check(&world, answer(1, "no", 5), Err(Refusal::QuestionExpired(question(1))));
}

#[test]
fn an_always_answer_stands_for_that_call_of_that_agent_until_it_is_removed() {
    let mut world = running();
    world.run_all([hear(1, [Said::Asked(asked(1))]), answer(1, "always", 5)]);
    let rule = Rule { id: question(1), agent: agent("demo"), digest: asked(1).digest, title: "run ls?".into(), created_at: NOW };
    assert_eq!(world.state.session.rules, [rule]);
    let told = |world: &World, n| world.state.question(question(n)).and_then(Question::told).map(str::to_owned);
    assert_eq!(told(&world, 1).as_deref(), Some("once"), "the agent itself keeps no rule");
    let events = bodies(world.run(hear(1, [Said::Asked(asked(2))])));
    let by_rule = QuestionAnswered { question: question(2), option: "once".into(), note: None, rule: None, by_rule: Some(question(1)) };
    assert_eq!(events[1..], [by_rule.into()]);
    let option = |n: usize| asked(1).options[n].clone();
    let without_once = Asked { options: vec![option(2), option(1)], ..asked(4) };
    let events = bodies(world.run(hear(1, [Said::Asked(without_once)])));
    let by_rule = QuestionAnswered { question: question(4), option: "always".into(), note: None, rule: None, by_rule: Some(question(1)) };
    assert_eq!(events[1..], [by_rule.into()]);
    assert_eq!(told(&world, 4).as_deref(), Some("always"), "there is no other yes");
    let other = Asked { digest: digest_of("another call"), ..asked(3) };
    assert_eq!(kinds(&world.run(hear(1, [Said::Asked(other)]))), ["question.asked", "turn.waiting"]);
    world.run(Command::RemoveRule { rule: question(1) });
    check(&world, Command::RemoveRule { rule: question(1) }, Err(Refusal::RuleNotFound));
}

#[test]
fn o5_a_turn_that_nothing_runs_any_more_is_interrupted_and_asks_what_to_do() {
    let mut world = running();
    world.run_all([say(1, "half"), settle(1)]);
    assert_eq!((world.turn(1).state, world.turn(1).reason.as_deref()), (TurnState::Interrupted, Some("server_crashed")));
    let options: Vec<_> = world.state.questions[0].options.iter().map(|option| option.id.clone()).collect();
    assert_eq!(options, [REVIEW_CONTINUE, REVIEW_REDO, REVIEW_LEAVE]);
    assert_eq!(owed(&world.state), [], "it is never prompted again by itself");
    world.run(submit(2, "on"));
    assert_eq!(owed(&world.state), [Effect::RunTurn { turn: turn(2) }], "a review blocks nothing");
    check(&world, settle(2), Ok(vec![]));
}

#[test]
fn a_cancelled_turn_that_nothing_runs_any_more_was_cancelled() {
    let mut world = running();
    world.run_all([Command::CancelTurn { turn: turn(1) }, settle(1)]);
    assert_eq!((world.turn(1).state, world.state.questions.len()), (TurnState::Cancelled, 0));
}

#[test]
fn the_answer_of_a_review_is_carried_out() {
    for (option, attempt, continues) in [("continue", 1, Some(turn(1))), ("redo", 2, None)] {
        let mut world = running();
        world.run_all([settle(1), answer(1, option, 5)]);
        assert_eq!((world.turn(5).attempt, world.turn(5).continues), (attempt, continues));
        assert_eq!(world.state.question(question(1)).map(|held| held.state), Some(QuestionState::Answered));
    }
    let mut world = running();
    world.run_all([settle(1), answer(1, "leave", 5)]);
    assert_eq!(world.state.turns.len(), 1);
}

#[test]
fn acting_on_an_interrupted_turn_withdraws_its_review() {
    for command in [retry(1, 2), go_on(1, 2)] {
        let mut world = running();
        world.run_all([settle(1), command]);
        check(&world, answer(1, "redo", 5), Err(Refusal::QuestionExpired(question(1))));
    }
}

#[test]
fn a_review_of_what_was_reverted_can_only_be_left() {
    let mut world = running();
    world.run_all([settle(1), Command::Revert { turn: Some(turn(1)) }]);
    for option in ["continue", "redo"] {
        check(&world, answer(1, option, 5), Err(Refusal::TurnHidden(turn(1))));
    }
    world.run(answer(1, "leave", 5));
}

#[test]
fn what_was_under_way_in_the_agent_ends_with_its_turn() {
    let mut world = running();
    world.run(hear(1, [Said::Compacting(true)]));
    assert_eq!(world.state.session.compacting_at, Some(NOW));
    world.run(settle(1));
    assert_eq!(world.state.session.compacting_at, None);
}

#[test]
fn file_changes_can_be_taken_back() {
    let mut world = running();
    world.run(hear(1, [Said::FileChanges(json(r#"{"added":1}"#))]));
    assert_eq!(world.state.session.file_changes, Some(json(r#"{"added":1}"#)));
    world.run(hear(1, [Said::FileChanges(json("null"))]));
    assert_eq!(world.state.session.file_changes, None);
}

#[test]
fn the_last_usage_of_a_turn_counts_and_the_session_adds_its_turns() {
    let usage = |n| Usage { input_tokens: Some(n), ..Usage::default() };
    let mut world = running();
    world.run_all([hear(1, [Said::Usage(usage(1)), Said::Usage(usage(3))]), end(1, TurnEnd::Completed)]);
    world.run_all([submit(2, "b"), begin(2), hear(2, [Said::Usage(usage(4))]), end(2, TurnEnd::Failed)]);
    assert_eq!((world.turn(1).usage.clone(), world.state.session.usage.clone()), (Some(usage(3)), usage(7)));
}

#[test]
fn what_requests_used_stands_with_the_messages_they_made_and_is_added_to_nothing() {
    let tokens = |n| Usage { output_tokens: Some(n), ..Usage::default() };
    let said = |name: &str, text: &str| Said::Text { message: Some(name.into()), text: text.into() };
    let used = |name: Option<&str>, n| Said::MessageUsage { message: name.map(str::to_owned), usage: tokens(n) };
    let mut world = running();
    // Nothing was written yet that it could stand with.
    world.run(hear(1, [used(Some("a"), 1)]));
    world.run(hear(1, [said("a", "one"), used(Some("a"), 2), used(Some("call"), 4), said("b", "two")]));
    world.run(hear(1, [used(Some("a"), 8), used(None, 16), used(Some("b"), 32), Said::Usage(tokens(70))]));
    let mut fold = Fold::default();
    world.log.iter().for_each(|event| fold.apply(event));
    let usages: Vec<_> = fold.into_messages().into_iter().map(|message| message.usage.and_then(|usage| usage.output_tokens)).collect();
    assert_eq!(usages, [None, Some(2 + 4 + 8), Some(16 + 32)]);
    assert_eq!(world.turn(1).usage, Some(tokens(70)));
}

/// TU-03, TU-04: a new end does not compile here until somebody says what it means.
#[test]
fn tu_04_every_end_is_a_state_that_is_not_open() {
    fn all(after: Option<TurnEnd>) -> Option<TurnEnd> {
        match after {
            None => Some(TurnEnd::Completed),
            Some(TurnEnd::Completed) => Some(TurnEnd::Failed),
            Some(TurnEnd::Failed) => Some(TurnEnd::Cancelled),
            Some(TurnEnd::Cancelled) => Some(TurnEnd::TimedOut),
            Some(TurnEnd::TimedOut) => Some(TurnEnd::Interrupted),
            Some(TurnEnd::Interrupted) => Some(TurnEnd::DeadLettered),
            Some(TurnEnd::DeadLettered) => None,
        }
    }
    let ends: Vec<_> = std::iter::successors(all(None), |end| all(Some(*end))).collect();
    assert_eq!(ends.len(), 6);
    for how in ends {
        let mut world = running();
        world.run(end(1, how));
        assert_eq!((world.turn(1).state, world.turn(1).state.is_open()), (how.into(), false));
        assert_eq!(world.state.running, None);
    }
}
