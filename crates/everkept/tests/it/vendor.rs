//! What every vendor's own agent is put through behind the real server: killed in the middle of a tool and while it asks, within
//! the hold and past it; retried, told of another model, restarted, forked, and with a child session.
//!
//! Never: a vendor's protocol or paths; those are in the file of each.

use crate::bench::*;
use crate::real::World;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Vendor {
    /// What the agent's own processes are called.
    pub program: &'static str,
    /// What the model server knows the usual model by.
    pub model: &'static str,
    /// Another model: what the agent knows it by, and the model server.
    pub other: (&'static str, &'static str),
    /// The ids of all sessions that the agent has.
    pub sessions: fn(&World) -> BTreeSet<String>,
}

/// Shorter than any restart here takes.
const SHORT_HOLD: u64 = 300;

pub async fn killed_in_mid_tool(world: &World, vendor: &Vendor) {
    let data = world.path("data");
    let mut server = Server::start(&data);
    let session = server.session(json!({ "directory": world.path("work") })).await;
    let first = server.ended(&server.send(&session, "remember the roof").await).await;
    assert_eq!(first["state"], "completed", "{first}");
    let mut said = vec!["remember the roof"];

    // Within the hold: the server dies while it is asked, and again while the tool runs.
    said.push("wait for me WAIT");
    let turn = server.send(&session, "wait for me WAIT").await;
    let question = server.question().await;
    server.kill();
    server = Server::start(&data);
    assert_eq!(server.question().await, question, "the question is still open");
    allow(&server, &question).await;
    tool_has_run(world, 1).await;
    server.kill();
    server = Server::start(&data);
    let running = server.get(&format!("/api/turns/{turn}")).await;
    assert_eq!(running["state"], "running", "{running}");
    std::fs::write(world.path("work/go"), "").unwrap();
    let ended = server.ended(&turn).await;
    assert_eq!((ended["state"].as_str(), &ended["error"]), (Some("completed"), &Value::Null), "{ended}");
    assert_eq!(server.said(&session).await.last().unwrap().1, "reply 2 to: wait for me WAIT");
    assert_eq!(world.asked("wait for me WAIT"), 2, "the model was asked for the call, and for what comes after it");
    let of_turn: Vec<Value> = server.events(&session).await.into_iter().filter(|event| event["turn"] == turn.as_str()).collect();
    for kind in ["question.asked", "question.answered", "tool.started", "tool.completed", "turn.started", "turn.ended"] {
        assert_eq!(of_turn.iter().filter(|event| event["kind"] == kind).count(), 1, "{kind} comes once");
    }

    // Past it: nothing is left of the agent and its tool, the turn is to be reviewed, and the agent session goes on.
    world.hold(SHORT_HOLD);
    kill(Pid::from_raw(i32::try_from(server.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    std::fs::remove_file(world.path("work/go")).unwrap();
    server = Server::start(&data);
    for (prompt, next, allowed) in [("wait again WAIT", "and now", true), ("may it WAIT", "and then", false)] {
        let turn = server.send(&session, prompt).await;
        let question = server.question().await;
        if allowed {
            allow(&server, &question).await;
            tool_has_run(world, 2).await;
        }
        let agents = world.agents();
        assert!(!agents.is_empty());
        server.kill();
        gone(&agents, Duration::from_millis(SHORT_HOLD + 2_000)).await;
        server = Server::start(&data);
        let settled = server.ended(&turn).await;
        assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("server_crashed")), "{settled}");
        assert_eq!(settled["error"]["may_have_happened"], true, "{settled}");
        put_away(&server, &turn).await;
        if !allowed {
            let path = format!("/api/questions/{}/answer", question["id"].as_str().unwrap());
            let (status, refused) = server.try_post(&path, json!({ "option": question["options"][0]["id"] })).await;
            assert_eq!(status, 409, "what nobody waits for any more is not answered: {refused}");
        }
        said.extend([prompt, next]);
        let next = server.ended(&server.send(&session, next).await).await;
        assert_eq!(next["state"], "completed", "{next}");
        assert_eq!(world.last_prompts(), said, "nothing lost, nothing doubled");
    }

    // The agent dies while its tool runs.
    let turn = server.send(&session, "once more WAIT").await;
    allow(&server, &server.question().await).await;
    tool_has_run(world, 3).await;
    let all = world.agents();
    world.kill_agent(vendor.program);
    let settled = server.ended(&turn).await;
    assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("agent_exited")), "{settled}");
    gone(&all, Duration::from_secs(2)).await;
    put_away(&server, &turn).await;
    said.extend(["once more WAIT", "the end"]);
    let last = server.ended(&server.send(&session, "the end").await).await;
    assert_eq!(last["state"], "completed", "{last}");
    assert_eq!(world.last_prompts(), said, "nothing lost, nothing doubled");
    assert_eq!(std::fs::read_to_string(world.path("work/tool.log")).unwrap().lines().count(), 3, "each call that was allowed ran once");
    assert_eq!((vendor.sessions)(world), only_pin(&server, &session).await, "the agent has the session of the log, and no other");
    server.kill();
}

pub async fn retried_restarted_and_forked(world: &World, vendor: &Vendor) {
    let data = world.path("data");
    let (other, known_as) = vendor.other;
    let mut server = Server::start(&data);
    let in_work = json!({ "directory": world.path("work") });
    let session = server.session(in_work.clone()).await;
    let first = server.ended(&server.send(&session, "remember the roof").await).await;
    assert_eq!(first["state"], "completed", "{first}");
    let pinned = only_pin(&server, &session).await;

    // Retried in vain, and with another model after the server was killed.
    let prompt = format!("try it FAIL:{}", vendor.model);
    let failed = server.ended(&server.send(&session, &prompt).await).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let failed = again(&server, &failed, json!({})).await;
    assert_eq!((failed["state"].as_str(), failed["attempt"].as_u64()), (Some("failed"), Some(2)), "{failed}");
    server.kill();
    server = Server::start(&data);
    let turn = again(&server, &failed, json!({ "model": other })).await;
    assert_eq!((turn["state"].as_str(), turn["attempt"].as_u64()), (Some("completed"), Some(3)), "{turn}");
    assert_eq!(world.last_request()["body"]["model"], known_as);
    let next = server.ended(&server.send(&session, "and now").await).await;
    assert_eq!((next["state"].as_str(), next["model_because"].as_str()), (Some("completed"), Some("last_used")), "{next}");
    assert_eq!(world.last_request()["body"]["model"], known_as, "the model stays");
    let prompts = world.last_prompts();
    assert_eq!((prompts[0].as_str(), prompts.last().unwrap().as_str()), ("remember the roof", "and now"), "{prompts:?}");
    let asked = prompts.iter().filter(|said| **said == prompt).count();
    assert!((1..=3).contains(&asked), "what was asked three times is there no more often: {prompts:?}");
    assert_eq!(only_pin(&server, &session).await, pinned);
    assert_eq!((vendor.sessions)(world), pinned, "no retry and no restart made a session");

    // A fork knows what its parent knew, and neither hears of the other.
    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({})).await["id"].as_str().unwrap().to_owned();
    let forked = server.ended(&server.send(&fork, "in the fork").await).await;
    assert_eq!(forked["state"], "completed", "{forked}");
    assert_eq!(world.last_prompts(), [&prompts[..], &["in the fork".to_owned()]].concat());
    let still = server.ended(&server.send(&session, "in the parent").await).await;
    assert_eq!(still["state"], "completed", "{still}");
    assert_eq!(world.last_prompts(), [&prompts[..], &["in the parent".to_owned()]].concat());
    let mut all: BTreeSet<String> = &pinned | &only_pin(&server, &fork).await;
    assert_eq!(((vendor.sessions)(world), all.len()), (all.clone(), 2));

    // A child has an agent and a model of its own, which stay through failure, revert, kill and re-prompt.
    let child = server.session(json!({ "parent": session, "agent": "real", "model": other, "directory": world.path("work") })).await;
    let failed = server.ended(&server.send(&child, &format!("look around FAIL:{known_as}")).await).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    server.post(&format!("/api/sessions/{child}/revert"), json!({})).await;
    server.kill();
    server = Server::start(&data);
    let turn = server.ended(&server.send(&child, "look around").await).await;
    let resolved = ["state", "agent", "agent_because", "model", "model_because"].map(|key| turn[key].as_str().unwrap());
    assert_eq!(resolved, ["completed", "real", "session", other, "session"], "{turn}");
    assert_eq!(world.last_request()["body"]["model"], known_as);
    assert_eq!(world.last_prompts(), ["look around"], "nothing of its parent, and nothing that was taken back");
    all.append(&mut pins(&server, &child).await);
    assert_eq!((vendor.sessions)(world), all, "every session that the agent has is in the log");
    let tree = server.get(&format!("/api/sessions/{session}/forks")).await;
    let kinds: BTreeSet<&str> =
        tree["children"].as_array().unwrap().iter().map(|child| child["parent"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, BTreeSet::from(["child", "fork"]), "{tree}");
    server.kill();
}

/// A helper of the agent's own: what it does is a tool of the turn, and a session that the agent makes for it is named there and can
/// be a child's. The ids of such sessions.
pub async fn delegates(world: &World, vendor: &Vendor) -> BTreeSet<String> {
    let data = world.path("data");
    let (other, known_as) = vendor.other;
    let mut server = Server::start(&data);
    let session = server.session(json!({ "directory": world.path("work") })).await;
    let turn = server.ended(&server.send(&session, "please DELEGATE").await).await;
    assert_eq!(turn["state"], "completed", "{turn}");
    assert_eq!(server.said(&session).await[1..], [("assistant".into(), "reply 1 to: please DELEGATE".into())], "no word of the helper's");
    assert_eq!(world.asked("look around"), 1);
    let events = server.events(&session).await;
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
    let ([begun], [ended]) = (&of("tool.started")[..], &of("tool.completed")[..]) else { panic!("one tool: {events:?}") };
    assert_eq!((&begun["data"]["part"], &ended["data"]["status"]), (&ended["data"]["part"], &json!("completed")));
    let output = ended["data"]["output"].to_string();
    assert!(output.contains("reply 1 to: look around"), "{output}");
    let pinned = only_pin(&server, &session).await;
    let helpers = &(vendor.sessions)(world) - &pinned;
    assert!(helpers.iter().all(|id| output.contains(id)), "the log tells of {helpers:?}: {output}");

    for helper in &helpers {
        let child = json!({ "parent": session, "agent": "real", "model": other, "agent_session": helper, "directory": world.path("work") });
        let child = server.session(child).await;
        let failed = server.ended(&server.send(&child, &format!("look again FAIL:{known_as}")).await).await;
        assert_eq!(failed["state"], "failed", "{failed}");
        server.kill();
        server = Server::start(&data);
        let turn = server.ended(&server.send(&child, "what was there").await).await;
        assert_eq!((turn["state"].as_str(), turn["model"].as_str()), (Some("completed"), Some(other)), "{turn}");
        assert_eq!(world.last_request()["body"]["model"], known_as);
        let prompts = world.last_prompts();
        assert_eq!((prompts[0].as_str(), prompts.last().unwrap().as_str()), ("look around", "what was there"), "{prompts:?}");
        assert_eq!(only_pin(&server, &child).await, BTreeSet::from([helper.clone()]));
    }
    let next = server.ended(&server.send(&session, "go on").await).await;
    assert_eq!(next["state"], "completed", "{next}");
    assert_eq!(world.last_request()["body"]["model"], vendor.model, "the parent has its own model");
    assert_eq!(world.last_prompts(), ["please DELEGATE", "go on"]);
    assert_eq!((vendor.sessions)(world), &pinned | &helpers);
    server.kill();
    helpers
}

/// The names of the files so many folders down, without their extension.
pub fn files(folder: &Path, depth: usize, extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    if depth > 1 {
        return entries.filter(|path| path.is_dir()).flat_map(|path| files(&path, depth - 1, extension)).collect();
    }
    let named = entries.filter(|path| path.extension().is_some_and(|it| it == extension));
    named.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

async fn again(server: &Server, turn: &Value, body: Value) -> Value {
    let turn = server.post(&format!("/api/turns/{}/retry", turn["id"].as_str().unwrap()), body).await;
    server.ended(turn["id"].as_str().unwrap()).await
}

async fn allow(server: &Server, question: &Value) {
    assert_eq!(question["kind"], "permission", "{question}");
    let once = question["options"].as_array().unwrap().iter().find(|option| option["kind"] == "allow_once").unwrap();
    server.post(&format!("/api/questions/{}/answer", question["id"].as_str().unwrap()), json!({ "option": once["id"] })).await;
}

/// An interrupted turn is left as it is.
async fn put_away(server: &Server, turn: &str) {
    let review = server.question().await;
    assert_eq!((review["kind"].as_str(), review["turn"].as_str()), (Some("review"), Some(turn)), "{review}");
    server.post(&format!("/api/questions/{}/answer", review["id"].as_str().unwrap()), json!({ "option": "leave" })).await;
}

/// Waits until so many calls have begun.
async fn tool_has_run(world: &World, times: usize) {
    let until = Instant::now() + PATIENCE;
    while std::fs::read_to_string(world.path("work/tool.log")).unwrap_or_default().lines().count() < times {
        assert!(Instant::now() < until, "no tool runs\n{}", stderr(&world.path("data")));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of a session that has had one id and no other.
async fn only_pin(server: &Server, session: &str) -> BTreeSet<String> {
    let held = server.get(&format!("/api/sessions/{session}")).await;
    assert_eq!(held["agent_sessions"].as_array().unwrap().len(), 1, "{held}");
    assert_eq!(held["agent_sessions"][0]["successors"], json!([]), "{held}");
    pins(server, session).await
}

/// All ids that a session's log knows.
async fn pins(server: &Server, session: &str) -> BTreeSet<String> {
    let held = server.get(&format!("/api/sessions/{session}")).await;
    let all = held["agent_sessions"].as_array().unwrap().iter().flat_map(|pinned| {
        let successors = pinned["successors"].as_array().unwrap().iter().map(|successor| &successor["id"]);
        successors.chain([&pinned["first"]]).map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    all.collect()
}
