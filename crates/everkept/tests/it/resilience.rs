//! What the real server does by itself when an agent fails, through kills, and what a person does about the rest.

use crate::bench::*;
use serde_json::{Value, json};
use std::process::Output;

fn run(server: &Server, args: &[&str]) -> Output {
    let output = everkept().args(args).arg("--data").arg(&server.data).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    output
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn re_02_tries_and_an_open_breaker_outlive_kill_9_and_a_dead_letter_is_taken_up_and_put_away() {
    let data = tempfile::tempdir().unwrap();
    let starts = data.path().join("starts");
    let script = format!("echo x >> {}; exit 1", starts.display());
    let config = format!(
        "[agents.broken]\nprotocol = \"acp\"\ncommand = [\"sh\", \"-c\", {script:?}]\n\
         [agents.giving-up]\nprotocol = \"demo\"\nfallback = [{{ model = \"demo/other\" }}]\n"
    );
    std::fs::write(data.path().join("config.toml"), config).unwrap();
    let mut server = Server::start(data.path());
    let session = server.session(json!({ "agent": "broken" })).await;
    let turn = server.send(&session, "build it").await;
    server.turn_when(&turn, |turn| turn["tries"]["opening"] == 2).await;
    server.kill();
    let mut server = Server::start(data.path());
    let ended = server.ended(&turn).await;
    assert_eq!((&ended["state"], &ended["reason"]), (&json!("dead_lettered"), &json!("agent_start_failed")), "{ended}");
    assert_eq!(ended["tries"]["opening"], 4);
    let begun = std::fs::read_to_string(&starts).unwrap().lines().count();
    // A start that was under way at the kill may have been begun twice.
    assert!((5..=6).contains(&begun), "{begun} starts");
    let delays = server.events(&session).await.into_iter().filter(|event| event["kind"] == "turn.delayed");
    assert_eq!(delays.map(|event| event["data"]["tries"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);

    let breaker = |listed: &Value| {
        let items = listed["items"].as_array().unwrap();
        items.iter().find(|item| item["agent"] == "broken").cloned().unwrap()
    };
    let before = breaker(&server.get("/api/breakers").await);
    assert_eq!((&before["state"], &before["failures"]), (&json!("open"), &json!(5)));
    server.kill();
    let server = Server::start(data.path());
    assert_eq!(breaker(&server.get("/api/breakers").await), before);
    assert!(String::from_utf8_lossy(&run(&server, &["breakers"]).stdout).contains("broken"));

    let letters = lines(&run(&server, &["dead-letters", "--json"]));
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["turn"]["id"], &letters[0]["input"][0]["text"]), (&json!(turn), &json!("build it")));
    let again = run(&server, &["dead-letters", "retry", &turn, "--input", "build less"]);
    let again = String::from_utf8_lossy(&again.stdout).trim().to_owned();
    // The breaker holds it up, and nothing is started meanwhile.
    server.turn_when(&again, |turn| turn["tries"]["opening"] == 1 && !turn["tries"]["not_before"].is_null()).await;
    assert_eq!(std::fs::read_to_string(&starts).unwrap().lines().count(), begun);
    server.post(&format!("/api/turns/{again}/cancel"), json!({})).await;
    assert_eq!(server.said(&session).await, [("user".to_owned(), "build less".to_owned())]);

    let given_up = server.session(json!({ "agent": "giving-up" })).await;
    server.send(&given_up, "!fail at it").await;
    let letter = loop {
        let letters = server.get(&format!("/api/dead-letters?session={given_up}")).await;
        if let Some(letter) = letters["items"].as_array().unwrap().first() {
            break letter["turn"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((&letter["model"], &letter["model_because"], &letter["attempt"]), (&json!("demo/other"), &json!("fallback"), &json!(2)));
    run(&server, &["dead-letters", "drop", letter["id"].as_str().unwrap()]);
    assert!(lines(&run(&server, &["dead-letters", "--json"])).is_empty());
    let (status, said) = server.try_post(&format!("/api/dead-letters/{}/retry", letter["id"].as_str().unwrap()), json!({})).await;
    assert_eq!((status, &said["error"]["code"]), (409, &json!("turn_not_dead_lettered")));
}
