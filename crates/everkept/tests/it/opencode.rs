//! The real opencode behind the real server.

use crate::real::{World, survives_kill_9_on_one_agent_session};
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    let world = World::new();
    let config = json!({
        "autoupdate": false,
        "share": "disabled",
        "enabled_providers": ["fake"],
        "provider": { "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": format!("{}/v1", world.url), "apiKey": "none" },
            "models": { "fake": {}, "other": {}, "small": {} },
        } },
        "model": "fake/fake",
        "small_model": "fake/small",
        "permission": { "bash": "ask", "edit": "ask" },
    });
    std::fs::write(world.path("opencode.json"), config.to_string()).unwrap();
    let home = world.path("home").display().to_string();
    let mut env: BTreeMap<String, String> =
        ["OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
        env.insert(format!("XDG_{name}_HOME"), format!("{home}/{name}"));
    }
    env.insert("OPENCODE_CONFIG".into(), world.path("opencode.json").display().to_string());
    world.configure("acp", "opencode", &["acp"], env);
    survives_kill_9_on_one_agent_session(&world, "opencode").await;
}
