//! Who gets in, and how far: promises A2, A3 and A5. What every route has in common is tried in `attack`.

use crate::server::{Server, good};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a2_every_answer_has_the_security_headers() {
    let server = Server::start().await;
    for (path, status) in [("/api/sessions", 200), ("/", 200), ("/chat", 200), ("/nowhere", 404), ("/login", 200)] {
        let response = server.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), status);
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_json_after_the_credential() {
    let server = Server::start().await;
    for (method, path, status, code) in [
        (Method::GET, "/nowhere", 404, "not_found"),
        (Method::GET, "/api/sessions/x/y/z", 404, "not_found"),
        (Method::PUT, "/api/sessions", 405, "method_not_allowed"),
        (Method::POST, "/", 405, "method_not_allowed"),
    ] {
        let response = server.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code);
    }
    let response = server.request(Method::HEAD, "/api/sessions").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.bytes().await.unwrap().len()), (200, 0));
}

#[tokio::test]
async fn a3_a_scoped_token_stays_within_its_owner() {
    let server = Server::start().await;
    let ann = server.token("resource", "ann").await;
    let create = async |body: Value| server.request_as(&ann, Method::POST, "/api/sessions").json(&body).send().await.unwrap();
    let own = good(create(json!({})).await).await;
    assert_eq!(own["resource"], "ann");
    assert_eq!(create(json!({ "resource": "bob" })).await.status(), 403);
    assert_eq!(create(json!({ "directory": "/tmp" })).await.status(), 403);
    let recall = server.token("recall", "ann").await;
    let path = format!("/api/sessions/{}", own["id"].as_str().unwrap());
    assert_eq!(server.request_as(&recall, Method::GET, &path).send().await.unwrap().status(), 200);
    assert_eq!(server.request_as(&recall, Method::PATCH, &path).json(&json!({ "title": "x" })).send().await.unwrap().status(), 403);
    let relay = server.token("relay", "demo").await;
    assert_eq!(server.request_as(&relay, Method::GET, &path).send().await.unwrap().status(), 404);
    assert_eq!(server.request_as(&relay, Method::GET, "/api/sessions").send().await.unwrap().status(), 404);
    for token in [&ann, &recall] {
        assert_eq!(server.request_as(token, Method::GET, "/api/tokens").send().await.unwrap().status(), 403);
    }
}

#[tokio::test]
async fn a5_no_answer_tells_a_secret() {
    let server = Server::start().await;
    let made = server.post("/api/tokens", json!({ "kind": "resource", "name": "ann" })).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let session = server.session().await;
    server.ask(&session, "hello").await;
    let ses = format!("/api/sessions/{session}");
    let mut answers = String::new();
    for path in [
        "/api/tokens".to_owned(),
        "/api/sessions".into(),
        ses.clone(),
        format!("{ses}/events"),
        format!("{ses}/export"),
        format!("{ses}/snapshot"),
    ] {
        answers += &server.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    }
    let refused = server.request_as(&format!("{secret}x"), Method::GET, "/api/sessions").send().await.unwrap();
    answers += &format!("{:?}", refused.headers());
    answers += &refused.text().await.unwrap();
    for secret in [&secret, &server.admin] {
        assert!(!answers.contains(secret.as_str()));
    }
    let login = everkept_server::login_link(&server.engine, &server.url("")).await.unwrap();
    let (page, code) = login.split_once("/login#code=").unwrap();
    assert_eq!(page, server.url(""));
    assert!(!server.request(Method::GET, "/api/tokens").send().await.unwrap().text().await.unwrap().contains(code));
}
