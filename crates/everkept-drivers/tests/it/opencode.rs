//! The real opencode, against the fake model: what no script of ours can promise for it.

use crate::{
    support::{Talk, program},
    world::World,
};
use everkept_agent::{
    AgentFaultKind, OpenSession,
    conformance::{self, Script},
};
use everkept_core::{ModelName, Said};
use everkept_drivers::{McpServer, acp::AcpAgent};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_is_an_agent() {
    let world = World::new();
    let script = Script {
        directory: world.directory(),
        plain: "hello there".into(),
        tool: Some("use it TOOL".into()),
        ask: Some("may it TOOL".into()),
        long: Some("take your time SLOW".into()),
        fail: Some("now FAIL".into()),
        crash: None,
        model: Some(ModelName::new("fake/other").unwrap()),
        unknown_session: "ses_0123456789abcdefghijklmnop".into(),
    };
    let agent = Arc::new(opencode(&world));
    conformance::whole(agent.clone(), &script).await;
    // Allowed twice; what was refused or cancelled did not run.
    assert_eq!(fs::read_to_string(world.directory().join("tool.log")).unwrap(), "tool-ran\ntool-ran\n");
    conformance::cut_short(agent, &script).await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_killed_in_mid_answer_resumes_its_own_session() {
    let world = World::new();
    let agent = opencode(&world);
    let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
    assert_eq!(talk.prompt("remember the roof").await.text(), "reply 1 to: remember the roof");
    talk.begin("take your time SLOW").await;
    talk.hear_until(|said| matches!(said, Said::Text { text, .. } if text.contains("word-"))).await;
    let [pid] = world.processes()[..] else { panic!("one opencode runs") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let heard = talk.hear_out().await;
    let fault = heard.fault();
    assert_eq!((fault.kind, fault.may_have_happened), (AgentFaultKind::Exited, true), "{fault}");
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");

    let mut again = Talk::open(&agent, &world.directory(), OpenSession::Resume(talk.session())).await;
    assert_eq!(again.session(), talk.session());
    assert_eq!(again.prompt("and now").await.text(), "reply 3 to: and now");
    let prompts = world.last_prompts();
    assert_eq!(prompts, ["remember the roof", "take your time SLOW", "and now"], "what the model was sent");
    again.end().await;
    assert_eq!(world.processes(), [] as [i32; 0], "nothing of it is left");
}

fn opencode(world: &World) -> AcpAgent {
    opencode_with(world, BTreeMap::new())
}

pub fn opencode_with(world: &World, servers: BTreeMap<String, McpServer>) -> AcpAgent {
    let config = world.folder.path().join("opencode.json");
    fs::write(&config, configuration(&world.url).to_string()).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut env: BTreeMap<String, String> =
        ["OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    env.insert("HOME".into(), path(&world.home()));
    for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
        env.insert(format!("XDG_{name}_HOME"), path(&world.home().join(name)));
    }
    env.insert("OPENCODE_CONFIG".into(), path(&config));
    AcpAgent::new(program("opencode", &[path(&World::installed("opencode")).as_str(), "acp"], env), servers)
}

fn configuration(model: &str) -> Value {
    json!({
        "autoupdate": false,
        "share": "disabled",
        "enabled_providers": ["fake"],
        "provider": { "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "options": { "baseURL": format!("{model}/v1"), "apiKey": "none" },
            "models": { "fake": {}, "other": {}, "small": {} },
        } },
        "model": "fake/fake",
        "small_model": "fake/small",
        "permission": { "bash": "ask", "edit": "ask" },
    })
}
