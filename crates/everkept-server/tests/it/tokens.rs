//! Tokens: made, listed, expired, revoked.

use crate::server::{PATIENCE, Server, refused};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_token_opens_what_it_says_until_it_is_revoked() {
    let server = Server::start().await;
    let made = server.post("/api/tokens", json!({ "kind": "resource", "name": "ann" })).await;
    let (id, secret) = (made["token"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert_eq!(made["token"]["name"], "ann");
    let turn = server.request_as(secret, Method::POST, "/api/threads/ann/t/turns").json(&json!({ "input": "hi" })).send().await.unwrap();
    let turn: serde_json::Value = turn.json().await.unwrap();
    let events = format!("/api/sessions/{}/events", turn["session"].as_str().unwrap());
    let stream = server.request_as(secret, Method::GET, &events).header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let revoked = server.request(Method::DELETE, &format!("/api/tokens/{id}")).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    // The open stream ends by itself.
    tokio::time::timeout(PATIENCE, stream.text()).await.unwrap().unwrap();
    assert_eq!(server.request_as(secret, Method::GET, "/api/sessions").send().await.unwrap().status(), 401);
    let listed = server.get("/api/tokens").await;
    let of_ann = listed["items"].as_array().unwrap().iter().find(|token| token["id"] == id).unwrap();
    assert!(of_ann["revoked_at"].is_string());
}

#[tokio::test]
async fn a_token_past_its_time_opens_nothing() {
    let server = Server::start().await;
    let made = server.post("/api/tokens", json!({ "kind": "recall", "name": "ann", "expires_in_ms": 0 })).await;
    let response = server.request_as(made["secret"].as_str().unwrap(), Method::GET, "/api/sessions").send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn tokens_are_asked_for_strictly() {
    let server = Server::start().await;
    for (body, field) in [
        (json!({ "kind": "admin", "name": "x" }), "kind"),
        (json!({ "kind": "king", "name": "x" }), "kind"),
        (json!({ "kind": "resource" }), "name"),
        (json!({ "kind": "resource", "name": "" }), "name"),
        (json!({ "kind": "resource", "name": "a\u{0}b" }), "name"),
    ] {
        let (status, _, named) = refused(server.request(Method::POST, "/api/tokens").json(&body)).await;
        assert_eq!((status, named.as_str()), (422, field), "{body}");
    }
}
