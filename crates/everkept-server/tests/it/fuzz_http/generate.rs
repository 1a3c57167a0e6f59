//! Requests made from the API's document: mostly nearly right, sometimes right, sometimes nothing of the kind.
//!
//! Never chance that the seed does not decide.

use super::schema::Document;
use super::text::{Json, number, odd, odd_text, spoil_bytes};
use crate::dice::Dice;
use crate::line::PORT;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One operation of the document.
pub struct Operation {
    pub id: String,
    pub method: String,
    pub path: String,
    pub parameters: Vec<Value>,
    pub body: Option<Value>,
    pub responses: Value,
}

impl Operation {
    /// How often it is asked: what makes things more often, what takes them away less.
    pub fn weight(&self) -> u64 {
        match self.id.as_str() {
            "create_turn" | "create_thread_turn" | "answer_question" => 16,
            id if id.starts_with("delete_session") || id.starts_with("delete_thread") => 1,
            _ => 6,
        }
    }
}

pub fn operations(document: &Document) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document.0["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                parameters: operation["parameters"].as_array().unwrap().clone(),
                body: operation.pointer("/requestBody/content/application~1json/schema").cloned(),
                responses: operation["responses"].clone(),
            });
        }
    }
    operations
}

/// What answers have told so far: ids by their kind, cursors and blobs.
#[derive(Default)]
pub struct Seen {
    by_kind: BTreeMap<&'static str, Vec<String>>,
    /// Sessions, each with a turn or a rule of its own.
    pairs: BTreeMap<&'static str, Vec<(String, String)>>,
    /// What the requests themselves need: nobody revokes it.
    pub spared: BTreeSet<String>,
}

const KINDS: [&str; 5] = ["ses_", "trn_", "qst_", "tok_", "msg_"];
const REMEMBERED: usize = 60;

impl Seen {
    pub fn learn(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                let kind = KINDS.into_iter().find(|kind| text.starts_with(kind) && text.len() == 36);
                let kind = kind.or_else(|| (text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some("blob"));
                if let Some(kind) = kind {
                    self.add(kind, text);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Object(pairs) => {
                if let Some(cursor) = pairs.get("next_cursor").and_then(Value::as_str) {
                    self.add("cursor", cursor);
                }
                self.learn_pairs(value);
                pairs.values().for_each(|value| self.learn(value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn learn_pairs(&mut self, value: &Value) {
        let (id, session) = (value["id"].as_str().unwrap_or_default(), value["session"].as_str());
        let rules = value["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["id"].as_str());
        let rules = rules.map(|rule| ("rule", id, rule));
        let turn = session.filter(|_| id.starts_with("trn_")).map(|session| ("turn", session, id));
        let queued = turn.filter(|_| value["state"] == "queued").map(|(_, session, turn)| ("queued", session, turn));
        let reverted = value["revert"].as_str().map(|turn| ("reverted", id, turn));
        for (kind, session, other) in rules.chain(turn).chain(queued).chain(reverted) {
            let pairs = self.pairs.entry(kind).or_default();
            pairs.push((session.to_owned(), other.to_owned()));
            if pairs.len() > REMEMBERED {
                pairs.remove(0);
            }
        }
    }

    pub fn add(&mut self, kind: &'static str, text: &str) {
        if self.spared.contains(text) {
            return;
        }
        let held = self.by_kind.entry(kind).or_default();
        if !held.iter().any(|one| one == text) {
            held.push(text.to_owned());
        }
        if held.len() > REMEMBERED {
            held.remove(0);
        }
    }

    fn pair(&self, kind: &str, dice: &mut Dice) -> Option<(String, String)> {
        let pairs = self.pairs.get(kind)?;
        Some(pairs[newest(pairs.len(), dice)].clone())
    }

    fn one(&self, kind: &str, dice: &mut Dice) -> Option<String> {
        let held = self.by_kind.get(kind)?;
        Some(held[newest(held.len(), dice)].clone())
    }
}

/// Any of so many, and often one of the last: they are the ones with something open.
fn newest(count: usize, dice: &mut Dice) -> usize {
    if dice.one_in(2) { count - 1 - dice.at(count.min(3)) } else { dice.at(count) }
}

pub struct Request {
    pub bytes: Vec<u8>,
    pub to_head: bool,
    /// It may be refused before it is read as HTTP, without a word of ours.
    pub odd_http: bool,
}

pub struct Maker<'a> {
    pub document: &'a Document,
    pub seen: &'a Seen,
    pub dice: &'a mut Dice,
    /// Everything is as it should be, as far as the document says it.
    pub well: bool,
    /// A session and what is its own, for a request that names both.
    pub both: Option<(String, String)>,
}

impl Maker<'_> {
    pub fn request(&mut self, operation: &Operation, credential: &str) -> Request {
        let kind = match operation.id.as_str() {
            "delete_rule" => Some("rule"),
            "unrevert_session" => Some("reverted"),
            "edit_turn" | "drop_turn" => Some("queued"),
            _ => operation.path.contains("{ses}").then_some("turn"),
        };
        self.both = kind.and_then(|kind| self.seen.pair(kind, self.dice)).filter(|_| !self.errs(4));
        let target = self.target(operation);
        let to_head = operation.method == "GET" && self.dice.one_in(40);
        let method = if to_head { "HEAD" } else { &operation.method };
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: localhost:{PORT}\r\n{credential}").into_bytes();
        let body = self.body(operation);
        self.headers(operation, !body.is_empty(), &mut head);
        let odd_http = !self.well && self.dice.one_in(40);
        if odd_http {
            let odd: [&[u8]; 8] = [
                b"x-odd: \xff\xfe\r\n",
                b"x-odd: a\x00b\r\n",
                b"x odd: y\r\n",
                b": y\r\n",
                b"x-odd: a\rb\r\n",
                b"connection: upgrade\r\n",
                b"transfer-encoding: chunked, chunked\r\n",
                b"expect: 100-continue\r\n",
            ];
            head.extend_from_slice(odd[self.dice.at(8)]);
        }
        let odd_http = odd_http || head.len() > 30_000;
        // Some send a body without saying how long it is.
        if !body.is_empty() && self.dice.one_in(10) {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for piece in body.chunks(1_000) {
                head.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                head.extend_from_slice(piece);
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"0\r\n\r\n");
        } else {
            head.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            head.extend_from_slice(&body);
        }
        Request { bytes: head, to_head, odd_http }
    }

    /// Once in `count` times something is wrong here, unless all is to be well.
    fn errs(&mut self, count: u64) -> bool {
        !self.well && self.dice.one_in(count)
    }

    fn target(&mut self, operation: &Operation) -> String {
        let mut target = String::new();
        for segment in operation.path.split('/').skip(1) {
            target.push('/');
            match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => {
                    let value = if self.errs(6) { self.odd_word() } else { self.named(name) };
                    target.push_str(&self.encoded(&value));
                }
                None => target.push_str(segment),
            }
        }
        let mut pairs = Vec::new();
        for parameter in operation.parameters.iter().filter(|one| one["in"] == "query") {
            let required = parameter["required"] == true;
            if if required { self.errs(10) } else { !self.dice.one_in(4) } {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let value = if self.errs(4) { self.odd_word() } else { self.of_query(name, &parameter["schema"]) };
            pairs.push(format!("{name}={}", self.encoded(&value)));
        }
        if self.errs(12) {
            let odd = ["x=1", "limit=1&limit=2", "=", "&&", "%", "limit", "%6cimit=1", "a[b]=c", "limit=%ff", "q=%00", "+=+"];
            pairs.push(odd[self.dice.at(11)].to_owned());
        }
        if pairs.is_empty() { target } else { format!("{target}?{}", pairs.join("&")) }
    }

    fn odd_word(&mut self) -> String {
        match self.dice.below(4) {
            0 => self.any_id(),
            1 => number(self.dice),
            _ => odd_text(self.dice),
        }
    }

    fn any_id(&mut self) -> String {
        let kind = ["ses_", "trn_", "qst_", "tok_", "msg_", "blob", "cursor"][self.dice.at(7)];
        let id = self.seen.one(kind, self.dice).unwrap_or_default();
        match self.dice.below(5) {
            0 => id.to_ascii_uppercase(),
            1 => id.chars().skip(1).collect(),
            2 => format!("{id}0"),
            _ => id,
        }
    }

    /// What stands for a name of the document's, in path, query or body.
    fn named(&mut self, name: &str) -> String {
        let id = |kind: &str| format!("{kind}{:032x}", 7);
        match (name, &self.both) {
            ("ses", Some((session, _))) => return session.clone(),
            ("turn" | "trn" | "at" | "qst", Some((_, other))) => return other.clone(),
            _ => {}
        }
        let (seen, dice) = (self.seen, &mut *self.dice);
        match name {
            "ses" | "session" | "parent" => seen.one("ses_", dice).unwrap_or_else(|| id("ses_")),
            "trn" | "turn" | "at" => seen.one("trn_", dice).unwrap_or_else(|| id("trn_")),
            "qst" => seen.one("qst_", dice).unwrap_or_else(|| id("qst_")),
            "tok" => seen.one("tok_", dice).unwrap_or_else(|| id("tok_")),
            "id" => seen.one("blob", dice).unwrap_or_else(|| format!("{:064x}", 7)),
            "cursor" | "before" if dice.one_in(2) => seen.one("cursor", dice).unwrap_or_else(|| "MQ".into()),
            "seq" | "after" | "before" | "last-event-id" | "context" => dice.below(12).to_string(),
            "cursor" => "MQ".into(),
            "resource" | "x-everkept-resource" => ["ann", "ann", "bob", "zoe"][dice.at(4)].into(),
            "thread" | "x-everkept-thread" | "x-session-id" => format!("t{}", dice.below(6)),
            "agent" => ["demo", "demo", "other", "nobody"][dice.at(4)].into(),
            "model" => ["other/big", "demo/x", "demo", "other"][dice.at(4)].into(),
            "option" => ["allow_once", "allow_always", "allow_always", "reject_once", "continue", "redo", "leave"][dice.at(7)].into(),
            "directory" => "/tmp".into(),
            "kind" => ["turn.ended", "part.delta", "message.added,turn.queued", "session.created"][dice.at(4)].into(),
            "limit" | "last" => (1 + dice.below(20)).to_string(),
            "q" => ["reply", "w1 w2", "hello"][dice.at(3)].into(),
            "data" => ["aGVsbG8=", "AAAA", ""][dice.at(3)].into(),
            "media_type" => ["text/plain", "image/png"][dice.at(2)].into(),
            "url" => "data:text/plain;base64,aGVsbG8=".into(),
            "agent_session" => format!("own-{}", dice.below(3)),
            "name" => ["ann", "demo", "notes.txt"][dice.at(3)].into(),
            "input" | "text" | "content" => self.prompt(),
            _ => format!("w{}", self.dice.below(30)),
        }
    }

    /// Words for the demo agent, some of which it obeys.
    fn prompt(&mut self) -> String {
        let word = ["hello", "!tool", "!think", "!ask", "!fail", "!slow:5", "!big:3", "!hang", "!crash", "!ask too", "!ask now", "w1"];
        format!("{} w{}", word[if self.dice.one_in(4) { 0 } else { self.dice.at(12) }], self.dice.below(9))
    }

    fn of_query(&mut self, name: &str, schema: &Value) -> String {
        let schema = self.document.resolved(schema);
        let schema = schema["oneOf"].as_array().map_or(schema, |several| self.document.resolved(&several[0]));
        match schema["enum"].as_array() {
            Some(words) => words[self.dice.at(words.len())].as_str().unwrap().to_owned(),
            None if schema["type"] == "boolean" => (if self.dice.one_in(2) { "true" } else { "false" }).into(),
            None => self.named(name),
        }
    }

    fn encoded(&mut self, value: &str) -> String {
        let mut encoded = String::new();
        let upper = self.dice.one_in(2);
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => encoded.push(char::from(byte)),
                byte if upper => encoded.push_str(&format!("%{byte:02X}")),
                byte => encoded.push_str(&format!("%{byte:02x}")),
            }
        }
        encoded
    }

    fn headers(&mut self, operation: &Operation, with_body: bool, head: &mut Vec<u8>) {
        for parameter in operation.parameters.iter().filter(|one| one["in"] == "header") {
            let name = parameter["name"].as_str().unwrap().to_ascii_lowercase();
            // The secret of a token is kept nowhere, so a key is refused there.
            if !self.dice.one_in(3) || self.well && name == "idempotency-key" && operation.id == "create_token" {
                continue;
            }
            let value = match name.as_str() {
                "idempotency-key" if self.errs(5) => ["", "a b", "é", "k\tk"][self.dice.at(4)].to_owned(),
                "idempotency-key" if self.errs(20) => "k".repeat([255, 256][self.dice.at(2)]),
                "idempotency-key" => format!("key-{}", self.dice.below(if self.well { 100_000 } else { 30 })),
                _ if self.errs(5) => self.odd_word().replace(['\r', '\n', '\0'], "?"),
                name => self.named(name),
            };
            let control = |letter: char| letter.is_ascii_control() && letter != '\t';
            let value = if value.len() > 5_000 || value.contains(control) { "?".to_owned() } else { value };
            let twice = if self.errs(30) { 2 } else { 1 };
            for _ in 0..twice {
                head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        if with_body || self.dice.one_in(10) {
            let odd = [
                "text/plain",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "application/json; charset=latin-1",
                "APPLICATION/JSON",
                "application/json;",
                "*/*",
                "",
                "json",
                "application/problem+json",
            ];
            let kind = if self.errs(15) { odd[self.dice.at(10)] } else { "application/json" };
            head.extend_from_slice(format!("content-type: {kind}\r\n").as_bytes());
        }
        let streams = operation.responses.pointer("/200/content/text~1event-stream").is_some();
        if self.dice.one_in(if streams { 3 } else { 30 }) {
            let accept = ["text/event-stream", "application/json", "*/*", "text/html, text/event-stream;q=0.1", "x"][self.dice.at(5)];
            head.extend_from_slice(format!("accept: {accept}\r\n").as_bytes());
        }
        if matches!(&*operation.id, "open_socket" | "connect_agent") && !self.errs(4) {
            let version = if self.errs(10) { "12" } else { "13" };
            let upgrade = format!("connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: {version}\r\n");
            head.extend_from_slice(upgrade.as_bytes());
            head.extend_from_slice(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        }
    }

    fn body(&mut self, operation: &Operation) -> Vec<u8> {
        let Some(schema) = &operation.body else {
            return if self.errs(15) { b"{\"x\":1}".to_vec() } else { Vec::new() };
        };
        if self.errs(25) {
            return Vec::new();
        }
        let mut body = self.of("", schema, 0);
        while self.errs(3) {
            body.spoil(self.dice);
        }
        let mut written = String::new();
        body.write(&mut written);
        let mut bytes = written.into_bytes();
        if self.errs(12) {
            spoil_bytes(&mut bytes, self.dice);
        }
        if self.errs(300) {
            let spaces = bytes.len() + 1_100_000;
            bytes.resize(spaces, b' ');
        }
        bytes
    }

    fn of(&mut self, name: &str, schema: &Value, depth: u32) -> Json {
        let schema = self.document.resolved(schema);
        if let Some(words) = schema["enum"].as_array() {
            return Json::Text(words[self.dice.at(words.len())].as_str().unwrap().to_owned());
        }
        if let Some(several) = schema["oneOf"].as_array() {
            let one = several[self.dice.at(several.len())].clone();
            return self.of(name, &one, depth);
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
            _ => vec!["object"],
        };
        // Null takes away, or is the same as nothing.
        match types[if self.dice.one_in(8) { types.len() - 1 } else { 0 }] {
            "null" => Json::Raw("null".into()),
            "boolean" => Json::Raw((if self.dice.one_in(2) { "true" } else { "false" }).into()),
            "integer" | "number" => Json::Raw(if self.errs(4) { number(self.dice) } else { self.dice.between(1, 12).to_string() }),
            "string" if self.errs(8) => Json::Text(odd_text(self.dice)),
            "string" => Json::Text(self.named(name)),
            "array" => Json::List((0..self.dice.between(1, 3)).map(|_| self.of(name, &schema["items"], depth + 1)).collect()),
            "object" if schema["properties"].is_object() && depth < 6 => self.object(schema, depth),
            "object" => Json::Object((0..self.dice.below(3)).map(|_| (odd_text(self.dice), odd(self.dice))).collect()),
            unknown => panic!("{unknown} is not made yet"),
        }
    }

    fn object(&mut self, schema: &Value, depth: u32) -> Json {
        let required = |name: &String| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
        let mut pairs = Vec::new();
        for (name, of) in schema["properties"].as_object().unwrap() {
            if if required(name) { self.errs(25) } else { !self.dice.one_in(3) } {
                continue;
            }
            pairs.push((name.clone(), self.of(name, of, depth + 1)));
        }
        Json::Object(pairs)
    }
}
