//! The driver of Codex and the scripted agent that speaks its protocol.

use crate::support::{Talk, fresh_turn, program, xtask};
use everkept_agent::{
    Done, OpenSession, Order, Prompt, PromptPart,
    conformance::{self, Script},
};
use everkept_core::{AgentRaw, ModelName, OptionKind, Said, ToolStatus};
use everkept_drivers::{Setup, codex::CodexAgent};
use std::{collections::BTreeMap, path::Path, sync::Arc};

#[tokio::test]
async fn the_scripted_codex_is_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script {
        directory: folder.path().to_owned(),
        plain: "hello there".into(),
        tool: Some("!tool".into()),
        ask: Some("!ask".into()),
        long: Some("!long".into()),
        fail: Some("!fail".into()),
        crash: Some("!crash".into()),
        model: Some(ModelName::new("scripted/two").unwrap()),
        unknown_session: "scripted-99".into(),
    };
    conformance::run(Arc::new(scripted(folder.path())), &script).await;
}

#[tokio::test]
async fn garbage_costs_codex_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!garbage hello").await;
    assert_eq!(*heard.done(), Done::Completed { reason: "completed".into() });
    assert_eq!(heard.text(), "half \u{fffd} a surrogate reply 1 to: hello");
    let raw: Vec<_> = heard.said.iter().filter_map(|said| if let Said::Raw(raw) = said { Some(raw) } else { None }).collect();
    let json = |at: usize| if let AgentRaw::Json(json) = raw[at] { json.get() } else { panic!("not JSON: {:?}", raw[at]) };
    assert!(matches!(raw[0], AgentRaw::Text(text) if text.contains("not utf-8")), "{:?}", raw[0]);
    assert!(matches!(raw[1], AgentRaw::Text(text) if text == "\0"), "{:?}", raw[1]);
    assert!(json(2).contains("item/something/unheard/of"));
    assert!(json(3).contains("somethingUnheardOf"));
    assert_eq!(json(4).len(), 20_000);
    assert!(json(5).contains("currentTime/read"));
    assert!(json(6).contains("nobody asked"));
    assert_eq!(raw.len(), 7);
    let bytes = heard.bytes();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(b"\xff\xfe not utf-8 \xc3\x28\n") && has(b"\n\0\n") && has(b"not this thread's"), "every byte is handed over as it came");
    assert_eq!(talk.prompt("again").await.text(), "reply 2 to: again");
}

#[tokio::test]
async fn a_turn_that_codex_names_before_it_answers_is_the_same_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    assert_eq!(talk.prompt("!early hello").await.text(), "reply 1 to: hello");
    talk.begin("!early !long").await;
    talk.hear_until(|said| matches!(said, Said::Text { .. })).await;
    talk.order(Order::Cancel).await;
    assert_eq!(*talk.hear_out().await.done(), Done::Cancelled);
}

#[tokio::test]
async fn a_cancel_before_codex_has_named_the_turn_still_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    talk.begin("!long").await;
    talk.order(Order::Cancel).await;
    let heard = talk.hear_out().await;
    assert_eq!(*heard.done(), Done::Cancelled);
    assert!(!heard.said.iter().any(|said| matches!(said, Said::Raw(_))), "the answer to the interrupt is nothing: {:?}", heard.said);
    assert_eq!(talk.prompt("again").await.text(), "reply 2 to: again");
}

#[tokio::test]
async fn o5_a_turn_that_the_thread_has_taken_is_not_prompted_again() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path());
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

#[tokio::test]
async fn thoughts_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!think of it").await;
    let thoughts = heard.said.iter().filter_map(|said| if let Said::Reasoning { text, .. } = said { Some(text.as_str()) } else { None });
    assert_eq!(thoughts.collect::<String>(), "thinking about\n\nof it");
}

#[tokio::test]
async fn every_way_out_of_a_question_is_codex_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut talk = Talk::open(&scripted(folder.path()), folder.path(), OpenSession::New).await;
    let command = [
        ("accept", "Allow once", OptionKind::AllowOnce),
        ("acceptWithExecpolicyAmendment-1", "Always allow true", OptionKind::AllowAlways),
        ("decline", "Reject", OptionKind::RejectOnce),
        ("cancel", "Reject and stop", OptionKind::RejectOnce),
    ];
    let edit = [
        ("accept", "Allow once", OptionKind::AllowOnce),
        ("acceptForSession", "Allow for this session", OptionKind::AllowAlways),
        ("decline", "Reject", OptionKind::RejectOnce),
    ];
    let cases = [
        ("!ask", &command[..], Some("acceptWithExecpolicyAmendment-1"), ToolStatus::Completed),
        ("!ask", &command[..], None, ToolStatus::Failed),
        ("!ask", &command[..], Some("never offered"), ToolStatus::Failed),
        ("!edit", &edit[..], Some("accept"), ToolStatus::Completed),
        ("!edit", &edit[..], Some("decline"), ToolStatus::Failed),
    ];
    for (prompt, offered, option, status) in cases {
        talk.begin(prompt).await;
        let heard = talk.hear_until(|said| matches!(said, Said::Asked(_))).await;
        let Some(Said::Asked(asked)) = heard.said.last() else { panic!("{:?}", heard.said) };
        let options: Vec<_> = asked.options.iter().map(|option| (option.id.as_str(), option.label.as_str(), option.kind)).collect();
        assert_eq!(options, offered);
        assert_eq!(asked.title, if prompt == "!ask" { "true" } else { "/a/file" });
        talk.order(Order::Answer { request: asked.request.clone(), option: option.map(str::to_owned) }).await;
        let heard = talk.hear_out().await;
        let became = heard.said.iter().find_map(|said| if let Said::ToolUpdated { status, .. } = said { *status } else { None });
        assert_eq!(became, Some(status), "{prompt} answered with {option:?}");
    }
}

fn scripted(folder: &Path) -> CodexAgent {
    let env = BTreeMap::from([("SCRIPTED_DIR".to_owned(), folder.to_str().unwrap().to_owned())]);
    CodexAgent::new(program("scripted", &[xtask().to_str().unwrap(), "scripted-codex"], env), Setup::default())
}
