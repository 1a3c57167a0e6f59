//! Events: pages, streams that resume, snapshots that fit, and readers that do not read.

use crate::server::{PATIENCE, Server, Sse, head, status_of};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
async fn d3_o2_a_stream_gives_every_event_once_in_order_and_the_same_bytes() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/events");
    let mut live = server.stream(&path).await;
    server.send(&session, "!think !tool:2 a longer answer of several words").await;
    let seen = live.until("turn.ended").await;
    let numbers: Vec<_> = seen.iter().map(|sse| sse.id.unwrap()).collect();
    assert_eq!(numbers, (1..=seen.len() as u64).collect::<Vec<_>>());
    for sse in &seen {
        let event = sse.json();
        assert_eq!((event["seq"].as_u64(), event["kind"].as_str()), (sse.id, Some(sse.event.as_str())));
        assert!(event["data"].is_object() && event["context"].is_u64() && event["session"] == session.as_str());
        // The same range always gives the same bytes.
        let one = server.request(Method::GET, &format!("{path}/{}", sse.id.unwrap())).send().await.unwrap().text().await.unwrap();
        assert_eq!(one, sse.data);
    }
    for after in [0, 3, seen.len() as u64 - 1] {
        let again = server.stream_after(&format!("{path}?after=1"), Some(after)).await.until("turn.ended").await;
        assert_eq!(again, seen[after as usize..], "Last-Event-ID wins over after");
    }
    let page = server.request(Method::GET, &format!("{path}?limit=1000")).send().await.unwrap().text().await.unwrap();
    let joined = seen.iter().map(|sse| sse.data.as_str()).collect::<Vec<_>>().join(",");
    assert_eq!(page, format!("{{\"items\":[{joined}],\"next_cursor\":null,\"has_more\":false}}"));
}

#[tokio::test]
async fn ag_12_events_are_listed_filtered_and_counted() {
    let server = Server::start().await;
    let session = server.session().await;
    let first = server.ask(&session, "one").await["id"].as_str().unwrap().to_owned();
    server.post(&format!("/api/sessions/{session}/clear"), json!({})).await;
    server.ask(&session, "two").await;
    let path = format!("/api/sessions/{session}/events");
    let all = server.get(&format!("{path}?limit=1000&count=true")).await;
    let events = all["items"].as_array().unwrap().clone();
    assert_eq!(all["total"], events.len());
    let mut paged = Vec::new();
    let mut after = "0".to_owned();
    loop {
        let page = server.get(&format!("{path}?limit=3&after={after}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(page["has_more"], false);
            break;
        };
        after = next.to_owned();
    }
    assert_eq!(paged, events);
    for (query, keep) in [
        ("kind=turn.ended".to_owned(), Box::new(|event: &Value| event["kind"] == "turn.ended") as Box<dyn Fn(&Value) -> bool>),
        ("kind=turn.queued,turn.ended".into(), Box::new(|event| event["kind"] == "turn.queued" || event["kind"] == "turn.ended")),
        (format!("turn={first}"), Box::new(|event| event["turn"] == first.as_str())),
        ("context=1".into(), Box::new(|event| event["context"] == 1)),
        (format!("context=1&turn={first}"), Box::new(|_| false)),
    ] {
        let page = server.get(&format!("{path}?limit=1000&count=true&{query}")).await;
        let kept: Vec<_> = events.iter().filter(|event| keep(event)).cloned().collect();
        assert_eq!((page["items"].as_array().unwrap(), page["total"].as_u64()), (&kept, Some(kept.len() as u64)), "{query}");
        if let Some(last) = kept.last() {
            let mut stream = server.stream(&format!("{path}?{query}")).await;
            for event in &kept {
                assert_eq!(stream.next().await.unwrap().json(), *event, "{query}");
            }
            assert!(last["seq"].is_u64());
        }
    }
    let before = server.get(&format!("{path}?after=2&before=5")).await;
    let numbers: Vec<_> = before["items"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 4]);
    for absent in ["0", "999", "x", "-1"] {
        let response = server.request(Method::GET, &format!("{path}/{absent}")).send().await.unwrap();
        assert_eq!(response.status(), 404, "{absent}");
    }
    let summary = server.get(&format!("/api/sessions/{session}/summary")).await;
    assert_eq!((summary["events"].as_u64(), summary["turns"].as_u64()), (Some(events.len() as u64), Some(2)));
    assert_eq!(summary["contexts"].as_array().unwrap().len(), 2);
}

/// Messages as a reader of events puts them together.
fn fold(mut messages: Vec<Value>, events: &[Sse]) -> Vec<(String, String)> {
    for sse in events {
        let event = sse.json();
        let data = &event["data"];
        match sse.event.as_str() {
            "message.added" => messages.push(json!({ "id": data["message"], "role": data["role"], "parts": data["parts"] })),
            "part.delta" => {
                let message = messages.iter_mut().find(|message| message["id"] == data["message"]).unwrap();
                message["parts"].as_array_mut().unwrap().push(json!({ "type": data["type"], "text": data["text"] }));
            }
            _ => {}
        }
    }
    let text = |message: &Value| {
        let parts = message["parts"].as_array().unwrap().iter();
        parts.filter(|part| part["type"] == "text").map(|part| part["text"].as_str().unwrap()).collect::<String>()
    };
    messages.iter().map(|message| (message["role"].as_str().unwrap().to_owned(), text(message))).collect()
}

#[tokio::test]
async fn ag_15_a_snapshot_and_the_events_after_it_are_the_session() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}");
    server.ask(&session, "before").await;
    let mut from_the_start = server.stream(&format!("{path}/events")).await;
    server.send(&session, "!slow:5 an answer that is being written while others come to read it").await;
    from_the_start.until("part.delta").await;
    from_the_start.until("part.delta").await;
    // Two that join at different times, in the middle of the answer.
    let mut readers = Vec::new();
    for _ in 0..2 {
        let snapshot = server.get(&format!("{path}/snapshot")).await;
        let cursor = snapshot["cursor"].as_u64().unwrap();
        let stream = server.stream(&format!("{path}/events?after={cursor}")).await;
        readers.push((snapshot, cursor, stream));
        from_the_start.until("part.delta").await;
    }
    let said = {
        let mut views = Vec::new();
        for (snapshot, cursor, mut stream) in readers {
            let events = stream.until("turn.ended").await;
            assert_eq!(events[0].id, Some(cursor + 1));
            views.push(fold(snapshot["messages"].as_array().unwrap().clone(), &events));
        }
        assert_eq!(views[0], views[1]);
        views.remove(0)
    };
    assert_eq!(said, server.said(&session).await);
    let snapshot = server.get(&format!("{path}/snapshot")).await;
    assert_eq!(fold(snapshot["messages"].as_array().unwrap().clone(), &[]), said);
    assert_eq!(snapshot["session"]["state"], "idle");
    assert_eq!(snapshot["turns"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn l1_a_reader_that_does_not_read_delays_no_one() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/events");
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\r\n",
            server.address, server.admin
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status_of(&head(&mut stream).await), 200);
        stuck.push(stream);
    }
    let mut reading = server.stream(&path).await;
    // Far more than every buffer between the server and a reader holds.
    let asked = tokio::time::timeout(PATIENCE, server.ask(&session, "!big:4096 go")).await.expect("no stuck reader holds the turn up");
    assert_eq!(asked["state"], "completed");
    let read = reading.until("turn.ended").await;
    let bytes: usize = read.iter().map(|sse| sse.data.len()).sum();
    assert!(bytes > 4 * 1024 * 1024);
    drop(stuck);
    assert_eq!(server.ask(&session, "still there").await["state"], "completed");
}

#[tokio::test]
async fn the_feed_hints_at_what_one_may_see() {
    let server = Server::start().await;
    let ann = server.token("resource", "ann").await;
    let mut all = server.stream("/api/feed").await;
    let response = server.request_as(&ann, Method::GET, "/api/feed").send().await.unwrap();
    let mut own = crate::server::Events::of(response);
    let of_bob = server.post("/api/sessions", json!({ "resource": "bob" })).await;
    let of_ann = server.post("/api/sessions", json!({ "resource": "ann" })).await;
    assert_eq!(all.next().await.unwrap().json()["session"], of_bob["id"]);
    assert_eq!(own.next().await.unwrap().json(), json!({ "session": of_ann["id"], "seq": 1, "state": "idle" }));
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut stream = server.stream(&format!("/api/sessions/{session}/events")).await;
    let mut feed = server.stream("/api/feed").await;
    stream.until("session.created").await;
    server.stop().await;
    assert_eq!((stream.rest().await, feed.rest().await), (vec![], vec![]));
}
