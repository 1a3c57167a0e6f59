//! The OpenAI door: chat completions as applications send them (ON-).

use crate::server::{Events, Server, good, refused};
use reqwest::{Method, Response, header::HeaderValue};
use serde_json::{Value, json};

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn assistant(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

async fn complete(server: &Server, session: Option<&str>, body: Value) -> Response {
    let mut request = server.request(Method::POST, "/v1/chat/completions").json(&body);
    if let Some(session) = session {
        request = request.header("x-session-id", session);
    }
    request.send().await.unwrap()
}

/// The answer's session and text.
async fn answer(server: &Server, session: Option<&str>, messages: Value) -> (String, String) {
    let response = complete(server, session, json!({ "model": "demo", "messages": messages })).await;
    let id = response.headers()["x-session-id"].to_str().unwrap().to_owned();
    let body = good(response).await;
    assert_eq!(body["object"], "chat.completion");
    (id, body["choices"][0]["message"]["content"].as_str().unwrap().to_owned())
}

/// The chunks of a stream, and whether it ended as it should.
async fn chunks(response: Response) -> (Vec<Value>, bool) {
    let (mut chunks, mut done) = (Vec::new(), false);
    for sse in Events::of(response).rest().await {
        if sse.data == "[DONE]" {
            done = true;
        } else {
            chunks.push(sse.json());
        }
    }
    (chunks, done)
}

fn text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Says yes to what is asked next.
async fn allow(server: &Server) {
    let question = loop {
        let open = server.get("/api/questions").await;
        if let Some(question) = open["items"][0]["id"].as_str() {
            break question.to_owned();
        }
        tokio::task::yield_now().await;
    };
    server.post(&format!("/api/questions/{question}/answer"), json!({ "option": "allow_once" })).await;
}

async fn texts(server: &Server, session: &str) -> Vec<String> {
    server.said(session).await.into_iter().map(|(_, text)| text).collect()
}

#[tokio::test]
async fn on_01_04_06_07_n1_whole_histories_store_only_what_is_new() {
    let server = Server::start().await;
    let (session, first) = answer(&server, Some("chat"), json!([{ "role": "system", "content": "be kind" }, user("one")])).await;
    assert_eq!(first, "reply 1 to: one");
    let history = json!([{ "role": "system", "content": "be kind" }, user("one"), assistant(&first), user("two")]);
    let (same, second) = answer(&server, Some("chat"), history).await;
    assert_eq!((same.as_str(), second.as_str()), (session.as_str(), "reply 2 to: two"));
    let said = server.said(&session).await;
    let roles: Vec<_> = said.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!(texts(&server, &session).await, ["be kind", "one", "reply 1 to: one", "two", "reply 2 to: two"]);
}

#[tokio::test]
async fn ws_01_first_messages_that_come_at_once_make_one_session_with_one_set_of_instructions() {
    let server = Server::start().await;
    let first = || answer(&server, Some("at-once"), json!([{ "role": "system", "content": "be kind" }, user("!slow:20 hello")]));
    let answers = futures::future::join_all((0..10).map(|_| first())).await;
    assert!(answers.iter().all(|(session, _)| *session == answers[0].0));
    let said = server.said(&answers[0].0).await;
    let count = |wanted: &str| said.iter().filter(|(role, _)| role == wanted).count();
    assert_eq!((count("system"), count("user"), count("assistant")), (1, 10, 10));
}

#[tokio::test]
async fn whoever_waits_for_an_answer_is_told_when_its_session_goes_to_the_trash() {
    let server = Server::start().await;
    let session = server.session().await;
    let running = server.post(&format!("/api/sessions/{session}/turns"), json!({ "input": "!hang" })).await;
    assert!(running["id"].is_string());
    let body = |stream| json!({ "messages": [user("later")], "stream": stream });
    let (whole, mut streamed) = (complete(&server, Some(&session), body(false)), None);
    let delete = async {
        let mut events = server.stream(&format!("/api/sessions/{session}/events")).await;
        events.until("turn.queued").await;
        events.until("turn.queued").await;
        streamed = Some(complete(&server, Some(&session), body(true)).await);
        server.request(Method::DELETE, &format!("/api/sessions/{session}")).send().await.unwrap();
    };
    // Whoever waits may be told before whoever deleted it.
    let (whole, ()) = tokio::join!(whole, delete);
    assert_eq!(whole.status(), 404);
    let rest = Events::of(streamed.unwrap()).rest().await;
    assert_eq!(rest.last().unwrap().json()["error"]["code"], "not_found");
}

#[tokio::test]
async fn on_02_a_stream_stores_the_same_as_a_whole_answer() {
    let server = Server::start().await;
    let body =
        json!({ "model": "demo", "messages": [user("!think hello there")], "stream": true, "stream_options": { "include_usage": true } });
    let response = complete(&server, Some("s"), body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let session = response.headers()["x-session-id"].to_str().unwrap().to_owned();
    let (chunks, done) = chunks(response).await;
    assert!(done);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(text(&chunks), "reply 1 to: hello there");
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].is_string()));
    let finished: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finished, ["stop"]);
    let usage = chunks.last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert!(chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-trn_"));
    assert_eq!(server.said(&session).await.len(), 2);
}

#[tokio::test]
async fn on_05_08_n2_the_user_message_is_kept_when_the_agent_fails() {
    let server = Server::start().await;
    for stream in [false, true] {
        let session = format!("s-{stream}");
        let response =
            complete(&server, Some(&session), json!({ "model": "demo", "messages": [user("!fail please")], "stream": stream })).await;
        let id = response.headers()["x-session-id"].to_str().unwrap().to_owned();
        let error = if stream {
            assert_eq!(response.status(), 200);
            let (chunks, done) = chunks(response).await;
            assert!(!done);
            chunks.last().unwrap().clone()
        } else {
            assert_eq!((response.status().as_u16(), &response.headers()["x-should-retry"]), (502, &HeaderValue::from_static("false")));
            response.json::<Value>().await.unwrap()
        };
        let error = &error["error"];
        assert_eq!((error["code"].as_str(), error["type"].as_str()), (Some("demo_failure"), Some("server_error")));
        assert!(error["turn"].as_str().unwrap().starts_with("trn_") && error["may_have_happened"].is_boolean());
        assert_eq!(texts(&server, &id).await[0], "!fail please");
    }
}

#[tokio::test]
async fn o4_a_repeated_request_is_the_stored_answer_again() {
    let server = Server::start().await;
    let history = json!([user("one"), assistant("reply 1 to: one"), user("two")]);
    answer(&server, Some("chat"), json!([user("one")])).await;
    let (session, first) = answer(&server, Some("chat"), history.clone()).await;
    assert_eq!(answer(&server, Some("chat"), history.clone()).await, (session.clone(), first.clone()));
    let response = complete(&server, Some("chat"), json!({ "model": "demo", "messages": history, "stream": true })).await;
    assert_eq!(text(&chunks(response).await.0), first);
    assert_eq!(server.get(&format!("/api/sessions/{session}/turns")).await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn o4_a_repeated_request_joins_the_running_turn() {
    let server = Server::start().await;
    answer(&server, Some("chat"), json!([user("one")])).await;
    let history = json!([user("one"), assistant("reply 1 to: one"), user("!slow:5 two three four five six")]);
    let body = json!({ "model": "demo", "messages": history, "stream": true });
    let first = complete(&server, Some("chat"), body.clone()).await;
    let second = complete(&server, Some("chat"), body).await;
    let session = first.headers()["x-session-id"].to_str().unwrap().to_owned();
    let (first, second) = futures::future::join(chunks(first), chunks(second)).await;
    assert_eq!((text(&first.0), first.1), (text(&second.0), second.1));
    assert_eq!(first.0[0]["id"], second.0[0]["id"]);
    assert_eq!(server.get(&format!("/api/sessions/{session}/turns")).await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn o4_an_edited_history_is_a_fork() {
    let server = Server::start().await;
    let (parent, _) = answer(&server, Some("chat"), json!([user("one")])).await;
    answer(&server, Some("chat"), json!([user("one"), assistant("reply 1 to: one"), user("two")])).await;
    let edited = json!([user("one"), assistant("reply 1 to: one"), user("TWO")]);
    let (fork, said) = answer(&server, Some("chat"), edited).await;
    assert_ne!(fork, parent);
    assert!(said.ends_with("to: TWO"), "{said}");
    assert_eq!(server.said(&parent).await.len(), 4);
    assert_eq!(texts(&server, &fork).await[..3], ["one", "reply 1 to: one", "TWO"]);
    let next = json!([user("one"), assistant("reply 1 to: one"), user("TWO"), assistant(&said), user("three")]);
    assert_eq!(answer(&server, Some("chat"), next).await.0, fork, "the name goes with the fork");
}

#[tokio::test]
async fn on_12_without_a_name_each_request_is_a_session() {
    let server = Server::start().await;
    let (first, _) = answer(&server, None, json!([user("one")])).await;
    let (second, _) = answer(&server, None, json!([user("one")])).await;
    assert_ne!(first, second);
    let (third, said) = answer(&server, None, json!([user("a"), assistant("b"), user("c")])).await;
    assert_eq!(texts(&server, &third).await, ["a", "b", "c", said.as_str()], "what it brings is taken along");
}

#[tokio::test]
async fn a_session_is_named_by_its_id_a_word_or_a_pair() {
    let server = Server::start().await;
    let session = server.session().await;
    assert_eq!(answer(&server, Some(&session), json!([user("one")])).await.0, session);
    assert_eq!(answer(&server, Some(&session), json!([user("two")])).await, (session.clone(), "reply 2 to: two".into()));
    let word = answer(&server, Some("any words, ünïcode"), json!([user("one")])).await.0;
    assert_eq!(server.get(&format!("/api/sessions/{word}")).await["resource"], "default");
    let by_pair = server.request(Method::POST, "/v1/chat/completions").json(&json!({ "model": "demo", "messages": [user("x")] }));
    let response = by_pair.header("x-everkept-resource", "ann").header("x-everkept-thread", "t").send().await.unwrap();
    let of_ann = server.get("/api/threads/ann/t").await;
    assert_eq!(response.headers()["x-session-id"].to_str().unwrap(), of_ann["id"].as_str().unwrap());
    let ann = server.token("resource", "ann").await;
    let own =
        server.request_as(&ann, Method::POST, "/v1/chat/completions").header("x-session-id", "t").json(&json!({ "messages": [user("y")] }));
    assert_eq!(own.send().await.unwrap().headers()["x-session-id"].to_str().unwrap(), of_ann["id"].as_str().unwrap());
    // Somebody else's id is a word like any other.
    let bob = server.token("resource", "bob").await;
    let foreign = server.request_as(&bob, Method::POST, "/v1/chat/completions").header("x-session-id", &session);
    let made = foreign.json(&json!({ "messages": [user("z")] })).send().await.unwrap();
    assert_ne!(made.headers()["x-session-id"].to_str().unwrap(), session);
}

#[tokio::test]
async fn o3_a_key_makes_one_completion() {
    let server = Server::start().await;
    for session in [None, Some("named")] {
        let send = async || {
            let mut request = server
                .request(Method::POST, "/v1/chat/completions")
                .header("idempotency-key", format!("k-{session:?}").replace(['"', '(', ')'], ""));
            if let Some(session) = session {
                request = request.header("x-session-id", session);
            }
            good(request.json(&json!({ "model": "demo", "messages": [user("one")] })).send().await.unwrap()).await
        };
        let first = send().await;
        assert_eq!(send().await, first);
        let other = server.request(Method::POST, "/v1/chat/completions").header("idempotency-key", "k-None");
        let (status, code, _) = refused(other.json(&json!({ "model": "demo", "messages": [user("another")] }))).await;
        assert_eq!((status, code.as_str()), (422, "idempotency_mismatch"));
    }
    assert_eq!(server.get("/api/sessions?count=true").await["total"], 2, "what was refused has made no session");
}

#[tokio::test]
async fn oc_03_re_02_a_chat_waits_for_the_attempt_that_answers() {
    let server = Server::start().await;
    let ask = |name: &'static str, words: &str, stream: bool| {
        complete(&server, Some(name), json!({ "model": "other", "messages": [user(words)], "stream": stream }))
    };
    let whole = good(ask("whole", "!fail:1 hello", false).await).await;
    assert_eq!((&whole["choices"][0]["message"]["content"], &whole["model"]), (&json!("reply 2 to: hello"), &json!("other/other/small")));

    let response = ask("stream", "!fail:1 !think hello", true).await;
    let session = response.headers()["x-session-id"].to_str().unwrap().to_owned();
    let (streamed, done) = chunks(response).await;
    assert!(done);
    assert_eq!(text(&streamed), "reply 2 to: hello");
    assert_eq!(texts(&server, &session).await.last().unwrap(), "reply 2 to: hello", "what a stream adds up to is what is kept");
    let turns = server.get(&format!("/api/sessions/{session}/turns")).await["items"].clone();
    assert_eq!(turns[0]["superseded_by"], turns[1]["id"]);
    assert!(streamed.iter().all(|chunk| chunk["id"] == format!("chatcmpl-{}", turns[0]["id"].as_str().unwrap())));
    assert!(streamed.iter().all(|chunk| chunk["created"] == streamed[0]["created"]));
    assert_eq!(streamed.last().unwrap()["model"], "other/other/small");

    // Nothing follows the last attempt, and its failure is told.
    for stream in [false, true] {
        let response = ask(if stream { "lost" } else { "lost too" }, "!fail:2 hello", stream).await;
        let session = response.headers()["x-session-id"].to_str().unwrap().to_owned();
        let error = if stream { chunks(response).await.0.pop().unwrap() } else { response.json().await.unwrap() };
        let turns = server.get(&format!("/api/sessions/{session}/turns")).await["items"].clone();
        assert_eq!((&error["error"]["turn"], &turns[1]["state"]), (&turns[1]["id"], &json!("dead_lettered")), "{error}");
    }
}

#[tokio::test]
async fn oc_03_a_stream_never_mixes_the_words_of_two_attempts_and_the_same_request_gives_the_answer() {
    let server = Server::start().await;
    let history = json!([user("one"), assistant("reply 1 to: one"), user("!ask !falter:2 two")]);
    for (name, key) in [("by-key", Some("k")), ("by-history", None)] {
        good(complete(&server, Some(name), json!({ "model": "other", "messages": [user("one")] })).await).await;
        let ask = || {
            let mut request = server.request(Method::POST, "/v1/chat/completions").header("x-session-id", name);
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let body = json!({ "model": "other", "messages": history, "stream": true });
            request.json(&body).send()
        };
        // The stream is there before the first attempt may say a word, and the second waits as well.
        let response = ask().await.unwrap();
        allow(&server).await;
        let (mut broken, done) = chunks(response).await;
        allow(&server).await;
        let error = broken.pop().unwrap();
        assert_eq!((text(&broken).as_str(), done, &error["error"]["code"]), ("reply 2 to: ", false, &json!("turn_retried")), "{error}");
        assert_eq!(error["error"]["may_have_happened"], true);
        let answered = error["error"]["turn"].as_str().unwrap();
        let (whole, done) = chunks(ask().await.unwrap()).await;
        assert_eq!((text(&whole).as_str(), done), ("reply 3 to: two", true), "{whole:?}");
        assert_eq!(whole[0]["id"], format!("chatcmpl-{answered}"));
        let thread = server.get(&format!("/api/threads/default/{name}")).await;
        let said = texts(&server, thread["id"].as_str().unwrap()).await;
        assert_eq!(said, ["one", "reply 1 to: one", "!ask !falter:2 two", "reply 3 to: two"], "one question, one answer");
    }
}

#[tokio::test]
async fn errors_are_openais() {
    let server = Server::start().await;
    let post = |body: Value| server.request(Method::POST, "/v1/chat/completions").json(&body);
    for (body, status, param) in [
        (json!({ "model": "nobody", "messages": [user("x")] }), 422, "model"),
        (json!({ "model": "demo" }), 422, "messages"),
        (json!({ "model": "demo", "messages": [] }), 422, "messages"),
        (json!({ "model": "demo", "messages": [user("x"), assistant("y")] }), 422, "messages"),
        (json!({ "model": "demo", "messages": [user("")] }), 422, "messages[0].content"),
        (json!({ "model": "demo", "messages": [user("x")], "n": 2 }), 422, "n"),
    ] {
        let (said, _, named) = refused(post(body.clone())).await;
        assert_eq!((said, named.as_str()), (status, param), "{body}");
    }
    let error: Value = post(json!({ "model": "nobody", "messages": [user("x")] })).send().await.unwrap().json().await.unwrap();
    let keys: Vec<_> = error["error"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    let denied = server.client.post(server.url("/v1/chat/completions")).json(&json!({})).send().await.unwrap();
    assert_eq!(denied.status(), 401);
    assert_eq!(denied.json::<Value>().await.unwrap()["error"]["type"], "authentication_error");
    assert_eq!(refused(server.request(Method::GET, "/v1/nothing")).await.0, 404);
}

#[tokio::test]
async fn parameters_of_openais_are_taken_and_left() {
    let server = Server::start().await;
    let body = json!({
        "model": "other/x/y", "temperature": 0.2, "max_tokens": 5, "tools": [{ "type": "function" }], "user": "ann", "metadata": {},
        "messages": [{ "role": "user", "name": "ann", "content": [
            { "type": "text", "text": "look " },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=", "detail": "low" } }] }],
    });
    let response = complete(&server, None, body).await;
    let session = response.headers()["x-session-id"].to_str().unwrap().to_owned();
    assert_eq!(good(response).await["model"], "other/x/y");
    let messages = server.get(&format!("/api/sessions/{session}/messages")).await;
    assert_eq!(messages["items"][0]["parts"][1]["media_type"], "image/png");
}

#[tokio::test]
async fn a_client_that_leaves_ends_nothing() {
    let server = Server::start().await;
    let response =
        complete(&server, Some("chat"), json!({ "model": "demo", "messages": [user("!slow:5 one two three four")], "stream": true })).await;
    let session = response.headers()["x-session-id"].to_str().unwrap().to_owned();
    drop(response);
    let events = server.stream(&format!("/api/sessions/{session}/events")).await.until("turn.ended").await;
    assert_eq!(events.last().unwrap().json()["data"]["state"], "completed");
}

#[tokio::test]
async fn models_are_agents() {
    let server = Server::start().await;
    let models = server.get("/v1/models").await;
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["demo", "other", "other/other/big"]);
}

#[tokio::test]
async fn a_chat_stream_has_no_block_that_is_not_a_chunk() {
    let server = Server::start().await;
    let response = complete(&server, None, json!({ "model": "demo", "messages": [user("hi")], "stream": true })).await;
    let body = response.text().await.unwrap();
    assert!(body.trim_end().split("\n\n").all(|block| block.starts_with("data: ")), "{body}");
}
