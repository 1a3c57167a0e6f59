//! Every event fits a store: what people send is refused by its field, and what agents say is brought to size.

use crate::support::*;
use everkept_core::*;

/// The most that `data` may have, so that the event around it fits as well.
const ROOM: usize = MAX_EVENT_BYTES - 512;

#[track_caller]
fn fits(events: &[Event]) {
    for event in events {
        let bytes = event.body.data().len();
        assert!(bytes <= ROOM, "{} has {bytes} bytes", event.body.kind());
    }
}

/// The worst there is: every byte is six in JSON.
fn worst(bytes: usize) -> String {
    "\u{1}".repeat(bytes)
}

fn file(name: String, media_type: String) -> NewPart {
    NewPart::File { name: Some(name), media_type, blob: BlobRef { id: digest_of(""), bytes: u64::MAX } }
}

fn send(parts: Vec<NewPart>) -> Command {
    Command::SubmitTurn(SubmitTurn { parts, ..submitted(1, "") })
}

fn running() -> World {
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1)]);
    world
}

fn big(bytes: usize) -> Option<Payload> {
    Some(Payload::Json(json(&format!("\"{}\"", "x".repeat(bytes)))))
}

#[test]
fn a_session_of_the_largest_names_fits_its_event_and_so_does_its_fork() {
    let quotes = |bytes| "\"".repeat(bytes);
    let metadata = json(&format!("{{\"a\":\"{}\"}}", "x".repeat(16 * 1024 - 8)));
    let create = CreateSession {
        title: Some(worst(1_000)),
        resource: Some(Resource::new(quotes(255)).expect("at the limit")),
        thread: Some(Thread::new(quotes(255)).expect("at the limit")),
        directory: quotes(4_096),
        model: Some(ModelName::new(quotes(256)).expect("at the limit")),
        agent_session: Some(AgentSessionId::new(quotes(512)).expect("at the limit")),
        metadata: Some(metadata),
        ..created()
    };
    let mut world = World::new();
    world.state = State::new(session(1));
    world.log.clear();
    fits(&world.run(Command::CreateSession(create)));
    for n in 0..40 {
        let name = AgentName::new(format!("{}{n}", quotes(60))).expect("within the limit");
        let known = KnownAgents { default: name, agents: [].into() };
        world.run(Command::SubmitTurn(SubmitTurn { known, ..submitted(n, "x") }));
        world.run_all([began(n, &quotes(500), AgentSessionBecause::Detected), end(n, TurnEnd::Completed)]);
    }
    let forked = fork(&world.state, forking(None), NOW).expect("allowed");
    fits(&forked.child_events);
}

#[test]
fn what_is_too_large_of_a_session_is_refused_by_its_field() {
    let world = World { state: State::new(session(1)), log: Vec::new() };
    let create = |change: &dyn Fn(&mut CreateSession)| {
        let mut command = created();
        change(&mut command);
        Command::CreateSession(command)
    };
    check(&world, create(&|it| it.title = Some("x".repeat(1_001))), refused("title", "must be at most 1000 bytes"));
    for directory in [worst(1_366), "\"".repeat(4_097), "\n".repeat(4_097)] {
        let problem = "must be at most 8192 bytes of JSON";
        check(&world, create(&|it| it.directory.clone_from(&directory)), refused("directory", problem));
    }
    let metadata = || Some(json(&format!("{{\"a\":\"{}\"}}", "x".repeat(16 * 1024))));
    let problem = "must be at most 16384 bytes of JSON";
    check(&world, create(&|it| it.metadata = metadata()), refused("metadata", problem));
    check(&world, create(&|it| it.metadata = Some(json("[]"))), refused("metadata", "must be an object"));
    let deep = || Some(json(&format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100))));
    check(&world, create(&|it| it.metadata = deep()), refused("metadata", "must be at most 64 levels deep"));
    let update = UpdateSession { metadata: metadata(), ..UpdateSession::default() };
    check(&World::new(), Command::UpdateSession(update), refused("metadata", problem));
    let forked = fork(&World::new().state, Fork { directory: Some(worst(1_366)), ..forking(None) }, NOW);
    assert_eq!(forked, Err(Refusal::invalid("directory", "must be at most 8192 bytes of JSON")));
    for (field, most, name) in [
        ("agent", 64, AgentName::new("x".repeat(65)).map(drop)),
        ("model", 256, ModelName::new("x".repeat(257)).map(drop)),
        ("resource", 255, Resource::new("x".repeat(256)).map(drop)),
        ("thread", 255, Thread::new("x".repeat(256)).map(drop)),
        ("agent_session", 512, AgentSessionId::new("x".repeat(513)).map(drop)),
    ] {
        assert_eq!(name, Err(Refusal::invalid(field, format!("must be at most {most} bytes"))));
    }
}

#[test]
fn a_message_of_many_parts_fits_its_events_whatever_is_in_them() {
    let cases = [
        vec![NewPart::Text(worst(102)); 100],
        vec![NewPart::Text(worst(MAX_DELTA_BYTES))],
        vec![NewPart::Text("ä\u{2028}\"".repeat(50_000)); 3],
        vec![file("x".repeat(255), "y".repeat(127)); 100],
        [vec![file("x".repeat(255), "y".repeat(127)); 99], vec![NewPart::Text(worst(5_000))]].concat(),
    ];
    for parts in cases {
        let mut world = World::new();
        let whole: String = parts.iter().map(|part| if let NewPart::Text(text) = part { text.as_str() } else { "" }).collect();
        fits(&world.run(send(parts)));
        assert_eq!(world.shown(), std::slice::from_ref(&whole));
        assert_eq!(aligned(&world, &[(Role::User, &whole)]), Aligned::Answered { turn: turn(1) });
    }
}

#[test]
fn a_message_of_ten_thousand_bytes_is_one_event() {
    let kinds: Vec<_> = World::new().run(submit(1, &"x".repeat(10_000))).iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["turn.queued", "message.added"]);
}

#[test]
fn a_message_of_too_many_parts_or_too_long_names_is_refused() {
    let world = World::new();
    let empty: [Vec<NewPart>; 2] = [vec![], vec![NewPart::Text(String::new())]];
    for parts in empty {
        check(&world, send(parts), refused("input", "must not be empty"));
    }
    check(&world, send(vec![NewPart::Text("x".into()); 101]), refused("input", "must be at most 100 parts"));
    check(&world, send(vec![file("x".repeat(256), String::new())]), refused("name", "must be at most 255 bytes"));
    check(&world, send(vec![file(String::new(), "x".repeat(128))]), refused("media_type", "must be at most 127 bytes"));
    let problem = "must be at most 64512 bytes of JSON with all others of the message";
    check(&world, send(vec![file(worst(200), String::new()); 100]), refused("name", problem));
    check(&world, send(vec![file(String::new(), worst(127)); 100]), refused("name", problem));
    let earlier = vec![NewMessage { id: message(8), role: Role::User, parts: vec![NewPart::Text("x".into()); 101] }];
    let with_history = Command::SubmitTurn(SubmitTurn { earlier, ..submitted(1, "x") });
    check(&world, with_history, refused("input", "must be at most 100 parts"));
    let record = Command::RecordMessages { messages: vec![NewMessage { id: message(8), role: Role::User, parts: vec![] }] };
    check(&world, record, refused("input", "must not be empty"));
}

#[test]
fn an_answer_fits_its_event_with_the_rule_it_makes() {
    let mut world = running();
    let option = QuestionOption { id: worst(341), label: worst(1_000), kind: OptionKind::AllowAlways };
    let asked = Asked { title: worst(1_003), options: vec![option], ..asked(1) };
    fits(&world.run(hear(1, [Said::Asked(asked)])));
    let answer = |note| {
        let answer = AnswerQuestion { question: question(1), option: worst(341), note: Some(note), turn: turn(5), known: known() };
        Command::AnswerQuestion(answer)
    };
    check(&world, answer(worst(8_193)), refused("note", "must be at most 8192 bytes"));
    fits(&world.run(answer(worst(8_192))));
}

#[test]
fn a_question_that_fits_no_event_is_refused() {
    let world = running();
    let option = |id: String, label: String| QuestionOption { id, label, kind: OptionKind::Other };
    let ask = |options: Vec<QuestionOption>| hear(1, [Said::Asked(Asked { options, ..asked(1) })]);
    check(&world, ask(vec![option("x".into(), "x".into()); 65]), refused("options", "must be at most 64 options"));
    let long = vec![option("x".repeat(2_049), "x".into())];
    check(&world, ask(long), refused("options", "must be at most 2048 bytes of JSON in an id"));
    check(&world, ask(vec![option("x".into(), worst(1_000)); 32]), refused("question", "must be at most 64512 bytes of JSON"));
    let title = hear(1, [Said::Asked(Asked { title: "x".repeat(8_193), ..asked(1) })]);
    check(&world, title, refused("title", "must be at most 8192 bytes of JSON"));
}

#[test]
fn what_an_agent_says_that_fits_no_event_is_refused_by_its_field() {
    let world = running();
    let tool = |input| Said::ToolStarted { call: "c".into(), name: "n".into(), title: None, status: ToolStatus::Running, input };
    let cases = [
        ("tool", tool(big(MAX_EVENT_BYTES))),
        ("tool", Said::ToolUpdated { call: "c".into(), status: None, title: None, input: big(40_000), output: big(40_000) }),
        ("plan", Said::Plan { entries: big(MAX_EVENT_BYTES).expect("some") }),
        ("file_changes", Said::FileChanges(json(&format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES))))),
        ("raw", Said::Raw(AgentRaw::Json(json(&format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES)))))),
        ("message", Said::Text { message: Some("x".repeat(MAX_EVENT_BYTES)), text: "x".into() }),
    ];
    for (field, said) in cases {
        check(&world, hear(1, [said]), refused(field, "must be at most 64512 bytes of JSON"));
    }
    let mut world = running();
    fits(&world.run(hear(1, [said(&worst(3 * MAX_DELTA_BYTES)), tool(big(32_000))])));
}

#[test]
fn d7_a_raw_text_of_any_length_is_kept_in_pieces() {
    let mut world = running();
    let text = worst(3 * MAX_DELTA_BYTES + 1);
    let events = world.run(hear(1, [Said::Raw(AgentRaw::Text(text.clone()))]));
    fits(&events);
    let piece = |event: &Event| if let Body::AgentRaw(AgentRaw::Text(text)) = &event.body { text.clone() } else { String::new() };
    assert_eq!(events.iter().map(piece).collect::<String>(), text);
    let empty = AgentRaw::Text(String::new());
    check(&world, hear(1, [Said::Raw(empty.clone())]), Ok(vec![(Some(turn(1)), empty.into())]));
}

#[test]
fn an_end_is_never_refused_for_its_wording() {
    let error = TurnError { code: worst(9_000), message: "ä".repeat(MAX_EVENT_BYTES), may_have_happened: true };
    let ended = EndTurn { turn: turn(1), end: TurnEnd::Failed, reason: worst(9_000), error: Some(error) };
    let mut world = running();
    fits(&world.run(Command::EndTurn(ended)));
    let error = world.turn(1).error.clone().expect("it failed");
    assert_eq!(error.message, format!("{}…", "ä".repeat(2_048)));
    assert!(error.code == format!("{}…", worst(1_024)) && error.may_have_happened, "{} bytes of code", error.code.len());
    let fitting = "x".repeat(1_024);
    let ended = EndTurn { turn: turn(1), end: TurnEnd::Failed, reason: fitting.clone(), error: None };
    let kept = TurnEnded { state: TurnEnd::Failed, reason: fitting, error: None };
    check(&running(), Command::EndTurn(ended), Ok(vec![(Some(turn(1)), kept.into())]));
    let mut world = running();
    let message = worst(MAX_EVENT_BYTES);
    fits(&world.run(Command::SettleTurn { reason: REASON_SERVER_CRASHED, message, question: question(1), expires_at: None }));
}

#[test]
fn a_title_is_taken_from_the_first_line_that_was_said() {
    let mut world = World { state: State::new(session(1)), log: Vec::new() };
    world.run_all([Command::CreateSession(CreateSession { title: None, ..created() }), submit(1, &format!("\n  {}\nb", "ä".repeat(100)))]);
    assert_eq!(world.state.session.title, Some(format!("{}…", "ä".repeat(80))));
    world.run(submit(2, "another"));
    assert_eq!(world.state.session.title, Some(format!("{}…", "ä".repeat(80))));
    let mut world = World { state: State::new(session(1)), log: Vec::new() };
    let say = |n, role, said: &str| NewMessage { id: message(n), role, parts: text(said) };
    let messages = vec![say(7, Role::Assistant, "welcome"), say(8, Role::User, "my plan")];
    world.run_all([Command::CreateSession(CreateSession { title: None, ..created() }), Command::RecordMessages { messages }]);
    assert_eq!(world.state.session.title.as_deref(), Some("my plan"));
}
