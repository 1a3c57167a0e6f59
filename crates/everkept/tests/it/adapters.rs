//! The official adapters of Claude Code and Codex behind the real server.

use crate::real::{Real, World, changes_its_model_and_is_forked, survives_kill_9_on_one_agent_session};

/// Run by the Node.js that stands beside them: they want a newer one than many machines have.
const CLAUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/agents/node_modules/.bin/claude-agent-acp");
const CODEX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/agents/node_modules/.bin/codex-acp");

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_behind_its_adapter_survives_kill_9_changes_its_model_and_is_forked() {
    let world = World::new();
    let mut env = crate::claude::claude(&world).env;
    env.insert("ANTHROPIC_CUSTOM_MODEL_OPTION".into(), "claude-other".into());
    world.configure(&[("real", Real { protocol: "acp", program: "node", args: &[CLAUDE], env })]);
    survives_kill_9_on_one_agent_session(&world, "node").await;
    changes_its_model_and_is_forked(&world, "claude-other").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_behind_its_adapter_survives_kill_9_changes_its_model_and_is_forked() {
    let world = World::new();
    let env = crate::codex::codex(&world).env;
    world.configure(&[("real", Real { protocol: "acp", program: "node", args: &[CODEX], env })]);
    // In its own mode another model, and not a person, is asked whether a command may run.
    world.mode("read-only");
    survives_kill_9_on_one_agent_session(&world, "node").await;
    changes_its_model_and_is_forked(&world, "gpt-6-sol").await;
}
