//! An agent for tests that speaks the protocol of Codex's app server and does what its prompts say.
//!
//! Its sessions and `prompts.log` are those of the scripted ACP agent, and so are the directives that it knows: `!tool`,
//! `!ask`, `!edit`, `!think`, `!long`, `!fail`, `!crash`, `!garbage`. `!early` tells of a turn before it answers for it.
//! Never: more of the protocol than its driver speaks.

use crate::scripted_agent::{Sessions, append, asked_command, end_server_later, fails, next_opening, say, write};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead},
    path::PathBuf,
    process::exit,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

/// Codex has one code for everything that it does not take.
const INVALID: i64 = -32600;

pub fn run(_args: &[String]) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("SCRIPTED_DIR").context("SCRIPTED_DIR is not set")?);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let agent = Arc::new(Agent { sessions: Sessions { folder: folder.clone() }, folder, ..Agent::default() });
    for line in io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?).context("reading a line")?;
        agent.hear(&message)?;
    }
    Ok(())
}

#[derive(Default)]
struct Agent {
    sessions: Sessions,
    folder: PathBuf,
    cancelled: AtomicBool,
    last_request: AtomicU64,
    /// Who waits for the answer to which request of ours.
    waiting: Mutex<BTreeMap<u64, mpsc::Sender<Value>>>,
}

type Answer = std::result::Result<Value, String>;

impl Agent {
    fn hear(self: &Arc<Self>, message: &Value) -> Result<()> {
        let (id, params) = (&message["id"], &message["params"]);
        let Some(method) = message["method"].as_str() else {
            let waiting = id.as_u64().and_then(|id| self.waiting.lock().expect("no one panics with it").remove(&id));
            if let Some(waiting) = waiting {
                // Whoever waited may have been cancelled.
                _ = waiting.send(message["result"].clone());
            }
            return Ok(());
        };
        match (method, id) {
            ("initialized", _) => {}
            ("turn/start", _) => self.begin(id, params)?,
            _ => answer(id, self.call(method, params)?),
        }
        Ok(())
    }

    fn call(&self, method: &str, params: &Value) -> Result<Answer> {
        let id = params["threadId"].as_str().unwrap_or_default();
        append(&self.folder.join("calls.log"), &format!("{}\n", json!({ "method": method, "params": params })))?;
        Ok(match method {
            "initialize" => Ok(json!({ "userAgent": "scripted-codex" })),
            "thread/start" => {
                let id = self.sessions.begin(0)?;
                Ok(self.thread(&id, params)?)
            }
            _ if !self.sessions.has(id) => Err(format!("no rollout found for thread id {id}")),
            "thread/resume" => match next_opening(&self.folder, id)?.as_deref() {
                Some("unknown") => Err(format!("no rollout found for thread id {id}")),
                Some("other") => Ok(json!({ "thread": { "id": "another", "turns": [] } })),
                Some(_) | None => Ok(self.thread(id, params)?),
            },
            "thread/fork" => {
                let fork = self.sessions.begin(self.sessions.count(id)?)?;
                Ok(self.thread(&fork, params)?)
            }
            "thread/name/set" => Ok(json!({})),
            "thread/turns/list" => Ok(self.last_turn(id)?),
            "turn/interrupt" => {
                self.cancelled.store(true, SeqCst);
                Ok(json!({}))
            }
            _ => Err(format!("unknown variant `{method}`")),
        })
    }

    fn thread(&self, id: &str, params: &Value) -> Result<Value> {
        if let Some(model) = params["model"].as_str() {
            self.sessions.set_model(id, model)?;
        }
        Ok(json!({ "thread": { "id": id, "turns": [] }, "model": self.sessions.model(id)? }))
    }

    fn last_turn(&self, id: &str) -> Result<Value> {
        let taken = fs::read_to_string(self.taken_file(id)).unwrap_or_default();
        let turn = |client: &str| json!({ "id": "turn", "items": [{ "type": "userMessage", "id": "user", "clientId": client }] });
        Ok(json!({ "data": taken.lines().next_back().map(turn).into_iter().collect::<Vec<_>>() }))
    }

    fn begin(self: &Arc<Self>, id: &Value, params: &Value) -> Result<()> {
        let thread = params["threadId"].as_str().unwrap_or_default().to_owned();
        if !self.sessions.has(&thread) {
            answer(id, Err(format!("thread not found: {thread}")));
            return Ok(());
        }
        if let Some(model) = params["model"].as_str() {
            self.sessions.set_model(&thread, model)?;
        }
        self.cancelled.store(false, SeqCst);
        let prompt = params["input"].as_array().into_iter().flatten().rev().find_map(|part| part["text"].as_str()).unwrap_or_default();
        let number = self.sessions.see(&thread, prompt)?;
        append(&self.taken_file(&thread), &format!("{}\n", params["clientUserMessageId"].as_str().unwrap_or_default()))?;
        end_server_later(prompt);
        let turn = Turn { agent: self.clone(), thread, id: format!("turn-{number}"), number };
        let early = prompt.split_whitespace().any(|word| word == "!early");
        if early {
            turn.tell("turn/started", json!({ "turn": { "id": turn.id, "status": "inProgress" } }));
        }
        answer(id, Ok(json!({ "turn": { "id": turn.id, "status": "inProgress" } })));
        if !early {
            turn.tell("turn/started", json!({ "turn": { "id": turn.id, "status": "inProgress" } }));
        }
        let prompt = prompt.to_owned();
        // A worker of its own, so that an interrupt is heard meanwhile.
        thread::spawn(move || turn.answer(&prompt));
        Ok(())
    }

    fn taken_file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.taken"))
    }

    fn ask(&self, method: &str, params: &Value) -> mpsc::Receiver<Value> {
        let id = self.last_request.fetch_add(1, SeqCst);
        let (waiting, answer) = mpsc::channel();
        self.waiting.lock().expect("no one panics with it").insert(id, waiting);
        say(&json!({ "id": id, "method": method, "params": params }));
        answer
    }
}

fn answer(id: &Value, answer: Answer) {
    say(&match answer {
        Ok(result) => json!({ "id": id, "result": result }),
        Err(message) => json!({ "id": id, "error": { "code": INVALID, "message": message } }),
    });
}

/// One prompt and what is done about it.
struct Turn {
    agent: Arc<Agent>,
    thread: String,
    id: String,
    number: u64,
}

impl Turn {
    fn answer(&self, prompt: &str) {
        let (directives, rest): (Vec<_>, Vec<_>) = prompt.split_whitespace().partition(|word| word.starts_with('!'));
        let has = |name: &str| directives.contains(&name);
        if fails(&self.agent.folder, prompt).expect("every prompt is logged") {
            let error =
                json!({ "message": "failed, as it was asked to", "codexErrorInfo": { "httpConnectionFailed": { "httpStatusCode": 503 } } });
            return self.tell("turn/completed", json!({ "turn": { "id": self.id, "status": "failed", "error": error } }));
        }
        if has("!garbage") {
            self.babble();
        }
        if has("!think") {
            self.think(&rest.join(" "));
        }
        if has("!tool") {
            self.run_command(|_| Some("completed"));
        }
        if let Some(command) = asked_command(&directives) {
            self.run_command(|turn| turn.ask(command));
        }
        if has("!edit") {
            self.edit();
        }
        let reply = format!("reply {} to: {}", self.number, rest.join(" "));
        let (begin, end) = reply.split_at(reply.find("to:").expect("it is in every reply"));
        self.speak(begin);
        if has("!crash") {
            exit(1);
        }
        self.speak(end);
        while has("!long") && !self.cancelled() {
            thread::sleep(Duration::from_millis(20));
            self.speak(" and on");
        }
        let message = json!({ "type": "agentMessage", "id": self.message(), "text": reply });
        self.tell("item/completed", json!({ "turnId": self.id, "item": message }));
        let words = |text: &str| text.split_whitespace().count();
        let used =
            json!({ "inputTokens": words(prompt), "outputTokens": words(&reply), "cachedInputTokens": 0, "reasoningOutputTokens": 0 });
        self.tell("thread/tokenUsage/updated", json!({ "turnId": self.id, "tokenUsage": { "total": used, "last": used } }));
        let status = if self.cancelled() { "interrupted" } else { "completed" };
        self.tell("turn/completed", json!({ "turn": { "id": self.id, "status": status, "error": null } }));
    }

    fn cancelled(&self) -> bool {
        self.agent.cancelled.load(SeqCst)
    }

    fn message(&self) -> String {
        format!("answer-{}", self.number)
    }

    fn speak(&self, reply: &str) {
        for word in reply.split_inclusive(' ') {
            if !self.cancelled() {
                self.tell("item/agentMessage/delta", json!({ "turnId": self.id, "itemId": self.message(), "delta": word }));
            }
        }
    }

    fn think(&self, about: &str) {
        for (number, thought) in ["thinking about", about].into_iter().enumerate() {
            self.tell("item/reasoning/summaryPartAdded", json!({ "itemId": "thought", "summaryIndex": number }));
            self.tell("item/reasoning/summaryTextDelta", json!({ "itemId": "thought", "summaryIndex": number, "delta": thought }));
        }
        self.tell("item/completed", json!({ "item": { "type": "reasoning", "id": "thought", "summary": ["thinking about", about] } }));
    }

    /// With the status it ends with; without one when it was cancelled meanwhile.
    fn run_command(&self, ended: impl FnOnce(&Self) -> Option<&'static str>) {
        let item = |status: &str, exit: Value| {
            json!({ "type": "commandExecution", "id": self.command(), "command": "true", "cwd": "/", "status": status,
                "aggregatedOutput": exit.is_u64().then_some("tool-ran"), "exitCode": exit })
        };
        self.tell("item/started", json!({ "turnId": self.id, "item": item("inProgress", Value::Null) }));
        match ended(self) {
            Some("completed") => self.tell("item/completed", json!({ "turnId": self.id, "item": item("completed", json!(0)) })),
            Some(status) => self.tell("item/completed", json!({ "turnId": self.id, "item": item(status, Value::Null) })),
            None => {}
        }
    }

    fn command(&self) -> String {
        format!("command-{}", self.number)
    }

    fn ask(&self, command: &str) -> Option<&'static str> {
        let rule = json!({ "acceptWithExecpolicyAmendment": { "execpolicy_amendment": [command] } });
        let params = json!({ "threadId": self.thread, "turnId": self.id, "itemId": self.command(), "command": command, "cwd": "/",
            "availableDecisions": ["accept", rule, "cancel"] });
        self.decision("item/commandExecution/requestApproval", &params)
    }

    fn edit(&self) {
        let id = format!("edit-{}", self.number);
        let item = |status: &str| {
            let change = json!({ "path": "/a/file", "kind": { "type": "add" }, "diff": "new\n" });
            json!({ "type": "fileChange", "id": id, "changes": [change], "status": status })
        };
        self.tell("item/started", json!({ "turnId": self.id, "item": item("inProgress") }));
        let params = json!({ "threadId": self.thread, "turnId": self.id, "itemId": id, "reason": null });
        if let Some(status) = self.decision("item/fileChange/requestApproval", &params) {
            self.tell("item/completed", json!({ "turnId": self.id, "item": item(status) }));
        }
    }

    /// What becomes of a tool that is asked about.
    fn decision(&self, method: &str, params: &Value) -> Option<&'static str> {
        let answer = self.agent.ask(method, params);
        loop {
            match answer.recv_timeout(Duration::from_millis(20)) {
                Ok(answer) if answer["decision"] == "accept" || answer["decision"].is_object() => return Some("completed"),
                Ok(_) => return Some("declined"),
                Err(_) if self.cancelled() => return None,
                Err(_) => {}
            }
        }
    }

    fn babble(&self) {
        write(b"\xff\xfe not utf-8 \xc3\x28\n");
        write(b"\0\n");
        self.tell("item/something/unheard/of", json!({ "n": 1 }));
        self.tell("item/started", json!({ "item": { "type": "somethingUnheardOf", "id": "x" } }));
        write(("[".repeat(10_000) + &"]".repeat(10_000)).as_bytes());
        say(&json!({ "id": "what", "method": "currentTime/read", "params": {} }));
        say(&json!({ "id": 987_654, "result": "nobody asked" }));
        say(
            &json!({ "method": "item/agentMessage/delta", "params": { "threadId": "another", "itemId": "other", "delta": "not this thread's" } }),
        );
        write(
            format!(
                r#"{{"method":"item/agentMessage/delta","params":{{"threadId":"{}","itemId":"{}","delta":"half \ud800 a surrogate "}}}}"#,
                self.thread,
                self.message()
            )
            .as_bytes(),
        );
    }

    fn tell(&self, method: &str, mut params: Value) {
        params["threadId"] = json!(self.thread);
        say(&json!({ "method": method, "params": params }));
    }
}
