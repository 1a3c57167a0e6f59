//! Every shape that leaves the server, made from a core value, as JSON; and read back by the client to the same.

use everkept_api::*;
use everkept_core as core;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

#[test]
fn a_session() {
    let session = core::Session {
        id: core::SessionId(id(1)),
        title: Some("Fix: the Build, über alles!".into()),
        resource: Some(core::Resource::new("ada").unwrap()),
        thread: Some(core::Thread::new("t/1").unwrap()),
        directory: "/srv/app".into(),
        agent: Some(core::AgentName::new("demo").unwrap()),
        model: None,
        state: core::SessionState::Waiting,
        context: 1,
        parent: Some(core::Parent { kind: core::ParentKind::Fork, session: core::SessionId(id(2)), seq: 9 }),
        agent_sessions: vec![core::AgentSession {
            agent: core::AgentName::new("demo").unwrap(),
            context: 1,
            first: core::AgentSessionId::new("a").unwrap(),
            current: core::AgentSessionId::new("b").unwrap(),
            successors: vec![core::Successor {
                id: core::AgentSessionId::new("b").unwrap(),
                cause: core::SuccessionCause::Agent,
                turn: Some(core::TurnId(id(3))),
                at: core::Timestamp(1_000_000),
            }],
        }],
        usage: core::Usage { input_tokens: Some(3), cost_usd_micros: Some(250), ..core::Usage::default() },
        metadata: json(r#"{"b":1.10,"a":[]}"#),
        file_changes: Some(json(r#"{"added":  2}"#)),
        rules: vec![core::Rule {
            id: core::QuestionId(id(4)),
            agent: core::AgentName::new("demo").unwrap(),
            digest: core::digest_of("call"),
            title: "run ls".into(),
            created_at: core::Timestamp(2),
        }],
        revert: None,
        hidden: vec![],
        replaced: vec![],
        compacting_at: None,
        archived_at: Some(core::Timestamp(1_500_000)),
        deleted_at: Some(core::Timestamp(9)),
        purge_at: Some(core::Timestamp(2_000_000)),
        created_at: core::Timestamp(0),
        updated_at: core::Timestamp(i64::MAX),
    };
    insta::assert_snapshot!(wire(&Session::from(session)), @r#"{"id":"ses_00000000000000000000000000000001","slug":"fix-the-build-über-alles","title":"Fix: the Build, über alles!","resource":"ada","thread":"t/1","directory":"/srv/app","agent":"demo","model":null,"state":"waiting","context":1,"parent":{"kind":"fork","session":"ses_00000000000000000000000000000002","seq":9},"agent_sessions":[{"agent":"demo","context":1,"first":"a","current":"b","successors":[{"id":"b","cause":"agent","turn":"trn_00000000000000000000000000000003","at":"1970-01-01T00:00:01Z"}]}],"usage":{"input_tokens":3,"cost_usd_micros":250},"metadata":{"b":1.10,"a":[]},"file_changes":{"added":  2},"rules":[{"id":"qst_00000000000000000000000000000004","agent":"demo","digest":"7edb360f06acaef2cc80dba16cf563f199d347db4443da04da0c8173e3f9e4ed","title":"run ls","created_at":"1970-01-01T00:00:00.000002Z"}],"revert":null,"compacting_at":null,"archived_at":"1970-01-01T00:00:01.5Z","deleted_at":"1970-01-01T00:00:00.000009Z","purge_at":"1970-01-01T00:00:02Z","created_at":"1970-01-01T00:00:00Z","updated_at":"9999-12-30T22:00:00.999999999Z"}"#);
}

#[test]
fn a_turn_that_a_newer_attempt_superseded() {
    let turn = turn();
    let hidden = [core::HiddenTurn { turn: turn.id, by: Some(core::TurnId(id(5))) }];
    insta::assert_snapshot!(wire(&Turn::seen_in(turn, &hidden)), @r#"{"id":"trn_00000000000000000000000000000003","session":"ses_00000000000000000000000000000001","context":0,"state":"timed_out","reason":"agent_silent","agent":"demo","agent_because":"session_agent_gone","model":"p/m","model_because":"last_used","attempt":2,"continues":null,"agent_session":null,"request_message":"msg_00000000000000000000000000000006","response_messages":["msg_00000000000000000000000000000007"],"cancelling":false,"tries":{"opening":0,"prompts":0,"fallbacks":0,"not_before":null},"superseded_by":"trn_00000000000000000000000000000005","reverted":false,"queued_at":"1970-01-01T00:00:00.000001Z","started_at":"1970-01-01T00:00:00.000002Z","ended_at":"1970-01-01T00:00:00.000003Z","usage":{"output_tokens":1},"error":{"code":"silent","message":"said nothing","may_have_happened":true}}"#);
}

#[test]
fn a_turn_that_was_reverted_is_told_from_one_that_counts() {
    let hidden = [core::HiddenTurn { turn: turn().id, by: None }];
    let reverted = Turn::seen_in(turn(), &hidden);
    assert_eq!((reverted.superseded_by, reverted.reverted), (None, true));
    let counts = Turn::from(turn());
    assert_eq!((counts.superseded_by, counts.reverted), (None, false));
}

#[test]
fn a_message_with_every_part() {
    let blob = core::BlobRef { id: core::digest_of("x"), bytes: 70_000 };
    let message = core::Message {
        id: core::MessageId(id(1)),
        turn: Some(core::TurnId(id(2))),
        role: core::Role::Assistant,
        parts: vec![
            core::Part::Reasoning { id: core::PartId(id(3)), text: "hm".into() },
            core::Part::Text { id: core::PartId(id(4)), text: "line\n\"two\"".into() },
            core::Part::Tool(core::ToolPart {
                id: core::PartId(id(5)),
                call: "call_1".into(),
                name: "bash".into(),
                title: None,
                status: core::ToolStatus::Completed,
                input: Some(core::Payload::Json(json(r#"{"cmd":"ls","n":1e400}"#))),
                output: Some(core::Payload::Blob(blob)),
            }),
            core::Part::File(core::FilePart { id: core::PartId(id(6)), name: None, media_type: "image/png".into(), blob }),
        ],
        created_at: core::Timestamp(1),
        usage: Some(core::Usage { output_tokens: Some(3), ..core::Usage::default() }),
    };
    insta::assert_snapshot!(wire(&Message::from(message)), @r#"{"id":"msg_00000000000000000000000000000001","turn":"trn_00000000000000000000000000000002","role":"assistant","parts":[{"type":"reasoning","id":"prt_00000000000000000000000000000003","text":"hm"},{"type":"text","id":"prt_00000000000000000000000000000004","text":"line\n\"two\""},{"type":"tool","id":"prt_00000000000000000000000000000005","call":"call_1","name":"bash","title":null,"status":"completed","input":{"json":{"cmd":"ls","n":1e400}},"output":{"blob":{"id":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","bytes":70000}}},{"type":"file","id":"prt_00000000000000000000000000000006","name":null,"media_type":"image/png","blob":{"id":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","bytes":70000}}],"created_at":"1970-01-01T00:00:00.000001Z","usage":{"output_tokens":3}}"#);
}

#[test]
fn a_question() {
    let question = core::Question {
        id: core::QuestionId(id(1)),
        session: core::SessionId(id(2)),
        turn: core::TurnId(id(3)),
        kind: core::QuestionKind::Permission,
        title: "run ls".into(),
        call: core::Payload::Json(json(r#"{"cmd": "ls"}"#)),
        digest: core::digest_of("call"),
        request: Some("7".into()),
        options: vec![core::QuestionOption { id: "y".into(), label: "Yes".into(), kind: core::OptionKind::AllowOnce }],
        state: core::QuestionState::Answered,
        answer: Some(core::Answer { option: "y".into(), note: None, at: core::Timestamp(3) }),
        asked_at: core::Timestamp(1),
        expires_at: None,
    };
    insta::assert_snapshot!(wire(&Question::from(question)), @r#"{"id":"qst_00000000000000000000000000000001","session":"ses_00000000000000000000000000000002","turn":"trn_00000000000000000000000000000003","kind":"permission","title":"run ls","call":{"json":{"cmd": "ls"}},"digest":"7edb360f06acaef2cc80dba16cf563f199d347db4443da04da0c8173e3f9e4ed","options":[{"id":"y","label":"Yes","kind":"allow_once"}],"state":"answered","answer":{"option":"y","note":null,"at":"1970-01-01T00:00:00.000003Z"},"asked_at":"1970-01-01T00:00:00.000001Z","expires_at":null}"#);
}

#[test]
fn an_event_keeps_its_data_to_the_byte() {
    let bytes = r#"{"seq":3,"kind":"agent.raw","session":"ses_1","turn":null,"context":0,"at":"1970-01-01T00:00:00Z","data":{"json":{"n": 1.0e+2}}}"#;
    let event: Event = serde_json::from_str(bytes).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), bytes);
}

#[test]
fn the_other_answers() {
    let token = Token {
        id: "tok_1".into(),
        kind: TokenKind::Resource,
        name: Some("ada".into()),
        created_at: time(core::Timestamp(0)),
        expires_at: None,
        revoked_at: None,
    };
    let abilities = Abilities {
        resume: true,
        fork: false,
        cancel: true,
        ask_permission: true,
        set_model: false,
        report_usage: true,
        remember: true,
        transcript: false,
    };
    let lines = [
        wire(&List { items: vec![1, 2], next_cursor: Some("c".into()), has_more: true, total: Some(9) }),
        wire(&List::<u8>::whole(vec![])),
        wire(&Agent { name: "demo".into(), default: true, model: None, abilities, remote: true, connected: false }),
        wire(&CreatedToken { token, secret: "s".into() }),
        wire(&Cleared { context: 2 }),
        wire(&Recorded { session: "ses_1".into(), messages: vec!["msg_1".into()], seq: 4 }),
        wire(&Hint { session: "ses_1".into(), seq: 4, state: SessionState::Idle }),
        wire(&Health { status: "ok".into(), version: "0.1.0".into() }),
        wire(&ContextSummary { context: 0, turns: 1, events: 8, first_at: time(core::Timestamp(0)), last_at: time(core::Timestamp(1)) }),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"items":[1,2],"next_cursor":"c","has_more":true,"total":9}
    {"items":[],"next_cursor":null,"has_more":false}
    {"name":"demo","default":true,"model":null,"abilities":{"resume":true,"fork":false,"cancel":true,"ask_permission":true,"set_model":false,"report_usage":true,"remember":true,"transcript":false},"remote":true,"connected":false}
    {"token":{"id":"tok_1","kind":"resource","name":"ada","created_at":"1970-01-01T00:00:00Z","expires_at":null,"revoked_at":null},"secret":"s"}
    {"context":2}
    {"session":"ses_1","messages":["msg_1"],"seq":4}
    {"session":"ses_1","seq":4,"state":"idle"}
    {"status":"ok","version":"0.1.0"}
    {"context":0,"turns":1,"events":8,"first_at":"1970-01-01T00:00:00Z","last_at":"1970-01-01T00:00:00.000001Z"}
    "#);
}

#[test]
fn a_slug_is_made_of_letters_and_digits() {
    let session = core::SessionId(id(1));
    assert_eq!(slug(Some("  -- "), session), session.to_string());
    assert_eq!(slug(None, session), session.to_string());
    assert_eq!(slug(Some("A/b  C"), session), "a-b-c");
    assert!(slug(Some(&"word ".repeat(50)), session).len() <= 60);
}

fn turn() -> core::Turn {
    core::Turn {
        id: core::TurnId(id(3)),
        session: core::SessionId(id(1)),
        context: 0,
        state: core::TurnState::TimedOut,
        reason: Some(core::REASON_AGENT_SILENT.into()),
        agent: core::AgentName::new("demo").unwrap(),
        agent_because: core::AgentBecause::SessionAgentGone,
        model: Some(core::ModelName::new("p/m").unwrap()),
        model_because: core::ModelBecause::LastUsed,
        attempt: 2,
        continues: None,
        agent_session: None,
        request_message: Some(core::MessageId(id(6))),
        response_messages: vec![core::MessageId(id(7))],
        cancelling: false,
        tries: core::Tries::default(),
        queued_at: core::Timestamp(1),
        started_at: Some(core::Timestamp(2)),
        ended_at: Some(core::Timestamp(3)),
        usage: Some(core::Usage { output_tokens: Some(1), ..core::Usage::default() }),
        error: Some(core::TurnError { code: "silent".into(), message: "said nothing".into(), may_have_happened: true }),
    }
}

/// As it leaves the server; what the client reads of it must say the same.
fn wire<T: Serialize + DeserializeOwned>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    let read: T = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    text
}

fn json(text: &str) -> core::Json {
    core::Json::parse(text.to_owned()).unwrap()
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}
