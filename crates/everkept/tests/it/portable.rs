//! One session on the agents of three vendors in turn: each goes on with its own, and is told what it missed, once.
//!
//! Never: the network, or a home that is somebody's.

use crate::bench::*;
use crate::claude::claude;
use crate::codex::codex;
use crate::opencode::opencode;
use crate::real::World;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn o7_a_session_goes_from_vendor_to_vendor_and_back_and_each_is_told_what_it_missed_once() {
    let world = World::new();
    world.configure(&[("claude", claude(&world)), ("codex", codex(&world)), ("opencode", opencode(&world))]);
    let mut server = Server::start(&world.path("data"));
    let session = server.session(json!({ "directory": world.path("work") })).await;
    // Which words each agent has missed when it is asked.
    let steps: [(&str, &str, &[&str]); 8] = [
        ("claude", "alfa", &[]),
        ("codex", "bravo", &["alfa"]),
        ("opencode", "charlie", &["alfa", "bravo"]),
        ("claude", "delta", &["bravo", "charlie"]),
        ("claude", "echo", &[]),
        ("codex", "foxtrot", &["charlie", "delta", "echo"]),
        ("opencode", "golf", &["delta", "echo", "foxtrot"]),
        ("claude", "hotel", &["foxtrot", "golf"]),
    ];
    let mut said: Vec<&str> = Vec::new();
    for (n, (agent, word, missed)) in steps.into_iter().enumerate() {
        // In the middle of it nobody has anything open.
        if n == 5 {
            server.kill();
            server = Server::start(&world.path("data"));
        }
        let path = format!("/api/sessions/{session}");
        let patched = server.client.patch(server.url(&path)).bearer_auth(&server.token).json(&json!({ "agent": agent }));
        assert_eq!(patched.send().await.unwrap().status(), 200);
        let turn = server.ended(&server.send(&session, &format!("BRIEF {word}")).await).await;
        assert_eq!((turn["state"].as_str(), turn["agent"].as_str()), (Some("completed"), Some(agent)), "{turn}");

        let sent = conversation(&world.last_request());
        for earlier in &said {
            assert_eq!(places(&sent, earlier).len(), 2, "{agent} at {word}: {earlier} was asked once and answered once in {sent}");
        }
        assert_eq!(places(&sent, word).len(), 1, "{agent} at {word}: {sent}");
        said.push(word);
        let order: Vec<usize> = said.iter().map(|word| places(&sent, word)[0]).collect();
        assert!(order.is_sorted(), "{agent} at {word}: {sent}");

        let given = given(&server, &session, &turn).await;
        let expected: Vec<String> = missed.iter().flat_map(|word| [format!("user: {word}"), format!("assistant: {word}")]).collect();
        assert_eq!(given, expected, "{agent} at {word}: the log says what went along");
    }
    let held = server.get(&format!("/api/sessions/{session}")).await;
    let pins = held["agent_sessions"].as_array().unwrap();
    let agents: Vec<_> = pins.iter().map(|pin| (pin["agent"].as_str().unwrap(), &pin["successors"])).collect();
    assert_eq!(agents, [("claude", &json!([])), ("codex", &json!([])), ("opencode", &json!([]))], "one agent session each: {held}");
    server.kill();
}

/// All that the model was sent of the conversation.
fn conversation(request: &Value) -> String {
    let body = &request["body"];
    let messages = if body["messages"].is_null() { &body["input"] } else { &body["messages"] };
    messages.to_string()
}

fn places(text: &str, word: &str) -> Vec<usize> {
    text.match_indices(word).map(|(at, _)| at).collect()
}

/// Who said which word in the messages that the log says went along.
async fn given(server: &Server, session: &str, turn: &Value) -> Vec<String> {
    let events = server.events(session).await;
    let started = events.iter().find(|event| event["kind"] == "turn.started" && event["turn"] == turn["id"]).unwrap();
    let page = server.get(&format!("/api/sessions/{session}/messages?limit=1000")).await;
    let messages = page["items"].as_array().unwrap();
    let at = |id: &Value| messages.iter().position(|message| message["id"] == *id).unwrap();
    let runs = started["data"]["given"].as_array().cloned().unwrap_or_default();
    let given: Vec<&Value> = runs.iter().flat_map(|run| &messages[at(&run["first"])..=at(&run["last"])]).collect();
    assert_eq!(started["data"]["given_messages"], given.len());
    let word = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect::<String>();
        parts.split_whitespace().last().unwrap_or_default().to_owned()
    };
    given.into_iter().map(|message| format!("{}: {}", message["role"].as_str().unwrap(), word(message))).collect()
}
