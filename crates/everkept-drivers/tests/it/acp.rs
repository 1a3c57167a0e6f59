//! Transcripts: the bytes an agent wrote, and what they mean in the words all drivers share.

use crate::{
    support::{Heard, try_open},
    transcript::{ACP, Transcript, WAIT, told},
};
use everkept_agent::{AgentFaultKind, Done, OpenSession, Order, Prompt, PromptPart};
use everkept_core::{AgentRaw, AgentSessionId, Message, MessageId, Part, PartId, Role, Said, Timestamp, TurnId, Usage};

const INTRODUCTION: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentCapabilities":{"loadSession":true,"sessionCapabilities":{"fork":{}}}}}"#;
const OPENED: &str = r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s"}}"#;
const DONE: &str = r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn"}}"#;

#[tokio::test]
async fn what_opencode_said_is_understood() {
    let recorded = include_bytes!("../fixtures/opencode-1.18.33.jsonl");
    let transcript = Transcript::of(recorded, &ACP);
    let mut talk = transcript.open(OpenSession::New).await;
    assert_eq!(talk.session().as_str(), "ses_e0735b851ffe0BFxkuPGtDOwTB");
    let thought = talk.prompt("say hello THINK").await;
    assert_eq!(
        told(&thought),
        [
            "reasoning : thinking about: say hello THINK",
            "text msg_1f8ca47e2001nwu09eneHJL3bk: reply 1 to: say hello THINK",
            "usage 3 in, 6 out",
            "Completed { reason: \"end_turn\" }",
        ]
    );
    let used = talk.prompt("use it TOOL").await;
    assert_eq!(
        told(&used),
        [
            r#"tool call_2 execute Pending "bash" {"cwd":"/home/someone/work"}"#,
            r#"tool call_2 Running "echo tool-ran >> tool.log" in {"command":"echo tool-ran >> tool.log","cwd":"/home/someone/work"}"#,
            r#"asked 0 "echo tool-ran >> tool.log" once/AllowOnce always/AllowAlways reject/RejectOnce"#,
            r#"tool call_2 Running "echo tool-ran >> tool.log" in {"command":"echo tool-ran >> tool.log","cwd":"/home/someone/work"}"#,
            r#"tool call_2 Completed "echo tool-ran >> tool.log" out {"content":[{"type":"content","content":{"type":"text","text":"(no output)"}}],"rawOutput":{"output":"(no output)","metadata":{"output":"(no output)","exit":0,"truncated":false}}}"#,
            "text msg_1f8ca4b48001fDSOwNJXq0BU7g: reply 2 to: use it TOOL",
            "usage 6 in, 6 out",
            "Completed { reason: \"end_turn\" }",
        ]
    );
    let failed = talk.prompt("now FAIL").await;
    assert_eq!(told(&failed), [r#"Failed { code: "-32603", message: "Internal error: failed, as it was asked to" }"#]);
    let bytes = [thought.bytes(), used.bytes(), failed.bytes()].concat();
    assert!(bytes == recorded, "every byte is handed over as it came");
}

#[tokio::test]
async fn a_tool_keeps_its_own_json() {
    let update = |fields: &str| update(&format!(r#""toolCallId":"c",{fields}"#));
    let heard = answer(&[
        &update(r#""sessionUpdate":"tool_call","title":"Edit","kind":"edit","rawInput":{"z":1e400,"a":"\ud800","z":[ 1 ]},"_meta":{"claudeCode":{"toolName":"Edit"}}"#),
        &update(r#""sessionUpdate":"tool_call_update","content":[{"type":"diff"}]"#),
        &update(r#""sessionUpdate":"tool_call_update","status":"strange","title":7"#),
        &update(r#""sessionUpdate":"tool_call_update","status":"failed","rawOutput":null"#),
        &update(r#""sessionUpdate":"tool_call","toolCallId":"over","status":"completed","rawOutput":"done""#).replace(r#""toolCallId":"c","#, ""),
        DONE,
    ])
    .await;
    assert_eq!(
        told(&heard),
        [
            r#"tool c Edit Pending "Edit" {"z":1e400,"a":"\ud800","z":[ 1 ]}"#,
            r#"tool c out [{"type":"diff"}]"#,
            "tool c",
            "tool c Failed",
            "tool over tool Running",
            r#"tool over Completed out "done""#,
            "Completed { reason: \"end_turn\" }",
        ]
    );
}

#[tokio::test]
async fn what_is_not_understood_is_kept() {
    let lines = [
        &update(r#""sessionUpdate":"brand_new","x":1"#),
        &update(r#""sessionUpdate":"agent_message_chunk","content":{"type":"image","data":"AA=="}"#),
        &update(r#""sessionUpdate":7"#),
        &update(r#""sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"fine"}"#).replace(r#""s""#, r#""another""#),
        r#"{"jsonrpc":"2.0","method":"_vendor/thing","params":[1,2]}"#,
        "  [1,  2]  ",
        "not json",
        "",
        r#"{"jsonrpc":"2.0","id":"ours?","result":{}}"#,
        DONE,
    ];
    let heard = answer(&lines).await;
    let raw: Vec<_> = heard.said.iter().map(|said| if let Said::Raw(raw) = said { raw.clone() } else { panic!("{said:?}") }).collect();
    let text = |raw: &AgentRaw| match raw {
        AgentRaw::Json(json) => json.get().to_owned(),
        AgentRaw::Text(text) => format!("text {text}"),
        AgentRaw::Blob(_) => panic!("a driver keeps no blobs"),
    };
    assert_eq!(
        raw.iter().map(text).collect::<Vec<_>>(),
        [
            r#"{"sessionUpdate":"brand_new","x":1}"#,
            r#"{"sessionUpdate":"agent_message_chunk","content":{"type":"image","data":"AA=="}}"#,
            r#"{"sessionUpdate":7}"#,
            lines[3],
            lines[4],
            "[1,  2]",
            "text not json",
            lines[8],
        ]
    );
}

#[tokio::test]
async fn a_plan_is_a_plan_and_chatter_is_nothing() {
    let heard = answer(&[
        &update(r#""sessionUpdate":"plan","entries":[{"content":"a"}]"#),
        &update(r#""sessionUpdate":"user_message_chunk","content":{"type":"text","text":"what I said"}"#),
        &update(r#""sessionUpdate":"available_commands_update","availableCommands":[]"#),
        &update(r#""sessionUpdate":"current_mode_update","currentModeId":"plan""#),
        r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"max_tokens"}}"#,
    ])
    .await;
    assert_eq!(told(&heard), [r#"plan [{"content":"a"}]"#, r#"Completed { reason: "max_tokens" }"#]);
}

#[tokio::test]
async fn a_prompt_that_failed_is_not_an_answer_though_its_agent_ends_it_like_one() {
    let status = |status: &str| {
        update(&format!(r#""sessionUpdate":"session_info_update","_meta":{{"codex":{{"threadStatus":{{"type":"{status}"}}}}}}"#))
    };
    let unsigned = |text: &str| update(&format!(r#""sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}"#));
    let signed = update(r#""sessionUpdate":"agent_message_chunk","messageId":"m","content":{"type":"text","text":"half"}"#);
    let heard =
        answer(&[&status("active"), &unsigned("a remark "), &signed, &status("systemError"), &unsigned("no credit\\n"), DONE]).await;
    let failed = r#"Failed { code: "system_error", message: "no credit" }"#;
    assert_eq!(told(&heard), ["text : a remark ", "text m: half", failed]);
    let heard = answer(&[&status("systemError"), &unsigned("once"), &status("active"), &signed, DONE]).await;
    assert_eq!(told(&heard), ["text m: half", r#"Completed { reason: "end_turn" }"#], "what it tried again is no failure");
}

#[tokio::test]
async fn a_turn_costs_what_it_adds_to_its_session() {
    let cost = |amount: &str| {
        update(&format!(r#""sessionUpdate":"usage_update","used":9,"size":99,"cost":{{"amount":{amount},"currency":"USD"}}"#))
    };
    let transcript = Transcript::lines(
        &ACP,
        &[
            INTRODUCTION,
            OPENED,
            &cost("0.25"),
            r#"{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn","usage":{"inputTokens":7,"outputTokens":"many","cachedReadTokens":99999999999999999999}}}"#,
            &cost("1.75"),
            r#"{"jsonrpc":"2.0","id":4,"result":{"stopReason":"end_turn"}}"#,
            &cost("1e999"),
            r#"{"jsonrpc":"2.0","id":5,"result":{"stopReason":"end_turn"}}"#,
        ],
    );
    let usage = |heard: &Heard| {
        heard.said.iter().filter_map(|said| if let Said::Usage(usage) = said { Some(usage.clone()) } else { None }).next_back()
    };
    let cost = |micros| Usage { cost_usd_micros: Some(micros), ..Usage::default() };
    let mut talk = transcript.open(OpenSession::New).await;
    assert_eq!(usage(&talk.prompt("one").await), Some(Usage { input_tokens: Some(7), ..cost(250_000) }));
    assert_eq!(usage(&talk.prompt("two").await), Some(cost(1_500_000)));
    assert_eq!(usage(&talk.prompt("three").await), None);
}

#[tokio::test]
async fn a_turn_of_a_resumed_session_does_not_pay_for_those_before() {
    let cost = |amount: &str| update(&format!(r#""sessionUpdate":"usage_update","cost":{{"amount":{amount},"currency":"USD"}}"#));
    let transcript = Transcript::lines(&ACP, &[INTRODUCTION, OPENED, &cost("10"), DONE, &cost("11"), &DONE.replace('3', "4")]);
    let mut talk = transcript.open(OpenSession::Resume(id("s"))).await;
    assert_eq!(told(&talk.prompt("one").await).len(), 1);
    assert!(talk.prompt("two").await.said.contains(&Said::Usage(Usage { cost_usd_micros: Some(1_000_000), ..Usage::default() })));
}

#[tokio::test]
async fn a_question_may_be_taken_back() {
    let heard = answer(&[
        r#"{"jsonrpc":"2.0","id":"q-1","method":"session/request_permission","params":{"sessionId":"s","options":[{"optionId":"x","kind":"odd"},{"name":"no id"}]}}"#,
        r#"{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":"q-1"}}"#,
        r#"{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":"q-2"}}"#,
        DONE,
    ])
    .await;
    assert_eq!(told(&heard), [r#"asked "q-1" "permission" x/Other"#, r#"withdrew "q-1""#, "Completed { reason: \"end_turn\" }"]);
}

#[tokio::test]
async fn history_is_a_preface() {
    let transcript = Transcript::lines(&ACP, &[INTRODUCTION, OPENED, DONE]);
    let mut talk = transcript.open(OpenSession::New).await;
    let history = vec![message(Role::User, "one"), message(Role::Assistant, "two")];
    let turn = TurnId::derive(Default::default(), "turn", 0);
    let parts = vec![PromptPart::Text("three".into())];
    talk.order(Order::Prompt(Prompt { turn, parts, history })).await;
    talk.hear_out().await;
    let sent = transcript.sent();
    let prompt: serde_json::Value = serde_json::from_str(sent.last().unwrap()).unwrap();
    let texts: Vec<_> = prompt["params"]["prompt"].as_array().unwrap().iter().map(|block| block["text"].as_str().unwrap()).collect();
    assert_eq!(
        texts,
        [
            "[Earlier messages of this conversation follow. They are context, not a request.]\n\nuser:\none\n\nassistant:\ntwo\n\n[The earlier messages end here.]",
            "three"
        ]
    );
}

#[tokio::test]
async fn a_cancel_is_told_and_whatever_error_follows_is_its() {
    let transcript = Transcript::lines(
        &ACP,
        &[
            INTRODUCTION,
            OPENED,
            &update(r#""sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"so"}"#),
            WAIT,
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"aborted"}}"#,
        ],
    );
    let mut talk = transcript.open(OpenSession::New).await;
    talk.begin("go on").await;
    let heard = talk.hear_until(|said| matches!(said, Said::Text { .. })).await;
    assert_eq!(heard.text(), "so");
    talk.order(Order::Cancel).await;
    assert_eq!(*talk.hear_out().await.done(), Done::Cancelled);
    assert!(transcript.sent().last().unwrap().contains(r#""method":"session/cancel","params":{"sessionId":"s"}"#));
}

#[tokio::test]
async fn openings_that_are_not_what_was_asked_for_are_faults() {
    let refused = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"Authentication required"}}"#;
    let unknown = |code: i32| format!(r#"{{"jsonrpc":"2.0","id":2,"error":{{"code":{code},"message":"no"}}}}"#);
    let no_load = INTRODUCTION.replace("true", "false");
    let other = OPENED.replace(r#""s""#, r#""other""#);
    let resume = || OpenSession::Resume(id("s"));
    let cases: &[(&[&str], OpenSession, AgentFaultKind)] = &[
        (&[&INTRODUCTION.replace("\"protocolVersion\":1", "\"protocolVersion\":2")], OpenSession::New, AgentFaultKind::Protocol),
        (&[INTRODUCTION, refused], OpenSession::New, AgentFaultKind::Refused),
        (&[INTRODUCTION, refused], resume(), AgentFaultKind::Refused),
        (&[INTRODUCTION, &unknown(-32603)], OpenSession::New, AgentFaultKind::Refused),
        (&[INTRODUCTION, &unknown(-32603)], resume(), AgentFaultKind::UnknownSession),
        (&[INTRODUCTION, &unknown(-32002)], resume(), AgentFaultKind::UnknownSession),
        (&[INTRODUCTION, &other], resume(), AgentFaultKind::UnknownSession),
        (&[INTRODUCTION, OPENED], OpenSession::Fork(id("s")), AgentFaultKind::Protocol),
        (&[&no_load], resume(), AgentFaultKind::Refused),
        (&[INTRODUCTION, r#"{"id":2,"result":{}}"#], OpenSession::New, AgentFaultKind::Protocol),
    ];
    for (lines, session, kind) in cases {
        let transcript = Transcript::lines(&ACP, lines);
        let fault = try_open(&*transcript.agent(), transcript.folder.path(), session.clone()).await.unwrap_err();
        assert_eq!((fault.kind, fault.may_have_happened), (*kind, false), "{lines:?}: {fault}");
    }
}

/// What a first prompt is answered with.
async fn answer(lines: &[&str]) -> Heard {
    let transcript = Transcript::lines(&ACP, &[&[INTRODUCTION, OPENED], lines].concat());
    transcript.open(OpenSession::New).await.prompt("go").await
}

fn update(fields: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"s","update":{{{fields}}}}}}}"#)
}

pub fn message(role: Role, text: &str) -> Message {
    Message {
        id: MessageId::derive(Default::default(), "message", 0),
        turn: None,
        role,
        parts: vec![Part::Text { id: PartId::derive(Default::default(), "part", 0), text: text.into() }],
        created_at: Timestamp(0),
        usage: None,
    }
}

fn id(text: &str) -> AgentSessionId {
    AgentSessionId::new(text).unwrap()
}
