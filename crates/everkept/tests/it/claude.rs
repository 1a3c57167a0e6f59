//! The real Claude Code behind the real server.

use crate::real::{Real, World, survives_kill_9_on_one_agent_session};
use crate::vendor::{self, Vendor, files};
use std::collections::{BTreeMap, BTreeSet};

const VENDOR: Vendor = Vendor { program: "claude", model: "claude-fake", other: ("claude-other", "claude-other"), sessions };

#[tokio::test(flavor = "multi_thread")]
async fn real_claude_code_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    survives_kill_9_on_one_agent_session(&world(), VENDOR.program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r2_o5_o6_o7_real_claude_code_is_killed_in_mid_tool_and_while_it_asks() {
    vendor::killed_in_mid_tool(&world(), &VENDOR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_01_oc_07_oc_n3_se_02_real_claude_code_keeps_its_sessions_through_retry_restart_fork_and_child() {
    vendor::retried_restarted_and_forked(&world(), &VENDOR).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_helper_of_real_claude_code_does_is_a_tool_of_its_turn() {
    let made = vendor::delegates(&world(), &VENDOR).await;
    assert_eq!(made, BTreeSet::new(), "its helpers are part of its session");
}

/// One file each; those of its helpers are in folders below.
fn sessions(world: &World) -> BTreeSet<String> {
    files(&world.path("home/.claude/projects"), 2, "jsonl")
}

fn world() -> World {
    let world = World::new();
    world.configure(&[("real", claude(&world))]);
    world
}

pub fn claude(world: &World) -> Real {
    let mut env: BTreeMap<String, String> =
        ["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    env.insert("ANTHROPIC_BASE_URL".into(), world.url.clone());
    env.insert("ANTHROPIC_API_KEY".into(), "none".into());
    env.insert("ANTHROPIC_MODEL".into(), "claude-fake".into());
    Real { protocol: "claude-code", program: "claude", args: &[], env }
}
