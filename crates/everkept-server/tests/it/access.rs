//! Who gets in: promises A1, A2, A3 and A5.

use crate::server::{Server, good, status_of};
use everkept_core::{SessionId, TurnId};
use reqwest::Method;
use serde_json::{Value, json};

/// A path of the table with something in the place of every parameter.
fn filled(path: &str) -> String {
    path.split('/')
        .map(|segment| match segment {
            "{ses}" => "ses_00000000000000000000000000000001",
            "{trn}" => "trn_00000000000000000000000000000001",
            "{qst}" => "qst_00000000000000000000000000000001",
            "{tok}" => "tok_00000000000000000000000000000001",
            "{seq}" => "1",
            "{id}" => "0000000000000000000000000000000000000000000000000000000000000001",
            segment if segment.starts_with('{') => "name",
            segment => segment,
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn a1_without_a_credential_nothing_but_an_empty_health_answer_is_served() {
    let server = Server::start().await;
    let mut routes = everkept_server::route_table();
    routes.push(("GET".into(), "/no/such/route".into()));
    routes.push(("PUT".into(), "/api/sessions".into()));
    routes.push(("OPTIONS".into(), "/api/sessions".into()));
    for (method, path) in routes {
        let method: Method = method.parse().unwrap();
        let response = server.client.request(method.clone(), server.url(&filled(&path))).send().await.unwrap();
        if path == "/api/health" {
            assert_eq!(response.status(), 200);
            assert_eq!(response.bytes().await.unwrap().len(), 0);
            continue;
        }
        assert_eq!(response.status(), 401, "{method} {path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{method} {path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "unauthorized", "{method} {path}");
    }
    assert_eq!(server.get("/api/health").await["status"], "ok");
    let wrong = server.request_as("ek_wrong", Method::GET, "/api/health").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
}

#[tokio::test]
async fn a2_host_then_origin_then_credential_on_every_route() {
    let server = Server::start().await;
    let port = server.address.port();
    let good_host = format!("127.0.0.1:{port}");
    let hosts = [
        (format!("host: {good_host}\r\n"), "", true),
        (format!("host: localhost:{port}\r\n"), "", true),
        ("host: evil.example\r\n".into(), "", false),
        (format!("host: evil.example:{port}\r\n"), "", false),
        ("host: 127.0.0.1\r\n".into(), "", false),
        (String::new(), "", false),
        (format!("host: {good_host}\r\nhost: {good_host}\r\n"), "", false),
        (format!("host: {good_host}\r\nhost: evil.example\r\n"), "", false),
        (format!("host: {good_host}\r\n"), "http://evil.example", false),
    ];
    let origins = [
        (String::new(), true),
        ("origin: SELF\r\n".to_owned(), true),
        ("sec-fetch-site: same-origin\r\n".to_owned(), true),
        ("origin: http://evil.example\r\n".to_owned(), false),
        ("origin: null\r\n".to_owned(), false),
        ("origin: SELF\r\norigin: http://evil.example\r\n".to_owned(), false),
        ("sec-fetch-site: cross-site\r\n".to_owned(), false),
        ("sec-fetch-site: same-site\r\n".to_owned(), false),
    ];
    let credentials = [
        (String::new(), false),
        ("authorization: Bearer ek_wrong\r\n".to_owned(), false),
        (format!("authorization: Basic {}\r\n", server.admin), false),
        (format!("cookie: everkept={}\r\n", server.admin), false),
        (format!("authorization: Bearer {}\r\n", server.admin), true),
    ];
    for (method, path) in everkept_server::route_table() {
        let path = filled(&path);
        for (host, target, host_is_good) in &hosts {
            for (origin, origin_is_good) in &origins {
                for (credential, credential_is_good) in &credentials {
                    let own = host.lines().next().unwrap_or_default().trim_start_matches("host: ").to_owned();
                    let origin = origin.replace("SELF", &format!("http://{own}"));
                    let request = format!(
                        "{method} {target}{path} HTTP/1.1\r\n{host}{origin}{credential}content-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    let head = server.raw_head(request.as_bytes()).await;
                    let status = status_of(&head);
                    let free = path == "/api/health" && credential.is_empty();
                    match (host_is_good, origin_is_good, *credential_is_good || free) {
                        (false, _, _) => assert!(matches!(status, 400 | 421), "{request}{head}"),
                        (true, false, _) => assert_eq!(status, 403, "{request}{head}"),
                        (true, true, false) => assert_eq!(status, 401, "{request}{head}"),
                        (true, true, true) => assert!(!matches!(status, 0 | 401 | 403 | 421), "{request}{head}"),
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a2_every_answer_has_the_security_headers() {
    let server = Server::start().await;
    for (path, status) in [("/api/sessions", 200), ("/", 200), ("/app.js", 200), ("/nowhere", 404), ("/login", 200)] {
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

/// What someone gets to see of an answer: status, the headers that say something, body.
async fn shown(server: &Server, token: &str, method: &Method, path: &str, body: &Value) -> (u16, Vec<(String, String)>, String) {
    let request = server.request_as(token, method.clone(), path);
    let request = if *method == Method::GET { request } else { request.json(body) };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    (status, headers, response.text().await.unwrap())
}

#[tokio::test]
async fn a3_what_one_may_not_see_looks_as_if_it_did_not_exist() {
    let server = Server::start().await;
    let ann = server.token("resource", "ann").await;
    let bob = server.token("resource", "bob").await;
    let turn = good(
        server.request_as(&ann, Method::POST, "/api/threads/ann/t1/turns").json(&json!({ "input": "!ask hello" })).send().await.unwrap(),
    )
    .await;
    let (ses, trn) = (turn["session"].as_str().unwrap().to_owned(), turn["id"].as_str().unwrap().to_owned());
    server.stream(&format!("/api/sessions/{ses}/events")).await.until("question.asked").await;
    let questions = server.get("/api/questions").await;
    let qst = questions["items"][0]["id"].as_str().unwrap().to_owned();
    let tok = server.get("/api/tokens").await["items"][0]["id"].as_str().unwrap().to_owned();
    let absent = |name: &str| match name {
        "{ses}" => SessionId(uuid::Uuid::from_u128(7)).to_string(),
        "{trn}" => TurnId(uuid::Uuid::from_u128(7)).to_string(),
        "{qst}" => "qst_00000000000000000000000000000007".to_owned(),
        "{tok}" => "tok_00000000000000000000000000000007".to_owned(),
        other => other.to_owned(),
    };
    let foreign = |name: &str| match name {
        "{ses}" => ses.clone(),
        "{trn}" => trn.clone(),
        "{qst}" => qst.clone(),
        "{tok}" => tok.clone(),
        other => other.to_owned(),
    };
    let fill = |path: &str, with: &dyn Fn(&str) -> String| path.split('/').map(with).collect::<Vec<_>>().join("/");
    let mut compared = 0;
    for (method, path) in everkept_server::route_table() {
        if !["{ses}", "{trn}", "{qst}", "{tok}"].iter().any(|name| path.contains(name)) {
            continue;
        }
        let method: Method = method.parse().unwrap();
        let query = if path.ends_with("/raw") { format!("?turn={trn}") } else { String::new() };
        let body = match path.rsplit('/').next().unwrap() {
            "turns" => json!({ "input": "x" }),
            "messages" => json!({ "messages": [{ "role": "user", "content": "x" }] }),
            "answer" => json!({ "option": "allow_once" }),
            _ => json!({}),
        };
        let path = path.replace("{seq}", "1");
        let one = fill(&path, &foreign) + &query;
        let none = fill(&path, &absent) + &query;
        let seen = shown(&server, &bob, &method, &one, &body).await;
        assert_eq!(seen, shown(&server, &bob, &method, &none, &body).await, "{method} {path}");
        assert!(matches!(seen.0, 403 | 404), "{method} {path}: {}", seen.0);
        assert!(!seen.2.contains(&ses) && !seen.2.contains("ann"), "{method} {path}: {}", seen.2);
        compared += 1;
    }
    assert!(compared > 25, "{compared}");
    // The pair of names, and lists.
    let thread = |resource: &str, thread: &str| format!("/api/threads/{resource}/{thread}");
    for (method, body) in [(Method::GET, json!({})), (Method::DELETE, json!({}))] {
        let one = shown(&server, &bob, &method, &thread("ann", "t1"), &body).await;
        assert_eq!(one, shown(&server, &bob, &method, &thread("ann", "t2"), &body).await);
        assert_eq!(one, shown(&server, &bob, &method, &thread("zoe", "t2"), &body).await);
        assert_eq!(one.0, 404);
    }
    let turns = json!({ "input": "x" });
    let one = shown(&server, &bob, &Method::POST, "/api/threads/ann/t1/turns", &turns).await;
    assert_eq!(one, shown(&server, &bob, &Method::POST, "/api/threads/ann/t9/turns", &turns).await);
    assert_eq!(one.0, 404);
    for path in [
        "/api/sessions?count=true",
        "/api/sessions?resource=ann&count=true",
        "/api/threads/ann?count=true",
        "/api/sessions?q=hello&count=true",
    ] {
        let list = good(server.request_as(&bob, Method::GET, path).send().await.unwrap()).await;
        assert_eq!(list, json!({ "items": [], "next_cursor": null, "has_more": false, "total": 0 }), "{path}");
    }
    let list = good(server.request_as(&bob, Method::GET, "/api/questions").send().await.unwrap()).await;
    assert_eq!(list["items"], json!([]));
    // And the owner sees all of it.
    let own = good(server.request_as(&ann, Method::GET, &format!("/api/sessions/{ses}")).send().await.unwrap()).await;
    assert_eq!(own["resource"], "ann");
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
    assert_eq!(server.request_as(&relay, Method::GET, "/api/sessions").send().await.unwrap().status(), 403);
    for token in [&ann, &recall, &relay] {
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
