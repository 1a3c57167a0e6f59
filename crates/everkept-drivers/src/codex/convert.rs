//! From Codex's words to the words all drivers share, and back.
//!
//! One function per kind of thing. What has no word of ours becomes [`Said::Raw`] with Codex's own JSON.
//! Never: a decision that needs to know what was said before.

use crate::{
    json::{Object, Value},
    words,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use everkept_agent::{Done, Prompt, PromptPart};
use everkept_core::{AgentRaw, Json, Payload, Said, ToolStatus, Usage};
use serde_json::{Value as Owned, json};
use std::collections::BTreeMap;

pub fn raw(json: Json) -> Said {
    Said::Raw(AgentRaw::Json(json))
}

/// What a prompt holds, as `turn/start` takes it.
pub fn input(prompt: &Prompt) -> Vec<Owned> {
    let history = (!prompt.history.is_empty()).then(|| text(&words::of_history(&prompt.history)));
    history.into_iter().chain(prompt.parts.iter().map(part)).collect()
}

fn text(text: &str) -> Owned {
    json!({ "type": "text", "text": text })
}

fn part(part: &PromptPart) -> Owned {
    match part {
        PromptPart::Text(words) => text(words),
        PromptPart::File { media_type, bytes, .. } if media_type.starts_with("image/") => {
            json!({ "type": "image", "url": format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(bytes)) })
        }
        PromptPart::File { name, media_type, bytes } => text(&words::of_file(name.as_deref().unwrap_or("file"), media_type, bytes)),
    }
}

/// A piece of an item's text, and of which.
pub fn delta(method: &str, params: &Object<'_>) -> Option<(String, Said)> {
    let item = params.text("itemId")?;
    let said = match method {
        "item/agentMessage/delta" | "item/plan/delta" => Said::Text { message: Some(item.clone()), text: params.text("delta")? },
        "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => thought(params.text("delta")?),
        // The first part begins with nothing before it.
        "item/reasoning/summaryPartAdded" if params.get("summaryIndex").and_then(Value::number) > Some(0) => thought(PARAGRAPH.into()),
        _ => return None,
    };
    Some((item, said))
}

const PARAGRAPH: &str = "\n\n";

/// It goes with whatever comes next.
fn thought(text: String) -> Said {
    Said::Reasoning { message: None, text }
}

/// What is no part of an answer, or is told again by what ends it: states, names, limits, pieces of a tool's output.
pub fn is_chatter(method: &str) -> bool {
    matches!(
        method,
        "account/rateLimits/updated"
            | "account/updated"
            | "app/list/updated"
            | "hook/completed"
            | "hook/started"
            | "item/commandExecution/outputDelta"
            | "item/commandExecution/terminalInteraction"
            | "item/fileChange/outputDelta"
            | "item/fileChange/patchUpdated"
            | "item/mcpToolCall/progress"
            | "item/reasoning/summaryPartAdded"
            | "mcpServer/startupStatus/updated"
            | "remoteControl/status/changed"
            | "skills/changed"
            | "thread/compacted"
            | "thread/name/updated"
            | "thread/readState/changed"
            | "thread/settings/updated"
            | "thread/started"
            | "thread/status/changed"
            | "turn/diff/updated"
    )
}

/// `turn/plan/updated`, with the words that plans have everywhere else.
pub fn plan(params: &Object<'_>) -> Said {
    let entries: Vec<Owned> = params
        .list("plan")
        .into_iter()
        .map(Value::object)
        .map(|step| {
            let status = step.text("status").map(|status| if status == "inProgress" { "in_progress".to_owned() } else { status });
            json!({ "content": step.text("step"), "status": status })
        })
        .collect();
    Said::Plan { entries: Payload::Json(Json::of(&entries)) }
}

/// An item that is begun.
pub fn item_begun(item: Value<'_>) -> Vec<Said> {
    let fields = item.object();
    match fields.text("type").as_deref() {
        Some("userMessage" | "agentMessage" | "plan" | "reasoning") => Vec::new(),
        Some("contextCompaction") => vec![Said::Compacting(true)],
        _ => match Tool::of(item) {
            Some(tool) => vec![Said::ToolStarted {
                call: tool.call,
                name: tool.name,
                title: tool.title,
                status: ToolStatus::Running,
                input: tool.input.map(Payload::Json),
            }],
            None => vec![raw(item.json())],
        },
    }
}

/// An item that is complete; `streamed` if its text was told in pieces.
pub fn item_ended(item: Value<'_>, streamed: bool) -> Vec<Said> {
    let fields = item.object();
    match fields.text("type").as_deref() {
        Some("userMessage") => Vec::new(),
        Some("agentMessage" | "plan" | "reasoning") if streamed => Vec::new(),
        Some("agentMessage" | "plan") => {
            let text = fields.text("text").filter(|text| !text.is_empty());
            text.map(|text| Said::Text { message: fields.text("id"), text }).into_iter().collect()
        }
        Some("reasoning") => {
            let parts = [fields.list("summary"), fields.list("content")].concat();
            let parts: Vec<String> = parts.into_iter().filter_map(Value::text).collect();
            (!parts.is_empty()).then(|| thought(parts.join(PARAGRAPH))).into_iter().collect()
        }
        Some("contextCompaction") => vec![Said::Compacting(false)],
        _ => match Tool::of(item) {
            Some(tool) => vec![Said::ToolUpdated {
                call: tool.call,
                status: Some(ended(&fields)),
                title: tool.title,
                input: tool.input.map(Payload::Json),
                output: tool.output.map(Payload::Json),
            }],
            None => vec![raw(item.json())],
        },
    }
}

/// Some tools have no status; they are over when they are complete.
fn ended(fields: &Object<'_>) -> ToolStatus {
    match fields.text("status").as_deref() {
        Some("failed" | "declined") => ToolStatus::Failed,
        _ => ToolStatus::Completed,
    }
}

/// An item that is the use of a tool.
struct Tool {
    call: String,
    name: String,
    title: Option<String>,
    input: Option<Json>,
    output: Option<Json>,
}

impl Tool {
    fn of(item: Value<'_>) -> Option<Self> {
        let fields = item.object();
        let kind = fields.text("type")?;
        let call = fields.text("id")?;
        let value = |key| fields.get(key).map(Value::json);
        let (name, title, input, output) = match kind.as_str() {
            "commandExecution" => {
                (kind, fields.text("command"), cut(&fields, &["command", "cwd"]), cut(&fields, &["aggregatedOutput", "exitCode"]))
            }
            "fileChange" => (kind, paths(&fields), cut(&fields, &["changes"]), None),
            "mcpToolCall" => {
                let words = [fields.text("server"), fields.text("tool")];
                (
                    words.into_iter().flatten().collect::<Vec<_>>().join("."),
                    None,
                    value("arguments"),
                    value("error").or_else(|| value("result")),
                )
            }
            "dynamicToolCall" => (fields.text("tool").unwrap_or(kind), None, value("arguments"), value("contentItems")),
            "webSearch" => (kind, fields.text("query"), cut(&fields, &["query", "action"]), value("results")),
            "imageView" | "imageGeneration" | "collabAgentToolCall" | "sleep" => (kind, None, Some(item.json()), None),
            _ => return None,
        };
        Some(Self { call, name, title, input, output })
    }
}

/// Some of an item's fields, as Codex wrote them; none where it has none of them.
fn cut(fields: &Object<'_>, keys: &[&'static str]) -> Option<Json> {
    let cut: BTreeMap<&str, _> = keys.iter().filter_map(|key| Some((*key, fields.get(key)?.0))).collect();
    (!cut.is_empty()).then(|| Json::of(&cut))
}

/// Which files a change is of.
pub fn paths(fields: &Object<'_>) -> Option<String> {
    let paths: Vec<String> = fields.list("changes").into_iter().filter_map(|change| change.object().text("path")).collect();
    (!paths.is_empty()).then(|| paths.join(", "))
}

/// Tokens, as Codex counts them; the cached ones are among those that went in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    input: u64,
    output: u64,
    reasoning: u64,
    cache_read: u64,
    cache_write: u64,
}

impl From<&Object<'_>> for Tokens {
    fn from(counts: &Object<'_>) -> Self {
        let count = |key| counts.get(key).and_then(Value::number).unwrap_or(0);
        Self {
            input: count("inputTokens"),
            output: count("outputTokens"),
            reasoning: count("reasoningOutputTokens"),
            cache_read: count("cachedInputTokens"),
            cache_write: count("cacheWriteInputTokens"),
        }
    }
}

impl Tokens {
    pub fn less(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            reasoning: self.reasoning.saturating_sub(other.reasoning),
            cache_read: self.cache_read.saturating_sub(other.cache_read),
            cache_write: self.cache_write.saturating_sub(other.cache_write),
        }
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self {
            input_tokens: Some(tokens.input.saturating_sub(tokens.cache_read).saturating_sub(tokens.cache_write)),
            output_tokens: Some(tokens.output),
            reasoning_tokens: Some(tokens.reasoning),
            cache_read_tokens: Some(tokens.cache_read),
            cache_write_tokens: Some(tokens.cache_write),
            ..Self::default()
        }
    }
}

/// How a turn ended. One that failed after it was to be cancelled is cancelled.
pub fn done(turn: &Object<'_>, cancelled: bool) -> Done {
    let error = turn.object("error");
    match turn.text("status").as_deref() {
        Some("interrupted") => Done::Cancelled,
        Some("failed") if cancelled => Done::Cancelled,
        Some("failed") => {
            let said = [error.text("message"), error.text("additionalDetails")];
            let message = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
            Done::Failed { code: code(&error), message: if message.is_empty() { "no message".into() } else { message } }
        }
        Some(status) => Done::Completed { reason: status.to_owned() },
        None => Done::Completed { reason: "unknown".into() },
    }
}

/// A word, or an object whose one key is the word.
fn code(error: &Object<'_>) -> String {
    let info = error.get("codexErrorInfo");
    info.and_then(|info| info.text().or_else(|| info.object().keys().next().map(str::to_owned))).unwrap_or_else(|| "unknown".into())
}

/// The turn of ours that is the last of a list which begins with the latest.
pub fn last_taken(page: &Object<'_>) -> Option<String> {
    let last = page.list("data").first()?.object();
    last.list("items").into_iter().rev().find_map(|item| item.object().text("clientId"))
}
