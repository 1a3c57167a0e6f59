//! What a hostile agent does, and what has to come of it.
//!
//! A row is one behaviour: a good scripted agent up to a place in what it says, and from there on this. What every
//! protocol can be done this way is done in all three.

use serde_json::{Value, json};

pub const ACP: &[&str] = &["acp"];
pub const ALL: &[&str] = &["acp", "claude-code", "codex"];
const RPC: &[&str] = &["acp", "codex"];
const CLAUDE: &[&str] = &["claude-code"];

#[derive(Clone)]
pub struct Row {
    pub name: &'static str,
    pub protocols: &'static [&'static str],
    pub prompt: &'static str,
    /// A plan, as `xtask hostile-agent` reads it.
    pub at: Value,
    pub say: Vec<(String, usize)>,
    pub act: Value,
    /// How the turn ends, and why.
    pub state: &'static str,
    pub reason: Option<&'static str>,
    /// It has to be waited for: the server's limits are a few seconds.
    pub hangs: bool,
    /// It is cancelled once it has said something.
    pub cancel: bool,
    pub next: Next,
}

/// What becomes of the next prompt.
#[derive(Clone, Copy, PartialEq)]
pub enum Next {
    /// The same agent goes on.
    Same,
    /// Its process is of no use any more, which shows by the next prompt; the one after that goes on.
    SameOnceMore,
    /// Another agent goes on.
    Another,
}

fn row(name: &'static str, protocols: &'static [&'static str]) -> Row {
    Row {
        name,
        protocols,
        prompt: "go on",
        at: json!("prompt"),
        say: Vec::new(),
        act: json!("go_on"),
        state: "completed",
        reason: None,
        hangs: false,
        cancel: false,
        next: Next::Same,
    }
}

impl Row {
    fn at(self, at: Value) -> Row {
        Row { at, ..self }
    }

    fn say(mut self, line: impl Into<String>, times: usize) -> Row {
        self.say.push((line.into(), times));
        self
    }

    fn act(self, act: Value) -> Row {
        Row { act, ..self }
    }

    fn prompt(self, prompt: &'static str) -> Row {
        Row { prompt, ..self }
    }

    fn ends(self, state: &'static str, reason: &'static str) -> Row {
        Row { state, reason: Some(reason), ..self }
    }

    fn hangs(self) -> Row {
        Row { hangs: true, ..self }
    }

    fn cancelled(self) -> Row {
        Row { cancel: true, ..self.ends("cancelled", "cancelled") }
    }

    fn next(self, next: Next) -> Row {
        Row { next, ..self }
    }

    /// It goes away in the middle of its turn.
    fn goes(self, act: Value) -> Row {
        self.act(act).ends("interrupted", "agent_exited")
    }

    /// It never has a session.
    fn never_starts(self) -> Row {
        self.ends("dead_lettered", "agent_start_failed").next(Next::Another)
    }
}

const KILL: i32 = 9;
const ABORT: i32 = 6;
const STOP: i32 = 19;

fn update(fields: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"$SESSION","update":{{{fields}}}}}}}"#) + "\n"
}

fn text(text: &str) -> String {
    update(&format!(r#""sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}"#))
}

fn permission(id: &str, options: &str) -> String {
    let call = r#"{"toolCallId":"ask","title":"Delete it","rawInput":{"command":"rm"}}"#;
    let params = format!(r#"{{"sessionId":"$SESSION","toolCall":{call},"options":{options}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"session/request_permission","params":{params}}}"#) + "\n"
}

fn end(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":$PROMPT,{result}}}"#) + "\n"
}

const OPTIONS: &str = r#"[{"optionId":"yes","name":"Yes","kind":"allow_once"},{"optionId":"no","name":"No","kind":"reject_once"}]"#;

pub fn rows() -> Vec<Row> {
    let mut rows = goes_away();
    rows.extend(hangs());
    rows.extend(processes());
    rows.extend(bytes());
    rows.extend(messages());
    rows.extend(questions());
    rows.extend(floods());
    rows
}

fn goes_away() -> Vec<Row> {
    let prompt = || json!("prompt");
    vec![
        row("exits at once", ALL).at(json!("start")).act(json!({ "exit": 3 })).never_starts(),
        row("is killed at once", ALL).at(json!("start")).act(json!({ "signal": KILL })).never_starts(),
        row("exits after initialize", RPC).at(json!({ "line": 1 })).act(json!({ "exit": 0 })).never_starts(),
        row("is killed after initialize", RPC).at(json!({ "line": 1 })).act(json!({ "signal": KILL })).never_starts(),
        row("exits once its session is open", ACP).at(json!({ "line": 2 })).goes(json!({ "exit": 0 })),
        row("exits in a prompt", ALL).at(prompt()).goes(json!({ "exit": 0 })),
        row("fails in a prompt", ALL).at(prompt()).goes(json!({ "exit": 70 })),
        row("is killed in a prompt", ALL).at(prompt()).goes(json!({ "signal": KILL })),
        row("crashes in a prompt", ALL).at(prompt()).goes(json!({ "signal": ABORT })),
        row("exits in the middle of a line", ALL).at(json!("mid_line")).goes(json!({ "exit": 0 })),
        row("is killed in the middle of a line", ALL).at(json!("mid_line")).goes(json!({ "signal": KILL })),
        row("exits with a question open", ALL).prompt("!ask it").at(json!("asked")).goes(json!({ "exit": 1 })),
        row("is killed with a question open", ALL).prompt("!ask it").at(json!("asked")).goes(json!({ "signal": KILL })),
        row("closes its output and lives", ALL).goes(json!("close_output")),
        row("closes its output with a question open", ACP).prompt("!ask it").at(json!("asked")).goes(json!("close_output")),
        row("closes its input", ALL).act(json!("close_input")).next(Next::SameOnceMore),
    ]
}

fn hangs() -> Vec<Row> {
    let silent = |row: Row| row.act(json!("hang")).ends("timed_out", "agent_silent").hangs();
    vec![
        row("hangs at once", ALL).at(json!("start")).act(json!("hang")).never_starts().hangs(),
        row("hangs after initialize", RPC).at(json!({ "line": 1 })).act(json!("hang")).never_starts().hangs(),
        silent(row("hangs in a prompt", ALL)),
        silent(row("hangs in the middle of a line", ALL)).at(json!("mid_line")),
        silent(row("hangs before the end", ALL)).at(json!("end")),
        silent(row("stops itself", ALL)).act(json!({ "signal": STOP })),
        row("only keeps alive", ALL).say("\n", 1).act(json!("chatter")).ends("timed_out", "agent_chattering").hangs(),
        row("only says what may be chosen", ACP)
            .say(update(r#""sessionUpdate":"available_commands_update","availableCommands":[]"#), 1)
            .act(json!("chatter"))
            .ends("timed_out", "agent_chattering")
            .hangs(),
    ]
}

fn processes() -> Vec<Row> {
    vec![
        row("ignores every word and signal", ALL).act(json!("deaf")).cancelled(),
        row("has 500 children", ACP).prompt("!long !deaf").act(json!({ "children": 500 })).cancelled(),
        row("forks daemons", ACP).prompt("!long !deaf").act(json!("daemons")).cancelled(),
        row("is cancelled with daemons and dies", ALL).prompt("!daemon !long").act(json!("hang")).cancelled(),
    ]
}

/// Bytes that are no line of any protocol, and are nothing of an answer.
fn bytes() -> Vec<Row> {
    let mebibytes = |count: usize| count << 20;
    vec![
        row("says NUL", ALL).say("\0\0\n", 1),
        row("says 0xFF", ALL).say("\u{ff}\u{fe} \u{c3}(\n", 1),
        row("says no JSON", ALL).say("Listening on port 7717 ...\n", 3),
        row("says half of a JSON", ALL).say("{\"jsonrpc\":\n", 1),
        row("says two things on a line", ALL).say("{}{}\n", 1),
        row("says empty lines", ALL).say("\n\r\n \t\n", 9),
        row("ends lines with CR LF", ACP).say(text("with both ").replace('\n', "\r\n"), 2),
        row("begins with a byte order mark", ALL).at(json!("start")).say("\u{ef}\u{bb}\u{bf}", 1),
        row("nests 10,000 deep", ALL).say("[", 10_000).say("]", 10_000).say("\n", 1),
        row("says a number of 5,000 digits", ALL).say("{\"type\":\"x\",\"method\":\"x\",\"n\":1", 1).say("0", 5_000).say("}\n", 1),
        row("says a line of 20 MiB", ALL).say("{\"type\":\"x\",\"method\":\"x\",\"n\":\"", 1).say("x", mebibytes(20)).say("\"}\n", 1),
        row("says a word of 20 MiB", ACP).say(text("@").split('@').next().unwrap(), 1).say("x", mebibytes(20)).say("\"}}}}\n", 1),
        row("says a line without an end", ACP).say("x", mebibytes(65)).goes(json!("hang")),
        row("says 100 MB of errors", ALL).act(json!({ "errors": 100_000_000 })),
    ]
}

/// Lines that are read, and wrong.
fn messages() -> Vec<Row> {
    let ids = ["1.5", "true", "{\"a\":1}", "[1]", "1e400", "\"\"", "-1", "99999999999999999999"];
    let each = |row: Row, line: &dyn Fn(&str) -> String| ids.iter().fold(row, |row, id| row.say(line(id), 1));
    let tool = |fields: &str| update(&format!(r#""toolCallId":"one",{fields}"#));
    let others = (0..300).fold(row("says another session in every message", ACP), |row, n| {
        row.say(text("not yours ").replace("$SESSION", &format!("other-{n}")), 1)
    });
    let moves = (0..300).fold(row("announces another session in every message", CLAUDE), |row, n| {
        let id = format!("11111111-1111-4111-8111-{n:012}");
        row.say(format!("{{\"type\":\"system\",\"subtype\":\"status\",\"session_id\":\"{id}\"}}\n"), 1)
    });
    let failed = |row: Row| row.ends("failed", "agent_start_failed").next(Next::Another);
    vec![
        others,
        moves.next(Next::Another),
        each(row("asks for what there is not, under odd ids", ALL), &|id| {
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"fs/read_text_file\",\"params\":{{\"path\":\"/etc/passwd\"}}}}\n")
        }),
        each(row("answers what nobody asked", ALL), &|id| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n"))
            .say("{\"jsonrpc\":\"2.0\",\"id\":987654,\"result\":{}}\n", 1),
        row("says kinds unheard of", ALL)
            .say("{\"jsonrpc\":\"2.0\",\"method\":\"brand/new\",\"params\":[1,2]}\n{\"type\":\"brand_new\"}\n", 9)
            .say(update(r#""sessionUpdate":"brand_new""#), 9),
        row("says everything twice", ALL).act(json!("stutter")),
        row("ends its prompt twice", ACP).at(json!("ended")).say(end(r#""result":{"stopReason":"refusal"}"#), 3),
        row("ends its prompt before it answers", ACP).say(end(r#""result":{"stopReason":"end_turn"}"#), 1),
        row("ends its prompt with nothing", ACP).at(json!("end")).say(end(r#""result":7"#), 1),
        row("ends its prompt with an error that is none", ACP).say(end(r#""error":"no""#), 1).ends("failed", "agent_error"),
        row("ends its prompt as cancelled, which nobody did", ACP)
            .say(end(r#""result":{"stopReason":"cancelled"}"#), 1)
            .ends("cancelled", "agent_cancelled"),
        row("speaks another version", ACP)
            .at(json!("start"))
            .say("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":99}}\n", 1)
            .act(json!("hang"))
            .ends("failed", "agent_start_failed")
            .next(Next::Another),
        failed(row("names no session", ACP).at(json!({ "line": 1 })).say("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n", 1)),
        failed(
            row("names a session of a megabyte", ACP)
                .at(json!({ "line": 1 }))
                .say("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"sessionId\":\"", 1)
                .say("s", 1 << 20)
                .say("\"}}\n", 1),
        ),
        row("says halves of surrogates", ACP).say(text(r"half \ud800 a surrogate \udc00\ud83d "), 2),
        row("begins a tool twice and ends it twice", ACP)
            .say(tool(r#""sessionUpdate":"tool_call","title":"a","status":"pending""#), 2)
            .say(tool(r#""sessionUpdate":"tool_call_update","status":"completed""#), 2)
            .say(tool(r#""sessionUpdate":"tool_call_update","status":"pending""#), 1),
        row("goes on with a tool that was never begun", ACP)
            .say(tool(r#""sessionUpdate":"tool_call_update","status":"completed","rawOutput":[1,{"a":null}]"#), 1),
        row("gives a tool what no reader takes", ACP)
            .say(
                tool(r#""sessionUpdate":"tool_call","title":"\ud800","rawInput":{"n":1e999,"s":"\udfff"},"rawOutput":"@"#)
                    .split('@')
                    .next()
                    .unwrap(),
                1,
            )
            .say("[", 9_000)
            .say("]", 9_000)
            .say("}}}\n", 1),
        row("costs less than nothing and more than there is", ACP)
            .say(update(r#""sessionUpdate":"usage_update","used":-1,"cost":{"amount":-1e300,"currency":"USD"}"#), 1)
            .say(update(r#""sessionUpdate":"usage_update","used":1e300,"cost":{"amount":1e308,"currency":"USD"}"#), 1)
            .say(update(r#""sessionUpdate":"usage_update","used":"many","cost":{"amount":"all","currency":7}"#), 1),
        row("plans a megabyte", ACP)
            .say(update(r#""sessionUpdate":"plan","entries":["@"]"#).split('@').next().unwrap(), 1)
            .say("p", 1 << 20)
            .say("\"]}}}\n", 1),
    ]
}

fn questions() -> Vec<Row> {
    vec![
        row("asks and does not wait", ACP).say(permission("\"q\"", OPTIONS), 1),
        row("ends its prompt with a question open", ACP)
            .say(permission("{\"odd\":[1]}", OPTIONS), 1)
            .say(end(r#""result":{"stopReason":"end_turn"}"#), 1),
        row("asks twice under one id", ACP).say(permission("5", OPTIONS), 2).at(json!("end")),
        row("asks without an option", ACP).say(permission("\"none\"", "[]"), 1).say(permission("\"no id\"", "[{\"name\":\"Yes\"}]"), 1),
        row("offers one id for yes and no", ACP).say(permission("\"both\"", &OPTIONS.replace("\"no\"", "\"yes\"")), 1),
        row("takes back what it never asked", ALL)
            .say("{\"jsonrpc\":\"2.0\",\"method\":\"$/cancel_request\",\"params\":{\"requestId\":\"never\"}}\n", 1)
            .say("{\"type\":\"control_cancel_request\",\"request_id\":\"never\"}\n", 1)
            .say("{\"method\":\"serverRequest/resolved\",\"params\":{\"requestId\":\"never\"}}\n", 1),
    ]
}

fn floods() -> Vec<Row> {
    let many = |name, count: usize, line: &dyn Fn(usize) -> String| (0..count).fold(row(name, ACP), |row, n| row.say(line(n), 1));
    vec![
        row("says 20,000 words", ACP).say(text("word "), 20_000),
        many("asks 300 questions", 300, &|n| permission(&format!("\"many-{n}\""), OPTIONS)),
        many("says 1,000 messages", 1_000, &|n| {
            update(&format!(r#""sessionUpdate":"agent_message_chunk","messageId":"m-{n}","content":{{"type":"text","text":"x"}}"#))
        }),
        many("begins 1,000 tools and ends none", 1_000, &|n| {
            update(&format!(r#""sessionUpdate":"tool_call","toolCallId":"t-{n}","title":"x","status":"in_progress""#))
        }),
    ]
}
