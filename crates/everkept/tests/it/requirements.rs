//! REQUIREMENTS B and E as an application meets them: threads of a resource, sticky agents, a strict API.

use crate::bench::*;
use serde_json::{Value, json};

async fn ask(server: &Server, resource: &str, thread: &str, text: &str) -> Value {
    let turn = server.post(&format!("/api/threads/{resource}/{thread}/turns"), json!({ "input": text })).await;
    server.ended(turn["id"].as_str().unwrap()).await
}

async fn threads(server: &Server, resource: &str) -> Vec<String> {
    let page = server.get(&format!("/api/threads/{resource}")).await;
    page["items"].as_array().unwrap().iter().map(|session| session["thread"].as_str().unwrap().to_owned()).collect()
}

async fn status(server: &Server, method: reqwest::Method, path: &str) -> (u16, String) {
    let answer = server.client.request(method, server.url(path)).bearer_auth(&server.token).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_02_ws_04_ws_06_ws_09_ws_10_ws_12_ws_17_ws_20_ws_n3_new_follow_up_list_delete_fork_and_restart_in_one_run() {
    let data = tempfile::tempdir().unwrap();
    with_scripted_agent(data.path());
    let mut server = Server::start(data.path());

    // WS-01, WS-02, WS-05, WS-06: the first message makes the session and pins what the agent announced.
    assert_eq!(status(&server, reqwest::Method::GET, "/api/threads/ann/trip").await.0, 404, "WS-02: nothing yet");
    let first = ask(&server, "ann", "trip", "one").await;
    let session = first["session"].as_str().unwrap().to_owned();
    let held = server.get("/api/threads/ann/trip").await;
    assert_eq!(held["id"], session.as_str());
    assert_eq!(held["agent_sessions"][0]["first"], "scripted-1");
    let created = held["created_at"].clone();

    // WS-08, WS-N2, WS-N4: the follow-up resumes, and the agent is sent the new message only.
    let second = ask(&server, "ann", "trip", "two").await;
    assert_eq!(second["session"], session.as_str());
    assert_eq!(server.said(&session).await[3].1, "reply 2 to: two");
    let log = std::fs::read_to_string(data.path().join("scripted/prompts.log")).unwrap();
    let prompts: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(prompts.iter().map(|prompt| prompt["text"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two"]);

    // WS-01: the pair keeps its creation and moves its activity. WS-12: dates and the last message are there.
    let held = server.get("/api/threads/ann/trip").await;
    assert_eq!(held["created_at"], created);
    assert!(held["updated_at"].as_str() > created.as_str());
    let summary = server.get(&format!("/api/sessions/{session}/summary")).await;
    assert_eq!((summary["turns"].as_u64(), summary["messages"].as_u64()), (Some(2), Some(4)));
    let last = server.get(&format!("/api/sessions/{session}/messages?last=1")).await;
    assert_eq!(last["items"][0]["parts"][0]["text"], "reply 2 to: two");

    // WS-04, WS-N3, WS-10: newest activity first, and only one's own.
    ask(&server, "ann", "garden", "three").await;
    ask(&server, "bob", "secret", "four").await;
    assert_eq!(threads(&server, "ann").await, ["garden", "trip"]);
    ask(&server, "ann", "trip", "five").await;
    assert_eq!(threads(&server, "ann").await, ["trip", "garden"]);
    let (code, body) = status(&server, reqwest::Method::GET, "/api/sessions?resource=").await;
    assert!((400..500).contains(&code) && body.contains("resource"), "WS-10: {code} {body}");

    // WS-13, WS-14, WS-15: a fork under a thread of its own.
    let (code, _) = server.try_post("/api/sessions/ses_00000000000000000000000000000000/fork", json!({})).await;
    assert_eq!(code, 404);
    let fork = server.post(&format!("/api/sessions/{session}/fork"), json!({ "thread": "trip-2" })).await;
    let forked = ask(&server, "ann", "trip-2", "six").await;
    assert_eq!(forked["session"], fork["id"]);
    assert_eq!(server.said(fork["id"].as_str().unwrap()).await.last().unwrap().1, "reply 4 to: six");
    assert_eq!(server.said(&session).await.len(), 6, "WS-N1: the parent is as it was");

    // WS-09: context holds over a restart.
    server.kill();
    server = Server::start(data.path());
    ask(&server, "ann", "trip", "seven").await;
    assert_eq!(server.said(&session).await.last().unwrap().1, "reply 4 to: seven");

    // WS-03, WS-11: the row of the pair is gone, and the list with it.
    assert_eq!(status(&server, reqwest::Method::DELETE, "/api/threads/ann/trip").await.0, 204);
    assert_eq!(status(&server, reqwest::Method::GET, "/api/threads/ann/trip").await.0, 404);
    assert!(!threads(&server, "ann").await.contains(&"trip".to_owned()));

    // WS-17: one database file, one server on it.
    assert!(data.path().join("everkept.db").is_file());
    let second = everkept().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path()).output().unwrap();
    assert!(!second.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_07_every_message_of_the_agent_is_streamed_as_server_sent_events() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let session = server.session(json!({})).await;
    let url = server.url(&format!("/api/sessions/{session}/events"));
    let request = server.client.get(url).bearer_auth(&server.token).header("accept", "text/event-stream");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"].to_str().unwrap().split(';').next(), Some("text/event-stream"));
    assert!(stream.headers()["cache-control"].to_str().unwrap().contains("no-"));
    let turn = server.send(&session, "hello").await;
    let mut text = String::new();
    while !text.contains("event: turn.ended") {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().expect("the stream goes on")).unwrap());
    }
    assert!(text.contains("event: part.delta\ndata: {") && text.contains(&turn), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn se_04_se_07_se_09_se_n1_a_change_is_kept_or_refused_by_name_and_never_dropped() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let session = server.session(json!({ "metadata": { "n": 12345678901234567890123u128.to_string() } })).await;
    let path = format!("/api/sessions/{session}");
    let patch = |server: &Server, body: Value| {
        let request = server.client.patch(server.url(&path)).bearer_auth(&server.token).json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let change = json!({ "title": "T", "agent": "demo", "model": "demo/m", "archived": true, "metadata": { "a": { "b": [1, 2.50] } } });
    let (code, changed) = patch(&server, change).await;
    assert_eq!(code, 200, "{changed}");
    server.kill();
    server = Server::start(data.path());
    let held = server.get(&path).await;
    assert_eq!(held, changed, "SE-07: storage does not show in the API");
    assert_eq!((held["title"].as_str(), held["agent"].as_str(), held["model"].as_str()), (Some("T"), Some("demo"), Some("demo/m")));
    assert!(held["archived_at"].is_string());
    for key in ["revert", "file_changes", "rules", "parent", "slug", "archived_at", "compacting_at"] {
        assert!(held.as_object().unwrap().contains_key(key), "SE-09: {key}");
    }
    for (body, field) in [
        (json!({ "titel": "x" }), "titel"),
        (json!({ "title": 7 }), "title"),
        (json!({ "agent": "nobody" }), "agent"),
        (json!({ "directory": "/elsewhere" }), "directory"),
    ] {
        let (code, error) = patch(&server, body.clone()).await;
        assert_eq!((code, error["error"]["field"].as_str()), (422, Some(field)), "{body} {error}");
    }
    assert_eq!(server.get(&path).await, changed, "a refusal changes nothing");
    let (code, cleared) = patch(&server, json!({ "title": null, "agent": null, "archived": false })).await;
    assert_eq!((code, &cleared["title"], &cleared["agent"], &cleared["archived_at"]), (200, &Value::Null, &Value::Null, &Value::Null));
    assert_eq!(cleared["model"], "demo/m", "what is not named is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn se_08_the_types_that_validate_are_the_ones_that_are_documented() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let document = server.get("/api/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let paths = document["paths"].as_object().unwrap();
    let route = paths.iter().find(|(path, route)| path.starts_with("/api/sessions/{") && route.get("patch").is_some()).unwrap().1;
    let patch = &route["patch"]["requestBody"]["content"]["application/json"]["schema"];
    let name = patch["$ref"].as_str().map(|it| it.rsplit('/').next().unwrap().to_owned());
    let schema = name.map_or_else(|| patch.clone(), |name| schemas[&name].clone());
    assert_eq!(schema["additionalProperties"], false, "{schema}");
    let mut documented: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    documented.sort();
    assert_eq!(documented, ["agent", "archived", "metadata", "model", "title"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ag_12_ag_16_events_are_listed_filtered_and_numbered_per_session() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (one, two) = (server.session(json!({})).await, server.session(json!({})).await);
    for session in [&one, &two] {
        server.ended(&server.send(session, "!tool hello").await).await;
    }
    for session in [&one, &two] {
        let events = server.events(session).await;
        let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        let some = server.get(&format!("/api/sessions/{session}/events?kind=turn.ended")).await;
        assert_eq!(some["items"].as_array().unwrap().len(), 1);
        let summary = server.get(&format!("/api/sessions/{session}/summary")).await;
        assert_eq!(summary["events"].as_u64(), Some(numbers.len() as u64));
        assert_eq!(summary["kinds"]["turn.ended"], 1);
        let single = server.get(&format!("/api/sessions/{session}/events/3")).await;
        assert_eq!(single, events[2]);
    }
    let foreign = status(&server, reqwest::Method::GET, &format!("/api/sessions/{one}/events/100000")).await;
    assert_eq!(foreign.0, 404);
    let unknown = status(&server, reqwest::Method::GET, "/api/sessions/ses_00000000000000000000000000000000/events").await;
    assert_eq!(unknown.0, 404);
}
