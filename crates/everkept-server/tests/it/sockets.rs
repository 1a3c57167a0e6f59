//! The WebSocket door.

use crate::server::{PATIENCE, Server};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, StatusCode},
    },
};

struct Socket {
    stream: WebSocketStream<TcpStream>,
    events: Vec<Value>,
}

async fn open_with(server: &Server, path: &str, headers: &[(&'static str, String)]) -> Result<Socket, StatusCode> {
    let mut request = format!("ws://{}{path}", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let tcp = TcpStream::connect(server.address).await.unwrap();
    match client_async(request, tcp).await {
        Ok((stream, _)) => Ok(Socket { stream, events: Vec::new() }),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

async fn open(server: &Server, session: &str, after: u64) -> Socket {
    let path = format!("/api/sessions/{session}/socket?after={after}");
    open_with(server, &path, &[("authorization", format!("Bearer {}", server.admin))]).await.unwrap()
}

impl Socket {
    async fn say(&mut self, command: Value) {
        self.stream.send(Message::text(command.to_string())).await.unwrap();
    }

    /// The next frame's JSON; none when it is closed.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a frame in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The answer to a command; events that come before it are put aside.
    async fn order(&mut self, command: Value) -> Value {
        self.say(command).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Value {
        loop {
            let frame = self.hear().await.expect("an answer");
            if frame.get("seq").is_none() {
                return frame;
            }
            self.events.push(frame);
        }
    }

    async fn until(&mut self, kind: &str) -> Vec<Value> {
        while !self.events.iter().any(|event| event["kind"] == kind) {
            let frame = self.hear().await.expect("an event");
            self.events.push(frame);
        }
        std::mem::take(&mut self.events)
    }
}

#[tokio::test]
async fn on_n3_a_socket_stores_what_http_stores() {
    let server = Server::start().await;
    let (by_socket, by_http) = (server.session().await, server.session().await);
    let mut socket = open(&server, &by_socket, 0).await;
    let answer = socket.order(json!({ "id": 7, "command": "submit", "input": "!tool hello" })).await;
    assert_eq!((answer["id"].as_u64(), answer["ok"]["state"].as_str()), (Some(7), Some("queued")));
    let events = socket.until("turn.ended").await;
    server.ask(&by_http, "!tool hello").await;
    let shape = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).filter(|kind| kind != "part.delta").collect()
    };
    let http = server.get(&format!("/api/sessions/{by_http}/events?limit=1000")).await;
    assert_eq!(shape(&events), shape(http["items"].as_array().unwrap()));
    assert_eq!(server.said(&by_socket).await, server.said(&by_http).await);
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn on_03_full_history_over_a_socket_stores_only_what_is_new() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut socket = open(&server, &session, 0).await;
    let user = |text: &str| json!({ "role": "user", "content": text });
    socket.order(json!({ "command": "submit", "history": true, "messages": [user("one")] })).await;
    socket.until("turn.ended").await;
    let said = json!({ "role": "assistant", "content": "reply 1 to: one" });
    socket.order(json!({ "command": "submit", "history": true, "messages": [user("one"), said, user("two")] })).await;
    socket.until("turn.ended").await;
    let texts: Vec<_> = server.said(&session).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["one", "reply 1 to: one", "two", "reply 2 to: two"]);
}

#[tokio::test]
async fn o2_a_socket_resumes_after_a_number() {
    let server = Server::start().await;
    let session = server.session().await;
    server.ask(&session, "hello").await;
    let all = open(&server, &session, 0).await.until("turn.ended").await;
    let some = open(&server, &session, 4).await.until("turn.ended").await;
    assert_eq!(some, all[4..]);
    let beyond = format!("/api/sessions/{session}/socket?after=999");
    let refused = open_with(&server, &beyond, &[("authorization", format!("Bearer {}", server.admin))]).await;
    assert_eq!(refused.err(), Some(StatusCode::UNPROCESSABLE_ENTITY));
}

#[tokio::test]
async fn commands_are_strict_and_answered_with_their_id() {
    let server = Server::start().await;
    let (session, other) = (server.session().await, server.session().await);
    let foreign = server.send(&other, "!long go on").await;
    let mut socket = open(&server, &session, 0).await;
    for (command, code, field) in [
        (json!({ "id": "a", "command": "dance" }), "invalid_field", "command"),
        (json!({ "id": "a", "input": "x" }), "invalid_field", "command"),
        (json!({ "id": "a", "command": "submit", "inptu": "x" }), "unknown_field", "inptu"),
        (json!({ "id": "a", "command": "submit" }), "invalid_field", "input"),
        (json!({ "id": "a", "command": "cancel" }), "invalid_field", "turn"),
        (json!({ "id": "a", "command": "cancel", "turn": foreign }), "not_found", ""),
        (json!({ "id": "a", "command": "clear", "x": 1 }), "unknown_field", "x"),
        (json!({ "id": "a", "command": "submit", "input": "x", "idempotency_key": "" }), "invalid_field", "idempotency_key"),
    ] {
        let answer = socket.order(command.clone()).await;
        let field_said = answer["error"]["field"].as_str().unwrap_or_default();
        assert_eq!((answer["id"].as_str(), answer["error"]["code"].as_str(), field_said), (Some("a"), Some(code), field), "{command}");
    }
    socket.stream.send(Message::text("nope")).await.unwrap();
    assert_eq!(socket.answer().await["error"]["code"], "invalid_json");
    assert_eq!(socket.order(json!({ "id": 2, "command": "clear" })).await, json!({ "id": 2, "ok": { "context": 1 } }));
    server.post(&format!("/api/turns/{foreign}/cancel"), json!({})).await;
}

#[tokio::test]
async fn o3_a_command_with_a_key_has_one_effect() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut socket = open(&server, &session, 0).await;
    let first = socket.order(json!({ "id": 1, "command": "submit", "input": "hi", "idempotency_key": "k" })).await;
    let again = socket.order(json!({ "id": 2, "command": "submit", "input": "hi", "idempotency_key": "k" })).await;
    assert_eq!(first["ok"], again["ok"]);
    let other = socket.order(json!({ "id": 3, "command": "submit", "input": "ho", "idempotency_key": "k" })).await;
    assert_eq!(other["error"]["code"], "idempotency_mismatch");
}

#[tokio::test]
async fn questions_are_answered_and_turns_cancelled_over_a_socket() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut socket = open(&server, &session, 0).await;
    socket.order(json!({ "command": "submit", "input": "!ask may I" })).await;
    let asked = socket.until("question.asked").await.pop().unwrap();
    let answer = socket.order(json!({ "command": "answer", "question": asked["data"]["question"], "option": "allow_once" })).await;
    assert_eq!(answer["ok"]["state"], "answered");
    socket.until("turn.ended").await;
    let turn = socket.order(json!({ "command": "submit", "input": "!long go on" })).await["ok"]["id"].clone();
    socket.until("part.delta").await;
    socket.order(json!({ "command": "cancel", "turn": turn })).await;
    let ended = socket.until("turn.ended").await;
    assert_eq!(ended.last().unwrap()["data"]["state"], "cancelled");
}

#[tokio::test]
async fn a2_sockets_are_closed_to_other_pages_and_to_cookies_alone() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/api/sessions/{session}/socket");
    let link = everkept_server::login_link(&server.engine, "").await.unwrap();
    let code = link.split_once("#code=").unwrap().1;
    let response = server.client.post(server.url("/login")).json(&json!({ "code": code })).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let own = format!("http://{}", server.address);
    let cookie = ("cookie", cookie);
    let foreign = open_with(&server, &path, &[cookie.clone(), ("origin", "http://evil.example".into())]).await;
    assert_eq!(foreign.err(), Some(StatusCode::FORBIDDEN));
    assert_eq!(open_with(&server, &path, &[("origin", own.clone())]).await.err(), Some(StatusCode::UNAUTHORIZED));
    let mut alone = open_with(&server, &path, &[cookie.clone(), ("origin", own.clone())]).await.unwrap();
    assert_eq!(alone.order(json!({ "command": "clear" })).await["error"]["code"], "forbidden");
    let mut page = open_with(&server, &path, &[cookie, ("origin", own), ("sec-websocket-protocol", "everkept".into())]).await.unwrap();
    assert_eq!(page.order(json!({ "command": "clear" })).await["ok"]["context"], 1);
}

#[tokio::test]
async fn a_socket_ends_with_the_server() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut socket = open(&server, &session, 0).await;
    socket.until("session.created").await;
    server.stop().await;
    assert_eq!(socket.hear().await, None);
}
