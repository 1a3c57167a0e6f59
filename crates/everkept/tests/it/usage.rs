//! What turns cost, through the real binary: each once, whatever is killed, forked and asked again.

use crate::bench::*;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_a_resume_after_kill_9_a_retry_and_a_child_are_counted_once() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("scripted");
    let command = format!("command = [{:?}, \"scripted-claude\"]", xtask());
    let agent = format!("protocol = \"claude-code\"\n{command}\nenv = {{ SCRIPTED_DIR = {folder:?} }}");
    let config = format!("default_agent = \"real\"\n[keeper]\nhold_ms = 0\n[agents.real]\n{agent}\n");
    std::fs::write(data.path().join("config.toml"), config).unwrap();
    let mut server = Server::start(data.path());

    // The agent tells what its session cost in all: 0.25 more with each prompt.
    let parent = server.session(json!({ "resource": "anna" })).await;
    for text in ["one", "two words"] {
        server.ended(&server.send(&parent, text).await).await;
    }
    // Nobody heard what the one that is cut off cost.
    let cut = server.send(&parent, "!long").await;
    server.begun(&parent, &cut).await;
    server.kill();
    let server = Server::start(data.path());
    server.ended(&cut).await;
    let failed = server.ended(&server.send(&parent, "!fail").await).await;
    let retried = server.post(&format!("/api/turns/{}/retry", failed["id"].as_str().unwrap()), json!({})).await;
    server.ended(retried["id"].as_str().unwrap()).await;
    server.ended(&server.send(&parent, "three more words").await).await;
    let fork = server.post(&format!("/api/sessions/{parent}/fork"), json!({})).await["id"].as_str().unwrap().to_owned();
    server.ended(&server.send(&fork, "forked").await).await;
    let child = server.session(json!({ "resource": "anna", "parent": parent })).await;
    server.ended(&server.send(&child, "a child of it").await).await;

    // Each turn as it stands, told once, is what it all adds up to.
    let mut words = 0;
    let mut costs = Vec::new();
    for session in [&parent, &fork, &child] {
        let turns = server.get(&format!("/api/sessions/{session}/turns?limit=100")).await;
        for turn in turns["items"].as_array().unwrap().iter().filter(|turn| turn["session"] == session.as_str()) {
            words += turn["usage"]["input_tokens"].as_u64().unwrap_or(0);
            costs.extend(turn["usage"]["cost_usd_micros"].as_u64());
        }
    }
    assert_eq!(words, 1 + 2 + 3 + 1 + 4);
    assert!(costs.iter().all(|cost| *cost == 250_000), "never more than a turn cost: {costs:?}");
    let report = server.get("/api/usage?by=session").await;
    let total = &report["total"];
    assert_eq!(total["usage"]["input_tokens"], words);
    assert_eq!(total["usage"]["cost_usd_micros"], costs.iter().sum::<u64>());
    assert_eq!(report["items"].as_array().unwrap().len(), 3);
    for (filter, same) in [("resource=anna", total), ("resource=bert", &Value::Null), ("agent=real", total), ("from=2000-01-01", total)] {
        let found = server.get(&format!("/api/usage?{filter}")).await["total"].clone();
        let expected = if same.is_null() { json!({ "turns": 0, "turns_without_cost": 0, "usage": {} }) } else { same.clone() };
        assert_eq!(found, expected, "{filter}");
    }

    let usage = |args: &[&str]| {
        let output = everkept().arg("usage").args(args).arg("--data").arg(data.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = usage(&["--by", "agent"]);
    let dollars = costs.len() as f64 / 4.0;
    let figures = format!("{}\t{words}\t-\t{}\t{dollars:.6}", total["turns"], total["usage"]["output_tokens"]);
    assert!(table.starts_with(&format!("real\t{figures}")) && table.contains(&format!("\ntotal\t{figures}")), "{table}");
    let line: Value = serde_json::from_str(usage(&["--json", "--session", &child]).trim()).unwrap();
    assert_eq!((line["agent"].as_str(), line["usage"]["input_tokens"].as_u64()), (Some("real"), Some(4)));
    drop(server);
    let verified = everkept().args(["verify", "--data"]).arg(data.path()).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
