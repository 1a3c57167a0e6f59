//! REQUIREMENTS E: a turn is a record with one end, whatever happens in between.

use crate::world::*;
use everkept_core::*;
use everkept_engine::*;
use std::time::Duration;

fn delta(event: &Event) -> bool {
    matches!(event.body, Body::PartDelta(_))
}

fn asked(event: &Event) -> bool {
    matches!(event.body, Body::QuestionAsked(_))
}

async fn open_question(world: &World, session: SessionId) -> Question {
    world.until(session, asked).await;
    let query = QuestionsQuery { session: Some(session), resource: None, open_only: true };
    let questions = world.engine.questions(&admin(), query).await.unwrap();
    questions.into_iter().next().expect("a question is open")
}

#[tokio::test(start_paused = true)]
async fn tu_01_tu_02_a_turn_is_a_record_that_begins_at_send_and_ends_with_the_response() {
    let world = World::new().await;
    let session = world.session().await;
    let queued = world.send(session, "hello").await;
    assert_eq!((queued.state, queued.started_at, queued.ended_at), (TurnState::Queued, None, None));
    let ended = world.ended(queued.id).await;
    assert_eq!(ended.request_message, queued.request_message);
    assert_eq!((ended.state, ended.reason.as_deref(), ended.response_messages.len()), (TurnState::Completed, Some("end_turn"), 1));
    assert!(ended.started_at.is_some() && ended.ended_at.is_some() && ended.usage.is_some());
}

#[tokio::test(start_paused = true)]
async fn tu_03_every_outcome_is_typed() {
    let world = World::with(|settings| settings.limits.silence = Duration::from_secs(30)).await;
    let session = world.session().await;
    let outcomes = [
        ("fine", TurnState::Completed, "end_turn"),
        ("!fail", TurnState::Failed, "agent_error"),
        ("!crash", TurnState::Interrupted, "agent_exited"),
        ("!hang", TurnState::TimedOut, "agent_silent"),
    ];
    for (text, state, reason) in outcomes {
        let (turn, _) = world.ask(session, text).await;
        assert_eq!((turn.state, turn.reason.as_deref()), (state, Some(reason)), "{text}");
        assert_eq!(turn.error.is_some(), state != TurnState::Completed, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn tu_05_tu_06_re_01_a_crash_in_mid_answer_keeps_every_delta_that_was_shown() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!slow:100 one two three four five six seven").await;
    world.until(session, delta).await;
    let shown = world.events(session).await;
    world.crash_and_restart().await;
    let settled = world.ended(turn.id).await;
    assert_eq!((settled.state, settled.reason.as_deref()), (TurnState::Interrupted, Some("server_crashed")));
    assert!(settled.error.unwrap().may_have_happened);
    let after = world.events(session).await;
    assert_eq!(after[..shown.len()], shown);
    assert!(!world.said(session).await[1].1.is_empty(), "the partial answer is kept");
}

#[tokio::test(start_paused = true)]
async fn o5_a_crashed_turn_is_not_prompted_again_until_someone_asks() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn_ = world.send(session, "!long").await;
    world.until(session, delta).await;
    world.crash_and_restart().await;
    world.ended(turn_.id).await;
    let question = open_question(&world, session).await;
    assert_eq!(question.kind, QuestionKind::Review);
    let (_, answer) = world.ask(session, "meanwhile").await;
    assert_eq!(answer, "reply 2 to: meanwhile", "a review question never blocks the queue, and nothing was asked twice");
    let redo = Order::Answer { question: question.id, option: "leave".into(), note: None };
    world.order(session, redo).await.unwrap();
    let late = Order::Answer { question: question.id, option: "redo".into(), note: None };
    assert_eq!(world.order(session, late).await.err(), Some(Refusal::QuestionAnswered(question.id).into()));
}

#[tokio::test(start_paused = true)]
async fn o5_the_review_of_an_interrupted_turn_can_ask_again_or_go_on() {
    let mut world = World::new().await;
    let session = world.session().await;
    for (option, expected) in [("redo", "reply 2 to: !slow:50 go"), ("continue", "reply 2 to: Continue from where you left off.")] {
        let session = if option == "redo" { session } else { world.session().await };
        let turn = world.send(session, "!slow:50 go").await;
        world.until(session, delta).await;
        world.crash_and_restart().await;
        world.ended(turn.id).await;
        let question = open_question(&world, session).await;
        world.order(session, Order::Answer { question: question.id, option: option.into(), note: None }).await.unwrap();
        let is_next = |event: &Event| matches!(event.body, Body::TurnEnded(_)) && event.turn != Some(turn.id);
        let next = world.until(session, is_next).await.turn.unwrap();
        let next = world.ended(next).await;
        let text = world.answer(&next).await;
        assert_eq!(text.replace("reply 2 to: go", "reply 2 to: !slow:50 go"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn o6_a_queued_turn_runs_after_a_crash_and_no_turn_stays_open() {
    let mut world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    world.until(session, delta).await;
    let queued = world.send(session, "after").await;
    world.crash_and_restart().await;
    assert_eq!(world.ended(running.id).await.state, TurnState::Interrupted);
    let queued = world.ended(queued.id).await;
    assert_eq!((queued.state, world.answer(&queued).await.as_str()), (TurnState::Completed, "reply 2 to: after"));
    let ends = world.events(session).await.into_iter().filter(|event| matches!(event.body, Body::TurnEnded(_))).map(|event| event.turn);
    assert_eq!(ends.collect::<Vec<_>>(), [Some(running.id), Some(queued.id)], "one end each");
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_while_a_turn_runs_queue_are_refused_or_interrupt() {
    let world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    world.until(session, delta).await;
    let reject = world.order(session, Order::Submit(NewTurn { if_busy: IfBusy::Reject, ..turn_of("no") })).await;
    assert_eq!(reject.err(), Some(Refusal::SessionBusy(running.id).into()));
    let queued = world.send(session, "in the queue").await;
    let urgent = world.submit(session, NewTurn { if_busy: IfBusy::Interrupt, ..turn_of("now") }).await;
    assert_eq!(world.ended(queued.id).await.state, TurnState::Cancelled);
    assert_eq!(world.ended(running.id).await.state, TurnState::Cancelled);
    assert_eq!(world.ended(urgent.id).await.state, TurnState::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_queue_keeps_its_order_and_can_be_edited() {
    let world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    world.until(session, delta).await;
    let a = world.send(session, "a").await;
    let b = world.send(session, "b").await;
    let c = world.send(session, "c").await;
    let edit = Order::Edit { turn: b.id, input: Some(vec![PartIn::Text("B".into())]), agent: None, model: None };
    world.order(session, edit).await.unwrap();
    world.order(session, Order::Drop { turn: a.id }).await.unwrap();
    world.order(session, Order::Cancel { turn: running.id }).await.unwrap();
    world.ended(c.id).await;
    let asked: Vec<_> = world.said(session).await.into_iter().filter(|(role, _)| *role == Role::User).map(|(_, text)| text).collect();
    assert_eq!(asked, ["!long", "c", "B"], "each stands where it was written; what was dropped or replaced is gone");
    assert_eq!(world.answer(&world.ended(b.id).await).await, "reply 2 to: B");
    assert_eq!(world.answer(&world.ended(c.id).await).await, "reply 3 to: c");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_keeps_the_partial_answer_and_ends_within_two_seconds() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!long").await;
    world.until(session, delta).await;
    let before = tokio::time::Instant::now();
    world.order(session, Order::Cancel { turn: turn.id }).await.unwrap();
    let turn = world.ended(turn.id).await;
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!((turn.state, turn.error), (TurnState::Cancelled, None));
    assert!(!world.said(session).await[1].1.is_empty());
    let again = world.order(session, Order::Cancel { turn: turn.id }).await.unwrap();
    assert!(matches!(again, Reply::Turn(held) if held.state == TurnState::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn re_n1_a_silent_agent_is_timed_out_and_its_session_goes_on() {
    let world = World::new().await;
    let session = world.session().await;
    let before = tokio::time::Instant::now();
    let (turn, _) = world.ask(session, "!hang").await;
    assert_eq!(turn.state, TurnState::TimedOut);
    assert!(before.elapsed() >= Duration::from_secs(600) && before.elapsed() < Duration::from_secs(610), "{:?}", before.elapsed());
    let (turn, answer) = world.ask(session, "still there?").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 2 to: still there?"));
}

#[tokio::test(start_paused = true)]
async fn a_permission_is_asked_answered_once_and_only_for_that_call() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!ask do it").await;
    let question = open_question(&world, session).await;
    assert_eq!(world.engine.turn(&admin(), turn.id).await.unwrap().state, TurnState::Waiting);
    assert_eq!(world.held(session).await.state, SessionState::Waiting);
    let wrong = Order::Answer { question: question.id, option: "maybe".into(), note: None };
    assert!(matches!(world.order(session, wrong).await, Err(Failure::Refused(Refusal::Invalid { field: "option", .. }))));
    let allow = question.options.iter().find(|option| option.kind == OptionKind::AllowOnce).unwrap().id.clone();
    world.order(session, Order::Answer { question: question.id, option: allow.clone(), note: None }).await.unwrap();
    assert_eq!(world.ended(turn.id).await.state, TurnState::Completed);
    let twice = Order::Answer { question: question.id, option: allow, note: None };
    assert_eq!(world.order(session, twice).await.err(), Some(Refusal::QuestionAnswered(question.id).into()));
}

#[tokio::test(start_paused = true)]
async fn tu_08_an_unanswered_permission_is_denied_after_its_time_and_waiting_is_not_hanging() {
    let world = World::new().await;
    let session = world.session().await;
    let before = tokio::time::Instant::now();
    let turn = world.send(session, "!ask do it").await;
    let question = open_question(&world, session).await;
    let turn = world.ended(turn.id).await;
    assert!(before.elapsed() >= Duration::from_secs(24 * 3_600));
    assert_eq!(turn.state, TurnState::Completed, "the agent was told no and went on");
    let question = world.engine.question(&admin(), question.id).await.unwrap();
    assert_eq!(question.state, QuestionState::Expired);
}

#[tokio::test(start_paused = true)]
async fn an_always_answer_stands_for_exactly_that_call_and_can_be_taken_back() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!ask do it").await;
    let question = open_question(&world, session).await;
    let always = question.options.iter().find(|option| option.kind == OptionKind::AllowAlways).unwrap().id.clone();
    world.order(session, Order::Answer { question: question.id, option: always, note: None }).await.unwrap();
    world.ended(turn.id).await;
    assert_eq!(world.held(session).await.rules.len(), 1);
    world.order(session, Order::RemoveRule { rule: question.id }).await.unwrap();
    assert_eq!(world.held(session).await.rules, []);
}

#[tokio::test(start_paused = true)]
async fn a_question_dies_with_its_agent() {
    let mut world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!ask do it").await;
    let question = open_question(&world, session).await;
    world.crash_and_restart().await;
    assert_eq!(world.ended(turn.id).await.state, TurnState::Interrupted);
    let late = Order::Answer { question: question.id, option: "allow_once".into(), note: None };
    assert_eq!(world.order(session, late).await.err(), Some(Refusal::QuestionExpired(question.id).into()));
}

#[tokio::test(start_paused = true)]
async fn tu_09_retry_pressed_twice_is_one_new_attempt_and_one_final_answer() {
    let world = World::new().await;
    let session = world.session().await;
    let (failed, _) = world.ask(session, "x !fail").await;
    let press = || async { world.order(session, Order::Retry { turn: failed.id, agent: Some(name("other")), model: None }).await };
    let (a, b) = tokio::join!(press(), press());
    let (a, b) = (turn(a.unwrap()), turn(b.unwrap()));
    assert_eq!(a.id, b.id);
    world.ended(a.id).await;
    assert_eq!(world.said(session).await.iter().filter(|(role, _)| *role == Role::User).count(), 1, "one stored question");
}

#[tokio::test(start_paused = true)]
async fn ag_07_clear_takes_its_number_at_once_and_later_events_carry_it() {
    let world = World::new().await;
    let session = world.session().await;
    let turn = world.send(session, "!long").await;
    world.until(session, delta).await;
    world.order(session, Order::Clear).await.unwrap();
    world.order(session, Order::Cancel { turn: turn.id }).await.unwrap();
    world.ended(turn.id).await;
    let events = world.events(session).await;
    let cleared = events.iter().position(|event| matches!(event.body, Body::ContextCleared(_))).unwrap();
    assert!(events[..cleared].iter().all(|event| event.context == 0));
    assert!(events[cleared..].iter().all(|event| event.context == 1));
}

#[tokio::test(start_paused = true)]
async fn ag_05_ag_n1_after_a_restart_the_first_event_carries_the_right_context() {
    let mut world = World::new().await;
    let session = world.session().await;
    world.order(session, Order::Clear).await.unwrap();
    world.order(session, Order::Clear).await.unwrap();
    world.crash_and_restart().await;
    let head = world.events(session).await.len();
    world.ask(session, "hello").await;
    assert!(world.events(session).await[head..].iter().all(|event| event.context == 2));
}

#[tokio::test(start_paused = true)]
async fn ag_15_a_snapshot_and_the_events_after_it_are_the_state_for_whoever_joins_when() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "first").await;
    let turn = world.send(session, "!slow:20 a b c d e f g h i j").await;
    world.until(session, |event| delta(event) && event.turn == Some(turn.id)).await;
    let snapshot = world.engine.snapshot(&admin(), session).await.unwrap();
    world.ended(turn.id).await;
    let later = world.events(session).await.split_off(snapshot.cursor as usize);
    let mut text = snapshot.messages.last().unwrap().text();
    let id = snapshot.messages.last().unwrap().id;
    for event in &later {
        if let Body::PartDelta(data) = &event.body
            && data.message == id
        {
            text.push_str(&data.text);
        }
    }
    assert_eq!(text, world.said(session).await[3].1);
    let other = world.engine.snapshot(&admin(), session).await.unwrap();
    assert_eq!(other.messages.last().unwrap().text(), text);
}

#[tokio::test(start_paused = true)]
async fn o2_tails_that_join_anywhere_see_every_event_once_in_order() {
    let world = World::new().await;
    let session = world.session().await;
    world.ask(session, "first").await;
    let readers = [0, 1, 5].map(|after| {
        let engine = world.engine.clone();
        tokio::spawn(async move {
            let mut tail = engine.tail(&admin(), session, after).await.unwrap();
            let mut seen = Vec::new();
            loop {
                for frame in tail.next().await.unwrap() {
                    seen.push((frame.seq, frame.json.clone()));
                    if frame.kind == "turn.ended" && seen.len() > 30 {
                        return seen;
                    }
                }
            }
        })
    });
    world.ask(session, "!slow:30 a b c d e f g h i j k l m n o p q r s t u v w x y z").await;
    let query = EventsQuery { session: Some(session), limit: 100_000, ..EventsQuery::default() };
    let stored: Vec<_> = world.engine.events(&admin(), query).await.unwrap().into_iter().map(|event| (event.seq, event.bytes)).collect();
    for (after, reader) in [0, 1, 5].into_iter().zip(readers) {
        assert_eq!(reader.await.unwrap(), stored[after..]);
    }
}

#[tokio::test(start_paused = true)]
async fn ws_03_ws_n2_a_trashed_session_is_gone_comes_back_and_frees_its_pair() {
    let world = World::new().await;
    let pair =
        || NewSession { resource: Some(Resource::new("ann").unwrap()), thread: Some(Thread::new("t").unwrap()), ..NewSession::default() };
    let session = world.session_with(pair()).await.id;
    world.ask(session, "one").await;
    world.order(session, Order::Delete).await.unwrap();
    assert_eq!(world.engine.session(&admin(), session).await.err(), Some(Refusal::SessionNotFound.into()));
    let second = world.session_with(pair()).await.id;
    assert!(matches!(world.order(session, Order::Restore).await, Err(Failure::ThreadTaken(held)) if held == second));
    world.order(second, Order::Delete).await.unwrap();
    world.order(session, Order::Restore).await.unwrap();
    let (_, answer) = world.ask(session, "two").await;
    assert_eq!(answer, "reply 2 to: two");
}

#[tokio::test(start_paused = true)]
async fn stopping_settles_what_runs_and_leaves_what_waits() {
    let mut world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    world.until(session, delta).await;
    let queued = world.send(session, "later").await;
    world.engine.stop(Stop::Settle).await;
    let refused = world.order(session, Order::Clear).await;
    assert_eq!(refused.err(), Some(Failure::Stopping));
    world.crash_and_restart().await;
    let running = world.ended(running.id).await;
    assert_eq!((running.state, running.reason.as_deref()), (TurnState::Interrupted, Some("server_stopped")));
    assert_eq!(world.ended(queued.id).await.state, TurnState::Completed);
}

#[tokio::test(start_paused = true)]
async fn agents_beyond_the_cap_wait_for_room_and_idle_ones_make_it() {
    let world = World::with(|settings| settings.max_agents = 1).await;
    let (a, b) = (world.session().await, world.session().await);
    let (_, first) = world.ask(a, "one").await;
    let before = tokio::time::Instant::now();
    let (_, second) = world.ask(b, "two").await;
    assert_eq!((first.as_str(), second.as_str()), ("reply 1 to: one", "reply 1 to: two"));
    assert!(before.elapsed() < Duration::from_secs(10), "the idle one made room at once");
    let (_, third) = world.ask(a, "three").await;
    assert_eq!(third, "reply 2 to: three");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_becomes_idle_while_others_wait_makes_room_at_once() {
    let world = World::with(|settings| settings.max_agents = 1).await;
    let (a, b) = (world.session().await, world.session().await);
    let first = world.send(a, "!slow:100 one").await;
    world.until(a, delta).await;
    let before = tokio::time::Instant::now();
    let (_, second) = world.ask(b, "two").await;
    assert_eq!((world.ended(first.id).await.state, second.as_str()), (TurnState::Completed, "reply 1 to: two"));
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fork_keeps_its_files_while_its_parent_is_in_the_trash() {
    let world = World::new().await;
    let session = world.session().await;
    let file = PartIn::File { name: None, media_type: "text/plain".into(), bytes: "in a file".into() };
    let input = Intake::Input(vec![PartIn::Text("read it".into()), file]);
    let turn = world.submit(session, NewTurn { intake: input, ..turn_of("") }).await;
    world.ended(turn.id).await;
    let fork = as_session(world.order(session, Order::Fork(NewFork::default())).await.unwrap()).id;
    world.order(session, Order::Delete).await.unwrap();
    assert_eq!(world.engine.blob(&admin(), digest_of("in a file")).await.unwrap(), "in a file");
    world.order(fork, Order::Delete).await.unwrap();
    assert!(world.engine.blob(&admin(), digest_of("in a file")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_trashed_session_lets_its_agent_go_and_its_queue_waits_for_a_restore() {
    let world = World::new().await;
    let session = world.session().await;
    let running = world.send(session, "!long").await;
    world.until(session, delta).await;
    let queued = world.send(session, "later").await;
    let opened = world.opened().len();
    world.order(session, Order::Delete).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.opened().len(), opened, "nothing is begun in the trash");
    world.order(session, Order::Restore).await.unwrap();
    assert_eq!(world.ended(queued.id).await.state, TurnState::Completed);
    assert_eq!(world.ended(running.id).await.state, TurnState::Cancelled);
    assert_eq!(world.opened().len(), opened + 1, "its agent had been let go");
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_named_by_its_whole_path_by_a_fork_too() {
    let world = World::new().await;
    let session = world.session().await;
    let directory = Some("relative".to_owned());
    let new = NewSession { directory: directory.clone(), ..NewSession::default() };
    let created = world.engine.create_session(&admin(), new, None).await.unwrap_err();
    let forked = world.order(session, Order::Fork(NewFork { directory, ..NewFork::default() })).await.unwrap_err();
    assert_eq!(forked, created);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_somebody_named_has_to_be_there() {
    let world = World::new().await;
    let new = NewSession { directory: Some("/nowhere/at/all".into()), ..NewSession::default() };
    let session = world.session_with(new).await.id;
    let (turn, _) = world.ask(session, "hello").await;
    assert_eq!(turn.state, TurnState::Failed);
    assert!(turn.error.unwrap().message.contains("/nowhere/at/all"));
}
