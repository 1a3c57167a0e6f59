//! Models behind an HTTP API, behind the real server, which is killed in the middle: one agent session, all of its context.

use crate::bench::*;
use crate::real::World;
use serde_json::json;
use std::path::Path;

const KEY: &str = "sk-canary-0123456789";

/// The default agent is a model, whose key is in the environment of the server.
fn world(protocol: &str) -> World {
    let world = World::new();
    let path = if protocol == "openai" { "/v1" } else { "" };
    let config = format!(
        "default_agent = \"mine\"\n[agents.mine]\nprotocol = \"{protocol}\"\nbase_url = \"{}{path}\"\napi_key_env = \"MY_KEY\"\nmodel = \"fake\"\n",
        world.url
    );
    std::fs::write(world.path("data").join("config.toml"), config).unwrap();
    world
}

fn with_key(data: &Path) -> Server {
    Server::start_with(data, |command| {
        command.env("MY_KEY", KEY);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_07_a_model_goes_on_with_the_whole_conversation_after_kill_9_of_the_server() {
    for protocol in ["openai", "anthropic"] {
        let model = world(protocol);
        let data = model.path("data");
        let mut server = with_key(&data);
        let session = server.session(json!({})).await;
        let first = server.ended(&server.send(&session, "remember the roof").await).await;
        assert_eq!((first["state"].as_str(), first["model"].as_str()), (Some("completed"), Some("fake")), "{first}");
        assert_eq!(server.said(&session).await[1].1, "reply 1 to: remember the roof");
        assert!(first["usage"]["output_tokens"].as_u64().is_some(), "{first}");
        let messages = server.get(&format!("/api/sessions/{session}/messages")).await;
        assert_eq!(messages["items"][1]["usage"]["output_tokens"], first["usage"]["output_tokens"], "one request, one message: {messages}");
        assert!(messages["items"][0].get("usage").is_none(), "{messages}");

        let cut = server.send(&session, "take your time SLOW").await;
        while !server.events(&session).await.iter().any(|event| event["turn"] == cut.as_str() && event["kind"] == "part.delta") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        server.kill();
        server = with_key(&data);
        let settled = server.ended(&cut).await;
        assert_eq!((settled["state"].as_str(), settled["reason"].as_str()), (Some("interrupted"), Some("server_crashed")));
        let next = server.ended(&server.send(&session, "and now").await).await;
        assert_eq!(next["state"], "completed", "{next}");
        let sent = model.last_request();
        assert_eq!(sent["prompts"], json!(["remember the roof", "take your time SLOW", "and now"]), "nothing lost, nothing doubled");
        let messages = sent["body"]["messages"].as_array().unwrap();
        let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"], "what it had said before the kill is told to it: {sent}");
        let held = server.get(&format!("/api/sessions/{session}")).await;
        assert_eq!(first["agent_session"], next["agent_session"], "one agent session: {held}");

        // Another model for one turn, and a failure in the model's own words.
        let failed = server.ended(&server.send(&session, "now FAIL").await).await;
        assert_eq!(
            (failed["state"].as_str(), failed["agent_session"].as_str()),
            (Some("failed"), first["agent_session"].as_str()),
            "{failed}"
        );
        let (status, other) =
            server.try_post(&format!("/api/sessions/{session}/turns"), json!({ "input": "with another", "model": "fake/other" })).await;
        assert!(status < 300, "{other}");
        let other = server.ended(other["id"].as_str().unwrap()).await;
        assert_eq!(other["state"], "completed", "{other}");
        assert_eq!(model.last_request()["body"]["model"], "fake/other");
        server.kill();

        // The key is nowhere but in the environment of the server.
        let mut folders = vec![data];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let bytes = std::fs::read(entry.path()).unwrap();
                    assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "the key is in {}", entry.path().display());
                }
            }
        }
    }
}

#[test]
fn a_server_without_the_key_it_was_told_of_says_so() {
    let model = world("openai");
    let mut command = everkept();
    serve(&mut command, &model.path("data"));
    let output = command.env_remove("MY_KEY").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("agents.mine.api_key_env: MY_KEY is not set"), "{said}");
}
