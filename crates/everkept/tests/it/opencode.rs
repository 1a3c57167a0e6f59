//! The real opencode behind the real server.

use crate::real::{Real, World, survives_kill_9_on_one_agent_session};
use crate::vendor::{self, Vendor};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const VENDOR: Vendor = Vendor { program: "opencode", model: "fake", other: ("fake/other", "other"), sessions };
const ID: &str = "ses_0123456789abcdefghijklmnop";

#[tokio::test(flavor = "multi_thread")]
async fn real_opencode_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    survives_kill_9_on_one_agent_session(&world(), VENDOR.program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_o7_real_opencode_is_killed_in_mid_tool_and_while_it_asks() {
    vendor::killed_in_mid_tool(&world(), &VENDOR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_oc_07_oc_n3_se_02_real_opencode_keeps_its_sessions_through_retry_restart_fork_and_child() {
    vendor::retried_restarted_and_forked(&world(), &VENDOR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn se_02_the_session_of_a_helper_of_real_opencode_is_a_childs() {
    let made = vendor::delegates(&world(), &VENDOR).await;
    assert_eq!(made.len(), 1, "a helper has a session of its own");
}

/// Whatever looks like an id of a session in its database.
fn sessions(world: &World) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for name in ["opencode.db", "opencode.db-wal"] {
        let bytes = std::fs::read(world.path("home/DATA/opencode").join(name)).unwrap_or_default();
        let id = |window: &[u8]| window.starts_with(b"ses_") && window[4..].iter().all(u8::is_ascii_alphanumeric);
        ids.extend(bytes.windows(ID.len()).filter(|window| id(window)).map(|id| String::from_utf8_lossy(id).into_owned()));
    }
    ids
}

fn world() -> World {
    let world = World::new();
    world.configure(&[("real", opencode(&world))]);
    world
}

pub fn opencode(world: &World) -> Real {
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
    Real { protocol: "acp", program: "opencode", args: &["acp"], env }
}
