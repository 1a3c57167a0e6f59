//! Whole agent processes that behave as told, under a real keeper.

use crate::support::{Talk, acp, alive, pids, try_open, xtask};
use everkept_agent::{
    Agent, AgentFaultKind, Done, OpenSession, Order,
    conformance::{self, Script},
};
use everkept_core::{AgentRaw, AgentSessionId, ModelName, Said};
use everkept_drivers::acp::AcpAgent;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

#[tokio::test]
async fn the_scripted_agent_is_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(Arc::new(scripted(folder.path(), &[])), &script(folder.path())).await;
}

#[tokio::test]
async fn an_agent_that_can_only_load_is_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[("SCRIPTED_LOAD_ONLY", "1")]);
    conformance::run(Arc::new(agent), &script(folder.path())).await;
}

#[tokio::test]
async fn a_replay_is_nothing_of_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[("SCRIPTED_LOAD_ONLY", "1")]);
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    talk.prompt("one").await;
    let session = talk.session();
    talk.end().await;
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::Resume(session)).await;
    let heard = talk.prompt("two").await;
    assert_eq!(heard.text(), "reply 2 to: two");
    let bytes = String::from_utf8(heard.bytes()).unwrap();
    assert!(bytes.contains("user_message_chunk") && bytes.contains("reply 1"), "the replay is kept as bytes: {bytes}");
}

#[tokio::test]
async fn garbage_costs_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    let heard = talk.prompt("!garbage hello").await;
    assert_eq!(*heard.done(), Done::Completed { reason: "end_turn".into() });
    assert_eq!(heard.text(), "half \u{fffd} a surrogate a nul \0 reply 1 to: hello");
    let raw: Vec<_> = heard.said.iter().filter_map(|said| if let Said::Raw(raw) = said { Some(raw) } else { None }).collect();
    assert!(matches!(raw[0], AgentRaw::Text(text) if text.contains("not utf-8")), "{:?}", raw[0]);
    let json = |at: usize| if let AgentRaw::Json(json) = raw[at] { json.get() } else { panic!("not JSON: {:?}", raw[at]) };
    assert!(matches!(raw[1], AgentRaw::Text(text) if text == "\0"), "{:?}", raw[1]);
    assert!(json(2).contains("something_unheard_of"));
    assert!(json(3).len() > 5_000);
    assert_eq!(json(4).len(), 20_000);
    assert!(json(5).contains("fs/read_text_file"));
    assert!(json(6).contains("nobody asked"));
    assert_eq!(raw.len(), 7);
    let bytes = heard.bytes();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(b"\xff\xfe not utf-8 \xc3\x28\n") && has(b"half \\ud800 a") && has(b"\n\0\n"), "every byte is handed over as it came");
    assert_eq!(talk.prompt("again").await.text(), "reply 2 to: again");
}

#[tokio::test]
async fn daemons_end_with_their_agent() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    for (prompt, gone) in [("!daemon", false), ("!daemon !crash", true), ("!daemon !deaf", false)] {
        let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
        let heard = talk.prompt(prompt).await;
        assert_eq!(heard.end.as_ref().is_some_and(Result::is_err), gone, "{heard:?}");
        let begun = std::time::Instant::now();
        talk.end().await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{prompt} took {:?}", begun.elapsed());
        for pid in pids(&folder.path().join("daemons.log")) {
            assert!(!alive(pid), "a daemon of {prompt} is left");
        }
    }
    assert_eq!(pids(&folder.path().join("daemons.log")).len(), 6);
}

#[tokio::test]
async fn an_agent_killed_in_mid_answer_is_gone_and_its_session_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    talk.begin("!long").await;
    talk.hear_until(|said| matches!(said, Said::Text { .. })).await;
    let log = std::fs::read_to_string(folder.path().join("prompts.log")).unwrap();
    let logged: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let pid = logged["pid"].as_i64().unwrap() as i32;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let heard = talk.hear_out().await;
    let fault = heard.fault();
    assert_eq!((fault.kind, fault.retryable, fault.may_have_happened), (AgentFaultKind::Exited, true, true));
    assert!(fault.message.contains("137"), "{fault}");
    let mut again = Talk::open(&agent, folder.path(), OpenSession::Resume(talk.session())).await;
    assert_eq!(again.prompt("hello").await.text(), "reply 2 to: hello");
}

#[tokio::test]
async fn a_deaf_agent_still_ends() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    talk.begin("!deaf !long").await;
    talk.hear_until(|said| matches!(said, Said::Text { .. })).await;
    talk.order(Order::Cancel).await;
    let begun = std::time::Instant::now();
    talk.end().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_still_can_end_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    let mut talk = Talk::open(&agent, folder.path(), OpenSession::New).await;
    // More words than the output and the pipes hold.
    talk.begin(&"word ".repeat(20_000)).await;
    talk.end().await;
}

#[tokio::test]
async fn a_model_is_set_or_said_not_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    for (model, set) in [("scripted/two", true), ("no/such", false)] {
        let open = everkept_agent::Open {
            directory: folder.path().to_owned(),
            session: OpenSession::New,
            model: Some(ModelName::new(model).unwrap()),
        };
        assert_eq!(agent.open(open).await.unwrap().model_set, Some(set), "{model}");
    }
}

#[tokio::test]
async fn an_unknown_session_is_said_to_be_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let agent = scripted(folder.path(), &[]);
    for session in [OpenSession::Resume, OpenSession::Fork].map(|open| open(AgentSessionId::new("scripted-99").unwrap())) {
        let fault = try_open(&agent, folder.path(), session).await.unwrap_err();
        assert_eq!(fault.kind, AgentFaultKind::UnknownSession, "{fault}");
    }
}

#[tokio::test]
async fn a_session_that_an_agent_lists_is_not_unknown_whatever_the_agent_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let talk = Talk::open(&scripted(folder.path(), &[]), folder.path(), OpenSession::New).await;
        sessions.push(talk.session());
        talk.end().await;
    }
    let agent = scripted(folder.path(), &[("SCRIPTED_BROKEN", "1")]);
    sessions.push(AgentSessionId::new("scripted-99").unwrap());
    for (at, session) in sessions.into_iter().enumerate() {
        for open in [OpenSession::Resume, OpenSession::Fork] {
            let fault = try_open(&agent, folder.path(), open(session.clone())).await.unwrap_err();
            let expected = if at < 5 { AgentFaultKind::Refused } else { AgentFaultKind::UnknownSession };
            assert_eq!(fault.kind, expected, "{session}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_cannot_be_started() {
    let folder = tempfile::tempdir().unwrap();
    let agent = acp("nobody", &["no-such-agent-anywhere", "acp"], BTreeMap::new());
    let fault = try_open(&agent, folder.path(), OpenSession::New).await.unwrap_err();
    assert_eq!((fault.kind, fault.retryable, fault.may_have_happened), (AgentFaultKind::CannotStart, false, false), "{fault}");
    assert!(fault.to_string().contains("no-such-agent-anywhere"), "{fault}");
}

#[tokio::test]
async fn an_agent_that_exits_at_once_leaves_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let flood = "head -c 100000000 /dev/zero | tr '\\0' x >&2; echo the last words >&2; exit 3";
    let agent = acp("brief", &["sh", "-c", flood], BTreeMap::new());
    let fault = try_open(&agent, folder.path(), OpenSession::New).await.unwrap_err();
    assert_eq!((fault.kind, fault.retryable), (AgentFaultKind::Exited, true));
    assert!(fault.message.contains("exited with 3") && fault.message.ends_with("the last words"), "{fault}");
    assert!(fault.message.len() < 10_000);
}

#[tokio::test]
async fn a_given_up_opening_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ >> {}; trap '' TERM; while :; do sleep 600; done", file.display());
    let agent = acp("silent", &["sh", "-c", &script], BTreeMap::new());
    let mut opening = Box::pin(try_open(&agent, folder.path(), OpenSession::New));
    let started = async {
        while pids(&file).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        opened = &mut opening => panic!("{opened:?}"),
        () = started => {}
    }
    drop(opening);
    let [pid] = pids(&file)[..] else { panic!("one agent was started") };
    let gone = async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), gone).await.expect("the agent is gone within 2 s");
}

#[tokio::test]
async fn a_line_without_end_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let agent = acp("endless", &["sh", "-c", "read line; tr '\\0' x < /dev/zero"], BTreeMap::new());
    let fault = try_open(&agent, folder.path(), OpenSession::New).await.unwrap_err();
    assert_eq!(fault.kind, AgentFaultKind::Protocol, "{fault}");
}

fn scripted(folder: &Path, env: &[(&str, &str)]) -> AcpAgent {
    let mut given = BTreeMap::from([("SCRIPTED_DIR".to_owned(), folder.to_str().unwrap().to_owned())]);
    given.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    acp("scripted", &[xtask().to_str().unwrap(), "scripted-agent"], given)
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
        unknown_session: "scripted-99".into(),
    }
}
