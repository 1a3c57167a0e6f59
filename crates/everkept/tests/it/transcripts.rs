//! Real agents that lose their own record of a session, and go on with its context all the same.
//!
//! Never: the network, or a home that is somebody's.

use crate::bench::*;
use crate::claude::claude;
use crate::codex::codex;
use crate::real::World;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn o7_real_claude_code_goes_on_with_its_context_after_its_sessions_were_deleted() {
    let world = World::new();
    world.configure(&[("real", claude(&world))]);
    goes_on_after_its_sessions_were_deleted(&world, &["home/.claude"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn o7_real_codex_goes_on_with_its_context_after_its_sessions_were_deleted() {
    let world = World::new();
    world.configure(&[("real", codex(&world))]);
    goes_on_after_its_sessions_were_deleted(&world, &["home/codex/sessions"]).await;
}

/// `stores` is what the agent keeps of its sessions.
async fn goes_on_after_its_sessions_were_deleted(world: &World, stores: &[&str]) {
    let lose = || stores.iter().for_each(|store| remove(&world.path(store)));
    let mut server = Server::start(&world.path("data"));
    let session = server.session(json!({ "directory": world.path("work") })).await;
    for prompt in ["remember the roof", "and the walls"] {
        completed_and_kept(&server, &session, prompt).await;
    }
    let written = files(&world.path("home"));
    lose();
    server.kill();
    server = Server::start(&world.path("data"));
    let turn = completed_and_kept(&server, &session, "what do I build?").await;
    assert_eq!(world.last_prompts(), ["remember the roof", "and the walls", "what do I build?"], "nothing lost, nothing doubled");
    assert_eq!(server.said(&session).await.last().unwrap().1, "reply 3 to: what do I build?");

    let events = server.events(&session).await;
    let of_turn = |event: &&Value| event["turn"] == turn.as_str();
    let story: Vec<_> = events.iter().filter(of_turn).filter_map(|event| event["kind"].as_str()).collect();
    let told = ["turn.queued", "agent_session.put_back", "turn.started", "turn.ended", "agent_session.kept"];
    assert_eq!(story.into_iter().filter(|kind| told.contains(kind)).collect::<Vec<_>>(), told);
    let put_back = events.iter().find(|event| event["kind"] == "agent_session.put_back").unwrap();
    let started = events.iter().filter(of_turn).find(|event| event["kind"] == "turn.started").unwrap();
    assert_eq!((&started["data"]["agent_session_because"], &started["data"]["given_messages"]), (&json!("inherited"), &json!(0)));
    assert_eq!(put_back["data"]["agent_session"], started["data"]["agent_session"]);
    let again = files(&world.path("home"));
    assert_eq!(written, again, "it lies where it lay");
    for file in again {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }

    // A fork, of which the agent may write down only what is its own.
    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({})).await["id"].as_str().unwrap().to_owned();
    completed_and_kept(&server, &fork, "another roof").await;
    server.kill();
    lose();
    server = Server::start(&world.path("data"));
    completed_and_kept(&server, &fork, "and its walls").await;
    let all = ["remember the roof", "and the walls", "what do I build?", "another roof", "and its walls"];
    assert_eq!(world.last_prompts(), all);
    for session in [&session, &fork] {
        let held = server.get(&format!("/api/sessions/{session}")).await;
        let pins = held["agent_sessions"].as_array().unwrap();
        assert_eq!((pins.len(), &pins[0]["successors"]), (1, &json!([])), "one agent session in all: {held}");
    }
    server.kill();
    let verified = everkept().args(["verify", "--data"]).arg(world.path("data")).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// Sends it and waits until the agent's own record of the turn is kept.
async fn completed_and_kept(server: &Server, session: &str, prompt: &str) -> String {
    let turn = server.send(session, prompt).await;
    let ended = server.ended(&turn).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    let until = Instant::now() + PATIENCE;
    let kept = |event: &Value| event["kind"] == "agent_session.kept" && event["turn"] == turn.as_str();
    while !server.events(session).await.iter().any(kept) {
        assert!(Instant::now() < until, "nothing is kept\n{}", stderr(&server.data));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    turn
}

fn remove(path: &Path) {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

/// The records of sessions somewhere below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Each is called by its session's id.
        let long = path.file_name().is_some_and(|name| name.len() > 36);
        if path.is_dir() {
            found.extend(files(&path));
        } else if long && path.extension().is_some_and(|end| end == "jsonl") {
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}
