//! What clients see of storage that fails: promises D4 and D5.

use crate::server::{Server, refused};
use everkept_store::Problem;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn d4_after_a_storage_error_nothing_is_answered_but_that_the_server_is_there() {
    let server = Server::start().await;
    let session = server.session().await;
    let turns = format!("/api/sessions/{session}/turns");
    let mut stream = server.stream(&format!("/api/sessions/{session}/events")).await;
    stream.until("session.created").await;
    server.store.break_commits(Some(Problem::Failed("EIO on /secret/place".into())));
    let failed = server.request(Method::POST, &turns).json(&json!({ "input": "hi" })).send().await.unwrap();
    assert_eq!(failed.status(), 503);
    let error = failed.text().await.unwrap();
    assert!(error.contains("storage_failed") && !error.contains("secret"), "{error}");
    server.store.break_commits(None);
    for (method, path) in everkept_server::route_table() {
        let path = path.replace("{ses}", &session);
        // The login page is a file.
        if path.contains('{') || path.starts_with("/login") {
            continue;
        }
        let method: Method = method.parse().unwrap();
        let response = server.request(method.clone(), &path).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), 503, "{method} {path}");
    }
    let health = server.request(Method::GET, "/api/health").send().await.unwrap();
    assert_eq!(health.status(), 503);
    assert_eq!(health.json::<Value>().await.unwrap()["error"]["code"], "storage_failed");
    let without = server.client.get(server.url("/api/health")).send().await.unwrap();
    assert_eq!((without.status().as_u16(), without.bytes().await.unwrap().len()), (200, 0));
}

#[tokio::test]
async fn d5_a_full_disk_is_507_and_reads_go_on() {
    let server = Server::start().await;
    let session = server.session().await;
    server.ask(&session, "one").await;
    server.store.break_commits(Some(Problem::Full));
    let turns = format!("/api/sessions/{session}/turns");
    assert_eq!(refused(server.request(Method::POST, &turns).json(&json!({ "input": "two" }))).await.1, "storage_full");
    assert_eq!(refused(server.request(Method::POST, "/api/sessions").json(&json!({}))).await.0, 507);
    assert_eq!(server.said(&session).await.len(), 2);
    server.stream(&format!("/api/sessions/{session}/events")).await.until("turn.ended").await;
    server.store.break_commits(None);
    assert_eq!(server.ask(&session, "two").await["state"], "completed");
    assert_eq!(server.said(&session).await.len(), 4);
}
