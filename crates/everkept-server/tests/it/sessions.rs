//! The life of a session over the native API.

use crate::server::{Server, refused};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_is_made_changed_and_found() {
    let server = Server::start().await;
    let made = server
        .post("/api/sessions", json!({ "title": "Boats", "resource": "ann", "thread": "t", "agent": "other", "model": "p/m", "metadata": { "n": 1, "b": [1] }}))
        .await;
    let path = format!("/api/sessions/{}", made["id"].as_str().unwrap());
    assert_eq!((made["state"].as_str(), made["context"].as_u64(), made["slug"].as_str()), (Some("idle"), Some(0), Some("boats")));
    assert_eq!(server.get(&path).await, made);
    let patch = |body: Value| {
        let request = server.request(Method::PATCH, &path).json(&body);
        async move { crate::server::good(request.send().await.unwrap()).await }
    };
    let changed = patch(json!({ "title": "Ships", "model": null, "archived": true })).await;
    assert_eq!((changed["title"].as_str(), changed["agent"].as_str(), &changed["model"]), (Some("Ships"), Some("other"), &Value::Null));
    assert!(changed["archived_at"].is_string());
    assert_eq!(server.get("/api/sessions?archived=true&q=ships").await["items"][0]["id"], made["id"]);
    assert_eq!(server.get("/api/sessions?archived=false").await["items"], json!([]));
    assert_eq!(server.get("/api/sessions?agent=demo").await["items"], json!([]));
    assert_eq!(server.get("/api/sessions?agent=other&resource=ann&thread=t&state=idle&count=true").await["total"], 1);
}

#[tokio::test]
async fn ag_12_deleted_looks_like_never_existed_but_for_restore_and_for_deleting_again() {
    let server = Server::start().await;
    let session = server.session().await;
    let turn = server.ask(&session, "hello").await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/sessions/{session}");
    assert_eq!(server.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    for absent in
        [path.clone(), format!("{path}/events"), format!("{path}/export"), format!("/api/turns/{turn}"), format!("{path}/snapshot")]
    {
        assert_eq!(server.request(Method::GET, &absent).send().await.unwrap().status(), 404, "{absent}");
    }
    let events = server.get("/api/sessions?deleted=true").await["items"].clone();
    assert_eq!(server.request(Method::DELETE, &path).send().await.unwrap().status(), 204, "it is gone, which is what was asked");
    assert_eq!(server.get("/api/sessions?deleted=true").await["items"], events, "once more changes nothing");
    let foreign = server.request_as(&server.token("resource", "bert").await, Method::DELETE, &path).send().await.unwrap();
    assert_eq!(foreign.status(), 404, "for others it never was there");
    assert_eq!(server.get("/api/sessions").await["items"], json!([]));
    server.post(&format!("{path}/restore"), json!({})).await;
    assert_eq!(server.said(&session).await.len(), 2);
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let server = Server::start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(server.session().await);
    }
    made.reverse();
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = server.get(&format!("/api/sessions?{query}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn messages_and_turns_are_paged_from_either_end() {
    let server = Server::start().await;
    let session = server.session().await;
    for word in ["one", "two", "three"] {
        server.ask(&session, word).await;
    }
    let path = format!("/api/sessions/{session}/messages");
    let all = server.get(&path).await["items"].as_array().unwrap().clone();
    assert_eq!(all.len(), 6);
    let first = server.get(&format!("{path}?limit=4")).await;
    let rest = server.get(&format!("{path}?limit=4&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((first["items"].as_array().unwrap().as_slice(), rest["items"].as_array().unwrap().as_slice()), (&all[..4], &all[4..]));
    assert_eq!((&rest["has_more"], &rest["next_cursor"]), (&json!(false), &Value::Null));
    let last = server.get(&format!("{path}?last=4")).await;
    let before = server.get(&format!("{path}?before={}", last["next_cursor"].as_str().unwrap())).await;
    assert_eq!((last["items"].as_array().unwrap().as_slice(), before["items"].as_array().unwrap().as_slice()), (&all[2..], &all[..2]));
    let turns = format!("/api/sessions/{session}/turns");
    let page = server.get(&format!("{turns}?limit=2")).await;
    let next = server.get(&format!("{turns}?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((page["items"].as_array().unwrap().len(), next["items"].as_array().unwrap().len()), (2, 1));
}

#[tokio::test]
async fn turns_are_cancelled_retried_redone_and_continued() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}");
    let turn = server.send(&session, "!long forever").await;
    server.stream(&format!("{path}/events")).await.until("part.delta").await;
    let queued = server.send(&session, "later").await;
    let edited = server.request(Method::PATCH, &format!("/api/turns/{queued}")).json(&json!({ "input": "sooner" })).send().await.unwrap();
    assert_eq!(edited.status(), 202);
    let busy = server.request(Method::POST, &format!("{path}/turns")).json(&json!({ "input": "x", "if_busy": "reject" }));
    assert_eq!(refused(busy).await, (409, "busy".into(), "".into()));
    server.post(&format!("/api/turns/{turn}/cancel"), json!({})).await;
    assert_eq!(server.ended(&turn).await["state"], "cancelled");
    assert_eq!(server.ended(&queued).await["state"], "completed");
    let done = refused(server.request(Method::POST, &format!("/api/turns/{queued}/retry"))).await;
    assert_eq!((done.0, done.1.as_str()), (409, "turn_completed"));
    let redone = server.post(&format!("/api/turns/{queued}/redo"), json!({ "agent": "other" })).await;
    assert_eq!((redone["attempt"].as_u64(), redone["agent"].as_str()), (Some(2), Some("other")));
    server.ended(redone["id"].as_str().unwrap()).await;
    assert_eq!(server.get(&format!("/api/turns/{queued}")).await["superseded_by"], redone["id"]);
    let on = server.post(&format!("/api/turns/{}/continue", redone["id"].as_str().unwrap()), json!({})).await;
    assert_eq!(on["continues"], redone["id"]);
    server.ended(on["id"].as_str().unwrap()).await;
    let dropped = server.send(&session, "!long again").await;
    let waiting = server.send(&session, "never").await;
    assert_eq!(server.request(Method::DELETE, &format!("/api/turns/{waiting}")).send().await.unwrap().status(), 204);
    server.post(&format!("/api/turns/{dropped}/cancel"), json!({})).await;
    server.ended(&dropped).await;
}

#[tokio::test]
async fn a7_a_question_is_answered_once_with_one_of_its_options() {
    let server = Server::start().await;
    let session = server.session().await;
    let turn = server.send(&session, "!ask may I").await;
    server.stream(&format!("/api/sessions/{session}/events")).await.until("question.asked").await;
    let open = server.get("/api/questions").await;
    let question = &open["items"][0];
    assert_eq!(
        (question["turn"].as_str(), question["state"].as_str(), question["kind"].as_str()),
        (Some(turn.as_str()), Some("open"), Some("permission"))
    );
    let path = format!("/api/questions/{}", question["id"].as_str().unwrap());
    let wrong = refused(server.request(Method::POST, &format!("{path}/answer")).json(&json!({ "option": "perhaps" }))).await;
    assert_eq!((wrong.0, wrong.2.as_str()), (422, "option"));
    let answered = server.post(&format!("{path}/answer"), json!({ "option": "allow_always", "note": "yes" })).await;
    assert_eq!((answered["state"].as_str(), answered["answer"]["note"].as_str()), (Some("answered"), Some("yes")));
    assert_eq!(
        refused(server.request(Method::POST, &format!("{path}/answer")).json(&json!({ "option": "allow_once" }))).await.1,
        "question_answered"
    );
    assert_eq!(server.ended(&turn).await["state"], "completed");
    assert_eq!(server.get("/api/questions").await["items"], json!([]));
    let rules = server.get(&format!("/api/sessions/{session}/rules")).await;
    let rule = rules["items"][0]["id"].as_str().unwrap().to_owned();
    let delete = server.request(Method::DELETE, &format!("/api/sessions/{session}/rules/{rule}")).send().await.unwrap();
    assert_eq!(delete.status(), 204);
    assert_eq!(server.get(&format!("/api/sessions/{session}/rules")).await["items"], json!([]));
}

#[tokio::test]
async fn forks_clears_and_reverts_are_shown() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}");
    let first = server.ask(&session, "one").await;
    server.ask(&session, "two").await;
    let fork = server.post(&format!("{path}/fork"), json!({ "at": first["id"], "title": "branch" })).await;
    let child = fork["id"].as_str().unwrap().to_owned();
    assert_eq!((fork["parent"]["kind"].as_str(), fork["parent"]["session"].as_str()), (Some("fork"), Some(session.as_str())));
    assert_eq!(server.said(&child).await.len(), 2);
    server.ask(&child, "three").await;
    assert_eq!((server.said(&child).await.len(), server.said(&session).await.len()), (4, 4));
    let tree = server.get(&format!("{path}/forks")).await;
    assert_eq!((tree["id"].as_str(), tree["children"][0]["id"].as_str()), (Some(session.as_str()), Some(child.as_str())));
    assert_eq!(server.post(&format!("{path}/clear"), json!({})).await, json!({ "context": 1 }));
    let reverted = server.post(&format!("{path}/revert"), json!({ "turn": first["id"] })).await;
    assert_eq!(reverted["revert"], first["id"]);
    assert_eq!(server.said(&session).await.len(), 0);
    server.post(&format!("{path}/unrevert"), json!({})).await;
    assert_eq!(server.said(&session).await.len(), 4);
    let own = server.post("/api/sessions", json!({ "parent": session })).await;
    assert_eq!(own["parent"]["kind"], "child");
    assert_eq!(refused(server.request(Method::POST, "/api/sessions").json(&json!({ "parent": "ses_0" }))).await.0, 404);
}

#[tokio::test]
async fn a_session_is_exported_byte_for_byte_and_to_read() {
    let server = Server::start().await;
    let session = server.session().await;
    let turn = server.ask(&session, "!tool `code` # no heading").await;
    let path = format!("/api/sessions/{session}");
    let export = server.request(Method::GET, &format!("{path}/export")).send().await.unwrap();
    assert_eq!(export.headers()["content-type"], "application/x-ndjson");
    let lines = export.text().await.unwrap();
    let mut stream = server.stream(&format!("{path}/events")).await;
    for line in lines.lines() {
        assert_eq!(stream.next().await.unwrap().data, line);
    }
    let markdown = server.request(Method::GET, &format!("{path}/export?format=markdown")).send().await.unwrap().text().await.unwrap();
    assert!(
        markdown.contains("## User") && markdown.contains("reply 1 to:") && markdown.contains("### Tool · Demo tool (completed)"),
        "{markdown}"
    );
    let raw = server.request(Method::GET, &format!("{path}/raw?turn={}", turn["id"].as_str().unwrap())).send().await.unwrap();
    assert_eq!(raw.headers()["content-type"], "application/octet-stream");
    assert!(raw.text().await.unwrap().contains("end_turn"));
}

#[tokio::test]
async fn files_are_kept_and_given_back() {
    let server = Server::start().await;
    let session = server.session().await;
    let parts =
        json!([{ "type": "text", "text": "look" }, { "type": "file", "name": "a.png", "media_type": "image/png", "data": "aGVsbG8=" }]);
    let turn = server.post(&format!("/api/sessions/{session}/turns"), json!({ "input": parts })).await;
    server.ended(turn["id"].as_str().unwrap()).await;
    let messages = server.get(&format!("/api/sessions/{session}/messages")).await;
    let file = &messages["items"][0]["parts"][1];
    assert_eq!((file["name"].as_str(), file["blob"]["bytes"].as_u64()), (Some("a.png"), Some(5)));
    let path = format!("/api/blobs/{}", file["blob"]["id"].as_str().unwrap());
    let blob = server.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(blob.headers()["content-type"], "application/octet-stream");
    assert_eq!(blob.text().await.unwrap(), "hello");
    let bob = server.token("resource", "bob").await;
    let seen = server.request_as(&bob, Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let none = server.request_as(&bob, Method::GET, &format!("/api/blobs/{}", "0".repeat(64))).send().await.unwrap();
    assert_eq!((none.status().as_u16(), none.text().await.unwrap()), (404, seen));
}

#[tokio::test]
async fn agents_and_the_document_are_there() {
    let server = Server::start().await;
    let agents = server.get("/api/agents").await;
    assert_eq!((agents["items"][0]["name"].as_str(), &agents["items"][0]["default"]), (Some("demo"), &json!(true)));
    let document = server.get("/api/openapi.json").await;
    assert!(document["paths"].as_object().unwrap().contains_key("/api/sessions/{ses}/turns"));
}
