//! An agent for tests that speaks ACP v1 over its standard input and output and does what its prompts say.
//!
//! It answers `reply N to: TEXT`, N being the prompts its session has seen. Its sessions live in `SCRIPTED_DIR`, and so
//! does `prompts.log`: every prompt it was ever sent, written before anything is done about it. A test that kills things
//! reads there what was really asked. `calls.log` has all other requests, as does that of the other scripted agents.
//! A file `ID.next` beside them says what becomes of the next tries to open that session, one line for each: it is `unknown`, the agent
//! is `silent`, or an`other` is opened in its place.
//!
//! Never: honest beyond need. Directives make it die, babble, go deaf or leave daemons behind.

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

const UNKNOWN_SESSION: i64 = -32002;
const UNKNOWN_METHOD: i64 = -32601;
const FAILURE: i64 = -32603;
const MODELS: &[&str] = &["scripted/one", "scripted/two"];
const MODES: &[&str] = &["ask", "plan"];
/// Sessions on one page of their list.
const PAGE: usize = 2;

pub fn run(_args: &[String]) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("SCRIPTED_DIR").context("SCRIPTED_DIR is not set")?);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let agent = Arc::new(Agent { sessions: Sessions { folder }, ..Agent::default() });
    for line in io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?).context("reading a line")?;
        agent.hear(message)?;
    }
    while agent.deaf.load(SeqCst) {
        thread::park();
    }
    Ok(())
}

#[derive(Default)]
struct Agent {
    sessions: Sessions,
    cancelled: AtomicBool,
    deaf: AtomicBool,
    last_request: AtomicU64,
    /// Who waits for the answer to which request of ours.
    waiting: Mutex<BTreeMap<u64, mpsc::Sender<Value>>>,
}

type Answer = std::result::Result<Value, (i64, String)>;

impl Agent {
    fn hear(self: &Arc<Self>, message: Value) -> Result<()> {
        let (id, method, params) = (message["id"].clone(), message["method"].as_str(), message["params"].clone());
        match method {
            None => self.deliver(&id, message["result"].clone()),
            Some("session/cancel") => self.cancelled.store(true, SeqCst),
            // A worker of its own, so that a cancel is heard meanwhile.
            Some("session/prompt") => {
                self.cancelled.store(false, SeqCst);
                let agent = self.clone();
                thread::spawn(move || answer(&id, agent.prompt(&params)));
            }
            Some(method) => answer(&id, self.call(method, &params)?),
        }
        Ok(())
    }

    fn deliver(&self, id: &Value, result: Value) {
        let waiting = id.as_u64().and_then(|id| self.waiting.lock().expect("no one panics with it").remove(&id));
        if let Some(waiting) = waiting {
            _ = waiting.send(result);
        }
    }

    fn call(&self, method: &str, params: &Value) -> Result<Answer> {
        let id = params["sessionId"].as_str().unwrap_or_default();
        append(&self.sessions.folder.join("calls.log"), &format!("{}\n", json!({ "method": method, "params": params })))?;
        Ok(match method {
            "initialize" => Ok(introduction()),
            "session/new" => {
                let id = self.sessions.begin(0)?;
                self.opened(&id)
            }
            "session/list" => Ok(self.list(params)?),
            // `SCRIPTED_BROKEN` says of every session, known or not, what says little.
            "session/load" | "session/resume" | "session/fork" if is_set("SCRIPTED_BROKEN") => Err((FAILURE, "Internal error".into())),
            _ if !self.sessions.has(id) => Err((UNKNOWN_SESSION, format!("Resource not found: {id}"))),
            "session/load" | "session/resume" => {
                let mut opened = self.opened(id);
                match (next_opening(&self.sessions.folder, id)?.as_deref(), &mut opened) {
                    (Some("unknown"), _) => return Ok(Err((UNKNOWN_SESSION, format!("Resource not found: {id}")))),
                    (Some("other"), Ok(opened)) => opened["sessionId"] = json!("another"),
                    (Some(_) | None, _) => {}
                }
                if method == "session/load" {
                    self.replay(id)?;
                }
                opened
            }
            "session/fork" => self.opened(&self.sessions.begin(self.sessions.count(id)?)?),
            "session/set_config_option" => self.set_option(id, params)?,
            "session/set_mode" if MODES.iter().any(|mode| params["modeId"] == *mode) => Ok(json!({})),
            "session/set_mode" => Err((FAILURE, format!("no such mode: {}", params["modeId"]))),
            _ => Err((UNKNOWN_METHOD, format!("Method not found: {method}"))),
        })
    }

    /// What is said of a session once it is open.
    fn opened(&self, id: &str) -> Answer {
        let options = self.options(id).map_err(|error| (FAILURE, format!("{error:#}")))?;
        let mut opened = json!({ "sessionId": id, "configOptions": options });
        if is_set("SCRIPTED_LOAD_ONLY") {
            let modes: Vec<_> = MODES.iter().map(|mode| json!({ "id": mode, "name": mode })).collect();
            opened["modes"] = json!({ "currentModeId": MODES[0], "availableModes": modes });
        }
        Ok(opened)
    }

    /// An agent of before there were config options has its modes elsewhere.
    fn options(&self, id: &str) -> Result<Value> {
        let select = |name: &str, current: &str, values: &[&str]| {
            let options: Vec<_> = values.iter().map(|value| json!({ "value": value, "name": value })).collect();
            json!({ "id": name, "name": name, "category": name, "type": "select", "currentValue": current, "options": options })
        };
        let mut all = vec![select("model", &self.sessions.model(id)?, MODELS)];
        if !is_set("SCRIPTED_LOAD_ONLY") {
            all.push(select("mode", MODES[0], MODES));
        }
        Ok(all.into())
    }

    fn set_option(&self, id: &str, params: &Value) -> Result<Answer> {
        let value = params["value"].as_str().unwrap_or_default();
        match params["configId"].as_str() {
            Some("model") if MODELS.contains(&value) => self.sessions.set_model(id, value)?,
            Some("mode") if MODES.contains(&value) => {}
            _ => return Ok(Err((FAILURE, format!("no such option or value: {value}")))),
        }
        Ok(Ok(json!({ "configOptions": self.options(id)? })))
    }

    fn list(&self, params: &Value) -> Result<Value> {
        let from: usize = params["cursor"].as_str().map_or(Ok(0), str::parse)?;
        let all = self.sessions.all()?;
        let page: Vec<_> = all.iter().skip(from).take(PAGE).map(|id| json!({ "sessionId": id, "cwd": params["cwd"] })).collect();
        let more = from + page.len() < all.len();
        Ok(json!({ "sessions": page, "nextCursor": more.then(|| (from + PAGE).to_string()) }))
    }

    fn replay(&self, id: &str) -> Result<()> {
        for number in 1..=self.sessions.count(id)? {
            update(id, json!({ "sessionUpdate": "user_message_chunk", "content": { "type": "text", "text": format!("prompt {number}") } }));
            text(id, number, &format!("reply {number}"));
        }
        Ok(())
    }

    fn prompt(&self, params: &Value) -> Answer {
        let id = params["sessionId"].as_str().unwrap_or_default().to_owned();
        if !self.sessions.has(&id) {
            return Err((UNKNOWN_SESSION, format!("Resource not found: {id}")));
        }
        let blocks = params["prompt"].as_array().cloned().unwrap_or_default();
        let prompt = blocks.iter().rev().find_map(|block| block["text"].as_str()).unwrap_or_default();
        let seen = self.sessions.see(&id, prompt).map_err(|error| (FAILURE, format!("{error:#}")))?;
        Turn { agent: self, session: id, number: seen, slow: None }.answer(prompt).map_err(|error| (FAILURE, format!("{error:#}")))
    }

    fn ask(&self, method: &str, params: Value) -> mpsc::Receiver<Value> {
        let id = self.last_request.fetch_add(1, SeqCst) + 1;
        let (waiting, answer) = mpsc::channel();
        self.waiting.lock().expect("no one panics with it").insert(id, waiting);
        say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        answer
    }
}

fn introduction() -> Value {
    // `SCRIPTED_LOAD_ONLY` makes a client load where it would resume, and reaches no servers.
    let able = !is_set("SCRIPTED_LOAD_ONLY");
    json!({
        "protocolVersion": 1,
        "agentCapabilities": {
            "loadSession": true,
            "promptCapabilities": { "image": false, "audio": false, "embeddedContext": true },
            "sessionCapabilities": if able { json!({ "fork": {}, "resume": {}, "list": {} }) } else { json!({ "fork": {} }) },
            "mcpCapabilities": { "http": able, "sse": false },
        },
        "agentInfo": { "name": "scripted-agent", "version": "1" },
        "authMethods": [],
    })
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// One prompt and what is done about it.
struct Turn<'a> {
    agent: &'a Agent,
    session: String,
    number: u64,
    slow: Option<Duration>,
}

impl Turn<'_> {
    fn answer(mut self, prompt: &str) -> Result<Value> {
        end_server_later(prompt);
        if prompt.contains("!verbatim") {
            let words = fs::read(self.agent.sessions.folder.join("verbatim.json"))?;
            return self.say_verbatim(&serde_json::from_slice(&words)?);
        }
        let (directives, rest): (Vec<_>, Vec<_>) = prompt.split_whitespace().partition(|word| word.starts_with('!'));
        let has = |name: &str| directives.contains(&name);
        let slow = directives.iter().find_map(|word| word.strip_prefix("!slow:")?.parse().ok());
        self.slow = slow.map(Duration::from_millis);
        if has("!deaf") {
            self.agent.deaf.store(true, SeqCst);
            go_deaf()?;
        }
        if has("!daemon") {
            leave_daemons(&self.agent.sessions.folder)?;
        }
        if has("!killserver-before") {
            kill_server()?;
        }
        if fails(&self.agent.sessions.folder, prompt)? {
            bail!("failed, as it was asked to");
        }
        if has("!garbage") {
            self.babble();
        }
        if has("!tool") {
            self.use_tool();
        }
        let allowed = asked_command(&directives).is_none_or(|command| self.ask(command));
        let mut reply = format!("reply {} to: {}", self.number, rest.join(" "));
        if !allowed {
            reply.push_str(" (refused)");
        }
        let (begin, end) = reply.split_at(reply.find("to:").expect("it is in every reply"));
        self.speak(begin);
        if has("!crash") {
            exit(1);
        }
        if has("!killserver-mid") {
            // Long enough for the server to have kept the words.
            thread::sleep(Duration::from_millis(200));
            kill_server()?;
        }
        self.speak(end);
        while has("!long") && !self.cancelled() {
            thread::sleep(Duration::from_millis(20));
            self.speak(" and on");
        }
        let words = |text: &str| text.split_whitespace().count();
        let usage = json!({ "inputTokens": words(prompt), "outputTokens": words(&reply), "totalTokens": words(prompt) + words(&reply) });
        Ok(json!({ "stopReason": if self.cancelled() { "cancelled" } else { "end_turn" }, "usage": usage }))
    }

    fn cancelled(&self) -> bool {
        self.agent.cancelled.load(SeqCst) && !self.agent.deaf.load(SeqCst)
    }

    fn speak(&self, reply: &str) {
        for word in reply.split_inclusive(' ') {
            if let Some(slow) = self.slow {
                thread::sleep(slow);
            }
            if self.cancelled() {
                return;
            }
            text(&self.session, self.number, word);
        }
    }

    fn use_tool(&self) {
        let call = format!("tool-{}", self.number);
        self.tool(json!({ "sessionUpdate": "tool_call", "toolCallId": call, "title": "Scripted tool", "kind": "execute",
            "status": "in_progress", "rawInput": { "command": "true" } }));
        self.tool(json!({ "sessionUpdate": "tool_call_update", "toolCallId": call, "status": "completed",
            "rawOutput": { "output": "tool-ran" } }));
    }

    /// Says `updates` as they are given, and asks `ask` if there is one.
    fn say_verbatim(&self, words: &Value) -> Result<Value> {
        for fields in words["updates"].as_array().into_iter().flatten() {
            self.tool(fields.clone());
        }
        if let Some(Value::Object(ask)) = words.get("ask") {
            let mut ask = ask.clone();
            ask.insert("sessionId".to_owned(), json!(self.session));
            self.agent.ask("session/request_permission", Value::Object(ask)).recv()?;
        }
        Ok(json!({ "stopReason": "end_turn" }))
    }

    fn ask(&self, command: &str) -> bool {
        let call = format!("ask-{}", self.number);
        self.tool(json!({ "sessionUpdate": "tool_call", "toolCallId": call, "title": "Scripted question", "kind": "execute",
            "status": "pending", "rawInput": { "command": command } }));
        let option = |id: &str, name: &str, kind: &str| json!({ "optionId": id, "name": name, "kind": kind });
        let answer = self.agent.ask(
            "session/request_permission",
            json!({ "sessionId": self.session, "toolCall": { "toolCallId": call, "title": "Scripted question", "rawInput": { "command": command } },
                "options": [option("once", "Allow once", "allow_once"), option("always", "Always allow", "allow_always"), option("no", "Reject", "reject_once")] }),
        );
        let outcome = answer.recv().map_or(Value::Null, |answer| answer["outcome"].clone());
        let allowed = outcome["optionId"] == "once" || outcome["optionId"] == "always";
        let status = if allowed { "completed" } else { "failed" };
        self.tool(json!({ "sessionUpdate": "tool_call_update", "toolCallId": call, "status": status }));
        allowed
    }

    fn tool(&self, fields: Value) {
        update(&self.session, fields);
    }

    fn babble(&self) {
        let session = &self.session;
        let chunk = |text: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"{session}","update":{{"sessionUpdate":"agent_message_chunk","messageId":"garbage-{}","content":{{"type":"text","text":"{text}"}}}}}}}}"#,
                self.number
            )
        };
        write(b"\xff\xfe not utf-8 \xc3\x28\n");
        write(chunk("half \\ud800 a surrogate ").as_bytes());
        write(chunk("a nul \\u0000 ").as_bytes());
        write(b"\0\n");
        update(session, json!({ "sessionUpdate": "something_unheard_of", "n": 1 }));
        write(format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"{session}","update":{{"sessionUpdate":"huge","n":1{}}}}}}}"#, "0".repeat(5_000)).as_bytes());
        write(("[".repeat(10_000) + &"]".repeat(10_000)).as_bytes());
        say(&json!({ "jsonrpc": "2.0", "id": "what", "method": "fs/read_text_file", "params": { "path": "/etc/passwd" } }));
        say(&json!({ "jsonrpc": "2.0", "id": 987_654, "result": "nobody asked" }));
    }
}

/// Ignores every signal that would end it; only a kill is left.
pub fn go_deaf() -> Result<()> {
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, ignored.clone())?;
    }
    Ok(())
}

/// One that ignores SIGTERM in a session of its own, and one whose parents are gone as well.
pub fn leave_daemons(folder: &Path) -> Result<()> {
    let log = folder.join("daemons.log");
    let before = lines(&log);
    let script = r#"
        setsid sh -c 'echo $$ >> "$1"; trap "" TERM; while :; do sleep 600; done' daemon "$1" &
        (setsid sh -c 'echo $$ >> "$1"; exec sleep 600' daemon "$1" &) &
    "#;
    Command::new("sh").arg("-c").arg(script).arg("daemon").arg(&log).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    while lines(&log) < before + 2 {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// `!ask:COMMAND` asks whether it may run that, and `!ask` whether it may run `true`.
pub fn asked_command<'a>(words: &[&'a str]) -> Option<&'a str> {
    words.iter().find_map(|word| if *word == "!ask" { Some("true") } else { word.strip_prefix("!ask:") })
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// The pid is read now, because servers come and go while an agent's environment stays.
fn kill_server() -> Result<()> {
    signal_server(Signal::SIGKILL)
}

fn signal_server(signal: Signal) -> Result<()> {
    let file = std::env::var_os("SCRIPTED_SERVER_PID_FILE").context("SCRIPTED_SERVER_PID_FILE is not set")?;
    let pid = fs::read_to_string(file)?.trim().parse().context("reading the server's pid")?;
    kill(Pid::from_raw(pid), signal)?;
    Ok(())
}

/// How many more lines are said before the server is ended, how, and after which pause.
static SERVER_ENDS: Mutex<Option<(u64, Signal, Duration)>> = Mutex::new(None);

/// `!server:KILL:3:50` kills the server 50 ms after the third line that is said from now on, and `!server:TERM:3:50`
/// tells it to terminate; without the pause, that line may be anywhere on its way. A line of `ends.log` says that it will
/// be, before anybody can hear of it otherwise.
pub fn end_server_later(prompt: &str) {
    let ends = prompt.split_whitespace().find_map(|word| {
        let (signal, when) = word.strip_prefix("!server:")?.split_once(':')?;
        let (lines, pause) = when.split_once(':')?;
        let signal = if signal == "TERM" { Signal::SIGTERM } else { Signal::SIGKILL };
        Some((lines.parse().ok()?, signal, Duration::from_millis(pause.parse().ok()?)))
    });
    *SERVER_ENDS.lock().expect("no one panics with it") = ends;
}

fn end_server_now() -> Option<(Signal, Duration)> {
    let mut ends = SERVER_ENDS.lock().expect("no one panics with it");
    let (lines, signal, pause) = (*ends)?;
    *ends = lines.checked_sub(1).filter(|left| *left > 0).map(|left| (left, signal, pause));
    if ends.is_some() {
        return None;
    }
    let folder = std::env::var_os("SCRIPTED_DIR").expect("no agent starts without");
    append(&PathBuf::from(folder).join("ends.log"), &format!("{signal}\n")).expect("files can be written");
    Some((signal, pause))
}

/// `!fail` does, and `!fail:once` where these words have not come before.
pub fn fails(folder: &Path, prompt: &str) -> Result<bool> {
    let has = |directive| prompt.split_whitespace().any(|word| word == directive);
    if !has("!fail:once") {
        return Ok(has("!fail"));
    }
    let log = fs::read_to_string(folder.join("prompts.log"))?;
    let same = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|logged| logged["text"] == prompt));
    Ok(same.count() == 1)
}

/// What becomes of this try to open a session. One that is not to be answered ends here, as far as anybody can see.
pub fn next_opening(folder: &Path, session: &str) -> Result<Option<String>> {
    let file = folder.join(format!("{session}.next"));
    let noted = fs::read_to_string(&file).unwrap_or_default();
    let Some((opening, rest)) = noted.split_once('\n') else { return Ok(None) };
    fs::write(&file, rest)?;
    if opening == "silent" {
        loop {
            thread::park();
        }
    }
    Ok(Some(opening.to_owned()))
}

/// One file per session, one line per prompt it saw.
#[derive(Default)]
pub struct Sessions {
    pub folder: PathBuf,
}

impl Sessions {
    /// The name of a file that was not there.
    pub fn begin(&self, seen: u64) -> Result<String> {
        for n in 1.. {
            let id = format!("scripted-{n}");
            match OpenOptions::new().write(true).create_new(true).open(self.file(&id)) {
                Ok(mut file) => {
                    file.write_all("forked\n".repeat(seen as usize).as_bytes())?;
                    return Ok(id);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("no name is left for a session");
    }

    pub fn has(&self, id: &str) -> bool {
        id.starts_with("scripted-") && !id.contains('/') && self.file(id).exists()
    }

    pub fn count(&self, id: &str) -> Result<u64> {
        Ok(fs::read_to_string(self.file(id))?.lines().count() as u64)
    }

    /// Logged for the tests before it is counted, and counted before anything is done about it.
    pub fn see(&self, id: &str, prompt: &str) -> Result<u64> {
        let logged = json!({ "session": id, "text": prompt, "pid": std::process::id() });
        append(&self.folder.join("prompts.log"), &format!("{logged}\n"))?;
        append(&self.file(id), "prompt\n")?;
        self.count(id)
    }

    fn all(&self) -> Result<Vec<String>> {
        let files = fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Vec<String> = files.collect::<Result<_>>()?;
        let mut ids: Vec<String> = names.iter().filter_map(|name| Some(name.strip_suffix(".session")?.to_owned())).collect();
        ids.sort();
        Ok(ids)
    }

    pub fn model(&self, id: &str) -> Result<String> {
        match fs::read_to_string(self.model_file(id)) {
            Ok(model) => Ok(model),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MODELS[0].to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    pub fn set_model(&self, id: &str, model: &str) -> Result<()> {
        Ok(fs::write(self.model_file(id), model)?)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.session"))
    }

    fn model_file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.model"))
    }
}

/// One write, so that two processes never share a line.
pub fn append(file: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn text(session: &str, number: u64, text: &str) {
    let content = json!({ "type": "text", "text": text });
    update(session, json!({ "sessionUpdate": "agent_message_chunk", "messageId": format!("answer-{number}"), "content": content }));
}

fn update(session: &str, update: Value) {
    say(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": session, "update": update } }));
}

fn answer(id: &Value, answer: Answer) {
    say(&match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message)) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }),
    });
}

pub fn say(message: &Value) {
    write(message.to_string().as_bytes());
}

/// One line. Nobody listens any more: then there is nothing left to do. With `SCRIPTED_WRITTEN` all that a process says is
/// in `PID.written` beside its sessions, before anybody can hear it.
pub fn write(line: &[u8]) {
    let mut out = io::stdout().lock();
    let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
    let line = [line, end].concat();
    if let (Some(folder), true) = (std::env::var_os("SCRIPTED_DIR"), std::env::var_os("SCRIPTED_WRITTEN").is_some()) {
        let file = PathBuf::from(folder).join(format!("{}.written", std::process::id()));
        let kept = OpenOptions::new().create(true).append(true).open(file).and_then(|mut file| file.write_all(&line));
        kept.expect("what is said can be kept");
    }
    let server_ends = end_server_now();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        exit(1);
    }
    if let Some((signal, pause)) = server_ends {
        thread::sleep(pause);
        signal_server(signal).expect("there is a server to end");
    }
}
