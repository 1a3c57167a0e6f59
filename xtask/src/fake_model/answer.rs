//! What the fake model answers, whatever dialect it was asked in.
//!
//! Words in the last user message: `TOOL` calls the first shell-like tool and answers after its result, and so does `EDIT`,
//! whose command is a patch, `WAIT`, whose command goes on until there is a file `go`, and `LATER`, whose command does so in the background;
//! `DELEGATE` hands `look around` to a helper of the agent's; `BRIEF` has only the last word of it said again; `THINK` reasons first; `SLOW` says 40 words, one each 100 ms; `HANG` says nothing for ever; `FAIL` is an HTTP 400, and `FAIL:fake` one of the model `fake` only.
//! Never: a look at anything but the conversation.

use serde_json::{Map, Value, json};
use std::time::Duration;

const SLOW_PACE: Duration = Duration::from_millis(100);
const SLOW_WORDS: usize = 40;
const TITLE: &str = "A short title";
const COMMAND: &str = "echo tool-ran >> tool.log";
const WAIT: &str = "echo tool-ran >> tool.log; until [ -e go ]; do sleep 0.05; done";
const LATER: &str = "until [ -e go ]; do sleep 0.05; done";
const PATCH: &str = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: patched.txt\n+patched\n*** End Patch\nEOF\n";

/// A request, as far as the answer depends on it.
#[derive(Default)]
pub struct Conversation {
    pub model: String,
    pub system: String,
    /// The texts of the user's messages, oldest first.
    pub prompts: Vec<String>,
    /// The last thing in it is what a tool gave.
    pub after_tool: bool,
    pub tools: Vec<Tool>,
}

pub struct Tool {
    pub name: String,
    /// JSON schema of its arguments.
    pub schema: Value,
}

#[derive(Default)]
pub struct Answer {
    pub thinking: String,
    pub text: String,
    pub call: Option<Call>,
    pub pace: Duration,
    pub hangs: bool,
    pub fails: bool,
    pub words_in: usize,
}

pub struct Call {
    pub id: String,
    pub name: String,
    /// JSON.
    pub arguments: String,
}

impl Conversation {
    /// Agents let a small model name their sessions, and adapters the model they have; that is no prompt of the user's, nor is
    /// what guesses the next one.
    pub fn is_title(&self) -> bool {
        const ASKED: &[&str] = &["generate a very short title", "write the title", "[suggestion mode:"];
        let prompt = self.prompts.last().map_or(String::new(), |prompt| prompt.to_lowercase());
        let asked = ASKED.iter().any(|words| prompt.contains(words));
        asked || self.model.contains("small") || self.system.to_lowercase().contains("title generator")
    }

    pub fn answer(&self) -> Answer {
        let prompt = self.prompts.last().map_or("", String::as_str);
        let words_in = self.prompts.iter().map(|prompt| prompt.split_whitespace().count()).sum();
        if self.is_title() {
            return Answer { text: TITLE.into(), words_in, ..Answer::default() };
        }
        let says = |word: &str| prompt.split_whitespace().any(|said| said == word);
        let number = self.prompts.len();
        let again = if says("BRIEF") { prompt.split_whitespace().last().unwrap_or_default() } else { prompt };
        let mut text = format!("reply {number} to: {again}");
        if says("SLOW") {
            let said = text.split_whitespace().count();
            (said..SLOW_WORDS).for_each(|n| text.push_str(&format!(" word-{n}")));
        }
        let commands = [("EDIT", PATCH), ("LATER", LATER), ("WAIT", WAIT), ("TOOL", COMMAND)];
        let command = commands.into_iter().find_map(|(word, command)| says(word).then_some(command));
        Answer {
            thinking: if says("THINK") { format!("thinking about: {prompt}") } else { String::new() },
            text,
            call: match command {
                _ if self.after_tool => None,
                Some(command) => self.call(number, command),
                None => self.delegate(number).filter(|_| says("DELEGATE")),
            },
            pace: if says("SLOW") { SLOW_PACE } else { Duration::ZERO },
            hangs: says("HANG"),
            fails: says("FAIL") || says(&format!("FAIL:{}", self.model)),
            words_in,
        }
    }

    /// Agents call the tool for that differently, and the helper that may do anything.
    fn delegate(&self, number: usize) -> Option<Call> {
        let helper = |name: &str| match name {
            "Task" | "Agent" => Some("general-purpose"),
            "task" => Some("general"),
            _ => None,
        };
        let (tool, helper) = self.tools.iter().find_map(|tool| Some((tool, helper(&tool.name)?)))?;
        let mut arguments = json!({ "description": "a test", "prompt": "look around", "subagent_type": helper });
        if tool.schema["properties"].get("run_in_background").is_some() {
            arguments["run_in_background"] = json!(false);
        }
        Some(Call { id: format!("call_{number}"), name: tool.name.clone(), arguments: arguments.to_string() })
    }

    fn call(&self, number: usize, command: &str) -> Option<Call> {
        let like_a_shell = |name: &str| ["bash", "shell", "exec", "terminal"].iter().any(|word| name.to_lowercase().contains(word));
        let tool = self.tools.iter().find(|tool| like_a_shell(&tool.name))?;
        Some(Call { id: format!("call_{number}"), name: tool.name.clone(), arguments: arguments(&tool.schema, command).to_string() })
    }
}

/// The command where the schema has a place for it, and something wherever something is required. Where a tool can be
/// told to leave its sandbox, it is, so that somebody is asked.
fn arguments(schema: &Value, command: &str) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut arguments: Map<String, Value> = required.map(|name| (name.to_owned(), json!("a test"))).collect();
    let place = ["command", "cmd", "script"].into_iter().find(|name| schema["properties"].get(name).is_some()).unwrap_or("command");
    let is_list = schema["properties"][place]["type"] == "array";
    arguments.insert(place.into(), if is_list { json!(["sh", "-c", command]) } else { json!(command) });
    if schema["properties"].get("sandbox_permissions").is_some() {
        arguments.insert("sandbox_permissions".into(), json!("require_escalated"));
    }
    if command == LATER && schema["properties"].get("run_in_background").is_some() {
        arguments.insert("run_in_background".into(), json!(true));
    }
    Value::Object(arguments)
}

impl Answer {
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(' ')
    }

    pub fn words_out(&self) -> usize {
        self.words().count()
    }
}

/// A message's text, be it a string or a list of parts of which some are text.
pub fn text_of(content: &Value) -> String {
    match content.as_str() {
        Some(text) => text.to_owned(),
        None => texts_of(content).join("\n"),
    }
}

/// Its texts, one by one, without what the agent put beside them.
pub fn texts_of(content: &Value) -> Vec<&str> {
    let parts = content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    content.as_str().into_iter().chain(parts).filter(|text| is_said(text)).collect()
}

/// Agents put notes of their own beside what the user said.
pub fn is_said(text: &str) -> bool {
    const NOTES: &[&str] = &[
        "<system-reminder",
        "<environment_context",
        "<user_instructions",
        "<permissions",
        "<turn_aborted",
        "<local-command",
        "<command-name",
        "[Request interrupted",
    ];
    !NOTES.iter().any(|note| text.trim_start().starts_with(note))
}
