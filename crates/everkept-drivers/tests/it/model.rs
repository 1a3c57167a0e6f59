//! Models over HTTP: the fake one in both dialects, and servers that answer as badly as servers do.

use crate::{
    support::{PATIENCE, Talk, fresh_turn},
    world::World,
};
use bytes::Bytes;
use everkept_agent::{
    Agent, AgentFaultKind, Done, Open, OpenSession, Order, Prompt, PromptPart,
    conformance::{self, Script},
};
use everkept_core::{AgentSessionId, Message, MessageId, ModelName, Part, PartId, Role, Said, Timestamp, Usage};
use everkept_drivers::model::{Api, ModelAgent, ModelConfig};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

fn http() -> reqwest::Client {
    // Once for the whole process; a client cannot be made without.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn agent(api: Api, url: &str) -> ModelAgent {
    agent_told(api, url, None)
}

fn agent_told(api: Api, url: &str, system_prompt: Option<&str>) -> ModelAgent {
    let base_url = match api {
        Api::OpenAi => format!("{url}/v1/"),
        Api::Anthropic => url.to_owned(),
    };
    let config = ModelConfig {
        name: "mine".into(),
        api,
        base_url,
        key: Some("sk-secret".into()),
        model: Some(ModelName::new("fake").unwrap()),
        max_tokens: None,
        system_prompt: system_prompt.map(str::to_owned),
    };
    static IDS: AtomicU64 = AtomicU64::new(0);
    let new_id = Arc::new(|| format!("model-{}", IDS.fetch_add(1, Ordering::Relaxed)));
    ModelAgent::new(config, http(), new_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_an_agent_in_both_dialects() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let world = World::new();
        let script = Script {
            directory: world.directory(),
            plain: "hello there".into(),
            long: Some("take your time SLOW".into()),
            fail: Some("now FAIL".into()),
            model: Some(ModelName::new("fake/other").unwrap()),
            unknown_session: "model-nobody".into(),
            ..Script::default()
        };
        let agent = Arc::new(agent(api, &world.url));
        conformance::whole(agent.clone(), &script).await;
        let models: Vec<_> = world.requests().iter().map(|request| request["body"]["model"].as_str().unwrap().to_owned()).collect();
        assert_eq!(models.last().unwrap(), "fake/other", "the model that was set is asked");
        conformance::cut_short(agent, &script).await;
    }
}

fn said(n: u64, role: Role, text: &str) -> Message {
    Message {
        id: MessageId::derive(Default::default(), "message", n),
        turn: None,
        role,
        parts: vec![Part::Text { id: PartId::derive(Default::default(), "part", n), text: text.into() }],
        created_at: Timestamp(0),
        usage: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oc_03_what_was_said_goes_along_with_every_prompt_and_what_failed_does_not() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let world = World::new();
        let agent = agent(api, &world.url);
        let kept = AgentSessionId::new("model-kept").unwrap();
        let mut talk = Talk::open(&agent, &world.directory(), OpenSession::Resume(kept.clone())).await;
        assert_eq!(talk.session(), kept, "its name is kept");
        let history = vec![said(1, Role::System, "be brief"), said(2, Role::User, "my name is Ada"), said(3, Role::Assistant, "hello Ada")];
        let prompt = Prompt { turn: fresh_turn(), parts: vec![PromptPart::Text("who am I".into())], history };
        talk.order(Order::Prompt(prompt)).await;
        assert_eq!(talk.hear_out().await.text(), "reply 2 to: who am I");
        assert!(matches!(talk.prompt("now FAIL").await.done(), Done::Failed { .. }));
        talk.begin("take your time SLOW").await;
        talk.hear_until(|said| matches!(said, Said::Text { .. })).await;
        talk.order(Order::Cancel).await;
        assert_eq!(*talk.hear_out().await.done(), Done::Cancelled);
        assert_eq!(talk.prompt("and now").await.text(), "reply 4 to: and now");
        assert_eq!(world.last_prompts(), ["my name is Ada", "who am I", "take your time SLOW", "and now"]);
        let body = world.requests().pop().unwrap()["body"].clone();
        let sent = body.to_string();
        assert!(sent.contains("hello Ada") && sent.contains("reply 2 to: who am I"), "the answers are in it: {sent}");
        let system = match api {
            Api::OpenAi => body["messages"][0]["role"].clone(),
            Api::Anthropic => body["system"][0]["type"].clone(),
        };
        assert!(system == "system" || system == "text", "{body}");
        talk.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_as_the_api_takes_them() {
    let file = |name: &str, media_type: &str, bytes: &'static [u8]| PromptPart::File {
        name: Some(name.into()),
        media_type: media_type.into(),
        bytes: Bytes::from_static(bytes),
    };
    let parts = vec![
        PromptPart::Text("look".into()),
        file("a.png", "image/png", b"\x89PNG"),
        file("n.txt", "text/plain", b"a note"),
        file("x.bin", "application/x-thing", b"\xff\x00"),
    ];
    for (api, image) in [(Api::OpenAi, "data:image/png;base64,iVBORw=="), (Api::Anthropic, "\"data\":\"iVBORw==\"")] {
        let world = World::new();
        let agent = agent(api, &world.url);
        let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
        talk.order(Order::Prompt(Prompt { turn: fresh_turn(), parts: parts.clone(), history: Vec::new() })).await;
        assert!(matches!(talk.hear_out().await.done(), Done::Completed { .. }));
        let sent = world.requests().pop().unwrap()["body"]["messages"].to_string();
        for part in [image, "a note", "x.bin of type application/x-thing"] {
            assert!(sent.contains(part), "{part} is not in {sent}");
        }
        talk.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ws_18_a_model_is_told_its_system_prompt_with_every_prompt() {
    for api in [Api::OpenAi, Api::Anthropic] {
        let world = World::new();
        let agent = agent_told(api, &world.url, Some("Speak of roofs."));
        let mut talk = Talk::open(&agent, &world.directory(), OpenSession::New).await;
        talk.prompt("one").await;
        talk.prompt("now FAIL").await;
        talk.prompt("two").await;
        let session = talk.session();
        talk.end().await;
        for open in [OpenSession::Resume, OpenSession::Fork] {
            let mut talk = Talk::open(&agent, &world.directory(), open(session.clone())).await;
            talk.prompt("three").await;
            talk.end().await;
        }
        let requests = world.requests();
        assert_eq!(requests.len(), 5);
        for request in requests {
            let body = &request["body"];
            let told = if api == Api::OpenAi { &body["messages"][0]["content"] } else { &body["system"][0]["text"] };
            assert_eq!(told, "Speak of roofs.");
            assert_eq!(body.to_string().matches("Speak of roofs.").count(), 1);
        }
    }
}

#[tokio::test]
async fn an_agent_without_a_model_says_what_to_do() {
    let config = ModelConfig {
        name: "mine".into(),
        api: Api::OpenAi,
        base_url: "http://127.0.0.1:9".into(),
        key: None,
        model: None,
        max_tokens: None,
        system_prompt: None,
    };
    let agent = ModelAgent::new(config, http(), Arc::new(|| "model-1".into()));
    let fault = agent.open(Open { directory: "/".into(), session: OpenSession::New, model: None }).await.unwrap_err();
    assert!(fault.kind == AgentFaultKind::Refused && fault.message.contains("config.toml"), "{fault}");
}

/// Answers each connection with the next of these bytes and closes it; gives back the requests.
async fn server(answers: Vec<Vec<u8>>) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (give, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            loop {
                let mut piece = [0; 4_096];
                let read = socket.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&request);
                let length =
                    text.to_lowercase().split_once("content-length: ").map(|(_, rest)| rest.split("\r\n").next().unwrap().to_owned());
                let whole =
                    text.split_once("\r\n\r\n").zip(length).is_some_and(|((_, body), length)| body.len() >= length.parse().unwrap());
                if whole || read == 0 {
                    break;
                }
            }
            give.send(String::from_utf8_lossy(&request).into_owned()).unwrap();
            // Piece by piece, so that events are cut in their middle.
            for piece in answer.chunks(7) {
                socket.write_all(piece).await.unwrap();
                socket.flush().await.unwrap();
            }
        }
    });
    (url, requests)
}

fn stream(events: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}").into_bytes()
}

fn refused(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// As the documents of both vendors give them, and as servers that took the API over deviate.
#[tokio::test]
async fn an_answer_is_what_the_server_completed_and_every_byte_of_it_is_kept() {
    let openai = concat!(
        ": a comment\n\n",
        "data: {\"id\":\"c1\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"id\":\"c1\",\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
        "data: {\"id\":\"c1\",\"choices\":[{\"delta\":{\"content\":\"Gr\u{fc}\u{df}e\"}}],\"usage\":null}\r\n\r\n",
        "data: {\"id\":\"c1\",\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,",
        "\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n",
    );
    let anthropic = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"usage\":{\"input_tokens\":9,",
        "\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\"}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\u{fc}\u{df}e\"}}\n\n",
        "event: brand_new\ndata: {\"type\":\"brand_new\",\"x\":1}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":3}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    for (api, events, reason) in [
        (Api::OpenAi, format!("{openai}data: [DONE]\n\n"), "length"),
        // Some servers close without a last line.
        (Api::OpenAi, openai.to_owned(), "length"),
        (Api::Anthropic, anthropic.to_owned(), "max_tokens"),
    ] {
        let (url, mut requests) = server(vec![stream(&events)]).await;
        let agent = agent(api, &url);
        let mut talk = Talk::open(&agent, Path::new("/"), OpenSession::New).await;
        let heard = talk.prompt("hello").await;
        assert_eq!(*heard.done(), Done::Completed { reason: reason.into() });
        assert_eq!(heard.text(), "Gr\u{fc}\u{df}e");
        assert!(heard.said.iter().any(|said| matches!(said, Said::Reasoning { text, .. } if text == "hm")), "{:?}", heard.said);
        assert_eq!(String::from_utf8(heard.bytes()).unwrap(), events, "every byte is handed over");
        let usage = heard.said.iter().filter_map(|said| if let Said::Usage(usage) = said { Some(usage) } else { None }).next_back();
        let reasoning_tokens = (api == Api::OpenAi).then_some(1);
        // Nine in all with the one, nine beside the cached ones with the other.
        let input_tokens = Some(if api == Api::OpenAi { 5 } else { 9 });
        let expected = Usage { input_tokens, output_tokens: Some(3), cache_read_tokens: Some(4), reasoning_tokens, ..Usage::default() };
        assert_eq!(usage, Some(&expected));
        let of_message = heard.said.iter().filter_map(|said| match said {
            Said::MessageUsage { message, usage } => Some((message.is_some(), usage.clone())),
            _ => None,
        });
        let ended = events.contains("[DONE]") || events.contains("message_stop");
        assert_eq!(of_message.collect::<Vec<_>>(), vec![(true, expected); usize::from(ended)], "the one request made one message");
        let unknown = heard.said.iter().filter(|said| matches!(said, Said::Raw(_))).count();
        assert_eq!(unknown, usize::from(api == Api::Anthropic), "what has no word of ours is kept: {:?}", heard.said);
        let request = requests.recv().await.unwrap().to_lowercase();
        let key = if api == Api::OpenAi { "authorization: bearer sk-secret" } else { "x-api-key: sk-secret" };
        assert!(request.contains(key), "{request}");
        talk.end().await;
    }
}

#[tokio::test]
async fn what_a_server_did_not_complete_is_failed_with_its_own_words_and_the_session_goes_on() {
    let cut = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n";
    let half =
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"half\"}}\n\n";
    let cases: Vec<(Api, Vec<u8>, &str, &str)> = vec![
        (Api::OpenAi, stream(cut), "cut_off", "ended before the answer did"),
        (Api::Anthropic, stream(half), "cut_off", "ended before the answer did"),
        (
            Api::OpenAi,
            stream(&format!("{cut}data: {{\"error\":{{\"type\":\"server_error\",\"message\":\"overloaded\"}}}}\n\n")),
            "server_error",
            "overloaded",
        ),
        (
            Api::Anthropic,
            stream(&format!(
                "{half}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n"
            )),
            "overloaded_error",
            "Overloaded",
        ),
        (
            Api::OpenAi,
            refused("429 Too Many Requests", "{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"slow down\"}}"),
            "rate_limit_exceeded",
            "slow down",
        ),
        (
            Api::Anthropic,
            refused("401 Unauthorized", "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"bad key\"}}"),
            "authentication_error",
            "bad key",
        ),
        (Api::OpenAi, refused("502 Bad Gateway", "<html>"), "http_502", "http_502"),
        (Api::OpenAi, b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ndata: ".to_vec(), "cut_off", ""),
        (Api::OpenAi, b"nonsense\r\n\r\n".to_vec(), "cut_off", ""),
    ];
    for (api, answer, code, message) in cases {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let whole = match api {
            Api::OpenAi => stream(
                "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"well\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
            ),
            Api::Anthropic => stream("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        };
        let (url, mut requests) = server(vec![answer, whole]).await;
        let agent = agent(api, &url);
        let mut talk = Talk::open(&agent, Path::new("/"), OpenSession::New).await;
        let heard = talk.prompt("the first").await;
        let Done::Failed { code: found, message: why } = heard.done() else { panic!("{shown}: {:?}", heard.done()) };
        assert!(found == code && why.contains(message), "{shown}: {found}: {why}");
        assert!(!why.contains("sk-secret"), "{why}");
        assert!(matches!(talk.prompt("the second").await.done(), Done::Completed { .. }), "{shown}");
        requests.recv().await.unwrap();
        let second = requests.recv().await.unwrap();
        assert!(second.contains("the second") && !second.contains("the first"), "what failed is not told again: {second}");
        talk.end().await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let agent = agent(Api::OpenAi, &format!("http://127.0.0.1:{port}"));
    let mut talk = Talk::open(&agent, Path::new("/"), OpenSession::New).await;
    let heard = tokio::time::timeout(PATIENCE, talk.prompt("hello")).await.unwrap();
    let Done::Failed { code, message } = heard.done() else { panic!("{:?}", heard.done()) };
    assert!(code == "unreachable" && message.starts_with("mine: "), "{code}: {message}");
}
