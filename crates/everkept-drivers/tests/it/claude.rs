//! The real Claude Code, against the fake model: what no script of ours can promise for it.

use crate::{
    support::{Talk, fresh_turn, program},
    world::World,
};
use everkept_agent::{
    AgentFaultKind, Done, OpenSession, Order, Output, Prompt, PromptPart,
    conformance::{self, Script},
};
use everkept_core::{ModelName, Said};
use everkept_drivers::{Setup, claude::ClaudeAgent};
use std::{collections::BTreeMap, fs, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_is_an_agent() {
    let world = World::new();
    let script = Script {
        directory: world.directory(),
        plain: "hello there".into(),
        tool: Some("use it TOOL".into()),
        ask: Some("may it TOOL".into()),
        long: Some("take your time SLOW".into()),
        fail: Some("now FAIL".into()),
        crash: None,
        model: Some(ModelName::new("anthropic/claude-other").unwrap()),
        unknown_session: "01234567-89ab-4def-8123-456789abcdef".into(),
    };
    let agent = Arc::new(claude(&world));
    conformance::whole(agent.clone(), &script).await;
    // Allowed twice; what was refused or cancelled did not run.
    assert_eq!(fs::read_to_string(world.directory().join("tool.log")).unwrap(), "tool-ran\ntool-ran\n");
    conformance::cut_short(agent, &script).await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_killed_in_mid_answer_resumes_its_own_session() {
    let world = World::new();
    let agent = claude(&world);
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    assert_eq!(talk.prompt("remember the roof").await.text(), "reply 1 to: remember the roof");
    talk.begin("take your time SLOW").await;
    talk.hear_until(|said| matches!(said, Said::Text { text, .. } if text.contains("word-"))).await;
    let [pid] = world.processes()[..] else { panic!("one Claude Code runs") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let heard = talk.hear_out().await;
    let fault = heard.fault();
    assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Exited, true), "{fault}");
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");

    let mut again = Talk::open(&agent, &world.directory(), OpenSession::Resume(talk.session())).await;
    assert_eq!(again.session(), talk.session());
    assert_eq!(again.prompt("and now").await.text(), "reply 3 to: and now");
    let prompts = world.last_prompts();
    assert_eq!(prompts, ["remember the roof", "take your time SLOW", "and now"], "what the model was sent");
    again.end().await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn o5_real_claude_code_runs_a_turn_once() {
    let world = World::new();
    let agent = claude(&world);
    let prompt = Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text("only once".into())], history: Vec::new() };
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    talk.order(Order::Prompt(prompt.clone())).await;
    assert_eq!(talk.hear_out().await.text(), "reply 1 to: only once");
    let session = talk.session();
    for mut talk in [talk, Talk::open(&agent, &world.directory(), OpenSession::Resume(session)).await] {
        talk.order(Order::Prompt(prompt.clone())).await;
        assert!(matches!(talk.hear_out().await.done(), Done::Failed { code, .. } if code == "already_taken"));
        talk.end().await;
    }
    assert_eq!(world.requests().len(), 1, "the model was asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn o7_real_claude_code_keeps_the_id_of_a_session_it_never_wrote_down() {
    let world = World::new();
    let agent = claude(&world);
    let unwritten = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    let session = unwritten.session();
    unwritten.end().await;
    for (remembers, reply) in [(false, "reply 1 to: hello"), (true, "reply 2 to: hello")] {
        let mut talk = Talk::open(&agent, &world.directory(), OpenSession::Resume(session.clone())).await;
        assert_eq!((talk.session(), talk.opened.abilities.remember), (session.clone(), remembers));
        assert_eq!(talk.prompt("hello").await.text(), reply);
        talk.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_real_claude_code_begins_by_itself_is_never_ours() {
    let world = World::new();
    let mut talk = Talk::open(&claude(&world), &world.directory(), OpenSession::New).await;
    let mut heard = talk.prompt_until_asked("start it LATER").await;
    if let Some(Said::Asked(asked)) = heard.said.last() {
        talk.order(Order::Answer { request: asked.request.clone(), option: Some("allow".into()) }).await;
        heard = talk.hear_out().await;
    }
    assert_eq!(heard.text(), "reply 1 to: start it LATER");
    // Now the command ends, and the agent has something to say about it.
    fs::write(world.directory().join("go"), "").unwrap();
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(r#""kind":"task-notification""#) {
        match talk.next().await {
            Some(Output::Said { raw, said }) => {
                assert_eq!(said, [], "{}", String::from_utf8_lossy(&raw));
                bytes.extend(raw);
            }
            other => panic!("nothing of ours has ended: {other:?}"),
        }
    }
    assert_eq!(talk.prompt("again").await.text(), "reply 3 to: again");
}

fn claude(world: &World) -> ClaudeAgent {
    claude_with(world, Setup::default())
}

pub fn claude_with(world: &World, setup: Setup) -> ClaudeAgent {
    let mut env: BTreeMap<String, String> =
        ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    env.insert("HOME".into(), world.home().to_str().unwrap().into());
    env.insert("ANTHROPIC_BASE_URL".into(), world.url.clone());
    env.insert("ANTHROPIC_API_KEY".into(), "none".into());
    env.insert("ANTHROPIC_MODEL".into(), "claude-fake".into());
    ClaudeAgent::new(program("claude", &[World::installed("claude").to_str().unwrap()], env), setup)
}
