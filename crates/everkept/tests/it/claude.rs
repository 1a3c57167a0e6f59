//! The real Claude Code behind the real server.

use crate::real::{World, survives_kill_9_on_one_agent_session};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    let world = World::new();
    let mut env: BTreeMap<String, String> =
        ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    env.insert("ANTHROPIC_BASE_URL".into(), world.url.clone());
    env.insert("ANTHROPIC_API_KEY".into(), "none".into());
    env.insert("ANTHROPIC_MODEL".into(), "claude-fake".into());
    world.configure("claude-code", "claude", &[], env);
    survives_kill_9_on_one_agent_session(&world, "claude").await;
}
