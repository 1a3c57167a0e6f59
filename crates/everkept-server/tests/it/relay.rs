//! The door for agents on other machines.

use crate::server::{PATIENCE, Server, engine, good, refused};
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

const DOOR: &str = "/agents/connect";

/// The open door, or the status and the code it was refused with.
async fn connect<S>(host: &str, token: &str, stream: S) -> Result<WebSocketStream<S>, (u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("ws://{host}{DOOR}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            Err((response.status().as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

async fn dial(server: &Server, token: &str) -> Result<WebSocketStream<TcpStream>, (u16, String)> {
    connect(&server.address.to_string(), token, TcpStream::connect(server.address).await.unwrap()).await
}

/// The next frame; none when it is closed.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Option<Value> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("a frame in time")? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn card(server: &Server, name: &str) -> Value {
    let agents = server.get("/api/agents").await;
    agents["items"].as_array().unwrap().iter().find(|agent| agent["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn ag_17_a_second_connection_of_one_agent_name_is_refused() {
    let server = Server::start().await;
    let (token, twin) = (server.token("relay", "worker").await, server.token("relay", "worker").await);
    let other = server.token("relay", "other-worker").await;
    let mut first = dial(&server, &token).await.unwrap();
    assert_eq!(hear(&mut first).await.unwrap()["initialize"]["agent"], "worker");
    for again in [&token, &twin] {
        assert_eq!(dial(&server, again).await.unwrap_err(), (409, "agent_connected".into()));
    }
    dial(&server, &other).await.expect("another name is another agent's");
    // The first goes on, and its name is free when it has gone.
    first.close(None).await.unwrap();
    assert_eq!(hear(&mut first).await, None);
    let mut again = dial(&server, &twin).await;
    while again.as_ref().is_err_and(|(status, _)| *status == 409) {
        tokio::task::yield_now().await;
        again = dial(&server, &twin).await;
    }
    assert_eq!(hear(&mut again.unwrap()).await.unwrap()["initialize"]["agent"], "worker");
}

#[tokio::test(start_paused = true)]
async fn ag_17_a_connection_that_is_dead_gives_its_name_back() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _, _) = engine(directory.path()).await;
    let (_, token) = everkept_server::create_token(&engine, "relay", Some("worker".into()), None).await.unwrap();
    let (_stop, ended) = tokio::sync::watch::channel(false);
    let server = everkept_server::Server::new(engine, 7070, 1_000, ended).unwrap();
    let open = async || {
        let (client, io) = tokio::io::duplex(4_096);
        let serving = server.clone();
        tokio::spawn(async move { serving.serve_connection(io).await });
        connect("localhost:7070", &token, client).await
    };
    let mut dead = open().await.unwrap();
    hear(&mut dead).await.unwrap();
    // It answers `ready` so that it counts as there, and is never heard of again.
    let can = json!({ "resume": true, "fork": true, "cancel": true, "ask_permission": true, "set_model": true, "report_usage": true, "remember": true });
    let ready = json!({ "ready": { "protocol": 1, "capabilities": can, "model": null, "processes": [] } });
    futures::SinkExt::send(&mut dead, Message::text(format!("{ready}\n"))).await.unwrap();
    let before = tokio::time::Instant::now();
    while open().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let taken = before.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(31)).contains(&taken), "{taken:?}");
}

#[tokio::test]
async fn a4_a_relay_whose_token_is_revoked_is_closed_at_once_and_its_agent_is_gone() {
    let server = Server::start().await;
    let made = server.post("/api/tokens", json!({ "kind": "relay", "name": "worker" })).await;
    let secret = made["secret"].as_str().unwrap();
    let mut socket = dial(&server, secret).await.unwrap();
    hear(&mut socket).await.unwrap();
    let revoke = format!("/api/tokens/{}", made["token"]["id"].as_str().unwrap());
    assert_eq!(server.request(Method::DELETE, &revoke).send().await.unwrap().status(), 204);
    let closed = timeout(Duration::from_secs(1), hear(&mut socket)).await.expect("closed within 1 s");
    assert_eq!(closed, None);
    assert_eq!(dial(&server, secret).await.unwrap_err().0, 401);
    assert_eq!(card(&server, "worker").await, Value::Null);
}

#[tokio::test]
async fn a3_a_relay_token_opens_its_door_and_nothing_else() {
    let server = Server::start().await;
    let token = server.token("relay", "worker").await;
    let session = server.session().await;
    // Whoever comes is shown how to log in.
    let mut routes: Vec<_> = everkept_server::route_table().into_iter().filter(|(_, path)| !path.starts_with("/login")).collect();
    routes.push(("GET".into(), format!("/api/sessions/{session}")));
    let mut seen = 0;
    for (method, path) in routes {
        let response = server.request_as(&token, method.parse().unwrap(), &path).send().await.unwrap();
        let status = if path == DOOR { 400 } else { 404 };
        assert_eq!(response.status(), status, "{method} {path}");
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
    // And nobody else opens that door.
    let (ann, recall) = (server.token("resource", "worker").await, server.token("recall", "worker").await);
    for other in [&server.admin, &ann, &recall] {
        assert_eq!(dial(&server, other).await.unwrap_err(), (404, "not_found".into()));
    }
    assert_eq!(dial(&server, "ek_wrong").await.unwrap_err().0, 401);
}

#[tokio::test]
async fn the_agents_are_the_configured_ones_and_those_of_relay_tokens() {
    let server = Server::start().await;
    let make = |name: &str| server.request(Method::POST, "/api/tokens").json(&json!({ "kind": "relay", "name": name }));
    assert_eq!(refused(make("demo")).await, (422, "invalid_field".into(), "name".into()));
    assert_eq!(card(&server, "worker").await, Value::Null);
    let made = good(make("worker").send().await.unwrap()).await;
    let held = card(&server, "worker").await;
    assert_eq!((held["remote"].as_bool(), held["connected"].as_bool()), (Some(true), Some(false)));
    let demo = card(&server, "demo").await;
    assert_eq!((demo["remote"].as_bool(), demo["connected"].as_bool()), (Some(false), Some(true)));
    let session = server.post("/api/sessions", json!({ "agent": "worker" })).await;
    assert_eq!(session["agent"], "worker", "an agent that is away is one all the same");
    let models = server.get("/v1/models").await;
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "worker"), "{models}");
    // A token of that name that is not known to be configured here, as after config.toml was changed, opens nothing.
    let configured = server.token("relay", "demo").await;
    assert_eq!(dial(&server, &configured).await.unwrap_err().0, 404);
    let second = good(make("worker").send().await.unwrap()).await;
    for (token, stands) in [(made, true), (second, false)] {
        let path = format!("/api/tokens/{}", token["token"]["id"].as_str().unwrap());
        assert_eq!(server.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
        assert_eq!(card(&server, "worker").await != Value::Null, stands, "as long as a token names it");
    }
}

#[tokio::test]
async fn what_is_no_frame_closes_the_door() {
    let server = Server::start().await;
    let token = server.token("relay", "worker").await;
    for wrong in [
        Message::text("nope\n"),
        Message::binary(&b"\x00"[..]),
        Message::text("x".repeat(70_000)),
        Message::text("{\"ready\":{\"protocol\":9}}\n"),
    ] {
        let mut socket = dial(&server, &token).await;
        while socket.as_ref().is_err_and(|(status, _)| *status == 409) {
            tokio::task::yield_now().await;
            socket = dial(&server, &token).await;
        }
        let mut socket = socket.unwrap();
        hear(&mut socket).await.unwrap();
        futures::SinkExt::send(&mut socket, wrong).await.unwrap();
        assert_eq!(hear(&mut socket).await, None);
    }
    assert_eq!(card(&server, "worker").await["connected"], false);
}
