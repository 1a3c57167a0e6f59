//! Conversations sent again and again through the doors that take whole histories, with edits between.
//!
//! Never: a kept event changed, a message stored twice, or an answer of the server's that blames itself.

use crate::house::{ADMIN, Answer, House, answers, visit};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

static THREADS: AtomicU64 = AtomicU64::new(0);

pub fn run(bytes: &[u8]) {
    visit(
        |_| {},
        |house| {
            let thread = format!("thread-{}", THREADS.fetch_add(1, Ordering::Relaxed));
            let mut client = Client { house, thread, said: Vec::new(), logs: BTreeMap::new() };
            // Out of bytes is the end.
            _ = client.live(&mut Unstructured::new(bytes));
        },
    );
}

/// A chat client that keeps its own history, and what was seen of each session's log.
struct Client<'a> {
    house: &'a House,
    thread: String,
    said: Vec<(String, Value)>,
    logs: BTreeMap<String, Vec<Value>>,
}

impl Client<'_> {
    fn live(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..6 {
            match input.int_in_range(0..=7)? {
                0 => self.raw(input)?,
                1 => self.edit(input)?,
                2 => self.record(input)?,
                3 => self.again(),
                _ => self.ask(&text(input)?),
            }
        }
        Ok(())
    }

    /// One more question at the end of the history, which is answered.
    fn ask(&mut self, text: &str) {
        let before = self.messages();
        let in_step = before == self.history();
        self.said.push(("user".into(), text.into()));
        let answer = self.complete(&self.body());
        if answer.status != 200 {
            assert!(answer.status < 500 || says_turn(&answer), "{answer:?}");
            self.said.pop();
            return;
        }
        let content = answer.json()["choices"][0]["message"]["content"].clone();
        self.said.push(("assistant".into(), content));
        let after = self.messages();
        if in_step {
            assert_eq!(after, self.history(), "just the question and its answer are new");
        }
    }

    /// The same history once more: nothing is new of it.
    fn again(&mut self) {
        let Some(last) = self.said.iter().rposition(|(role, _)| role == "user") else { return };
        if self.messages() != self.history() {
            return;
        }
        let cut = self.said.split_off(last + 1);
        let before = self.count();
        let answer = self.complete(&self.body());
        if self.said.iter().filter(|(role, _)| role != "system").count() > 1 {
            if answer.status == 200 {
                let content = &answer.json()["choices"][0]["message"]["content"];
                let answered = cut.iter().find(|(role, _)| role != "system").map(|(_, said)| said);
                assert_eq!(answered, Some(content), "the stored answer");
                assert_eq!(self.count(), before, "nothing is stored: {:?}, {cut:?}, {answer:?}", self.said);
            } else {
                assert!(says_turn(&answer), "the turn had failed: {answer:?}");
                // A turn that did not complete is tried again.
                assert!(self.count() <= before + 1, "one more try is all that is new: {:?}, {cut:?}, {answer:?}", self.said);
            }
        }
        self.said.extend(cut);
        // A single message is always taken for a new one.
        self.read_back();
    }

    fn edit(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let at = input.int_in_range(0..=self.said.len())?;
        let role = *input.choose(&["user", "assistant", "system"])?;
        match input.int_in_range(0..=3)? {
            0 => self.said.truncate(at),
            1 => self.said.insert(at, (role.into(), text(input)?.into())),
            2 if at < self.said.len() => _ = self.said.remove(at),
            _ if at < self.said.len() => self.said[at].1 = text(input)?.into(),
            _ => {}
        }
        Ok(())
    }

    /// Through the native door, as an outside loop does.
    fn record(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let Some(session) = self.session() else { return Ok(()) };
        let history: bool = input.arbitrary()?;
        let mut messages: Vec<Value> =
            if history { self.said.iter().map(|(role, said)| json!({ "role": role, "content": said })).collect() } else { Vec::new() };
        messages.push(json!({ "role": *input.choose(&["user", "assistant", "system"])?, "content": text(input)? }));
        let body = json!({ "messages": messages, "history": history }).to_string();
        let before = self.count();
        let answer = self.house.ask("POST", &format!("/api/sessions/{session}/messages"), &body);
        assert!(answer.status < 500, "{answer:?}");
        if answer.status >= 300 {
            assert_eq!(self.count(), before, "what is refused leaves nothing");
        }
        self.read_back();
        Ok(())
    }

    /// Any body at all, for a conversation of its own: what it asks of the agent may never end.
    fn raw(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let body: Vec<u8> = input.arbitrary()?;
        let request = self.house.request("POST", "/v1/chat/completions", &self.headers("raw"), &body);
        for answer in answers(&self.house.exchange(&request)) {
            assert!(answer.status < 500 || says_turn(&answer), "{answer:?}");
        }
        Ok(())
    }

    fn body(&self) -> Vec<u8> {
        let messages: Vec<Value> = self.said.iter().map(|(role, said)| json!({ "role": role, "content": said })).collect();
        json!({ "messages": messages }).to_string().into_bytes()
    }

    fn complete(&mut self, body: &[u8]) -> Answer {
        let answer = self.house.ask_with("POST", "/v1/chat/completions", &self.headers("r"), body);
        self.check_logs();
        answer
    }

    fn headers(&self, resource: &str) -> String {
        let names = format!("x-everkept-thread: {}\r\nx-everkept-resource: {resource}\r\n", self.thread);
        format!("authorization: Bearer {ADMIN}\r\n{names}")
    }

    /// The session that has the thread now: a fork takes it over.
    fn session(&self) -> Option<String> {
        let answer = self.house.ask("GET", &format!("/api/threads/r/{}", self.thread), "");
        (answer.status == 200).then(|| answer.json()["id"].as_str().expect("a session has an id").to_owned())
    }

    /// What was once in a log is in it for ever, in its place.
    fn check_logs(&mut self) {
        if let Some(session) = self.session() {
            self.logs.entry(session).or_default();
        }
        for (session, seen) in &mut self.logs {
            let page = self.house.ask("GET", &format!("/api/sessions/{session}/events?limit=1000"), "").json();
            let events = page["items"].as_array().expect("a page has items");
            assert!(events.starts_with(seen), "{session}");
            *seen = events.clone();
        }
    }

    /// How much was taken in. What an agent still says, and how its turn ends, comes in its own time.
    fn count(&mut self) -> usize {
        self.check_logs();
        let taken_in = |event: &&Value| match event["kind"].as_str() {
            Some("message.added") => event["data"]["role"] != "assistant" || event["turn"].is_null(),
            kind => matches!(kind, Some("turn.queued" | "session.created" | "session.forked")),
        };
        self.logs.values().flatten().filter(taken_in).count()
    }

    /// Role and text of each message of the conversation, instructions left out.
    fn messages(&self) -> Vec<(String, String)> {
        let Some(session) = self.session() else { return Vec::new() };
        let page = self.house.ask("GET", &format!("/api/sessions/{session}/messages?limit=1000"), "").json();
        let items = page["items"].as_array().expect("a page has items").iter();
        let all = items.map(|item| {
            let parts = item["parts"].as_array().expect("a message has parts").iter().filter(|part| part["type"] == "text");
            let said: String = parts.filter_map(|part| part["text"].as_str()).collect();
            (item["role"].as_str().expect("a message has a role").to_owned(), said)
        });
        all.filter(|(role, _)| role != "system").collect()
    }

    fn history(&self) -> Vec<(String, String)> {
        let said = self.said.iter().filter(|(role, _)| role != "system");
        said.map(|(role, said)| (role.clone(), said.as_str().unwrap_or_default().to_owned())).collect()
    }

    /// The client takes what is kept for its history.
    fn read_back(&mut self) {
        self.said = self.messages().into_iter().map(|(role, said)| (role, said.into())).collect();
    }
}

/// An error that tells of a turn: the demo agent was told to fail.
fn says_turn(answer: &Answer) -> bool {
    answer.json()["error"]["code"].as_str().is_some_and(|code| code != "internal")
}

/// Few words, so that they meet again, and now and then any at all that do not tell the agent what to do.
fn text(input: &mut Unstructured<'_>) -> Result<String> {
    const WORDS: [&str; 8] = ["a", "b", "!fail", "!tool", "!think x", "!crash", "ä\u{2028}", "!big:1"];
    if input.ratio(3, 4)? { Ok((*input.choose(&WORDS)?).to_owned()) } else { Ok(input.arbitrary::<String>()?.replace('!', ".")) }
}
