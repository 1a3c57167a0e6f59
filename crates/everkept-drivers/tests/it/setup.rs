//! What agents are set up with, on every session that is opened: by the scripted ones, and by the real ones before a model.

use crate::{
    claude::claude_with,
    codex::codex_with,
    opencode::opencode_with,
    support::{Talk, program, try_open, xtask},
    world::World,
};
use everkept_agent::{Agent, AgentFaultKind, Done, OpenSession, Order};
use everkept_core::{AgentSessionId, Said};
use everkept_drivers::{McpServer, Setup, Subagent, acp::AcpAgent, claude::ClaudeAgent, codex::CodexAgent};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, num::NonZeroU32, path::Path};

const SECRET: &str = "s ${HOME} $ecret";
const PROMPT: &str = "Speak of roofs.";

#[tokio::test]
async fn ws_18_claude_code_is_set_up_on_every_session() {
    let folder = tempfile::tempdir().unwrap();
    let agent = ClaudeAgent::new(scripted(folder.path(), "scripted-claude", &[]), setup(folder.path()));
    for (opened, calls) in open_each(&agent, folder.path()).await {
        let args: Vec<&str> = calls[0]["params"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
        for arg in [
            "--append-system-prompt=Speak of roofs.",
            "--system-prompt-snapshot=off",
            r#"--agents={"reviewer":{"description":"Reviews.","model":"small","prompt":"Review.","tools":["Read"]}}"#,
            "--max-turns=3",
        ] {
            assert!(args.contains(&arg), "{opened}: {arg} is not among {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.contains("ecret")), "{opened}: what may be a secret is nobody else's to read: {args:?}");
        let asked: Vec<_> = calls.iter().map(|call| call["method"].as_str().unwrap()).collect();
        assert_eq!(asked, ["start", "initialize", "mcp_set_servers"], "{opened}");
        let env = json!({ "SCRIPTED_DIR": folder.path(), "SCRIPTED_SECRET": SECRET });
        let local = json!({ "type": "stdio", "command": xtask(), "args": ["scripted-mcp", "one"], "env": env });
        let far = json!({ "type": "http", "url": "https://far.example/mcp", "headers": { "authorization": SECRET } });
        assert_eq!(calls[2]["params"]["servers"], json!({ "look": local, "far": far }), "{opened}");
    }
}

#[tokio::test]
async fn ws_18_codex_is_set_up_on_every_session() {
    let folder = tempfile::tempdir().unwrap();
    let agent = CodexAgent::new(scripted(folder.path(), "scripted-codex", &[]), setup(folder.path()));
    for (opened, calls) in open_each(&agent, folder.path()).await {
        let call = calls.iter().find(|call| call["method"] == format!("thread/{opened}").replace("/new", "/start")).unwrap();
        assert_eq!(call["params"]["developerInstructions"], PROMPT, "{opened}");
        let env = json!({ "SCRIPTED_DIR": folder.path(), "SCRIPTED_SECRET": SECRET });
        let local = json!({ "command": xtask(), "args": ["scripted-mcp", "one"], "env": env });
        let far = json!({ "url": "https://far.example/mcp", "http_headers": { "authorization": SECRET } });
        assert_eq!(call["params"]["config"], json!({ "mcp_servers.look": local, "mcp_servers.far": far }), "{opened}");
    }
}

#[tokio::test]
async fn ws_18_an_acp_agent_has_its_servers_on_every_session() {
    for able in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let env: &[_] = if able { &[] } else { &[("SCRIPTED_LOAD_ONLY", "1")] };
        let mut servers = setup(folder.path()).mcp_servers;
        if !able {
            servers.remove("far");
        }
        let agent = AcpAgent::new(scripted(folder.path(), "scripted-agent", env), servers);
        for (opened, calls) in open_each(&agent, folder.path()).await {
            let method = if able { format!("session/{opened}") } else { format!("session/{opened}").replace("/resume", "/load") };
            let call = calls.iter().find(|call| call["method"] == method.as_str()).unwrap_or_else(|| panic!("{method} in {calls:?}"));
            let env = json!([
                { "name": "SCRIPTED_DIR", "value": folder.path() },
                { "name": "SCRIPTED_SECRET", "value": SECRET },
            ]);
            let local = json!({ "name": "look", "command": xtask(), "args": ["scripted-mcp", "one"], "env": env });
            let headers = json!([{ "name": "authorization", "value": SECRET }]);
            let far = json!({ "type": "http", "name": "far", "url": "https://far.example/mcp", "headers": headers });
            let all = if able { json!([far, local]) } else { json!([local]) };
            assert_eq!(call["params"]["mcpServers"], all, "{opened}");
        }
    }
}

#[tokio::test]
async fn ws_18_an_acp_agent_that_reaches_no_servers_is_not_opened_without_one_it_should_have() {
    let folder = tempfile::tempdir().unwrap();
    let program = scripted(folder.path(), "scripted-agent", &[("SCRIPTED_LOAD_ONLY", "1")]);
    let agent = AcpAgent::new(program, setup(folder.path()).mcp_servers);
    let fault = try_open(&agent, folder.path(), OpenSession::New).await.unwrap_err();
    assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Refused, false), "{fault}");
    assert!(fault.message.contains("far"), "{fault}");
}

#[tokio::test]
async fn ws_18_an_acp_agent_is_in_its_mode_on_every_session_or_is_not_opened() {
    for (env, said) in
        [(&[][..], json!({ "configId": "mode", "value": "plan" })), (&[("SCRIPTED_LOAD_ONLY", "1")], json!({ "modeId": "plan" }))]
    {
        let folder = tempfile::tempdir().unwrap();
        let agent =
            |mode: &str| AcpAgent::new(scripted(folder.path(), "scripted-agent", env), BTreeMap::new()).in_mode(Some(mode.to_owned()));
        for (opened, calls) in open_each(&agent("plan"), folder.path()).await {
            let last = calls.last().unwrap();
            let params = last["params"].as_object().unwrap();
            assert!(said.as_object().unwrap().iter().all(|(key, value)| params.get(key) == Some(value)), "{opened}: {last}");
        }
        let fault = try_open(&agent("free for all"), folder.path(), OpenSession::New).await.unwrap_err();
        assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Refused, false), "{fault}");
        assert!(fault.to_string().contains("setting mode free for all"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_18_real_claude_code_has_its_prompt_servers_subagents_and_limit_on_every_session() {
    let world = World::new();
    let system = |request: &Value| request["body"]["system"].to_string();
    let first = Setup { max_turns: NonZeroU32::new(1), ..starting(&world) };
    let mut talk = Talk::open(&claude_with(&world, first), &world.directory(), OpenSession::New).await;
    let heard = talk.prompt("hello").await;
    assert!(init(&heard.bytes(), "mcp__look__look") && init(&heard.bytes(), r#""reviewer""#));
    assert!(system(&world.requests()[0]).contains(PROMPT));
    let session = talk.session();
    let heard = talk.prompt_until_asked("use it TOOL").await;
    let Some(Said::Asked(asked)) = heard.said.last() else { panic!("a tool is asked for: {:?}", heard.said) };
    talk.order(Order::Answer { request: asked.request.clone(), option: Some("allow".into()) }).await;
    let heard = talk.hear_out().await;
    assert!(matches!(heard.done(), Done::Failed { code, .. } if code == "error_max_turns"), "{:?}", heard.end);
    talk.end().await;
    // What is said later counts, and not what the session began with.
    for open in [OpenSession::Resume, OpenSession::Fork] {
        let later = Setup { system_prompt: Some("Speak of walls.".into()), ..starting(&world) };
        let mut talk = Talk::open(&claude_with(&world, later), &world.directory(), open(session.clone())).await;
        let heard = talk.prompt("again").await;
        assert!(init(&heard.bytes(), "mcp__look__look") && init(&heard.bytes(), r#""reviewer""#));
        talk.end().await;
        let system = system(&world.requests().pop().unwrap());
        assert!(system.contains("Speak of walls.") && !system.contains(PROMPT));
    }
    assert_eq!(started(&world), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_18_real_codex_has_its_prompt_and_servers_on_every_session() {
    let world = World::new();
    let agent = codex_with(&world, Setup { subagents: BTreeMap::new(), max_turns: None, ..starting(&world) });
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    talk.prompt("hello").await;
    let session = talk.session();
    talk.end().await;
    for open in [OpenSession::Resume, OpenSession::Fork] {
        let mut talk = Talk::open(&agent, &world.directory(), open(session.clone())).await;
        talk.prompt("again").await;
        talk.end().await;
    }
    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        let said = request["body"]["input"].as_array().unwrap().iter();
        let developers: Vec<_> = said.filter(|item| item["role"] == "developer").map(|item| item["content"].to_string()).collect();
        assert!(developers.iter().any(|content| content.contains(PROMPT)), "{developers:?}");
        assert!(request["body"]["tools"].to_string().contains("look"), "{}", request["body"]["tools"]);
    }
    assert_eq!(started(&world), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_18_real_opencode_has_its_servers_on_every_session() {
    let world = World::new();
    let agent = opencode_with(&world, starting(&world).mcp_servers);
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    talk.prompt("hello").await;
    let session = talk.session();
    talk.end().await;
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::Resume(session)).await;
    talk.prompt("again").await;
    talk.end().await;
    for request in world.requests() {
        assert!(request["body"]["tools"].to_string().contains("look_look"), "{}", request["body"]["tools"]);
    }
    assert_eq!(started(&world), 2);
}

/// New, resumed and forked, each with what the agent was asked before its first prompt.
async fn open_each(agent: &dyn Agent, folder: &Path) -> Vec<(&'static str, Vec<Value>)> {
    let mut all = Vec::new();
    let mut first: Option<AgentSessionId> = None;
    for opened in ["new", "resume", "fork"] {
        let session = match (opened, &first) {
            ("resume", Some(first)) => OpenSession::Resume(first.clone()),
            ("fork", Some(first)) => OpenSession::Fork(first.clone()),
            _ => OpenSession::New,
        };
        let mut talk = Talk::open(agent, folder, session).await;
        let log = fs::read_to_string(folder.join("calls.log")).unwrap();
        fs::remove_file(folder.join("calls.log")).unwrap();
        all.push((opened, log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()));
        // A session without a prompt is written down by no agent.
        talk.prompt("hello").await;
        first.get_or_insert(talk.session());
        talk.end().await;
        _ = fs::remove_file(folder.join("calls.log"));
    }
    all
}

fn setup(folder: &Path) -> Setup {
    let env = BTreeMap::from([("SCRIPTED_DIR".to_owned(), text(folder)), ("SCRIPTED_SECRET".to_owned(), SECRET.to_owned())]);
    let local = McpServer::Process { command: text(&xtask()), args: vec!["scripted-mcp".into(), "one".into()], env };
    let headers = BTreeMap::from([("authorization".to_owned(), SECRET.to_owned())]);
    let far = McpServer::Http { url: "https://far.example/mcp".into(), headers };
    let reviewer = Subagent {
        description: "Reviews.".into(),
        prompt: "Review.".into(),
        tools: Some(vec!["Read".into()]),
        model: Some("small".into()),
    };
    Setup {
        system_prompt: Some(PROMPT.into()),
        subagents: BTreeMap::from([("reviewer".to_owned(), reviewer)]),
        mcp_servers: BTreeMap::from([("look".to_owned(), local), ("far".to_owned(), far)]),
        max_turns: NonZeroU32::new(3),
        mode: None,
    }
}

/// Without what only a network could reach.
fn starting(world: &World) -> Setup {
    let mut setup = setup(world.folder.path());
    setup.mcp_servers.remove("far");
    setup
}

/// How often the server was started, each time with the very words that it was to have.
fn started(world: &World) -> usize {
    let log = fs::read_to_string(world.folder.path().join("mcp.log")).unwrap();
    let starts = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    starts.map(|start| assert_eq!(start, json!({ "args": ["one"], "secret": SECRET }))).count()
}

/// Whether Claude Code said, as a turn began, that it has this.
fn init(bytes: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| line.contains(r#""subtype":"init""#) && line.contains(what))
}

fn scripted(folder: &Path, which: &str, env: &[(&str, &str)]) -> everkept_drivers::Program {
    let mut given = BTreeMap::from([("SCRIPTED_DIR".to_owned(), text(folder))]);
    given.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    program("scripted", &[xtask().to_str().unwrap(), which], given)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
