//! What is not understood is refused and named, and nothing is left of it.

use crate::server::{Server, refused};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn unknown_and_wrong_fields_are_named() {
    let server = Server::start().await;
    let session = server.session().await;
    let ses = format!("/api/sessions/{session}");
    let turns = format!("{ses}/turns");
    let messages = format!("{ses}/messages");
    for (method, path, body, code, field) in [
        (Method::POST, "/api/sessions", json!({ "titel": "x" }), "unknown_field", "titel"),
        (Method::POST, "/api/sessions", json!({ "title": 3 }), "invalid_field", "title"),
        (Method::POST, "/api/sessions", json!([]), "invalid_field", "body"),
        (Method::POST, "/api/sessions", json!({ "agent": "nobody" }), "invalid_field", "agent"),
        (Method::POST, "/api/sessions", json!({ "resource": "a\u{0}b" }), "invalid_field", "resource"),
        (Method::POST, "/api/sessions", json!({ "thread": "t" }), "invalid_field", "thread"),
        (Method::POST, "/api/sessions", json!({ "metadata": 3 }), "invalid_field", "metadata"),
        (Method::PATCH, &ses, json!({ "agent": "demo", "share": true }), "unknown_field", "share"),
        (Method::PATCH, &ses, json!({ "agent": "nobody" }), "invalid_field", "agent"),
        (Method::PATCH, &ses, json!({ "archived": "yes" }), "invalid_field", "archived"),
        (Method::POST, &turns, json!({}), "invalid_field", "input"),
        (Method::POST, &turns, json!({ "input": "" }), "invalid_field", "input"),
        (Method::POST, &turns, json!({ "input": 3 }), "invalid_field", "input"),
        (Method::POST, &turns, json!({ "input": "x", "messages": [] }), "invalid_field", "messages"),
        (Method::POST, &turns, json!({ "input": "x", "history": true }), "invalid_field", "history"),
        (Method::POST, &turns, json!({ "input": "x", "if_busy": "wait" }), "invalid_field", "if_busy"),
        (
            Method::POST,
            &turns,
            json!({ "messages": [{ "role": "user", "content": "x", "name": "y" }] }),
            "unknown_field",
            "messages[0].name",
        ),
        (Method::POST, &turns, json!({ "messages": [{ "role": "king", "content": "x" }] }), "invalid_field", "messages[0].role"),
        (Method::POST, &messages, json!({ "messages": "x" }), "invalid_field", "messages"),
        (Method::POST, &messages, json!({}), "invalid_field", "messages"),
    ] {
        let (status, said, named) = refused(server.request(method.clone(), path).json(&body)).await;
        assert_eq!((status, said.as_str(), named.as_str()), (422, code, field), "{method} {path} {body}");
    }
    assert_eq!(server.said(&session).await, []);
    assert_eq!(server.get("/api/sessions?count=true").await["total"], 1);
    assert_eq!(server.get(&ses).await["agent"], Value::Null);
}

#[tokio::test]
async fn what_is_not_json_is_400() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/turns");
    let deep = format!(r#"{{"input": {}"#, "[".repeat(10_000));
    let deep_metadata = format!(r#"{{"metadata": {}{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for (path, body) in [
        (path.as_str(), "nope".to_owned()),
        (&path, r#"{"input": "x""#.into()),
        (&path, r#"{"input": "x"} {}"#.into()),
        (&path, r#"{"input": "\ud800"}"#.into()),
        (&path, r#"{"input": "\udc00\ud800"}"#.into()),
        ("/api/sessions", deep_metadata),
        (&path, format!("{deep}1")),
    ] {
        let request = server.request(Method::POST, path).header("content-type", "application/json").body(body.clone());
        let (status, _, _) = refused(request).await;
        assert_eq!(status, 400, "{body:.60}");
    }
    let request = server.request(Method::POST, &path).header("content-type", "application/json").body(&b"{\"input\":\"\xff\"}"[..]);
    assert_eq!(refused(request).await.0, 400, "not UTF-8");
    let request = server.request(Method::POST, &path).header("content-type", "text/plain").body("{\"input\":\"x\"}");
    assert_eq!(refused(request).await, (415, "unsupported_media_type".into(), "".into()));
    assert_eq!(server.said(&session).await, []);
}

#[tokio::test]
async fn an_empty_body_is_an_empty_object() {
    let server = Server::start().await;
    let session = server.session().await;
    server.ask(&session, "one").await;
    let cleared = server.request(Method::POST, &format!("/api/sessions/{session}/clear")).send().await.unwrap();
    assert_eq!(cleared.status(), 200);
    let (status, _, field) = refused(server.request(Method::POST, &format!("/api/sessions/{session}/turns"))).await;
    assert_eq!((status, field.as_str()), (422, "input"));
}

#[tokio::test]
async fn a_nul_in_a_message_is_kept() {
    let server = Server::start().await;
    let session = server.session().await;
    let text = "a\u{0}b\u{7f}\u{fffe} 😀";
    server.post(&format!("/api/sessions/{session}/messages"), json!({ "messages": [{ "role": "user", "content": text }] })).await;
    assert_eq!(server.said(&session).await, [("user".to_owned(), text.to_owned())]);
}

#[tokio::test]
async fn queries_are_strict() {
    let server = Server::start().await;
    let session = server.session().await;
    let ses = format!("/api/sessions/{session}");
    for (path, status, field) in [
        ("/api/sessions?resourc=x".to_owned(), 422, "resourc"),
        ("/api/sessions?resource=".into(), 422, "resource"),
        ("/api/sessions?limit=0".into(), 422, "limit"),
        ("/api/sessions?limit=1001".into(), 422, "limit"),
        ("/api/sessions?limit=many".into(), 422, "limit"),
        ("/api/sessions?state=busy".into(), 422, "state"),
        ("/api/sessions?archived=1".into(), 422, "archived"),
        ("/api/sessions?cursor=zzz".into(), 422, "cursor"),
        ("/api/sessions?limit=1&limit=2".into(), 422, "limit"),
        (format!("{ses}/messages?cursor=!!"), 422, "cursor"),
        (format!("{ses}/messages?last=2&limit=3"), 422, "last"),
        (format!("{ses}/turns?cursor=AAAA"), 422, "cursor"),
        (format!("{ses}/events?after=-1"), 400, "after"),
        (format!("{ses}/events?after=1x"), 400, "after"),
        (format!("{ses}/events?after="), 422, "after"),
        (format!("{ses}/events?kind="), 422, "kind"),
        (format!("{ses}/events?kind=turn.begun"), 422, "kind"),
        (format!("{ses}/events?turn=x"), 422, "turn"),
        (format!("{ses}/export?format=pdf"), 422, "format"),
        (format!("{ses}/raw"), 422, "turn"),
    ] {
        let (said, _, named) = refused(server.request(Method::GET, &path)).await;
        assert_eq!((said, named.as_str()), (status, field), "{path}");
    }
    let events = server.request(Method::GET, &format!("{ses}/events")).header("accept", "text/event-stream");
    assert_eq!(refused(events.try_clone().unwrap().header("last-event-id", "x")).await.0, 400);
    assert_eq!(refused(events.header("last-event-id", "99")).await, (422, "invalid_field".into(), "after".into()));
}
