//! The public shape of every kind of event. It is for ever: what was written once has to read back, bytes and all.

use crate::support::*;
use everkept_core::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// One event of each kind, with everything in it that can be.
fn samples() -> Vec<Body> {
    let payload = || Payload::Json(json(r#"{"n":1e400,"s":"\ud800"}"#));
    let blob = BlobRef { id: digest_of("blob"), bytes: 70_000 };
    let at = Timestamp(1_700_000_000_500_000);
    let parent = Parent { kind: ParentKind::Fork, session: session(1), seq: 9 };
    let part = |n| PartId(id(5, n));
    vec![
        SessionCreated {
            title: Some("a \"title\"".into()),
            resource: Some(Resource::new("ann").expect("good")),
            thread: Some(Thread::new("t").expect("good")),
            directory: "/work".into(),
            agent: Some(agent("demo")),
            model: Some(model("a/b")),
            parent: Some(Parent { kind: ParentKind::Child, ..parent }),
            metadata: json(r#"{"b":1.10,"a":[]}"#),
        }
        .into(),
        SessionUpdated {
            title: Some(None),
            agent: Some(Some(agent("demo"))),
            model: Some(None),
            thread: Some(None),
            metadata: Some(json("{}")),
            file_changes: Some(json("null")),
            compacting: Some(true),
        }
        .into(),
        SessionForked {
            parent,
            title: None,
            thread: None,
            directory: "/work".into(),
            agent: None,
            model: None,
            metadata: json("{}"),
            origins: vec![ForkOrigin { agent: agent("demo"), agent_session: agent_session("demo-1") }],
        }
        .into(),
        SessionReverted { first_hidden: Some(turn(1)) }.into(),
        SessionArchived { archived: true }.into(),
        SessionDeleted { purge_at: Some(Timestamp(1_700_000_000_500_000)) }.into(),
        SessionRestored {}.into(),
        AgentSessionPinned { agent: agent("demo"), agent_session: agent_session("s"), because: PinnedBecause::Detected }.into(),
        AgentSessionSucceeded { agent: agent("demo"), agent_session: agent_session("s"), cause: SuccessionCause::Agent }.into(),
        AgentSessionKept {
            agent: agent("demo"),
            agent_session: agent_session("s"),
            files: vec![FileKept { file: "s.jsonl".into(), from: 0, pieces: vec![blob] }],
        }
        .into(),
        AgentSessionPutBack {
            agent: agent("demo"),
            agent_session: agent_session("s"),
            files: vec![FilePutBack { file: "s.jsonl".into(), bytes: 70_000 }],
        }
        .into(),
        ContextCleared {}.into(),
        TurnQueued {
            request_message: Some(message(1)),
            agent: agent("demo"),
            agent_because: AgentBecause::SessionAgentGone,
            model: Some(model("a/b")),
            model_because: ModelBecause::LastUsed,
            attempt: 2,
            continues: Some(turn(1)),
            agent_session: Some(agent_session("s")),
            tries: Some(Tries { opening: 0, prompts: 1, fallbacks: 2, not_before: Some(at) }),
        }
        .into(),
        TurnEdited {
            request_message: Some(message(1)),
            agent: Some(agent("demo")),
            agent_because: Some(AgentBecause::Input),
            model: Some(None),
            model_because: Some(ModelBecause::Unset),
        }
        .into(),
        TurnDelayed { tries: 2, until: at, error: TurnError { code: "c".into(), message: "m".into(), may_have_happened: false } }.into(),
        TurnStarted {
            agent_session: agent_session("s"),
            agent_session_because: AgentSessionBecause::Inherited,
            given_messages: 3,
            given: vec![GivenMessages { first: message(1), last: message(3) }],
            model_set: Some(false),
        }
        .into(),
        TurnWaiting { question: question(1) }.into(),
        TurnCancelling {}.into(),
        TurnRetried { by: turn(2), cause: RetryCause::Redo }.into(),
        TurnEnded {
            state: TurnEnd::TimedOut,
            reason: "agent_silent".into(),
            error: Some(TurnError { code: "c".into(), message: "m".into(), may_have_happened: true }),
        }
        .into(),
        TurnDismissed {}.into(),
        MessageAdded {
            message: message(1),
            role: Role::User,
            parts: vec![
                AddedPart::Text { id: part(1), text: "a\nb".into() },
                AddedPart::File(FilePart { id: part(2), name: None, media_type: "image/png".into(), blob }),
            ],
            agent_message: Some("m1".into()),
        }
        .into(),
        PartDelta { message: message(1), part: part(1), kind: TextKind::Reasoning, text: "hm\u{0}".into() }.into(),
        PartCompleted { message: message(1), part: part(1), bytes: 5, digest: digest_of("hm") }.into(),
        PlanUpdated { entries: payload() }.into(),
        ToolStarted {
            message: message(1),
            part: part(1),
            call: "c".into(),
            name: "ls".into(),
            title: None,
            status: ToolStatus::Pending,
            input: Some(payload()),
        }
        .into(),
        ToolUpdated {
            message: message(1),
            part: part(1),
            status: ToolStatus::Running,
            title: Some("t".into()),
            input: None,
            output: Some(Payload::Blob(blob)),
        }
        .into(),
        ToolCompleted { message: message(1), part: part(1), status: ToolStatus::Failed, title: None, input: None, output: None }.into(),
        UsageReported {
            usage: Usage {
                input_tokens: Some(1),
                output_tokens: Some(2),
                reasoning_tokens: Some(3),
                cache_read_tokens: Some(4),
                cache_write_tokens: Some(5),
                cost_usd_micros: Some(u64::MAX),
                priced_on: Some("2026-11-20".into()),
                request: Some("r".into()),
                models: [(model("p/m"), Usage { output_tokens: Some(2), ..Usage::default() })].into(),
            },
        }
        .into(),
        MessageUsed { message: message(1), usage: Usage { output_tokens: Some(2), ..Usage::default() } }.into(),
        QuestionAsked {
            question: question(1),
            kind: QuestionKind::Permission,
            title: "run?".into(),
            call: payload(),
            digest: digest_of("call"),
            request: Some("7".into()),
            options: vec![QuestionOption { id: "y".into(), label: "Yes".into(), kind: OptionKind::AllowAlways }],
            expires_at: Some(at),
        }
        .into(),
        QuestionAnswered {
            question: question(1),
            option: "y".into(),
            note: Some("go".into()),
            rule: Some(Rule { id: question(1), agent: agent("demo"), digest: digest_of("call"), title: "run?".into(), created_at: at }),
            by_rule: Some(question(2)),
        }
        .into(),
        QuestionExpired { question: question(1), because: ExpiredBecause::AgentGone }.into(),
        RuleRemoved { rule: question(1) }.into(),
        AgentRaw::Json(json(r#"{"method":"x"}"#)).into(),
    ]
}

#[test]
fn the_shape_of_every_kind_stays_as_it_is() {
    let shapes: Vec<_> = samples().iter().map(|body| format!("{} {}", body.kind(), body.data())).collect();
    let kinds: Vec<_> = samples().iter().map(Body::kind).collect();
    assert_eq!(kinds, Body::KINDS, "one of each, in their order");
    insta::assert_snapshot!(shapes.join("\n"), @r#"
    session.created {"title":"a \"title\"","resource":"ann","thread":"t","directory":"/work","agent":"demo","model":"a/b","parent":{"kind":"child","session":"ses_00000000000000010000000000000001","seq":9},"metadata":{"b":1.10,"a":[]}}
    session.updated {"title":null,"agent":"demo","model":null,"thread":null,"metadata":{},"file_changes":null,"compacting":true}
    session.forked {"parent":{"kind":"fork","session":"ses_00000000000000010000000000000001","seq":9},"title":null,"thread":null,"directory":"/work","agent":null,"model":null,"metadata":{},"origins":[{"agent":"demo","agent_session":"demo-1"}]}
    session.reverted {"first_hidden":"trn_00000000000000020000000000000001"}
    session.archived {"archived":true}
    session.deleted {"purge_at":"2023-11-14T22:13:20.5Z"}
    session.restored {}
    agent_session.pinned {"agent":"demo","agent_session":"s","because":"detected"}
    agent_session.succeeded {"agent":"demo","agent_session":"s","cause":"agent"}
    agent_session.kept {"agent":"demo","agent_session":"s","files":[{"file":"s.jsonl","from":0,"pieces":[{"id":"fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8","bytes":70000}]}]}
    agent_session.put_back {"agent":"demo","agent_session":"s","files":[{"file":"s.jsonl","bytes":70000}]}
    context.cleared {}
    turn.queued {"request_message":"msg_00000000000000030000000000000001","agent":"demo","agent_because":"session_agent_gone","model":"a/b","model_because":"last_used","attempt":2,"continues":"trn_00000000000000020000000000000001","agent_session":"s","tries":{"opening":0,"prompts":1,"fallbacks":2,"not_before":"2023-11-14T22:13:20.5Z"}}
    turn.edited {"request_message":"msg_00000000000000030000000000000001","agent":"demo","agent_because":"input","model":null,"model_because":"unset"}
    turn.delayed {"tries":2,"until":"2023-11-14T22:13:20.5Z","error":{"code":"c","message":"m","may_have_happened":false}}
    turn.started {"agent_session":"s","agent_session_because":"inherited","given_messages":3,"given":[{"first":"msg_00000000000000030000000000000001","last":"msg_00000000000000030000000000000003"}],"model_set":false}
    turn.waiting {"question":"qst_00000000000000040000000000000001"}
    turn.cancelling {}
    turn.retried {"by":"trn_00000000000000020000000000000002","cause":"redo"}
    turn.ended {"state":"timed_out","reason":"agent_silent","error":{"code":"c","message":"m","may_have_happened":true}}
    turn.dismissed {}
    message.added {"message":"msg_00000000000000030000000000000001","role":"user","parts":[{"type":"text","id":"prt_00000000000000050000000000000001","text":"a\nb"},{"type":"file","id":"prt_00000000000000050000000000000002","name":null,"media_type":"image/png","blob":{"id":"fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8","bytes":70000}}],"agent_message":"m1"}
    part.delta {"message":"msg_00000000000000030000000000000001","part":"prt_00000000000000050000000000000001","type":"reasoning","text":"hm\u0000"}
    part.completed {"message":"msg_00000000000000030000000000000001","part":"prt_00000000000000050000000000000001","bytes":5,"digest":"b82e2178ecf4d0c5859dc2e169d7fed8673f9f6eeb9f3591bed5f253b7742408"}
    plan.updated {"entries":{"json":{"n":1e400,"s":"\ud800"}}}
    tool.started {"message":"msg_00000000000000030000000000000001","part":"prt_00000000000000050000000000000001","call":"c","name":"ls","title":null,"status":"pending","input":{"json":{"n":1e400,"s":"\ud800"}}}
    tool.updated {"message":"msg_00000000000000030000000000000001","part":"prt_00000000000000050000000000000001","status":"running","title":"t","output":{"blob":{"id":"fa2c8cc4f28176bbeed4b736df569a34c79cd3723e9ec42f9674b4d46ac6b8b8","bytes":70000}}}
    tool.completed {"message":"msg_00000000000000030000000000000001","part":"prt_00000000000000050000000000000001","status":"failed"}
    usage {"input_tokens":1,"output_tokens":2,"reasoning_tokens":3,"cache_read_tokens":4,"cache_write_tokens":5,"cost_usd_micros":18446744073709551615,"priced_on":"2026-11-20","request":"r","models":{"p/m":{"output_tokens":2}}}
    message.usage {"message":"msg_00000000000000030000000000000001","output_tokens":2}
    question.asked {"question":"qst_00000000000000040000000000000001","type":"permission","title":"run?","call":{"json":{"n":1e400,"s":"\ud800"}},"digest":"7edb360f06acaef2cc80dba16cf563f199d347db4443da04da0c8173e3f9e4ed","request":"7","options":[{"id":"y","label":"Yes","kind":"allow_always"}],"expires_at":"2023-11-14T22:13:20.5Z"}
    question.answered {"question":"qst_00000000000000040000000000000001","option":"y","note":"go","rule":{"id":"qst_00000000000000040000000000000001","agent":"demo","digest":"7edb360f06acaef2cc80dba16cf563f199d347db4443da04da0c8173e3f9e4ed","title":"run?","created_at":"2023-11-14T22:13:20.5Z"},"by_rule":"qst_00000000000000040000000000000002"}
    question.expired {"question":"qst_00000000000000040000000000000001","because":"agent_gone"}
    rule.removed {"rule":"qst_00000000000000040000000000000001"}
    agent.raw {"json":{"method":"x"}}
    "#);
}

#[test]
fn raw_words_of_an_agent_say_what_they_are() {
    let raw = [AgentRaw::Text("no json".into()), AgentRaw::Blob(BlobRef { id: digest_of("b"), bytes: 1 })];
    let shapes: Vec<_> = raw.into_iter().map(|raw| Body::from(raw).data()).collect();
    insta::assert_snapshot!(shapes.join("\n"), @r#"
    {"text":"no json"}
    {"blob":{"id":"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d","bytes":1}}
    "#);
}

#[test]
fn a_sample_of_every_kind_reads_back() {
    for body in samples() {
        reads_back(&body).expect("it does");
    }
}

#[test]
fn ag_10_an_unknown_kind_and_a_new_field_are_no_error() {
    assert!(Body::read("session.from_the_future", "{}").is_none());
    let read = Body::read("turn.waiting", &format!(r#"{{"question":"{}","since":1}}"#, question(1)));
    assert_eq!(read.expect("known").expect("read"), TurnWaiting { question: question(1) }.into());
}

#[test]
fn absent_and_null_are_two_things_in_an_update() {
    let read = |data: &str| Body::read("session.updated", data).expect("known").expect("read");
    let titled = |title| SessionUpdated { title, ..SessionUpdated::default() };
    assert_eq!(read("{}"), titled(None).into());
    assert_eq!(read(r#"{"title":null}"#), titled(Some(None)).into());
    assert_eq!(read(r#"{"title":"x"}"#), titled(Some(Some("x".into()))).into());
}

#[test]
fn json_is_the_text_it_came_as_and_knows_how_deep_it_is() {
    for (text, depth) in [
        ("1", 0),
        ("[]", 1),
        ("[[],[],{}]", 2),
        (r#"{"a":{"b":[1]},"c":[]}"#, 3),
        (r#""[[{{""#, 0),
        (r#"["]]",["["]]"#, 2),
        (r#"["\"[[[",[]]"#, 2),
        (r#"["\\",[[]]]"#, 3),
    ] {
        assert_eq!((json(text).depth(), json(text).get(), format!("{:?}", json(text))), (depth, text, text.to_owned()));
    }
    assert_ne!(json("1"), json("1.0"));
}

#[test]
fn a_time_plus_a_duration_is_that_much_later_and_never_wraps() {
    assert_eq!(Timestamp(5).plus(std::time::Duration::from_millis(2)), Timestamp(2_005));
    assert_eq!(Timestamp(i64::MAX - 1).plus(std::time::Duration::MAX), Timestamp(i64::MAX));
}

#[test]
fn a_digest_has_64_hex_digits_and_nothing_else() {
    let read = |text: &str| serde_json::from_str::<TextDigest>(&format!("\"{text}\""));
    assert_eq!(read(&"0f".repeat(32)).expect("a digest").to_string(), "0f".repeat(32));
    for wrong in [&"+f".repeat(32), &"0f".repeat(31), &"zz".repeat(32), ""] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

fn reads_back(body: &Body) -> Result<(), TestCaseError> {
    let data = body.data();
    prop_assert!(data.starts_with('{') && !data.contains('\n'), "one object on one line: {}", data);
    let read = Body::read(body.kind(), &data).expect("a known kind");
    let read = read.map_err(|error| TestCaseError::fail(format!("{error}: {data}")))?;
    prop_assert_eq!(&read, body);
    prop_assert_eq!(read.data(), data);
    Ok(())
}

fn some_text() -> impl Strategy<Value = String> {
    let odd =
        prop::sample::select(vec!["", "\u{0}", "\u{feff}", "\u{202e}abc", "\u{2028}\u{2029}", "👩‍👩‍👧", "\u{10ffff}", "\\ud800", "\r\n\t\"\\"]);
    prop_oneof![odd.prop_map(String::from), prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter)]
}

fn some_json() -> impl Strategy<Value = Json> {
    let odd = prop::sample::select(vec![
        "null",
        "-0",
        "1e400",
        "123456789012345678901234567890.000",
        r#""\ud800""#,
        r#""\udfff\u0000 \/""#,
        r#"{"a":1,"a":2,"":{}}"#,
        "[ 1 ,\r\n 2 ]",
        "  true  ",
    ]);
    let deep = (1..20_000_usize).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
    let quoted = some_text().prop_map(|text| serde_json::to_string(&text).expect("a string"));
    prop_oneof![6 => odd.prop_map(String::from), 3 => quoted, 1 => deep].prop_map(|text| Json::parse(text).expect("JSON"))
}

fn name<T: std::fmt::Debug>(make: impl Fn(String) -> Result<T, Refusal>) -> impl Strategy<Value = T> {
    let chars = any::<char>().prop_filter("no control characters", |char| !char.is_control());
    prop::collection::vec(chars, 1..10).prop_map(move |chars| make(chars.into_iter().collect()).expect("a good name"))
}

fn some<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    prop::option::of(strategy)
}

/// Years 1 to 9999: the times a calendar has.
fn some_time() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000..253_402_300_800_000_000_i64).prop_map(Timestamp)
}

fn some_blob() -> impl Strategy<Value = BlobRef> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(id, bytes)| BlobRef { id: TextDigest(id), bytes })
}

fn some_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![some_json().prop_map(Payload::Json), some_blob().prop_map(Payload::Blob)]
}

fn some_uuid() -> impl Strategy<Value = uuid::Uuid> {
    any::<u128>().prop_map(uuid::Uuid::from_u128)
}

fn some_parent() -> impl Strategy<Value = Parent> {
    let kind = some(&[ParentKind::Fork, ParentKind::Child]);
    (kind, some_uuid(), any::<u64>()).prop_map(|(kind, id, seq)| Parent { kind, session: SessionId(id), seq })
}

fn agents() -> impl Strategy<Value = AgentName> {
    name(AgentName::new)
}

fn models() -> impl Strategy<Value = ModelName> {
    name(ModelName::new)
}

fn agent_sessions() -> impl Strategy<Value = AgentSessionId> {
    name(AgentSessionId::new)
}

fn tool_change() -> impl Strategy<Value = (MessageId, PartId, ToolStatus, Option<String>, Option<Payload>, Option<Payload>)> {
    let status = some(&[ToolStatus::Pending, ToolStatus::Running, ToolStatus::Completed, ToolStatus::Failed]);
    let ids = (some_uuid(), some_uuid());
    (ids, status, maybe(some_text()), maybe(some_payload()), maybe(some_payload()))
        .prop_map(|((message, part), status, title, input, output)| (MessageId(message), PartId(part), status, title, input, output))
}

fn added_part() -> impl Strategy<Value = AddedPart> {
    let text = (some_uuid(), some_text()).prop_map(|(id, text)| AddedPart::Text { id: PartId(id), text });
    let file = (some_uuid(), maybe(some_text()), some_text(), some_blob())
        .prop_map(|(id, name, media_type, blob)| AddedPart::File(FilePart { id: PartId(id), name, media_type, blob }));
    prop_oneof![text, file]
}

fn kind(kind: &str) -> BoxedStrategy<Body> {
    let because = || some(&[AgentBecause::Input, AgentBecause::Session, AgentBecause::Default, AgentBecause::SessionAgentGone]);
    let chosen = || some(&[ModelBecause::Input, ModelBecause::Session, ModelBecause::Agent, ModelBecause::LastUsed, ModelBecause::Unset]);
    match kind {
        "session.created" => {
            let who = (maybe(name(Resource::new)), maybe(name(Thread::new)), maybe(agents()), maybe(models()));
            (maybe(some_text()), who, some_text(), maybe(some_parent()), some_json())
                .prop_map(|(title, (resource, thread, agent, model), directory, parent, metadata)| {
                    SessionCreated { title, resource, thread, directory, agent, model, parent, metadata }.into()
                })
                .boxed()
        }
        "session.updated" => {
            let names = (maybe(maybe(some_text())), maybe(maybe(agents())), maybe(maybe(models())), maybe(maybe(name(Thread::new))));
            let metadata = maybe(some_json().prop_filter("an object", |json| json.get() != "null"));
            (names, metadata, maybe(some_json()), maybe(any::<bool>()))
                .prop_map(|((title, agent, model, thread), metadata, file_changes, compacting)| {
                    SessionUpdated { title, agent, model, thread, metadata, file_changes, compacting }.into()
                })
                .boxed()
        }
        "session.forked" => {
            let origin = (agents(), agent_sessions()).prop_map(|(agent, agent_session)| ForkOrigin { agent, agent_session });
            let names = (maybe(some_text()), maybe(name(Thread::new)), maybe(agents()), maybe(models()));
            (some_parent(), names, some_text(), some_json(), prop::collection::vec(origin, 0..3))
                .prop_map(|(parent, (title, thread, agent, model), directory, metadata, origins)| {
                    SessionForked { parent, title, thread, directory, agent, model, metadata, origins }.into()
                })
                .boxed()
        }
        "session.reverted" => maybe(some_uuid()).prop_map(|id| SessionReverted { first_hidden: id.map(TurnId) }.into()).boxed(),
        "session.archived" => any::<bool>().prop_map(|archived| SessionArchived { archived }.into()).boxed(),
        "session.deleted" => maybe(some_time()).prop_map(|purge_at| SessionDeleted { purge_at }.into()).boxed(),
        "session.restored" => Just(SessionRestored {}.into()).boxed(),
        "agent_session.pinned" => {
            let because = some(&[PinnedBecause::Detected, PinnedBecause::Request, PinnedBecause::Forked]);
            (agents(), agent_sessions(), because)
                .prop_map(|(agent, agent_session, because)| AgentSessionPinned { agent, agent_session, because }.into())
                .boxed()
        }
        "agent_session.succeeded" => {
            let cause = some(&[SuccessionCause::Agent, SuccessionCause::Explicit, SuccessionCause::Revert]);
            (agents(), agent_sessions(), cause)
                .prop_map(|(agent, agent_session, cause)| AgentSessionSucceeded { agent, agent_session, cause }.into())
                .boxed()
        }
        "agent_session.kept" => {
            let file = (some_text(), any::<u64>(), prop::collection::vec(some_blob(), 0..3));
            let file = file.prop_map(|(file, from, pieces)| FileKept { file, from, pieces });
            (agents(), agent_sessions(), prop::collection::vec(file, 0..3))
                .prop_map(|(agent, agent_session, files)| AgentSessionKept { agent, agent_session, files }.into())
                .boxed()
        }
        "agent_session.put_back" => {
            let file = (some_text(), any::<u64>()).prop_map(|(file, bytes)| FilePutBack { file, bytes });
            (agents(), agent_sessions(), prop::collection::vec(file, 0..3))
                .prop_map(|(agent, agent_session, files)| AgentSessionPutBack { agent, agent_session, files }.into())
                .boxed()
        }
        "context.cleared" => Just(ContextCleared {}.into()).boxed(),
        "turn.queued" => {
            let who = (agents(), because(), maybe(models()), chosen());
            let tries = (any::<[u32; 3]>(), maybe(some_time()));
            let tries = tries.prop_map(|([opening, prompts, fallbacks], not_before)| Tries { opening, prompts, fallbacks, not_before });
            (maybe(some_uuid()), who, any::<u32>(), maybe(some_uuid()), maybe(agent_sessions()), maybe(tries))
                .prop_map(|(request, (agent, agent_because, model, model_because), attempt, continues, agent_session, tries)| {
                    let (request_message, continues) = (request.map(MessageId), continues.map(TurnId));
                    let who = TurnQueued {
                        request_message,
                        agent,
                        agent_because,
                        model,
                        model_because,
                        attempt,
                        continues,
                        agent_session,
                        tries,
                    };
                    who.into()
                })
                .boxed()
        }
        "turn.edited" => (maybe(some_uuid()), maybe(agents()), maybe(because()), maybe(maybe(models())), maybe(chosen()))
            .prop_map(|(request, agent, agent_because, model, model_because)| {
                TurnEdited { request_message: request.map(MessageId), agent, agent_because, model, model_because }.into()
            })
            .boxed(),
        "turn.delayed" => (any::<u32>(), some_time(), (some_text(), some_text(), any::<bool>()))
            .prop_map(|(tries, until, (code, message, may_have_happened))| {
                TurnDelayed { tries, until, error: TurnError { code, message, may_have_happened } }.into()
            })
            .boxed(),
        "turn.started" => {
            let because = some(&[
                AgentSessionBecause::Request,
                AgentSessionBecause::Inherited,
                AgentSessionBecause::Detected,
                AgentSessionBecause::Preserved,
                AgentSessionBecause::Forked,
                AgentSessionBecause::Reverted,
            ]);
            let run = (some_uuid(), some_uuid());
            let run = run.prop_map(|(first, last)| GivenMessages { first: MessageId(first), last: MessageId(last) });
            (agent_sessions(), because, any::<u64>(), prop::collection::vec(run, 0..3), maybe(any::<bool>()))
                .prop_map(|(agent_session, agent_session_because, given_messages, given, model_set)| {
                    TurnStarted { agent_session, agent_session_because, given_messages, given, model_set }.into()
                })
                .boxed()
        }
        "turn.waiting" => some_uuid().prop_map(|id| TurnWaiting { question: QuestionId(id) }.into()).boxed(),
        "turn.cancelling" => Just(TurnCancelling {}.into()).boxed(),
        "turn.retried" => (some_uuid(), some(&[RetryCause::Retry, RetryCause::Redo, RetryCause::Fallback]))
            .prop_map(|(by, cause)| TurnRetried { by: TurnId(by), cause }.into())
            .boxed(),
        "turn.ended" => {
            let ends =
                [TurnEnd::Completed, TurnEnd::Failed, TurnEnd::Cancelled, TurnEnd::TimedOut, TurnEnd::Interrupted, TurnEnd::DeadLettered];
            let error = (some_text(), some_text(), any::<bool>()).prop_map(|(code, message, may_have_happened)| TurnError {
                code,
                message,
                may_have_happened,
            });
            (some(&ends), some_text(), maybe(error)).prop_map(|(state, reason, error)| TurnEnded { state, reason, error }.into()).boxed()
        }
        "turn.dismissed" => Just(TurnDismissed {}.into()).boxed(),
        "message.added" => {
            let role = some(&[Role::User, Role::Assistant, Role::System]);
            (some_uuid(), role, prop::collection::vec(added_part(), 0..4), maybe(some_text()))
                .prop_map(|(id, role, parts, agent_message)| MessageAdded { message: MessageId(id), role, parts, agent_message }.into())
                .boxed()
        }
        "part.delta" => (some_uuid(), some_uuid(), some(&[TextKind::Text, TextKind::Reasoning]), some_text())
            .prop_map(|(message, part, kind, text)| PartDelta { message: MessageId(message), part: PartId(part), kind, text }.into())
            .boxed(),
        "part.completed" => (some_uuid(), some_uuid(), any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(message, part, bytes, digest)| {
                PartCompleted { message: MessageId(message), part: PartId(part), bytes, digest: TextDigest(digest) }.into()
            })
            .boxed(),
        "plan.updated" => some_payload().prop_map(|entries| PlanUpdated { entries }.into()).boxed(),
        "tool.started" => (tool_change(), some_text(), some_text())
            .prop_map(|((message, part, status, title, input, _), call, name)| {
                ToolStarted { message, part, call, name, title, status, input }.into()
            })
            .boxed(),
        "tool.updated" => tool_change()
            .prop_map(|(message, part, status, title, input, output)| ToolUpdated { message, part, status, title, input, output }.into())
            .boxed(),
        "tool.completed" => tool_change()
            .prop_map(|(message, part, status, title, input, output)| ToolCompleted { message, part, status, title, input, output }.into())
            .boxed(),
        "usage" => (any::<[Option<u64>; 6]>(), some_text())
            .prop_map(|(figures, request)| {
                let part = Usage::from_figures(figures);
                let models = [(model("p/m"), part.clone())].into();
                UsageReported { usage: Usage { request: Some(request), models, ..part } }.into()
            })
            .boxed(),
        "message.usage" => (some_uuid(), any::<[Option<u64>; 6]>())
            .prop_map(|(message, figures)| MessageUsed { message: MessageId(message), usage: Usage::from_figures(figures) }.into())
            .boxed(),
        "question.asked" => {
            let kinds =
                [OptionKind::AllowOnce, OptionKind::AllowAlways, OptionKind::RejectOnce, OptionKind::RejectAlways, OptionKind::Other];
            let option = (some_text(), some_text(), some(&kinds)).prop_map(|(id, label, kind)| QuestionOption { id, label, kind });
            let what = some(&[QuestionKind::Permission, QuestionKind::Choice, QuestionKind::Review]);
            let call = (some_payload(), any::<[u8; 32]>(), maybe(some_text()));
            (some_uuid(), what, some_text(), call, prop::collection::vec(option, 0..3), maybe(some_time()))
                .prop_map(|(id, kind, title, (call, digest, request), options, expires_at)| {
                    let (question, digest) = (QuestionId(id), TextDigest(digest));
                    QuestionAsked { question, kind, title, call, digest, request, options, expires_at }.into()
                })
                .boxed()
        }
        "question.answered" => {
            let rule =
                (some_uuid(), agents(), any::<[u8; 32]>(), some_text(), some_time()).prop_map(|(id, agent, digest, title, created_at)| {
                    Rule { id: QuestionId(id), agent, digest: TextDigest(digest), title, created_at }
                });
            (some_uuid(), some_text(), maybe(some_text()), maybe(rule), maybe(some_uuid()))
                .prop_map(|(id, option, note, rule, by_rule)| {
                    QuestionAnswered { question: QuestionId(id), option, note, rule, by_rule: by_rule.map(QuestionId) }.into()
                })
                .boxed()
        }
        "question.expired" => {
            let because = [ExpiredBecause::Timeout, ExpiredBecause::TurnEnded, ExpiredBecause::AgentGone, ExpiredBecause::Withdrawn];
            (some_uuid(), some(&because)).prop_map(|(id, because)| QuestionExpired { question: QuestionId(id), because }.into()).boxed()
        }
        "rule.removed" => some_uuid().prop_map(|id| RuleRemoved { rule: QuestionId(id) }.into()).boxed(),
        "agent.raw" => {
            prop_oneof![some_json().prop_map(AgentRaw::Json), some_text().prop_map(AgentRaw::Text), some_blob().prop_map(AgentRaw::Blob)]
                .prop_map(Body::from)
                .boxed()
        }
        new => panic!("{new} has no strategy yet"),
    }
}

#[test]
fn d7_every_event_reads_back_as_it_was_written() {
    let mut config = config();
    config.cases = config.cases.div_ceil(4);
    for name in Body::KINDS {
        let mut runner = TestRunner::new(config.clone());
        let outcome = runner.run(&kind(name), |body| {
            prop_assert_eq!(body.kind(), *name);
            reads_back(&body)
        });
        if let Err(failure) = outcome {
            panic!("{name}: {failure}");
        }
    }
}
