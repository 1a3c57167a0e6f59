//! The demo agent passes the suite, remembers across restarts, and does what its directives say.

use everkept_agent::{
    Agent, AgentFaultKind, Done, Open, OpenSession, Opened, Order, Output, Prompt, PromptPart,
    conformance::{self, Script},
    demo::{DemoAgent, DemoMemory, FileMemory, MemoryInRam},
};
use everkept_core::{AgentSessionId, Message, MessageId, ModelName, Part, PartId, Role, Said, Timestamp, TurnId};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

#[tokio::test(start_paused = true)]
async fn the_demo_agent_is_an_agent() {
    conformance::run(agent(MemoryInRam::default()), &script()).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_folder_for_a_memory_too() {
    let folder = tempfile::tempdir().unwrap();
    conformance::run(agent(FileMemory::open(folder.path()).unwrap()), &script()).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let memory = || FileMemory::open(folder.path().join("demo")).unwrap();
    let mut first = open(&agent(memory()), OpenSession::New).await;
    assert_eq!(text(&prompt(&mut first, "one").await), "reply 1 to: one");
    let mut second = open(&agent(memory()), OpenSession::Resume(first.agent_session)).await;
    assert_eq!(text(&prompt(&mut second, "two").await), "reply 2 to: two");
}

#[tokio::test]
async fn an_id_is_never_a_path() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "|||").unwrap();
    let memory = FileMemory::open(folder.path().join("demo")).unwrap();
    for id in ["../secret", "/etc/passwd", ".", "..", "", "a\0b", &"a".repeat(200)] {
        assert_eq!(memory.prompts(id).unwrap(), None, "{id:?}");
    }
    let resume = Open { directory: "/".into(), session: OpenSession::Resume(session("../secret")), model: None };
    assert_eq!(agent(memory).open(resume).await.unwrap_err().kind, AgentFaultKind::UnknownSession);
}

#[tokio::test(start_paused = true)]
async fn history_counts_once() {
    let mut talk = open(&agent(MemoryInRam::default()), OpenSession::New).await;
    let history = vec![message(Role::User), message(Role::Assistant), message(Role::User)];
    assert_eq!(text(&prompt_after(&mut talk, "three", history).await), "reply 3 to: three");
    assert_eq!(text(&prompt(&mut talk, "four").await), "reply 4 to: four");
}

#[tokio::test(start_paused = true)]
async fn directives_do_what_they_say() {
    let mut talk = open(&agent(MemoryInRam::default()), OpenSession::New).await;
    let kinds = |turn: &Heard| {
        turn.said.iter().map(kind).fold(Vec::new(), |mut kinds, kind| {
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
            kinds
        })
    };
    let turn = prompt(&mut talk, "do !think it !tool:2 !slow:10").await;
    assert_eq!(kinds(&turn), ["reasoning", "tool", "text", "usage"]);
    assert_eq!(text(&turn), "reply 1 to: do it");
    let turn = prompt(&mut talk, "!big:3").await;
    assert_eq!(text(&turn).len(), "reply 2 to: ".len() + 3 * 1024);
    let turn = prompt(&mut talk, "!fail").await;
    assert!(matches!(turn.done, Some(Done::Failed { .. })) && turn.said.is_empty());
    let turn = prompt(&mut talk, "!crash now").await;
    assert_eq!((text(&turn).as_str(), turn.done), ("reply 4 to: ", None));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_fails_at_first_goes_on_to_answer() {
    let mut talk = open(&agent(MemoryInRam::default()), OpenSession::New).await;
    for _ in 0..2 {
        assert!(matches!(prompt(&mut talk, "!fail:2 then answer").await.done, Some(Done::Failed { .. })));
    }
    assert_eq!(text(&prompt(&mut talk, "!fail:2 !falter:2 then answer").await), "reply 3 to: then answer");
    let turn = prompt(&mut talk, "!falter:4 then answer").await;
    assert!(matches!(turn.done, Some(Done::Failed { .. })) && text(&turn) == "reply 4 to: ");
    assert_eq!(text(&prompt(&mut talk, "!falter:4 then answer").await), "reply 5 to: then answer");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_agent_still_hears_a_cancel() {
    let mut talk = open(&agent(MemoryInRam::default()), OpenSession::New).await;
    talk.connection.orders.send(order("!hang", Vec::new())).await.unwrap();
    talk.connection.orders.send(Order::Cancel).await.unwrap();
    let turn = hear(&mut talk).await;
    assert_eq!((turn.said, turn.done), (Vec::new(), Some(Done::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn every_thing_said_is_one_line_of_json() {
    let mut talk = open(&agent(MemoryInRam::default()), OpenSession::New).await;
    let turn = prompt(&mut talk, "a\nb !think !tool").await;
    for raw in &turn.raw {
        assert!(raw.ends_with(b"\n") && raw.iter().filter(|byte| **byte == b'\n').count() == 1, "{raw:?}");
        serde_json::from_slice::<serde_json::Value>(raw).unwrap();
    }
}

pub fn agent(memory: impl DemoMemory + 'static) -> Arc<dyn Agent> {
    let last = AtomicU64::new(0);
    Arc::new(DemoAgent::new(Arc::new(memory), Arc::new(move || format!("demo_{}", last.fetch_add(1, SeqCst)))))
}

pub fn script() -> Script {
    Script {
        directory: Path::new("/").to_owned(),
        plain: "hello there".into(),
        tool: Some("!tool".into()),
        ask: Some("!ask".into()),
        long: Some("!long".into()),
        fail: Some("!fail".into()),
        crash: Some("!crash".into()),
        model: Some(ModelName::new("demo/any").unwrap()),
        unknown_session: "demo_unknown".into(),
    }
}

#[derive(Default)]
pub struct Heard {
    pub said: Vec<Said>,
    pub raw: Vec<bytes::Bytes>,
    /// None when the agent was gone first.
    pub done: Option<Done>,
}

pub async fn open(agent: &Arc<dyn Agent>, session: OpenSession) -> Opened {
    agent.open(Open { directory: "/".into(), session, model: None }).await.unwrap()
}

pub async fn prompt(talk: &mut Opened, text: &str) -> Heard {
    prompt_after(talk, text, Vec::new()).await
}

async fn prompt_after(talk: &mut Opened, text: &str, history: Vec<Message>) -> Heard {
    talk.connection.orders.send(order(text, history)).await.unwrap();
    hear(talk).await
}

pub async fn hear(talk: &mut Opened) -> Heard {
    let mut heard = Heard::default();
    loop {
        match talk.connection.output.recv().await.unwrap() {
            Output::Said { raw, said } => {
                heard.raw.push(raw);
                heard.said.extend(said);
            }
            Output::Done { raw, done } => {
                heard.raw.push(raw);
                return Heard { done: Some(done), ..heard };
            }
            Output::Gone(_) => return heard,
        }
    }
}

pub fn order(text: &str, history: Vec<Message>) -> Order {
    Order::Prompt(Prompt { turn: turn(), parts: vec![PromptPart::Text(text.into())], history })
}

pub fn text(heard: &Heard) -> String {
    let texts = heard.said.iter().filter_map(|said| match said {
        Said::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn kind(said: &Said) -> &'static str {
    match said {
        Said::Text { .. } => "text",
        Said::Reasoning { .. } => "reasoning",
        Said::ToolStarted { .. } | Said::ToolUpdated { .. } => "tool",
        Said::Usage(_) => "usage",
        _ => "other",
    }
}

fn message(role: Role) -> Message {
    let id = PartId::derive(Default::default(), "part", 0);
    Message {
        id: MessageId::derive(Default::default(), "message", 0),
        turn: None,
        role,
        parts: vec![Part::Text { id, text: "earlier".into() }],
        created_at: Timestamp(0),
        usage: None,
    }
}

pub fn session(id: &str) -> AgentSessionId {
    AgentSessionId::new(id).unwrap()
}

pub fn turn() -> TurnId {
    TurnId::derive(Default::default(), "turn", 0)
}
