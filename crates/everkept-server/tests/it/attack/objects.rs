//! One of everything an owner can have, and how every route is asked about one of them.
//!
//! Never silent about a route it does not know: whoever adds one says here what it takes.

use super::house::House;
use crate::line::{Answer, Line};
use everkept_core::{QuestionId, SessionId, TokenId, TurnId, digest_of};
use serde_json::{Value, json};
use uuid::Uuid;

/// Stands in every text of an owner's, to be found where it must not be.
pub fn marker(owner: &str) -> String {
    format!("zebra-of-{owner}")
}

/// What the parameters of a route may name.
#[derive(Debug, Clone)]
pub struct Things {
    pub resource: String,
    pub thread: String,
    pub ses: String,
    /// Completed, failed, waiting for an answer, queued, given up.
    pub turns: [String; 5],
    /// Open, and answered with a rule.
    pub questions: [String; 2],
    pub blob: String,
    pub tok: String,
}

impl Things {
    /// What is not there.
    pub fn absent(resource: &str) -> Things {
        let nothing = Uuid::from_u128(0x0dd0_0dd0_0dd0_0dd0);
        let (turn, question) = (TurnId(nothing).to_string(), QuestionId(nothing).to_string());
        Things {
            resource: resource.into(),
            thread: "no-such-thread".into(),
            ses: SessionId(nothing).to_string(),
            turns: [(); 5].map(|()| turn.clone()),
            questions: [(); 2].map(|()| question.clone()),
            blob: digest_of("nothing").to_string(),
            tok: TokenId(nothing).to_string(),
        }
    }

    /// A session where nothing is open: nothing but the thing asked about decides over the answer.
    pub async fn quiet(house: &House, line: &mut Line, credential: &str, owner: &str) -> Things {
        let turns = format!("/api/threads/{owner}/quiet/turns");
        let turn = line.as_client(credential, "POST", &turns, Some(&json!({ "input": "hello" }))).await.json();
        house.ended(turn["id"].as_str().unwrap()).await;
        Things { ses: turn["session"].as_str().unwrap().to_owned(), ..Things::absent(owner) }
    }

    /// A session with one of each kind, made by its owner.
    pub async fn of(house: &House, line: &mut Line, credential: &str, owner: &str, thread: &str) -> Things {
        let marker = marker(owner);
        let file = json!({ "type": "file", "name": format!("{marker}.txt"), "media_type": "text/plain", "data": "emVicmE=" });
        let (name, text) = (format!("{marker} {thread}"), format!("{thread} {marker}"));
        let data = json!([{ "type": "text", "text": text }, { "type": "file", "name": name, "media_type": "text/plain", "data": base64(&text) }, file]);
        let turns = format!("/api/threads/{owner}/{thread}/turns");
        let mut ask = async |input: Value| -> Value {
            let answer = line.as_client(credential, "POST", &turns, Some(&json!({ "input": input }))).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            answer.json()
        };
        let id = |turn: &Value| turn["id"].as_str().unwrap().to_owned();
        let completed = ask(data).await;
        house.ended(&id(&completed)).await;
        let failed = id(&ask(json!(format!("!fail {marker}"))).await);
        house.ended(&failed).await;
        let allowed = id(&ask(json!(format!("!ask always {marker}"))).await);
        let ses = completed["session"].as_str().unwrap().to_owned();
        let rule = open_question(line, credential, &ses).await;
        let answered =
            line.as_client(credential, "POST", &format!("/api/questions/{rule}/answer"), Some(&json!({ "option": "allow_always" }))).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        house.ended(&allowed).await;
        let body = json!({ "input": format!("!fail {marker}"), "agent": "other" });
        let given_up = line.as_client(credential, "POST", &turns, Some(&body)).await.json();
        house.ended(&id(&given_up)).await;
        let letter = dead_letter(line, credential, completed["session"].as_str().unwrap()).await;
        let body = json!({ "input": format!("!ask {marker}") });
        let waiting = line.as_client(credential, "POST", &turns, Some(&body)).await.json();
        let open = open_question(line, credential, &ses).await;
        let queued = line.as_client(credential, "POST", &turns, Some(&json!({ "input": marker }))).await.json();
        let title = json!({ "title": marker, "metadata": { "note": marker } });
        assert_eq!(line.as_client(credential, "PATCH", &format!("/api/sessions/{ses}"), Some(&title)).await.status, 200);
        Things {
            resource: owner.into(),
            thread: thread.into(),
            ses,
            turns: [id(&completed), failed, id(&waiting), id(&queued), letter],
            questions: [open, rule],
            blob: digest_of(&text).to_string(),
            tok: String::new(),
        }
    }

    fn fill(&self, own: &Things, template: &str) -> String {
        let pairs = [
            ("{own_ses}", &own.ses),
            ("{resource}", &self.resource),
            ("{thread}", &self.thread),
            ("{ses}", &self.ses),
            ("{trn}", &self.turns[0]),
            ("{failed_trn}", &self.turns[1]),
            ("{waiting_trn}", &self.turns[2]),
            ("{queued_trn}", &self.turns[3]),
            ("{letter_trn}", &self.turns[4]),
            ("{qst}", &self.questions[0]),
            ("{rule}", &self.questions[1]),
            ("{id}", &self.blob),
            ("{tok}", &self.tok),
            ("{seq}", &"1".to_owned()),
        ];
        pairs.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

async fn open_question(line: &mut Line, credential: &str, session: &str) -> String {
    // The agent asks when it gets round to it.
    for _ in 0..10_000 {
        let open = line.as_client(credential, "GET", &format!("/api/questions?session={session}"), None).await.json();
        if let Some(question) = open["items"][0]["id"].as_str() {
            return question.to_owned();
        }
        tokio::task::yield_now().await;
    }
    panic!("no question is asked");
}

async fn dead_letter(line: &mut Line, credential: &str, session: &str) -> String {
    for _ in 0..10_000 {
        let letters = line.as_client(credential, "GET", &format!("/api/dead-letters?session={session}"), None).await.json();
        if let Some(letter) = letters["items"][0]["turn"]["id"].as_str() {
            return letter.to_owned();
        }
        tokio::task::yield_now().await;
    }
    panic!("no turn is given up")
}

/// One way of asking a route about a thing: everything may name one.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub method: &'static str,
    /// Path and query.
    pub target: &'static str,
    pub headers: &'static str,
    pub body: &'static str,
    /// What the owner is answered, who has the thing.
    pub own: u16,
    /// A list: it answers everyone, and must be empty of what is another's.
    pub lists: bool,
}

const fn ask(method: &'static str, target: &'static str, body: &'static str, own: u16) -> Ask {
    Ask { method, target, headers: "", body, own, lists: false }
}

const fn list(target: &'static str) -> Ask {
    Ask { method: "GET", target, headers: "", body: "", own: 200, lists: true }
}

/// The things a route can be asked about; none when it takes no thing of anybody's.
pub fn asks(method: &str, path: &str) -> Vec<Ask> {
    let one = |ask| vec![ask];
    let stream = "accept: text/event-stream\r\n";
    let upgrade =
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    match (method, path) {
        ("GET", "/api/sessions") => vec![
            list("/api/sessions?count=true"),
            list("/api/sessions?count=true&limit=1"),
            list("/api/sessions?resource={resource}&count=true"),
            list("/api/sessions?resource={resource}&thread={thread}&count=true"),
            list("/api/sessions?thread={thread}&count=true"),
            list("/api/sessions?q=zebra&count=true"),
            list("/api/sessions?deleted=true&count=true"),
            list("/api/sessions?state=waiting&archived=false&count=true"),
        ],
        ("POST", "/api/sessions") => vec![
            ask("POST", "/api/sessions", r#"{"parent":"{ses}"}"#, 201),
            ask("POST", "/api/sessions", r#"{"parent":"{ses}","title":"x"}"#, 201),
            ask("POST", "/api/sessions", r#"{"resource":"{resource}","thread":"{thread}"}"#, 409),
        ],
        // The page is one for all: what it shows it asks for.
        ("GET", "/sessions/{ses}") => Vec::new(),
        ("GET", "/api/sessions/{ses}") => one(ask("GET", "/api/sessions/{ses}", "", 200)),
        ("PATCH", "/api/sessions/{ses}") => one(ask("PATCH", "/api/sessions/{ses}", r#"{"title":"x"}"#, 200)),
        ("DELETE", "/api/sessions/{ses}") => one(ask("DELETE", "/api/sessions/{ses}", "", 204)),
        ("POST", "/api/sessions/{ses}/restore") => one(ask("POST", "/api/sessions/{ses}/restore", "", 200)),
        ("POST", "/api/sessions/{ses}/clear") => one(ask("POST", "/api/sessions/{ses}/clear", "", 200)),
        ("POST", "/api/sessions/{ses}/revert") => vec![
            ask("POST", "/api/sessions/{ses}/revert", r#"{"turn":"{trn}"}"#, 409),
            ask("POST", "/api/sessions/{own_ses}/revert", r#"{"turn":"{trn}"}"#, 409),
        ],
        ("POST", "/api/sessions/{ses}/unrevert") => one(ask("POST", "/api/sessions/{ses}/unrevert", "", 409)),
        ("GET", "/api/sessions/{ses}/rules") => one(ask("GET", "/api/sessions/{ses}/rules", "", 200)),
        ("DELETE", "/api/sessions/{ses}/rules/{qst}") => {
            vec![ask("DELETE", "/api/sessions/{ses}/rules/{rule}", "", 204), ask("DELETE", "/api/sessions/{own_ses}/rules/{rule}", "", 204)]
        }
        ("POST", "/api/sessions/{ses}/fork") => vec![
            ask("POST", "/api/sessions/{ses}/fork", r#"{"at":"{trn}"}"#, 201),
            ask("POST", "/api/sessions/{ses}/fork", r#"{"at":1}"#, 201),
            ask("POST", "/api/sessions/{own_ses}/fork", r#"{"at":"{trn}"}"#, 201),
        ],
        ("GET", "/api/sessions/{ses}/forks") => one(ask("GET", "/api/sessions/{ses}/forks", "", 200)),
        ("GET", "/api/sessions/{ses}/turns") => one(ask("GET", "/api/sessions/{ses}/turns?limit=1", "", 200)),
        ("POST", "/api/sessions/{ses}/turns") => vec![
            ask("POST", "/api/sessions/{ses}/turns", r#"{"input":"x"}"#, 202),
            ask("POST", "/api/sessions/{ses}/turns", r#"{"input":"x","if_busy":"reject"}"#, 409),
            ask("POST", "/api/sessions/{ses}/turns", r#"{"messages":[{"role":"user","content":"x"}],"history":true}"#, 409),
        ],
        ("GET", "/api/sessions/{ses}/messages") => one(ask("GET", "/api/sessions/{ses}/messages?last=5", "", 200)),
        ("POST", "/api/sessions/{ses}/messages") => {
            one(ask("POST", "/api/sessions/{ses}/messages", r#"{"messages":[{"role":"user","content":"x"}]}"#, 409))
        }
        ("GET", "/api/sessions/{ses}/snapshot") => one(ask("GET", "/api/sessions/{ses}/snapshot", "", 200)),
        ("GET", "/api/sessions/{ses}/summary") => one(ask("GET", "/api/sessions/{ses}/summary", "", 200)),
        ("GET", "/api/sessions/{ses}/events") => vec![
            ask("GET", "/api/sessions/{ses}/events?count=true", "", 200),
            ask("GET", "/api/sessions/{ses}/events?after=999999", "", 200),
            Ask { headers: stream, ..ask("GET", "/api/sessions/{ses}/events", "", 200) },
            Ask { headers: stream, ..ask("GET", "/api/sessions/{ses}/events?after=999999", "", 422) },
            list("/api/sessions/{own_ses}/events?turn={trn}&count=true"),
        ],
        ("GET", "/api/sessions/{ses}/events/{seq}") => one(ask("GET", "/api/sessions/{ses}/events/{seq}", "", 200)),
        ("GET", "/api/sessions/{ses}/socket") => vec![
            Ask { headers: upgrade, ..ask("GET", "/api/sessions/{ses}/socket", "", 101) },
            ask("GET", "/api/sessions/{ses}/socket", "", 400),
        ],
        ("GET", "/api/sessions/{ses}/export") => {
            vec![ask("GET", "/api/sessions/{ses}/export", "", 200), ask("GET", "/api/sessions/{ses}/export?format=markdown", "", 200)]
        }
        ("GET", "/api/sessions/{ses}/raw") => {
            vec![ask("GET", "/api/sessions/{ses}/raw?turn={trn}", "", 200), ask("GET", "/api/sessions/{own_ses}/raw?turn={trn}", "", 200)]
        }
        ("GET", "/api/turns/{trn}") => one(ask("GET", "/api/turns/{trn}", "", 200)),
        ("PATCH", "/api/turns/{trn}") => one(ask("PATCH", "/api/turns/{queued_trn}", r#"{"input":"y"}"#, 202)),
        ("DELETE", "/api/turns/{trn}") => one(ask("DELETE", "/api/turns/{queued_trn}", "", 204)),
        ("POST", "/api/turns/{trn}/cancel") => one(ask("POST", "/api/turns/{waiting_trn}/cancel", "", 202)),
        ("POST", "/api/turns/{trn}/retry") => one(ask("POST", "/api/turns/{failed_trn}/retry", "", 202)),
        ("POST", "/api/turns/{trn}/redo") => one(ask("POST", "/api/turns/{trn}/redo", "", 202)),
        ("POST", "/api/turns/{trn}/continue") => one(ask("POST", "/api/turns/{trn}/continue", "", 202)),
        ("GET", "/api/dead-letters") => vec![
            list("/api/dead-letters"),
            list("/api/dead-letters?resource={resource}"),
            ask("GET", "/api/dead-letters?session={ses}", "", 200),
        ],
        ("POST", "/api/dead-letters/{trn}/retry") => one(ask("POST", "/api/dead-letters/{letter_trn}/retry", r#"{"input":"y"}"#, 202)),
        ("DELETE", "/api/dead-letters/{trn}") => one(ask("DELETE", "/api/dead-letters/{letter_trn}", "", 204)),
        ("GET", "/api/questions") => {
            vec![list("/api/questions"), list("/api/questions?resource={resource}"), ask("GET", "/api/questions?session={ses}", "", 200)]
        }
        ("GET", "/api/usage") => vec![
            list("/api/usage"),
            list("/api/usage?resource={resource}"),
            list("/api/usage?by=resource,session"),
            ask("GET", "/api/usage?session={ses}", "", 200),
        ],
        ("GET", "/api/questions/{qst}") => one(ask("GET", "/api/questions/{qst}", "", 200)),
        ("POST", "/api/questions/{qst}/answer") => vec![
            ask("POST", "/api/questions/{qst}/answer", r#"{"option":"allow_once"}"#, 200),
            ask("POST", "/api/questions/{rule}/answer", r#"{"option":"allow_once"}"#, 409),
        ],
        ("GET", "/api/threads/{resource}") => vec![list("/api/threads/{resource}?count=true"), list("/api/threads/{resource}?limit=1")],
        ("GET", "/api/threads/{resource}/{thread}") => one(ask("GET", "/api/threads/{resource}/{thread}", "", 200)),
        ("DELETE", "/api/threads/{resource}/{thread}") => one(ask("DELETE", "/api/threads/{resource}/{thread}", "", 204)),
        ("POST", "/api/threads/{resource}/{thread}/turns") => {
            one(ask("POST", "/api/threads/{resource}/{thread}/turns", r#"{"input":"x"}"#, 202))
        }
        ("GET", "/api/blobs/{id}") => one(ask("GET", "/api/blobs/{id}", "", 200)),
        ("DELETE", "/api/tokens/{tok}") => one(ask("DELETE", "/api/tokens/{tok}", "", 204)),
        ("POST", "/v1/chat/completions") => one(Ask {
            headers: "x-everkept-resource: {resource}\r\nx-everkept-thread: {thread}\r\n",
            ..ask("POST", "/v1/chat/completions", r#"{"model":"demo","messages":[{"role":"user","content":"x"}]}"#, 200)
        }),
        // Nobody's things: the caller's own and the server's.
        (
            "GET",
            "/agents/connect" | "/api/feed" | "/api/agents" | "/api/breakers" | "/api/health" | "/api/openapi.json" | "/api/tokens"
            | "/v1/models",
        )
        | ("POST", "/api/tokens" | "/api/login-links")
        | ("GET", "/" | "/chat" | "/waiting" | "/ops" | "/login" | "/login.js" | "/login.css" | "/assets/{version}/{*file}")
        | ("GET", "/sw.js" | "/manifest.webmanifest" | "/icon.svg" | "/icon-192.png" | "/icon-512.png")
        | ("POST", "/login") => Vec::new(),
        (method, path) => panic!("{method} {path} is a new route: say here which things of an owner's it may name"),
    }
}

impl Ask {
    /// Asks about one of `things`; `own` are the caller's.
    pub async fn about(&self, line: &mut Line, credential: &str, things: &Things, own: &Things, key: Option<&str>) -> Answer {
        let fill = |template: &str| things.fill(own, template);
        let kind = if self.body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let headers = format!("host: localhost:{}\r\n{credential}{kind}{key}{}", crate::line::PORT, fill(self.headers));
        line.send(self.method, &fill(self.target), &headers, fill(self.body).as_bytes()).await
    }

    pub fn writes(&self) -> bool {
        self.method != "GET"
    }
}
