//! The real Codex, against the fake model: what no script of ours can promise for it.

use crate::{
    acp::message,
    support::{Talk, fresh_turn, program},
    world::World,
};
use everkept_agent::{
    Agent, AgentFaultKind, Done, Open, OpenSession, Order, Prompt, PromptPart,
    conformance::{self, Script},
};
use everkept_core::{Asked, ModelName, OptionKind, Payload, Role, Said, ToolStatus, Usage};
use everkept_drivers::{Setup, codex::CodexAgent};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_is_an_agent() {
    let world = World::new();
    let script = Script {
        directory: world.directory(),
        plain: "hello there".into(),
        tool: Some("use it TOOL".into()),
        ask: Some("may it TOOL".into()),
        long: Some("take your time SLOW".into()),
        fail: Some("now FAIL".into()),
        crash: None,
        model: Some(ModelName::new("other").unwrap()),
        unknown_session: "0196f0c2-7a5e-7d10-8c55-000000000000".into(),
    };
    let agent = Arc::new(codex(&world));
    conformance::whole(agent.clone(), &script).await;
    // Allowed twice; what was refused or cancelled did not run.
    assert_eq!(fs::read_to_string(world.directory().join("tool.log")).unwrap(), "tool-ran\ntool-ran\n");
    conformance::cut_short(agent, &script).await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_killed_in_mid_answer_resumes_its_own_session() {
    let world = World::new();
    let agent = codex(&world);
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    assert_eq!(talk.prompt("remember the roof").await.text(), "reply 1 to: remember the roof");
    let cut = prompt("take your time SLOW");
    talk.order(Order::Prompt(cut.clone())).await;
    talk.hear_until(|said| matches!(said, Said::Text { text, .. } if text.contains("word-"))).await;
    for pid in world.processes() {
        _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let heard = talk.hear_out().await;
    let fault = heard.fault();
    assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Exited, true), "{fault}");
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");

    let mut again = Talk::open(&agent, &world.directory(), OpenSession::Resume(talk.session())).await;
    assert_eq!(again.session(), talk.session());
    // Its thread has the turn; the same turn once more is not prompted once more.
    again.order(Order::Prompt(cut)).await;
    assert!(matches!(again.hear_out().await.done(), Done::Failed { code, .. } if code == "already_taken"));
    assert_eq!(again.prompt("and now").await.text(), "reply 3 to: and now");
    assert_eq!(world.last_prompts(), ["remember the roof", "take your time SLOW", "and now"], "what the model was sent");
    again.end().await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codex_thread_that_was_never_prompted_can_be_resumed_and_forked() {
    let world = World::new();
    let agent = codex(&world);
    let talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    let session = talk.session();
    talk.end().await;
    let fork = Talk::open(&agent, &world.directory(), OpenSession::Fork(session.clone())).await;
    let forked = fork.session();
    assert_ne!(forked, session);
    fork.end().await;
    for session in [session, forked] {
        let mut again = Talk::open(&agent, &world.directory(), OpenSession::Resume(session.clone())).await;
        assert_eq!(again.session(), session);
        assert_eq!(again.prompt("hello").await.text(), "reply 1 to: hello");
        again.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_change_is_asked_about_with_its_diff() {
    let world = World::new();
    let mut talk = Talk::open(&codex(&world), &world.directory(), OpenSession::New).await;
    talk.begin("please EDIT").await;
    let heard = talk.hear_until(|said| matches!(said, Said::Asked(_))).await;
    let file = world.directory().join("patched.txt");
    let Some(Said::Asked(asked)) = heard.said.last() else { panic!("a question comes last: {:?}", heard.said) };
    assert_eq!(asked.title, file.to_str().unwrap());
    let Payload::Json(call) = &asked.call else { panic!("the call is kept as it is") };
    assert!(call.get().contains(r#""diff":"patched\n""#), "{}", call.get());
    assert!(!file.exists());
    talk.order(Order::Answer { request: asked.request.clone(), option: pick(asked, OptionKind::AllowOnce) }).await;
    let heard = talk.hear_out().await;
    assert_eq!(*heard.done(), Done::Completed { reason: "completed".into() });
    assert!(heard.said.iter().any(|said| matches!(said, Said::ToolUpdated { status: Some(ToolStatus::Completed), input: Some(_), .. })));
    assert_eq!(fs::read_to_string(file).unwrap(), "patched\n");
    talk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_thinks_aloud_and_counts_its_tokens() {
    let world = World::new();
    let mut talk = Talk::open(&codex(&world), &world.directory(), OpenSession::New).await;
    talk.prompt("one two").await;
    let heard = talk.prompt("please THINK").await;
    let thoughts = heard.said.iter().filter_map(|said| if let Said::Reasoning { text, .. } = said { Some(text.as_str()) } else { None });
    assert_eq!(thoughts.collect::<String>(), "thinking about: please THINK");
    let usage = heard.said.iter().rev().find_map(|said| if let Said::Usage(usage) = said { Some(usage.clone()) } else { None });
    // Of this turn alone; what went in is both prompts.
    let zero = Some(0);
    let counted =
        Usage { input_tokens: Some(4), output_tokens: Some(5), reasoning_tokens: zero, cache_read_tokens: zero, ..Usage::default() };
    let counted = Usage { cache_write_tokens: zero, ..counted };
    let models = [(ModelName::new("fake").unwrap(), counted.clone())].into();
    let of_message = |said: &Said| if let Said::MessageUsage { message: None, usage } = said { Some(usage.clone()) } else { None };
    assert_eq!(
        heard.said.iter().filter_map(of_message).collect::<Vec<_>>(),
        std::slice::from_ref(&counted),
        "one request made the message"
    );
    let request = usage.as_ref().and_then(|usage| usage.request.clone());
    assert!(request.is_some(), "Codex names its turn");
    assert_eq!(usage, Some(Usage { request, models, ..counted }));
    talk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_has_the_model_it_was_to_have() {
    let world = World::new();
    let agent = codex(&world);
    let open = |session, model: Option<&str>| Open {
        directory: world.directory(),
        session,
        model: model.map(|model| ModelName::new(model).unwrap()),
    };
    let opened = agent.open(open(OpenSession::New, Some("first"))).await.unwrap();
    assert_eq!(opened.model_set, Some(true));
    let mut talk = Talk { opened };
    talk.prompt("one").await;
    let (done, set) = tokio::sync::oneshot::channel();
    talk.order(Order::SetModel { model: ModelName::new("second").unwrap(), done }).await;
    assert!(set.await.unwrap());
    talk.prompt("two").await;
    let session = talk.session();
    talk.end().await;
    let mut talk = Talk { opened: agent.open(open(OpenSession::Resume(session), None)).await.unwrap() };
    talk.prompt("three").await;
    talk.end().await;
    let models: Vec<_> = world.requests().iter().map(|request| request["body"]["model"].as_str().unwrap().to_owned()).collect();
    assert_eq!(models, ["first", "second", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codex_thread_that_another_process_has_open_may_be_tried_again() {
    let world = World::new();
    let agent = codex(&world);
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    talk.prompt("hello").await;
    let resume = OpenSession::Resume(talk.session());
    let fault = crate::support::try_open(&agent, &world.directory(), resume).await.unwrap_err();
    assert_eq!((fault.kind, fault.retryable, fault.may_have_happened), (AgentFaultKind::Refused, true, false), "{fault}");
    assert_eq!(talk.prompt("still here").await.text(), "reply 2 to: still here");
    talk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_is_given_images_and_what_was_said_before() {
    let world = World::new();
    let mut talk = Talk::open(&codex(&world), &world.directory(), OpenSession::New).await;
    let file = |name: &str, media_type: &str, bytes: &'static [u8]| PromptPart::File {
        name: Some(name.into()),
        media_type: media_type.into(),
        bytes: bytes.into(),
    };
    let parts = vec![PromptPart::Text("look".into()), file("a.png", "image/png", PNG), file("b.txt", "text/plain", b"words")];
    let history = vec![message(Role::User, "one"), message(Role::Assistant, "two")];
    talk.order(Order::Prompt(Prompt { parts, history, ..prompt("") })).await;
    assert!(matches!(talk.hear_out().await.done(), Done::Completed { .. }));
    let requests = world.requests();
    let input = requests[0]["body"]["input"].as_array().unwrap();
    let said = input.iter().rev().find(|item| item["role"] == "user").unwrap()["content"].as_array().unwrap();
    let kinds: Vec<_> = said.iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["input_text", "input_text", "input_image", "input_text"]);
    assert!(said[0]["text"].as_str().unwrap().contains("user:\none\n\nassistant:\ntwo"), "{}", said[0]);
    assert_eq!(said[3]["text"], "[The attached file b.txt:]\nwords\n[The file ends here.]");
    talk.end().await;
}

/// One grey dot.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81w\xcdr\xb6\0\0\0\0IEND\xaeB`\x82";

fn prompt(text: &str) -> Prompt {
    Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text(text.into())], history: Vec::new() }
}

fn pick(asked: &Asked, kind: OptionKind) -> Option<String> {
    asked.options.iter().find(|option| option.kind == kind).map(|option| option.id.clone())
}

fn codex(world: &World) -> CodexAgent {
    codex_with(world, Setup::default())
}

/// With a home of its own, where its configuration says which model there is.
pub fn codex_with(world: &World, setup: Setup) -> CodexAgent {
    let home = world.home().join("codex");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.toml"), configuration(&world.url)).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let env = BTreeMap::from([
        ("HOME".to_owned(), path(&world.home())),
        ("CODEX_HOME".to_owned(), path(&home)),
        ("FAKE_KEY".to_owned(), "none".to_owned()),
    ]);
    CodexAgent::new(program("codex", &[path(&World::installed("codex")).as_str(), "app-server"], env), setup)
}

pub fn configuration(model: &str) -> String {
    format!(
        r#"
        model = "fake"
        model_provider = "fake"
        check_for_update_on_startup = false
        [model_providers.fake]
        name = "fake"
        base_url = "{model}/v1"
        env_key = "FAKE_KEY"
        wire_api = "responses"
        request_max_retries = 0
        stream_max_retries = 0
        [analytics]
        enabled = false
        "#
    )
}
