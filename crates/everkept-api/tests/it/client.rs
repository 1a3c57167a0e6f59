//! The client against a server that says exactly what a test needs.

use everkept_api::{
    ErrorCode, SubmitTurn,
    client::{Client, ClientError, SessionsFilter},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

fn client(address: &str, token: Option<String>) -> Client {
    // The client itself needs none; built beside a crate that speaks TLS, it wants to be told whose cryptography that uses.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    Client::new(address, token).unwrap()
}

#[tokio::test]
async fn a_broken_stream_goes_on_after_the_last_event() {
    let event = |seq| format!("id: {seq}\nevent: usage\ndata: {}\n\n", event_json(seq));
    // The second connection begins with an event the client has had: it is not handed out twice.
    let first = format!("{STREAM}{}{}data: {{\"seq\":3,", event(1), event(2));
    let second = format!("{STREAM}{}{}", event(2), event(3));
    let (address, mut requests) = answers(vec![first, second]).await;
    let mut follow = client(&address, Some("secret".into())).follow("ses_1", 0);
    for seq in 1..=3 {
        assert_eq!(follow.next().await.unwrap().seq, seq);
    }
    let first = requests.recv().await.unwrap();
    assert!(first.starts_with("GET /api/sessions/ses_1/events HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("last-event-id: 0\r\n") && first.contains("authorization: Bearer secret\r\n"), "{first}");
    assert!(requests.recv().await.unwrap().contains("last-event-id: 2\r\n"));
}

#[tokio::test]
async fn a_server_that_is_not_there_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&address, None).agents().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no server answers at {address}; start one with `everkept`"));
    assert!(error.is_retryable() && !error.may_have_happened());
}

#[tokio::test]
async fn a_refusal_keeps_its_code() {
    let body = r#"{"error":{"code":"queue_full","message":"the queue holds 1000 turns","retryable":true}}"#;
    let (address, _requests) = answers(vec![json_answer("429 Too Many Requests", body)]).await;
    let error = client(&address, None).submit_turn("ses_1", &SubmitTurn::default()).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable(), error.may_have_happened()), (Some(ErrorCode::QueueFull), true, false));
    assert_eq!(error.to_string(), "the queue holds 1000 turns");
}

#[tokio::test]
async fn another_server_is_not_taken_for_ours() {
    let (address, _requests) = answers(vec!["HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nno".into()]).await;
    let error = client(&address, None).agents().await.unwrap_err();
    assert!(matches!(error, ClientError::Stranger { status: 502, .. }), "{error}");
}

#[tokio::test]
async fn a_write_whose_answer_never_came_may_have_happened() {
    let (address, _requests) = answers(vec![String::new()]).await;
    let error = client(&address, None).submit_turn("ses_1", &SubmitTurn::default()).await.unwrap_err();
    assert!(error.may_have_happened() && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn names_are_encoded_whatever_they_hold() {
    let answer = || json_answer("200 OK", r#"{"items":[],"next_cursor":null,"has_more":false}"#);
    let (address, mut requests) = answers(vec![answer(), answer()]).await;
    let client = client(&address, None);
    _ = client.submit_to_thread("a/b", "ü ?#%", &SubmitTurn::default()).await;
    assert!(requests.recv().await.unwrap().starts_with("POST /api/threads/a%2Fb/%C3%BC%20%3F%23%25/turns HTTP/1.1\r\n"));
    let filter = SessionsFilter { search: Some("a&b=c".into()), deleted: true, ..SessionsFilter::default() };
    client.sessions(&filter).await.unwrap();
    assert!(requests.recv().await.unwrap().starts_with("GET /api/sessions?deleted=true&q=a%26b%3Dc HTTP/1.1\r\n"));
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn event_json(seq: u64) -> String {
    format!(r#"{{"seq":{seq},"kind":"usage","session":"ses_1","turn":null,"context":0,"at":"1970-01-01T00:00:00Z","data":{{}}}}"#)
}

fn json_answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A server that gives one answer per connection, hangs up, and tells what it was asked.
async fn answers(answers: Vec<String>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                if socket.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            _ = tell.send(String::from_utf8_lossy(&request).into_owned());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, requests)
}
