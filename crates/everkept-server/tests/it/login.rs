//! How a browser gets in, and what its cookie may do.

use crate::server::{Server, good};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn code(server: &Server) -> String {
    let link = everkept_server::login_link(&server.engine, &server.url("")).await.unwrap();
    link.split_once("#code=").unwrap().1.to_owned()
}

async fn log_in(server: &Server, code: &str) -> reqwest::Response {
    server.client.post(server.url("/login")).json(&json!({ "code": code })).send().await.unwrap()
}

async fn cookie(server: &Server) -> String {
    let response = log_in(server, &code(server).await).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    for attribute in ["everkept=ek_", "Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=2592000"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_login_code_works_once() {
    let server = Server::start().await;
    let code = code(&server).await;
    let both = futures::future::join(log_in(&server, &code), log_in(&server, &code)).await;
    let mut statuses = [both.0.status().as_u16(), both.1.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 401]);
    assert_eq!(log_in(&server, &code).await.status(), 401);
    assert_eq!(log_in(&server, &server.admin).await.status(), 401, "a token is no code");
    assert_eq!(server.request_as(&code, Method::GET, "/api/sessions").send().await.unwrap().status(), 401, "a code is no token");
}

#[tokio::test]
async fn the_login_page_posts_by_itself() {
    let server = Server::start().await;
    let page = server.client.get(server.url("/login")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let text = page.text().await.unwrap();
    assert!(text.contains(r#"<script src="/login.js">"#) && !text.contains("<style") && !text.contains("onload"));
    let script = server.client.get(server.url("/login.js")).send().await.unwrap().text().await.unwrap();
    assert!(script.contains("fetch(\"/login\""));
}

#[tokio::test]
async fn a2_a_cookie_alone_changes_nothing() {
    let server = Server::start().await;
    let cookie = cookie(&server).await;
    let with_cookie = |method, path: &str| server.client.request(method, server.url(path)).header("cookie", &cookie);
    assert_eq!(with_cookie(Method::GET, "/api/sessions").send().await.unwrap().status(), 200);
    assert_eq!(with_cookie(Method::GET, "/").send().await.unwrap().status(), 200);
    let refused = with_cookie(Method::POST, "/api/sessions").json(&json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let made = with_cookie(Method::POST, "/api/sessions").header("x-everkept", "1").json(&json!({})).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let as_bearer = cookie.split_once('=').unwrap().1;
    assert_eq!(server.request_as(as_bearer, Method::GET, "/api/sessions").send().await.unwrap().status(), 401);
    let other = server.client.get(server.url("/api/sessions")).header("cookie", format!("everkept=ek_other; {cookie}"));
    good(other.send().await.unwrap()).await;
}
