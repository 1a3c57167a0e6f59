//! An agent for tests that speaks the protocol of Claude Code and does what its prompts say.
//!
//! It answers `reply N to: TEXT`, as the scripted ACP agent does, and keeps its sessions and `prompts.log` in
//! `SCRIPTED_DIR`. Of that one's directives it knows `!tool`, `!ask`, `!long`, `!fail`, `!crash` and `!garbage`. Others are
//! its own: `!think`; `!choose` has two questions for the user; `!withdraw` asks and takes it back; `!late` begins after it was interrupted; `!command`
//! answers in the result alone; `!move` goes on in another session; `!own` begins a turn of its own when the prompt's is
//! over, which ends when the next prompt has come. In an `ID.next`, `lost` makes it forget the session, and `other` go on in another. With `SCRIPTED_OLD` it gives no receipts, as older versions do not.
//!
//! Never: more of the protocol than its driver speaks.

use crate::scripted_agent::{append, asked_command, end_server_later, fails, next_opening, say, write};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
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

const MODELS: &[&str] = &["scripted/one", "scripted/two"];
const MOVED_TO: &str = "11111111-1111-7111-8111-111111111111";
const PACE: Duration = Duration::from_millis(20);

pub fn run(args: &[String]) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("SCRIPTED_DIR").context("SCRIPTED_DIR is not set")?);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let value = |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let (given, resumed) = (value("--session-id"), value("--resume"));
    let session = given.or_else(|| resumed.clone()).context("no session is named")?;
    append(&folder.join("calls.log"), &format!("{}\n", json!({ "method": "start", "params": args })))?;
    let (agent, prompts) = Agent::new(folder, session);
    let agent = Arc::new(agent);
    match &resumed {
        Some(resumed) => agent.take_up(resumed)?,
        None => agent.begin_anew()?,
    }
    let worker = agent.clone();
    thread::spawn(move || {
        for (id, text) in prompts {
            worker.answer(&id, &text).expect("files can be written");
        }
    });
    for line in io::stdin().lock().lines() {
        agent.hear(&serde_json::from_str(&line?).context("reading a line")?)?;
    }
    Ok(())
}

struct Agent {
    folder: PathBuf,
    session: Mutex<String>,
    old: bool,
    queue: mpsc::Sender<(String, String)>,
    queued: AtomicU64,
    interrupted: AtomicBool,
    /// Who waits for the answer to which request of ours.
    waiting: Mutex<BTreeMap<String, mpsc::Sender<Value>>>,
}

impl Agent {
    fn new(folder: PathBuf, session: String) -> (Self, mpsc::Receiver<(String, String)>) {
        let (queue, prompts) = mpsc::channel();
        let old = std::env::var_os("SCRIPTED_OLD").is_some();
        let (queued, interrupted, waiting) = Default::default();
        (Self { folder, session: Mutex::new(session), old, queue, queued, interrupted, waiting }, prompts)
    }

    /// An id is given to one session.
    fn begin_anew(&self) -> Result<()> {
        let session = self.session();
        if self.file(&session).exists() {
            bail!("Session ID {session} is already in use.");
        }
        Ok(())
    }

    /// A session there is not is said when somebody speaks first. A fork has a file of its own.
    fn take_up(&self, resumed: &str) -> Result<()> {
        let next = next_opening(&self.folder, resumed)?;
        if next.as_deref() == Some("lost") {
            fs::remove_file(self.file(resumed))?;
        }
        let Some(seen) = fs::read_to_string(self.file(resumed)).ok().filter(|_| next.as_deref() != Some("unknown")) else {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            let error = format!("No conversation found with session ID: {resumed}");
            say(&json!({ "type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "errors": [error] }));
            eprintln!("{error}");
            exit(1);
        };
        if next.as_deref() == Some("other") {
            self.move_to(&format!("22222222-2222-4222-8222-{:012}", std::process::id()));
        }
        if self.session() != resumed {
            fs::write(self.file(&self.session()), seen)?;
        }
        Ok(())
    }

    fn move_to(&self, session: &str) {
        *self.session.lock().expect("no one panics with it") = session.into();
    }

    fn session(&self) -> String {
        self.session.lock().expect("no one panics with it").clone()
    }

    /// The prompts a session has taken, by their ids.
    fn file(&self, session: &str) -> PathBuf {
        self.folder.join(format!("{session}.session"))
    }

    fn has_taken(&self, id: &str) -> bool {
        fs::read_to_string(self.file(&self.session())).unwrap_or_default().lines().any(|taken| taken == id)
    }

    fn hear(&self, message: &Value) -> Result<()> {
        match message["type"].as_str().unwrap_or_default() {
            "user" => {
                let content = &message["message"]["content"];
                let text = content.as_str().or_else(|| content.as_array()?.iter().rev().find_map(|block| block["text"].as_str()));
                let (id, text) = (message["uuid"].as_str().unwrap_or_default(), text.unwrap_or_default());
                if self.has_taken(id) {
                    self.receipt(id, "completed");
                    repeat(id, text);
                    return Ok(());
                }
                self.receipt(id, "queued");
                self.queued.fetch_add(1, SeqCst);
                self.queue.send((id.into(), text.into())).context("the worker is gone")?;
            }
            "control_request" => self.control(&message["request_id"], &message["request"])?,
            "control_response" => {
                let response = &message["response"];
                let id = response["request_id"].as_str().unwrap_or_default();
                if let Some(waiting) = self.waiting.lock().expect("no one panics with it").remove(id) {
                    // Whoever waited may have been interrupted.
                    _ = waiting.send(response["response"].clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn control(&self, id: &Value, request: &Value) -> Result<()> {
        append(&self.folder.join("calls.log"), &format!("{}\n", json!({ "method": request["subtype"], "params": request })))?;
        let model = request["model"].as_str().unwrap_or_default();
        let response = match request["subtype"].as_str().unwrap_or_default() {
            "set_model" if !MODELS.contains(&model) => {
                json!({ "subtype": "error", "request_id": id, "error": format!("no model {model}") })
            }
            "interrupt" => {
                self.interrupted.store(true, SeqCst);
                json!({ "subtype": "success", "request_id": id, "response": {} })
            }
            _ => json!({ "subtype": "success", "request_id": id, "response": {} }),
        };
        say(&json!({ "type": "control_response", "response": response }));
        Ok(())
    }

    fn receipt(&self, id: &str, state: &str) {
        if !self.old {
            say(&json!({ "type": "command_lifecycle", "command_uuid": id, "state": state }));
        }
    }

    fn init(&self) {
        let can: &[&str] = if self.old { &[] } else { &["msg_lifecycle_v1"] };
        say(&json!({ "type": "system", "subtype": "init", "session_id": self.session(), "capabilities": can }));
    }

    fn answer(&self, id: &str, prompt: &str) -> Result<()> {
        let words: Vec<&str> = prompt.split_whitespace().collect();
        // The next prompt may come as soon as this one's result is said.
        let queued = self.queued.load(SeqCst);
        if words.contains(&"!late") {
            self.wait_for(|| self.interrupted.load(SeqCst));
        }
        self.interrupted.store(false, SeqCst);
        self.receipt(id, "started");
        if words.contains(&"!move") {
            self.move_to(MOVED_TO);
        }
        self.init();
        let session = self.session();
        let logged = json!({ "session": session, "text": prompt, "pid": std::process::id() });
        append(&self.folder.join("prompts.log"), &format!("{logged}\n"))?;
        append(&self.file(&session), &format!("{id}\n"))?;
        let number = fs::read_to_string(self.file(&session))?.lines().count();
        end_server_later(prompt);
        repeat(id, prompt);
        Turn { agent: self, number, said: RefCell::default() }.answer(&words);
        end_server_later("");
        self.receipt(id, "completed");
        if words.contains(&"!own") {
            self.begin_by_itself(queued);
        }
        Ok(())
    }

    /// Goes on until more prompts were queued than before.
    fn begin_by_itself(&self, before: u64) {
        self.init();
        let turn = Turn { agent: self, number: 0, said: RefCell::default() };
        turn.speak("words of its own");
        let allowed = self.ask("own-tool", json!({ "command": "true" }), "Bash").recv().is_ok_and(|answer| answer["behavior"] == "allow");
        self.wait_for(|| self.queued.load(SeqCst) > before);
        turn.speak(&format!(" that nobody asked for, allowed {allowed}"));
        say(&json!({ "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "stop_reason": "end_turn",
            "result": "its own", "origin": { "kind": "task-notification" } }));
    }

    fn wait_for(&self, seen: impl Fn() -> bool) {
        while !seen() {
            thread::sleep(PACE);
        }
    }

    fn ask(&self, call: &str, input: Value, tool: &str) -> mpsc::Receiver<Value> {
        let (waiting, answer) = mpsc::channel();
        let id = format!("ask-{call}");
        self.waiting.lock().expect("no one panics with it").insert(id.clone(), waiting);
        say(
            &json!({ "type": "control_request", "request_id": id, "request": { "subtype": "can_use_tool", "tool_name": tool, "input": input,
            "tool_use_id": call, "permission_suggestions": [{ "type": "addRules", "behavior": "allow", "destination": "session" }] } }),
        );
        answer
    }
}

/// One prompt and what is done about it.
struct Turn<'a> {
    agent: &'a Agent,
    number: usize,
    said: RefCell<String>,
}

impl Turn<'_> {
    fn answer(&self, words: &[&str]) {
        let has = |name: &str| words.contains(&name);
        let rest: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('!')).collect();
        let reply = format!("reply {} to: {}", self.number, rest.join(" "));
        if fails(&self.agent.folder, &words.join(" ")).expect("every prompt is logged") {
            return say(&json!({ "type": "result", "subtype": "success", "is_error": true, "api_error_status": 529,
                "result": "API Error: 529 failed, as it was asked to" }));
        }
        if has("!command") {
            return say(&json!({ "type": "result", "subtype": "success", "is_error": false, "num_turns": 0, "result": reply }));
        }
        if has("!garbage") {
            self.babble();
        }
        if has("!think") {
            self.think(&rest.join(" "));
        }
        if has("!withdraw") {
            drop(self.agent.ask("withdrawn", json!({}), "Bash"));
            say(&json!({ "type": "control_cancel_request", "request_id": "ask-withdrawn" }));
        }
        let used = !has("!tool") || self.use_tool("true", false);
        let asked = asked_command(words).is_none_or(|command| self.use_tool(command, true));
        let chose = !has("!choose") || self.choose();
        let (begin, end) = reply.split_at(reply.find("to:").expect("it is in every reply"));
        self.speak(begin);
        if has("!crash") {
            exit(1);
        }
        if used && asked && chose {
            self.speak(end);
        }
        while has("!long") && !self.interrupted() {
            thread::sleep(PACE);
            self.speak(" and on");
        }
        let said = self.said.take();
        let message = json!({ "id": self.message(), "content": [{ "type": "text", "text": said }] });
        say(&json!({ "type": "assistant", "message": message, "parent_tool_use_id": null }));
        let count = |text: &str| text.split_whitespace().count();
        let usage = json!({ "input_tokens": count(&rest.join(" ")), "output_tokens": count(&said) });
        if self.interrupted() {
            return say(&json!({ "type": "result", "subtype": "error_during_execution", "is_error": true, "usage": usage,
                "terminal_reason": "aborted_streaming", "errors": ["aborted"] }));
        }
        say(&json!({ "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "stop_reason": "end_turn",
            "result": said, "usage": usage, "total_cost_usd": 0.25 * self.number as f64 }));
    }

    fn interrupted(&self) -> bool {
        self.agent.interrupted.load(SeqCst)
    }

    fn message(&self) -> String {
        format!("answer-{}", self.number)
    }

    fn speak(&self, text: &str) {
        let mut said = self.said.borrow_mut();
        if said.is_empty() {
            stream(&json!({ "type": "message_start", "message": { "id": self.message() } }));
            stream(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }));
        }
        said.push_str(text);
        for word in text.split_inclusive(' ') {
            stream(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": word } }));
        }
    }

    fn think(&self, about: &str) {
        stream(&json!({ "type": "message_start", "message": { "id": self.message() } }));
        stream(&json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "" } }));
        stream(&json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "thinking_delta", "thinking": "thinking " } }));
        let block = json!({ "type": "thinking", "thinking": format!("thinking about: {about}") });
        say(&json!({ "type": "assistant", "message": { "id": self.message(), "content": [block] } }));
    }

    fn use_tool(&self, command: &str, asks: bool) -> bool {
        let (call, input) = (format!("tool-{}", self.number), json!({ "command": command }));
        let begun = json!({ "type": "tool_use", "id": call, "name": "Bash", "input": {} });
        stream(&json!({ "type": "content_block_start", "index": 0, "content_block": begun }));
        let block = json!({ "type": "tool_use", "id": call, "name": "Bash", "input": input });
        say(&json!({ "type": "assistant", "message": { "id": self.message(), "content": [block] } }));
        let allowed = !asks || self.answered(&self.agent.ask(&call, input, "Bash")).is_some_and(|answer| answer["behavior"] == "allow");
        let result = json!({ "type": "tool_result", "tool_use_id": call, "content": "tool-ran", "is_error": !allowed });
        say(&json!({ "type": "user", "message": { "role": "user", "content": [result] }, "tool_use_result": { "stdout": "tool-ran" } }));
        allowed
    }

    fn choose(&self) -> bool {
        let option = |label: &str| json!({ "label": label, "description": "" });
        let question = |text: &str| json!({ "question": text, "options": [option("red"), option("blue")], "multiSelect": false });
        let input = json!({ "questions": [question("Which wall?"), question("Which roof?")] });
        let answer = self.answered(&self.agent.ask("choose", input, "AskUserQuestion"));
        let answers = answer.map_or(Value::Null, |answer| answer["updatedInput"]["answers"].clone());
        self.speak(&format!("chosen {answers} "));
        !answers.is_null()
    }

    /// Without an answer when it is interrupted first; then the question is taken back.
    fn answered(&self, answer: &mpsc::Receiver<Value>) -> Option<Value> {
        loop {
            match answer.recv_timeout(PACE) {
                Ok(answer) => return Some(answer),
                Err(_) if self.interrupted() => return None,
                Err(_) => {}
            }
        }
    }

    fn babble(&self) {
        write(b"\xff\xfe not utf-8 \xc3\x28\n");
        write(b"\0\n");
        say(&json!({ "type": "something_unheard_of", "n": 1 }));
        say(&json!({ "type": "system", "subtype": "something_unheard_of" }));
        stream(&json!({ "type": "content_block_delta", "delta": { "type": "hologram_delta" } }));
        write(("[".repeat(10_000) + &"]".repeat(10_000)).as_bytes());
        say(&json!({ "type": "control_request", "request_id": "what", "request": { "subtype": "hook_callback" } }));
        say(&json!({ "type": "control_response", "response": { "subtype": "success", "request_id": "987654" } }));
        let helper = json!({ "type": "text_delta", "text": "a helper's" });
        say(&json!({ "type": "stream_event", "parent_tool_use_id": "task",
            "event": { "type": "content_block_delta", "delta": helper } }));
        write(
            br#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"half \ud800 a surrogate "}}}"#,
        );
    }
}

fn repeat(id: &str, prompt: &str) {
    say(&json!({ "type": "user", "uuid": id, "isReplay": true, "message": { "role": "user", "content": prompt } }));
}

fn stream(event: &Value) {
    say(&json!({ "type": "stream_event", "event": event, "parent_tool_use_id": null }));
}
