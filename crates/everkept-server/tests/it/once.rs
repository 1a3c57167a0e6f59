//! One visible effect, and nothing stored twice: promises O3 and O4.

use crate::server::{Server, good, refused};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn o3_the_same_key_has_one_effect_and_one_answer() {
    let server = Server::start().await;
    let session = server.session().await;
    let ses = format!("/api/sessions/{session}");
    let first = server.ask(&session, "one").await;
    let trn = format!("/api/turns/{}", first["id"].as_str().unwrap());
    let writes = [
        (Method::POST, "/api/sessions".to_owned(), json!({ "title": "new" })),
        (Method::PATCH, ses.clone(), json!({ "title": "changed" })),
        (Method::POST, format!("{ses}/turns"), json!({ "input": "two" })),
        (Method::POST, format!("{ses}/fork"), json!({ "title": "fork" })),
        (Method::POST, format!("{ses}/messages"), json!({ "messages": [{ "role": "user", "content": "aside" }] })),
        (Method::POST, format!("{trn}/redo"), json!({})),
        (Method::POST, format!("{ses}/clear"), json!({})),
        (Method::POST, "/api/threads/ann/t/turns".into(), json!({ "input": "hello" })),
        (Method::DELETE, "/api/threads/ann/t".into(), json!({})),
        (Method::DELETE, format!("/api/sessions/{}", server.session().await), json!({})),
    ];
    for (at, (method, path, body)) in writes.iter().enumerate() {
        let send = async || {
            let request = server.request(method.clone(), path).header("idempotency-key", format!("key-{at}")).json(body);
            let response = request.send().await.unwrap();
            let replayed = response.headers().get("idempotency-replayed").is_some();
            (replayed, response.status().as_u16(), response.text().await.unwrap())
        };
        let (replayed, status, answer) = send().await;
        assert!(!replayed && status < 300, "{method} {path}: {status} {answer}");
        assert_eq!(send().await, (true, status, answer), "{method} {path}");
        let other = if *method == Method::PATCH { json!({ "title": "else" }) } else { json!({ "title": "else", "at": 1 }) };
        if path.ends_with("/fork") || *method == Method::PATCH {
            let request = server.request(method.clone(), path).header("idempotency-key", format!("key-{at}")).json(&other);
            assert_eq!(refused(request).await, (422, "idempotency_mismatch".into(), "idempotency-key".into()), "{method} {path}");
        }
    }
    let turns = server.get(&format!("{ses}/turns")).await;
    assert_eq!(turns["items"].as_array().unwrap().len(), 3, "one, two, and one redone");
    assert_eq!(server.get("/api/sessions?count=true").await["total"], 3, "the first, the new one and the fork");
}

#[tokio::test]
async fn o3_the_same_key_at_the_same_time_has_one_effect() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/turns");
    let send = || async {
        let response =
            server.request(Method::POST, &path).header("idempotency-key", "once").json(&json!({ "input": "hi" })).send().await.unwrap();
        good(response).await
    };
    let answers = futures::future::join_all((0..20).map(|_| send())).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.get(&format!("/api/sessions/{session}/turns")).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn o3_keys_belong_to_their_principal() {
    let server = Server::start().await;
    let (ann, bob) = (server.token("resource", "ann").await, server.token("resource", "bob").await);
    let create = async |token: &str| {
        good(server.request_as(token, Method::POST, "/api/sessions").header("idempotency-key", "k").json(&json!({})).send().await.unwrap())
            .await
    };
    let (of_ann, of_bob) = (create(&ann).await, create(&bob).await);
    assert_ne!(of_ann["id"], of_bob["id"]);
    assert_eq!(create(&ann).await["id"], of_ann["id"]);
}

#[tokio::test]
async fn o3_a_key_is_1_to_255_visible_bytes() {
    let server = Server::start().await;
    let longest = "k".repeat(255);
    let too_long = "k".repeat(256);
    for (key, good) in [(longest.as_str(), true), (&too_long, false), ("", false), ("a b", false), ("ü", false)] {
        let request = server.request(Method::POST, "/api/sessions").header("idempotency-key", key.as_bytes()).json(&json!({}));
        assert_eq!(request.send().await.unwrap().status(), if good { 201 } else { 400 }, "{key:.10}");
    }
}

#[tokio::test]
async fn o4_history_that_is_sent_again_stores_nothing() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/turns");
    let user = |text: &str| json!({ "role": "user", "content": text });
    let send = async |messages: Vec<Value>| {
        let response = server.request(Method::POST, &path).json(&json!({ "messages": messages, "history": true })).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, first) = send(vec![user("one")]).await;
    assert_eq!(status, 202);
    server.ended(first["id"].as_str().unwrap()).await;
    let (_, same) = send(vec![user("one")]).await;
    assert_eq!(same["id"], first["id"], "the stored turn again");
    let answer = json!({ "role": "assistant", "content": "reply 1 to: one" });
    let (_, second) = send(vec![user("one"), answer, user("two")]).await;
    server.ended(second["id"].as_str().unwrap()).await;
    let texts: Vec<_> = server.said(&session).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "two", "reply 2 to: two"]);
    let (status, error) = send(vec![user("ONE"), user("two")]).await;
    assert_eq!((status, error["error"]["code"].as_str()), (409, Some("history_diverged")));
}
