//! The official adapters of Claude Code and Codex on our side of their protocol, against the fake model.

use crate::{support::program, world::World};
use everkept_agent::conformance::{self, Script};
use everkept_core::ModelName;
use everkept_drivers::acp::AcpAgent;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_behind_its_adapter_is_an_agent() {
    let world = World::new();
    let agent = claude(&world);
    is_an_agent(&world, agent, "claude-other", "0196f0c2-7a5e-4d10-8c55-000000000000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_behind_its_adapter_is_an_agent() {
    let world = World::new();
    let agent = codex(&world);
    is_an_agent(&world, agent, "gpt-6-sol", "0196f0c2-7a5e-7d10-8c55-000000000000").await;
}

async fn is_an_agent(world: &World, agent: AcpAgent, model: &str, unknown: &str) {
    let script = Script {
        directory: world.directory(),
        plain: "hello there".into(),
        tool: Some("use it TOOL".into()),
        ask: Some("may it TOOL".into()),
        long: Some("take your time SLOW".into()),
        fail: Some("now FAIL".into()),
        crash: None,
        model: Some(ModelName::new(model).unwrap()),
        unknown_session: unknown.into(),
    };
    let agent = Arc::new(agent);
    conformance::whole(agent.clone(), &script).await;
    // Allowed twice; what was refused or cancelled did not run.
    assert_eq!(fs::read_to_string(world.directory().join("tool.log")).unwrap(), "tool-ran\ntool-ran\n");
    conformance::cut_short(agent, &script).await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

/// With a home of its own, where Claude Code finds its model in the environment.
fn claude(world: &World) -> AcpAgent {
    let mut env: BTreeMap<String, String> =
        ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    env.insert("HOME".into(), text(&world.home()));
    env.insert("ANTHROPIC_BASE_URL".into(), world.url.clone());
    env.insert("ANTHROPIC_API_KEY".into(), "none".into());
    env.insert("ANTHROPIC_MODEL".into(), "claude-fake".into());
    env.insert("ANTHROPIC_CUSTOM_MODEL_OPTION".into(), "claude-other".into());
    adapter("claude-agent-acp", env)
}

/// In the mode in which it asks people, and not another model, whether it may run a command.
fn codex(world: &World) -> AcpAgent {
    let home = world.home().join("codex");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.toml"), crate::codex::configuration(&world.url)).unwrap();
    let env = BTreeMap::from([
        ("HOME".to_owned(), text(&world.home())),
        ("CODEX_HOME".to_owned(), text(&home)),
        ("FAKE_KEY".to_owned(), "none".to_owned()),
    ]);
    adapter("codex-acp", env).in_mode(Some("read-only".into()))
}

/// Run by the Node.js that stands beside it: it wants a newer one than many machines have.
fn adapter(name: &str, env: BTreeMap<String, String>) -> AcpAgent {
    AcpAgent::new(program(name, &[&text(&World::installed("node")), &text(&World::installed(name))], env), BTreeMap::new())
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
