//! One request for every route there is, which does what the route is for.
//!
//! Never silent about a route it does not know: whoever adds one adds a row.

use super::house::House;
use everkept_core::digest_of;
use everkept_server::create_token;
use serde_json::json;

/// What requests name: sessions in every state a request can be about.
#[derive(Debug, Clone)]
pub struct Things {
    /// In thread `ann/t`; nothing is open in it.
    pub ses: String,
    pub completed: String,
    pub failed: String,
    pub letter: String,
    pub rule: String,
    /// A turn that waits for an answer, and one behind it.
    pub waiting: String,
    pub question: String,
    pub queued: String,
    pub trashed: String,
    pub reverted: String,
    pub token: String,
    /// The header of whoever has it.
    pub token_header: String,
    /// The header of a relay.
    pub relay_header: String,
}

const FILE: &str = "emVicmE=";

impl Things {
    pub async fn made_in(house: &House) -> Things {
        let file = json!([{ "type": "text", "text": "look" }, { "type": "file", "name": "f", "media_type": "text/plain", "data": FILE }]);
        let (completed, ses) = house.turn("t", &json!({ "input": file })).await;
        house.ended(&completed).await;
        let (failed, _) = house.told("t", "!fail").await;
        let (given_up, _) = house.turn("dead", &json!({ "input": "!fail", "agent": "other" })).await;
        house.ended(&given_up).await;
        let letter = house.dead_letter().await;
        let (allowed, _) = house.turn("t", &json!({ "input": "!ask always" })).await;
        let rule = house.open_question(&ses).await;
        let answered = house.as_admin("POST", &format!("/api/questions/{rule}/answer"), r#"{"option":"allow_always"}"#).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        house.ended(&allowed).await;
        let (_, trashed) = house.told("trashed", "hello").await;
        assert_eq!(house.as_admin("DELETE", &format!("/api/sessions/{trashed}"), "").await.status, 204);
        let (_, reverted) = house.told("reverted", "hello").await;
        assert_eq!(house.as_admin("POST", &format!("/api/sessions/{reverted}/revert"), "{}").await.status, 200);
        let (waiting, busy) = house.turn("busy", &json!({ "input": "!ask once" })).await;
        let question = house.open_question(&busy).await;
        let (queued, _) = house.turn("busy", &json!({ "input": "later" })).await;
        let (token, secret) = create_token(&house.engine, "resource", Some("ann".into()), None).await.unwrap();
        let token_header = super::house::bearer(&secret);
        let (_, secret) = create_token(&house.engine, "relay", Some("far".into()), None).await.unwrap();
        let relay_header = super::house::bearer(&secret);
        let token = token.id.to_string();
        Things { ses, completed, failed, letter, rule, waiting, question, queued, trashed, reverted, token, token_header, relay_header }
    }

    pub fn fill(&self, template: &str) -> String {
        let blob = digest_of("zebra").to_string();
        let pairs = [
            ("{ses}", &self.ses),
            ("{completed}", &self.completed),
            ("{failed}", &self.failed),
            ("{letter}", &self.letter),
            ("{rule}", &self.rule),
            ("{waiting}", &self.waiting),
            ("{question}", &self.question),
            ("{queued}", &self.queued),
            ("{trashed}", &self.trashed),
            ("{reverted}", &self.reverted),
            ("{token}", &self.token),
            ("{blob}", &blob),
        ];
        pairs.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// How a request is answered, and what sending it again comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is changed: sent again, it is answered well again.
    Read,
    /// Sent again with its key, it gets the answer it had, and has one effect.
    Write,
    /// The same, but takes no key: what it does to a thing is done once by what it is.
    Unkeyed,
    /// Tells a secret that is not kept, so that it takes no key: each is a thing of its own.
    Secret,
}

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub method: &'static str,
    /// As the API's document has it.
    pub path: &'static str,
    /// What is asked, with [`Things`] named in it.
    pub target: &'static str,
    pub headers: &'static str,
    pub body: &'static str,
    pub kind: Kind,
    /// Of an answer that goes on, so much is read.
    pub until: Option<&'static str>,
    pub by: By,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Admin,
    /// The relay of an agent elsewhere.
    Relay,
}

const fn read(path: &'static str, target: &'static str) -> Row {
    Row { method: "GET", path, target, headers: "", body: "", kind: Kind::Read, until: None, by: By::Admin }
}

const fn write(method: &'static str, path: &'static str, target: &'static str, body: &'static str) -> Row {
    Row { method, path, target, headers: "", body, kind: Kind::Write, until: None, by: By::Admin }
}

const STREAM: &str = "accept: text/event-stream\r\n";
pub const UPGRADE: &str =
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const NAMED: &str = "x-everkept-resource: ann\r\nx-everkept-thread: chat\r\n";

pub const ROWS: &[Row] = &[
    read("/", "/"),
    read("/chat", "/chat?session={ses}"),
    read("/waiting", "/waiting"),
    read("/ops", "/ops"),
    read("/sessions/{ses}", "/sessions/{ses}"),
    read("/assets/{version}/{*file}", "/assets/0/js/main.js"),
    read("/sw.js", "/sw.js"),
    read("/manifest.webmanifest", "/manifest.webmanifest"),
    read("/icon.svg", "/icon.svg"),
    read("/icon-192.png", "/icon-192.png"),
    read("/icon-512.png", "/icon-512.png"),
    read("/login", "/login"),
    read("/login.js", "/login.js"),
    read("/login.css", "/login.css"),
    read("/api/openapi.json", "/api/openapi.json"),
    read("/api/health", "/api/health"),
    read("/api/agents", "/api/agents"),
    read("/v1/models", "/v1/models"),
    read("/api/tokens", "/api/tokens"),
    read("/api/sessions", "/api/sessions?q=look&count=true"),
    read("/api/sessions/{ses}", "/api/sessions/{ses}"),
    read("/api/sessions/{ses}/rules", "/api/sessions/{ses}/rules"),
    read("/api/sessions/{ses}/forks", "/api/sessions/{ses}/forks"),
    read("/api/sessions/{ses}/turns", "/api/sessions/{ses}/turns?limit=1"),
    read("/api/sessions/{ses}/messages", "/api/sessions/{ses}/messages?last=5"),
    read("/api/sessions/{ses}/snapshot", "/api/sessions/{ses}/snapshot"),
    read("/api/sessions/{ses}/summary", "/api/sessions/{ses}/summary"),
    read("/api/sessions/{ses}/events", "/api/sessions/{ses}/events?count=true&kind=turn.ended"),
    read("/api/sessions/{ses}/events/{seq}", "/api/sessions/{ses}/events/1"),
    read("/api/sessions/{ses}/export", "/api/sessions/{ses}/export"),
    read("/api/sessions/{ses}/export", "/api/sessions/{ses}/export?format=markdown"),
    read("/api/sessions/{ses}/raw", "/api/sessions/{ses}/raw?turn={completed}"),
    read("/api/turns/{trn}", "/api/turns/{completed}"),
    read("/api/breakers", "/api/breakers"),
    read("/api/dead-letters", "/api/dead-letters?limit=1"),
    read("/api/questions", "/api/questions"),
    read("/api/usage", "/api/usage?by=session,model"),
    read("/api/questions/{qst}", "/api/questions/{question}"),
    read("/api/threads/{resource}", "/api/threads/ann?count=true"),
    read("/api/threads/{resource}/{thread}", "/api/threads/ann/t"),
    read("/api/blobs/{id}", "/api/blobs/{blob}"),
    write("POST", "/api/sessions", "/api/sessions", r#"{"title":"new"}"#),
    write("PATCH", "/api/sessions/{ses}", "/api/sessions/{ses}", r#"{"title":"changed"}"#),
    write("DELETE", "/api/sessions/{ses}", "/api/sessions/{ses}", ""),
    write("POST", "/api/sessions/{ses}/restore", "/api/sessions/{trashed}/restore", ""),
    write("POST", "/api/sessions/{ses}/clear", "/api/sessions/{ses}/clear", ""),
    write("POST", "/api/sessions/{ses}/revert", "/api/sessions/{ses}/revert", "{}"),
    write("POST", "/api/sessions/{ses}/unrevert", "/api/sessions/{reverted}/unrevert", ""),
    write("POST", "/api/sessions/{ses}/fork", "/api/sessions/{ses}/fork", r#"{"at":"{completed}"}"#),
    write("DELETE", "/api/sessions/{ses}/rules/{qst}", "/api/sessions/{ses}/rules/{rule}", ""),
    write("POST", "/api/sessions/{ses}/turns", "/api/sessions/{ses}/turns", r#"{"input":"!tool two"}"#),
    write("POST", "/api/sessions/{ses}/messages", "/api/sessions/{ses}/messages", r#"{"messages":[{"role":"user","content":"aside"}]}"#),
    write("PATCH", "/api/turns/{trn}", "/api/turns/{queued}", r#"{"input":"edited"}"#),
    write("DELETE", "/api/turns/{trn}", "/api/turns/{queued}", ""),
    write("POST", "/api/turns/{trn}/cancel", "/api/turns/{waiting}/cancel", ""),
    write("POST", "/api/turns/{trn}/retry", "/api/turns/{failed}/retry", ""),
    write("POST", "/api/dead-letters/{trn}/retry", "/api/dead-letters/{letter}/retry", r#"{"input":"less"}"#),
    write("DELETE", "/api/dead-letters/{trn}", "/api/dead-letters/{letter}", ""),
    write("POST", "/api/turns/{trn}/redo", "/api/turns/{completed}/redo", ""),
    write("POST", "/api/turns/{trn}/continue", "/api/turns/{completed}/continue", ""),
    write("POST", "/api/questions/{qst}/answer", "/api/questions/{question}/answer", r#"{"option":"allow_once"}"#),
    // A thread that is there, and one that is made.
    write("POST", "/api/threads/{resource}/{thread}/turns", "/api/threads/ann/t/turns", r#"{"input":"x"}"#),
    write("POST", "/api/threads/{resource}/{thread}/turns", "/api/threads/ann/new/turns", r#"{"input":"x"}"#),
    write("DELETE", "/api/threads/{resource}/{thread}", "/api/threads/ann/t", ""),
    Row { kind: Kind::Unkeyed, ..write("DELETE", "/api/tokens/{tok}", "/api/tokens/{token}", "") },
    Row { kind: Kind::Secret, ..write("POST", "/api/login-links", "/api/login-links", "") },
    Row { kind: Kind::Secret, ..write("POST", "/api/tokens", "/api/tokens", r#"{"kind":"resource","name":"ann"}"#) },
    Row { headers: STREAM, until: Some("event: turn.ended"), ..read("/api/sessions/{ses}/events", "/api/sessions/{ses}/events") },
    Row { headers: STREAM, until: Some("data: {"), ..read("/api/feed", "/api/feed") },
    Row { headers: UPGRADE, until: Some("initialize"), by: By::Relay, ..read("/agents/connect", "/agents/connect") },
    Row { headers: UPGRADE, until: Some("turn.ended"), ..read("/api/sessions/{ses}/socket", "/api/sessions/{ses}/socket") },
    Row {
        headers: NAMED,
        ..write("POST", "/v1/chat/completions", "/v1/chat/completions", r#"{"model":"demo","messages":[{"role":"user","content":"x"}]}"#)
    },
    Row {
        headers: NAMED,
        until: Some("[DONE]"),
        ..write(
            "POST",
            "/v1/chat/completions",
            "/v1/chat/completions",
            r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"x"}]}"#,
        )
    },
    // The whole conversation again, its first message changed: a fork takes the thread over.
    Row {
        headers: "x-everkept-resource: ann\r\nx-everkept-thread: t\r\n",
        ..write(
            "POST",
            "/v1/chat/completions",
            "/v1/chat/completions",
            r#"{"messages":[{"role":"user","content":"edited"},{"role":"assistant","content":"reply 1 to: look"},{"role":"user","content":"x"}]}"#,
        )
    },
    // Without a name each is a session of its own.
    write("POST", "/v1/chat/completions", "/v1/chat/completions", r#"{"model":"demo","messages":[{"role":"user","content":"x"}]}"#),
];
