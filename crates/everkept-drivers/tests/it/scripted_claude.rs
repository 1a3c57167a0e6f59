//! The driver of Claude Code and the scripted agent that speaks its protocol.

use crate::support::{Heard, Talk, fresh_turn, program, try_open, xtask};
use bytes::Bytes;
use everkept_agent::{
    AgentFaultKind, Done, OpenSession, Order, Output, Prompt, PromptPart,
    conformance::{self, Script},
};
use everkept_core::{AgentRaw, AgentSessionId, Asked, ModelName, OptionKind, Payload, QuestionKind, Said, ToolStatus, Usage};
use everkept_drivers::{Setup, claude::ClaudeAgent};
use std::{collections::BTreeMap, path::Path, sync::Arc};

const UNKNOWN: &str = "01234567-89ab-4def-8123-456789abcdef";

#[tokio::test]
async fn the_scripted_claude_is_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(scripted(folder.path())), &script(folder.path())).await;
}

#[tokio::test]
async fn a_claude_that_gives_no_receipts_is_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(older(folder.path())), &script(folder.path())).await;
}

#[tokio::test]
async fn garbage_costs_claude_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!garbage hello").await;
    assert_eq!(*heard.done(), Done::Completed { reason: "end_turn".into() });
    assert_eq!(heard.text(), "half \u{fffd} a surrogate reply 1 to: hello");
    let raw: Vec<_> = heard.said.iter().filter_map(|said| if let Said::Raw(raw) = said { Some(raw) } else { None }).collect();
    let json = |at: usize| if let AgentRaw::Json(json) = raw[at] { json.get() } else { panic!("not JSON: {:?}", raw[at]) };
    assert!(matches!(raw[0], AgentRaw::Text(text) if text.contains("not utf-8")), "{:?}", raw[0]);
    assert!(matches!(raw[1], AgentRaw::Text(text) if text == "\0"), "{:?}", raw[1]);
    assert_eq!(json(2), r#"{"n":1,"type":"something_unheard_of"}"#);
    assert_eq!(json(3), r#"{"subtype":"something_unheard_of","type":"system"}"#);
    assert!(json(4).contains("hologram_delta"));
    assert_eq!(json(5).len(), 20_000);
    assert!(json(6).contains("hook_callback"));
    assert_eq!(raw.len(), 7);
    let bytes = heard.bytes();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(b"\xff\xfe not utf-8 \xc3\x28\n") && has(b"\n\0\n") && has(b"a helper's"), "every byte is handed over as it came");
    assert_eq!(talk.prompt("again").await.text(), "reply 2 to: again");
}

#[tokio::test]
async fn a_turn_that_claude_begins_by_itself_is_never_ours() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    assert_eq!(talk.prompt("!own hello").await.text(), "reply 1 to: hello");
    // The next prompt comes in the middle of it, and is answered after it.
    let heard = talk.prompt("again").await;
    assert_eq!(told(&heard), ["text answer-2: reply 2 to: again"]);
    let bytes = String::from_utf8(heard.bytes()).unwrap();
    assert!(bytes.contains("nobody ") && bytes.contains("its own"), "its bytes are kept: {bytes}");
    assert!(bytes.contains(r#""text":"false""#), "nobody was asked for it: {bytes}");
}

#[tokio::test]
async fn o5_a_prompt_that_claude_has_had_is_not_run_again_and_ends() {
    for agent in [scripted, older] {
        let folder = tempfile::tempdir().unwrap();
        let agent = agent(folder.path());
        let prompt = Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text("once".into())], history: Vec::new() };
        let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
        talk.order(Order::Prompt(prompt.clone())).await;
        assert_eq!(talk.hear_out().await.text(), "reply 1 to: once");
        let session = talk.session();
        for mut talk in [talk, Talk::open(&agent, folder.path(), OpenSession::Resume(session)).await] {
            talk.order(Order::Prompt(prompt.clone())).await;
            assert!(matches!(talk.hear_out().await.done(), Done::Failed { code, .. } if code == "already_taken"));
            talk.end().await;
        }
        let log = std::fs::read_to_string(folder.path().join("prompts.log")).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[tokio::test]
async fn o5_a_prompt_that_claude_has_had_ends_in_the_middle_of_its_own_turn_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let prompt = Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text("!own once".into())], history: Vec::new() };
    talk.order(Order::Prompt(prompt.clone())).await;
    talk.hear_out().await;
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(r#""text":"words ""#) {
        let Some(Output::Said { raw, .. }) = talk.next().await else { panic!("its own turn ends nothing of ours") };
        bytes.extend(raw);
    }
    talk.order(Order::Prompt(prompt)).await;
    assert!(matches!(talk.hear_out().await.done(), Done::Failed { code, .. } if code == "already_taken"));
    talk.end().await;
}

#[tokio::test]
async fn a_cancel_before_claude_has_begun_still_ends_the_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    talk.begin("!late !long").await;
    talk.order(Order::Cancel).await;
    assert_eq!(*talk.hear_out().await.done(), Done::Cancelled);
    assert_eq!(talk.prompt("again").await.text(), "reply 2 to: again");
}

#[tokio::test]
async fn o7_a_session_that_claude_moves_to_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let moved = AgentSessionId::new("11111111-1111-7111-8111-111111111111").unwrap();
    assert_eq!(talk.prompt("!move hello").await.said[0], Said::AgentSession(moved));
    assert!(!talk.prompt("again").await.said.iter().any(|said| matches!(said, Said::AgentSession(_))), "it is announced once");
}

#[tokio::test]
async fn thoughts_and_words_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!think of it").await;
    assert_eq!(told(&heard), ["reasoning answer-1: thinking about: of it", "text answer-1: reply 1 to: of it"]);
    assert_eq!(told(&talk.prompt("!command it").await), ["text : reply 2 to: it"], "an answer that only the result has");
}

#[tokio::test]
async fn a_turn_costs_what_it_adds_and_an_unknown_beginning_is_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path());
    let usage = |heard: &Heard| heard.said.iter().find_map(|said| if let Said::Usage(usage) = said { Some(usage.clone()) } else { None });
    let cost = |cost| Some(Usage { input_tokens: Some(1), output_tokens: Some(4), cost_usd_micros: cost, ..Usage::default() });
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    assert_eq!(usage(&talk.prompt("one").await), cost(Some(250_000)));
    assert_eq!(usage(&talk.prompt("two").await), cost(Some(250_000)));
    let mut again = Talk::open(&agent, folder.path(), OpenSession::Resume(talk.session())).await;
    assert_eq!(usage(&again.prompt("three").await), cost(None));
    assert_eq!(usage(&again.prompt("four").await), cost(Some(250_000)));
}

#[tokio::test]
async fn every_answer_to_a_permission_is_claudes_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let offered = [("allow", OptionKind::AllowOnce), ("always", OptionKind::AllowAlways), ("deny", OptionKind::RejectOnce)];
    let cases = [
        (Some("allow"), ToolStatus::Completed),
        (Some("always"), ToolStatus::Completed),
        (Some("deny"), ToolStatus::Failed),
        (Some("never offered"), ToolStatus::Failed),
        (None, ToolStatus::Failed),
    ];
    for (option, status) in cases {
        talk.begin("!ask").await;
        let asked = asked(&mut talk).await;
        let options: Vec<_> = asked.options.iter().map(|option| (option.id.as_str(), option.kind)).collect();
        assert_eq!((options, asked.title.as_str()), (offered.to_vec(), "Bash: true"));
        talk.order(Order::Answer { request: asked.request, option: option.map(str::to_owned) }).await;
        let heard = talk.hear_out().await;
        let became =
            heard.said.iter().find_map(|said| if let Said::ToolUpdated { status, output: Some(_), .. } = said { *status } else { None });
        assert_eq!(became, Some(status), "answered with {option:?}");
    }
}

#[tokio::test]
async fn a_tool_has_its_input_and_all_that_it_gave() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    assert_eq!(
        told(&talk.prompt("!tool").await)[..3],
        [
            "tool tool-1 Bash Pending",
            r#"tool tool-1 Running "true" in {"command":"true"}"#,
            r#"tool tool-1 Completed out {"content":"tool-ran","tool_use_result":{"stdout":"tool-ran"}}"#,
        ]
    );
}

#[tokio::test]
async fn several_questions_of_the_model_are_asked_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    talk.begin("!choose").await;
    for (title, option) in [("Which wall?", "1"), ("Which roof?", "0")] {
        let asked = asked(&mut talk).await;
        let options: Vec<_> = asked.options.iter().map(|option| (option.id.as_str(), option.label.as_str())).collect();
        assert_eq!((asked.kind, asked.title.as_str(), options), (QuestionKind::Choice, title, vec![("0", "red"), ("1", "blue")]));
        talk.order(Order::Answer { request: asked.request, option: Some(option.into()) }).await;
    }
    assert_eq!(talk.hear_out().await.text(), r#"chosen {"Which roof?":"red","Which wall?":"blue"} reply 1 to: "#);
    talk.begin("!choose").await;
    let first = asked(&mut talk).await;
    talk.order(Order::Answer { request: first.request, option: None }).await;
    assert!(talk.hear_out().await.text().starts_with("chosen null"), "no answer is a no to all of them");
}

#[tokio::test]
async fn a_question_that_claude_takes_back_is_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!withdraw hello").await;
    assert!(heard.said.contains(&Said::Withdrew { request: "ask-withdrawn".into() }), "{:?}", heard.said);
    assert_eq!(heard.text(), "reply 1 to: hello");
}

#[tokio::test]
async fn a_failure_has_claudes_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let failed = Done::Failed { code: "529".into(), message: "API Error: 529 failed, as it was asked to".into() };
    assert_eq!(*talk.prompt("!fail").await.done(), failed);
}

#[tokio::test]
async fn files_go_as_blocks_and_history_before_them() {
    let folder = tempfile::tempdir().unwrap();
    // An agent that is told where to write down what it is sent.
    let sent = folder.path().join("sent");
    let say = format!(
        r#"read -r line; echo '{{"type":"control_response","response":{{"subtype":"success","request_id":"initialize"}}}}'; read -r line; printf '%s' "$line" > {0}.new; mv {0}.new {0}; echo '{{"type":"result","subtype":"success"}}'; cat > /dev/null"#,
        sent.display()
    );
    let agent = ClaudeAgent::new(program("recorder", &["sh", "-c", &say], BTreeMap::new()), Setup::default());
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    let file = |media_type: &str, bytes: &'static [u8]| PromptPart::File {
        name: Some("a".into()),
        media_type: media_type.into(),
        bytes: Bytes::from_static(bytes),
    };
    let parts =
        vec![PromptPart::Text("look".into()), file("image/png", b"png"), file("application/pdf", b"pdf"), file("text/plain", b"words")];
    talk.order(Order::Prompt(Prompt { turn: fresh_turn(), parts, history: Vec::new() })).await;
    // It says no more than that a turn has ended, which is enough where no other could have been meant.
    talk.hear_out().await;
    let sent: serde_json::Value = serde_json::from_slice(&std::fs::read(sent).unwrap()).unwrap();
    let source = |media_type: &str, data: &str| serde_json::json!({ "type": "base64", "media_type": media_type, "data": data });
    assert_eq!(
        sent["message"]["content"],
        serde_json::json!([
            { "type": "text", "text": "look" },
            { "type": "image", "source": source("image/png", "cG5n") },
            { "type": "document", "source": source("application/pdf", "cGRm") },
            { "type": "text", "text": "[The attached file a:]\nwords\n[The file ends here.]" },
        ])
    );
}

#[tokio::test]
async fn what_is_no_session_of_claudes_is_unknown_and_never_an_argument() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path());
    for id in [UNKNOWN, "--dangerously-skip-permissions", "a title"] {
        for open in [OpenSession::Resume, OpenSession::Fork] {
            let fault = try_open(&agent, folder.path(), open(AgentSessionId::new(id).unwrap())).await.unwrap_err();
            assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::UnknownSession, false), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_session_that_was_begun_here_and_is_gone_is_begun_under_its_id_and_knows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path());
    let gone = AgentSessionId::new("01a1fa00-0000-7000-8000-000000000000").unwrap();
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::Resume(gone.clone())).await;
    assert_eq!((talk.session(), talk.opened.abilities.remember), (gone, false));
    assert_eq!(talk.prompt("hello").await.text(), "reply 1 to: hello");
    let other = AgentSessionId::new("01a1fa00-0000-7000-8000-000000000001").unwrap();
    let mut fork = Talk::open(&agent, folder.path(), OpenSession::Fork(other.clone())).await;
    assert!(fork.session() != other && !fork.opened.abilities.remember);
    assert_eq!(fork.prompt("hello").await.text(), "reply 1 to: hello");
}

async fn asked(talk: &mut Talk) -> Asked {
    let heard = talk.hear_until(|said| matches!(said, Said::Asked(_))).await;
    match heard.said.last() {
        Some(Said::Asked(asked)) => asked.clone(),
        other => panic!("not a question: {other:?}"),
    }
}

/// One line for each thing told but the usage; texts of one message are one.
fn told(heard: &Heard) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for said in &heard.said {
        let json = |word: &str, payload: &Option<Payload>| match payload {
            Some(Payload::Json(json)) => format!(" {word} {}", json.get()),
            Some(Payload::Blob(_)) | None => String::new(),
        };
        let (head, rest) = match said {
            Said::Text { message, text } => (format!("text {}: ", message.as_deref().unwrap_or_default()), text.clone()),
            Said::Reasoning { message, text } => (format!("reasoning {}: ", message.as_deref().unwrap_or_default()), text.clone()),
            Said::ToolStarted { call, name, status, .. } => (format!("tool {call} {name} {status:?}"), String::new()),
            Said::ToolUpdated { call, status: Some(status), title, input, output } => {
                let title = title.as_ref().map(|title| format!(" {title:?}")).unwrap_or_default();
                (format!("tool {call} {status:?}{title}{}{}", json("in", input), json("out", output)), String::new())
            }
            Said::Usage(_) => continue,
            other => (format!("{other:?}"), String::new()),
        };
        match told.last_mut().filter(|last| !rest.is_empty() && last.starts_with(&head)) {
            Some(last) => last.push_str(&rest),
            None => told.push(head + &rest),
        }
    }
    told
}

fn script(folder: &Path) -> Script {
    Script {
        directory: folder.to_owned(),
        plain: "hello there".into(),
        tool: Some("!tool".into()),
        ask: Some("!ask".into()),
        long: Some("!long".into()),
        fail: Some("!fail".into()),
        crash: Some("!crash".into()),
        model: Some(ModelName::new("scripted/two").unwrap()),
        unknown_session: UNKNOWN.into(),
    }
}

fn scripted(folder: &Path) -> ClaudeAgent {
    agent(folder, None)
}

/// One that does not say which prompt it is about.
fn older(folder: &Path) -> ClaudeAgent {
    agent(folder, Some(("SCRIPTED_OLD".to_owned(), "1".to_owned())))
}

fn agent(folder: &Path, more: Option<(String, String)>) -> ClaudeAgent {
    let given = [("SCRIPTED_DIR".to_owned(), folder.to_str().unwrap().to_owned())];
    let env: BTreeMap<String, String> = given.into_iter().chain(more).collect();
    ClaudeAgent::new(program("scripted", &[xtask().to_str().unwrap(), "scripted-claude"], env), Setup::default())
}
