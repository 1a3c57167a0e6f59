//! The real Codex behind the real server.

use crate::real::{Real, World, survives_kill_9_on_one_agent_session};
use crate::vendor::{self, Vendor, files};
use std::collections::{BTreeMap, BTreeSet};

const VENDOR: Vendor = Vendor { program: "codex", model: "fake", other: ("other", "other"), sessions };
/// Of the id at the end of a rollout's name.
const ID: usize = "0196f0c2-7a5e-7d10-8c55-000000000000".len();

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    survives_kill_9_on_one_agent_session(&world(), VENDOR.program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_o7_real_codex_is_killed_in_mid_tool_and_while_it_asks() {
    vendor::killed_in_mid_tool(&world(), &VENDOR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_oc_07_oc_n3_se_02_real_codex_keeps_its_sessions_through_retry_restart_fork_and_child() {
    vendor::retried_restarted_and_forked(&world(), &VENDOR).await;
}

fn sessions(world: &World) -> BTreeSet<String> {
    let rollouts = files(&world.path("home/codex/sessions"), 4, "jsonl");
    rollouts.into_iter().map(|name| name[name.len() - ID..].to_owned()).collect()
}

fn world() -> World {
    let world = World::new();
    world.configure(&[("real", codex(&world))]);
    world
}

pub fn codex(world: &World) -> Real {
    let config = format!(
        r#"
        model = "fake"
        model_provider = "fake"
        check_for_update_on_startup = false
        [model_providers.fake]
        name = "fake"
        base_url = "{}/v1"
        env_key = "FAKE_KEY"
        wire_api = "responses"
        request_max_retries = 0
        stream_max_retries = 0
        [analytics]
        enabled = false
        "#,
        world.url
    );
    let home = world.path("home/codex");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), config).unwrap();
    let env = BTreeMap::from([("CODEX_HOME".to_owned(), home.display().to_string()), ("FAKE_KEY".to_owned(), "none".to_owned())]);
    Real { protocol: "codex", program: "codex", args: &["app-server"], env }
}
