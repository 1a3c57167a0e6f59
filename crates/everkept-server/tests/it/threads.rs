//! The map of threads and resources (WS-).

use crate::server::{Server, good, refused};
use reqwest::Method;
use serde_json::{Value, json};

async fn ask(server: &Server, resource: &str, thread: &str, text: &str) -> Value {
    let turn = server.post(&format!("/api/threads/{resource}/{thread}/turns"), json!({ "input": text })).await;
    server.ended(turn["id"].as_str().unwrap()).await
}

#[tokio::test]
async fn ws_01_02_05_08_a_pair_is_one_session_that_goes_on() {
    let server = Server::start().await;
    assert_eq!(server.request(Method::GET, "/api/threads/ann/t").send().await.unwrap().status(), 404);
    let first = ask(&server, "ann", "t", "one").await;
    let second = ask(&server, "ann", "t", "two").await;
    assert_eq!(first["session"], second["session"]);
    let session = server.get("/api/threads/ann/t").await;
    assert_eq!((&session["id"], session["resource"].as_str(), session["thread"].as_str()), (&first["session"], Some("ann"), Some("t")));
    let texts: Vec<_> = server.said(session["id"].as_str().unwrap()).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "two", "reply 2 to: two"], "the agent's own session went on");
    assert_eq!(session["agent_sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn ws_01_a_hundred_first_messages_make_one_session() {
    let server = Server::start().await;
    let send = |n: usize| {
        let request = server.request(Method::POST, "/api/threads/ann/t/turns").json(&json!({ "input": format!("message {n}") }));
        async move { good(request.send().await.unwrap()).await["session"].clone() }
    };
    let sessions = futures::future::join_all((0..100).map(send)).await;
    assert!(sessions.iter().all(|session| *session == sessions[0]));
    assert_eq!(server.get("/api/sessions?count=true").await["total"], 1);
    let turns = server.get(&format!("/api/sessions/{}/turns?limit=1000", sessions[0].as_str().unwrap())).await;
    assert_eq!(turns["items"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn ws_03_04_11_n3_threads_are_listed_and_deleted_by_their_owner() {
    let server = Server::start().await;
    for (resource, thread) in [("ann", "a b/c?"), ("ann", "two"), ("bob", "two")] {
        let encoded: String = form_urlencoded::byte_serialize(thread.as_bytes()).collect::<String>().replace('+', "%20");
        ask(&server, resource, &encoded, "hi").await;
    }
    server.post("/api/sessions", json!({ "resource": "ann" })).await;
    let threads = async |resource: &str| -> Vec<String> {
        let list = server.get(&format!("/api/threads/{resource}")).await;
        list["items"].as_array().unwrap().iter().map(|session| session["thread"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(threads("ann").await, ["two", "a b/c?"], "newest activity first, and only sessions with a thread");
    assert_eq!(threads("bob").await, ["two"]);
    assert_eq!(server.request(Method::DELETE, "/api/threads/ann/two").send().await.unwrap().status(), 204);
    assert_eq!(server.request(Method::DELETE, "/api/threads/ann/two").send().await.unwrap().status(), 404);
    assert_eq!((threads("ann").await, threads("bob").await), (vec!["a b/c?".to_owned()], vec!["two".to_owned()]));
    let anew = ask(&server, "ann", "two", "hi").await;
    assert_eq!(server.said(anew["session"].as_str().unwrap()).await.len(), 2, "a new session");
}

#[tokio::test]
async fn ws_13_14_15_n1_a_fork_takes_a_thread_and_leaves_its_parent() {
    let server = Server::start().await;
    let parent = ask(&server, "ann", "t", "one").await["session"].as_str().unwrap().to_owned();
    let fork = server.post(&format!("/api/sessions/{parent}/fork"), json!({ "thread": "u" })).await;
    assert_eq!((fork["thread"].as_str(), fork["resource"].as_str()), (Some("u"), Some("ann")));
    ask(&server, "ann", "u", "two").await;
    assert_eq!(server.said(&parent).await.len(), 2);
    assert_eq!(server.said(fork["id"].as_str().unwrap()).await.len(), 4);
    let absent = refused(server.request(Method::POST, "/api/sessions/ses_00000000000000000000000000000009/fork")).await;
    assert_eq!((absent.0, absent.1.as_str()), (404, "not_found"));
    let taken = refused(server.request(Method::POST, &format!("/api/sessions/{parent}/fork")).json(&json!({ "thread": "u" }))).await;
    assert_eq!((taken.0, taken.1.as_str()), (409, "thread_taken"));
}

#[tokio::test]
async fn ws_16_sessions_are_searched() {
    let server = Server::start().await;
    let boats = ask(&server, "ann", "t", "wooden boats").await;
    ask(&server, "ann", "u", "iron bridges").await;
    let found = server.get("/api/sessions?q=boats").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert_eq!(found["items"][0]["id"], boats["session"]);
}

#[tokio::test]
async fn ws_19_a_failed_turn_reaches_the_stream() {
    let server = Server::start().await;
    let turn = ask(&server, "ann", "t", "!fail now").await;
    assert_eq!((turn["state"].as_str(), turn["error"]["code"].as_str()), (Some("failed"), Some("demo_failure")));
    let events = server.stream(&format!("/api/sessions/{}/events", turn["session"].as_str().unwrap())).await.until("turn.ended").await;
    assert_eq!(events.last().unwrap().json()["data"]["state"], "failed");
}
