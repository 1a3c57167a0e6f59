//! From the protocol's words to the words all drivers share, and back.
//!
//! One function per kind of thing. What has no word of ours becomes [`Said::Raw`] with the agent's own JSON.
//! Never: a decision that needs to know what was said before.

use crate::{
    json::{Object, Value},
    words,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use everkept_agent::{Done, Prompt, PromptPart, digest_of_call};
use everkept_core::{
    AgentRaw, Asked, Json, OptionKind, Payload, QuestionId, QuestionKind, QuestionOption, Said, ToolStatus, TurnId, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Owned, json};

/// What a prompt may hold, as the agent said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepts {
    pub image: bool,
    pub audio: bool,
    pub embedded: bool,
}

impl From<&Object<'_>> for Accepts {
    fn from(capabilities: &Object<'_>) -> Self {
        let has = |key| capabilities.get(key).is_some_and(Value::flag);
        Self { image: has("image"), audio: has("audio"), embedded: has("embeddedContext") }
    }
}

/// One `session/update`.
pub fn update(update: Value<'_>) -> Vec<Said> {
    let fields = update.object();
    let kind = fields.text("sessionUpdate").unwrap_or_default();
    let said = match kind.as_str() {
        "agent_message_chunk" => chunk_text(&fields).map(|(message, text)| vec![Said::Text { message, text }]),
        // Some agents name a thought apart from the answer it belongs to: it goes with whatever comes next.
        "agent_thought_chunk" => chunk_text(&fields).map(|(_, text)| vec![Said::Reasoning { message: None, text }]),
        "tool_call" => tool_call(&fields),
        "tool_call_update" => tool_update(&fields).map(|said| vec![said]),
        "plan" => fields.get("entries").map(|entries| vec![Said::Plan { entries: Payload::Json(entries.json()) }]),
        // What we sent, what may be chosen, and what is read elsewhere: nothing of the answer.
        "user_message_chunk"
        | "available_commands_update"
        | "current_mode_update"
        | "config_option_update"
        | "session_info_update"
        | "usage_update" => Some(Vec::new()),
        _ => None,
    };
    said.unwrap_or_else(|| vec![raw(update.json())])
}

pub fn raw(json: Json) -> Said {
    Said::Raw(AgentRaw::Json(json))
}

fn chunk_text(fields: &Object<'_>) -> Option<(Option<String>, String)> {
    let content = fields.object("content");
    let text = content.text("text").filter(|_| content.text("type").as_deref() == Some("text"))?;
    Some((fields.text("messageId"), text))
}

/// A call may be over when it is first heard of; then it is begun and ended at once.
fn tool_call(fields: &Object<'_>) -> Option<Vec<Said>> {
    let call = fields.text("toolCallId")?;
    let status = status(fields).unwrap_or(ToolStatus::Pending);
    let output = output(fields);
    let title = fields.text("title");
    let over = matches!(status, ToolStatus::Completed | ToolStatus::Failed);
    let mut said = vec![Said::ToolStarted {
        call: call.clone(),
        name: tool_name(fields),
        title,
        status: if over { ToolStatus::Running } else { status },
        input: payload(fields, "rawInput"),
    }];
    if over || output.is_some() {
        said.push(Said::ToolUpdated { call, status: over.then_some(status), title: None, input: None, output });
    }
    Some(said)
}

fn tool_update(fields: &Object<'_>) -> Option<Said> {
    Some(Said::ToolUpdated {
        call: fields.text("toolCallId")?,
        status: status(fields),
        title: fields.text("title"),
        input: payload(fields, "rawInput"),
        output: output(fields),
    })
}

/// Agents of before there was a place for it say it aside; the others say at least what kind of tool it is.
fn tool_name(fields: &Object<'_>) -> String {
    let aside = || fields.object("_meta").object("claudeCode").text("toolName");
    fields.text("name").or_else(aside).or_else(|| fields.text("kind")).unwrap_or_else(|| "tool".into())
}

fn status(fields: &Object<'_>) -> Option<ToolStatus> {
    match fields.text("status")?.as_str() {
        "pending" => Some(ToolStatus::Pending),
        "in_progress" => Some(ToolStatus::Running),
        "completed" => Some(ToolStatus::Completed),
        "failed" => Some(ToolStatus::Failed),
        _ => None,
    }
}

fn payload(fields: &Object<'_>, key: &str) -> Option<Payload> {
    fields.get(key).map(|value| Payload::Json(value.json()))
}

/// Both when there are both: what is shown to people (a diff, say) need not be in what the tool gave.
fn output(fields: &Object<'_>) -> Option<Payload> {
    match (fields.get("rawOutput"), fields.get("content")) {
        (Some(raw), Some(content)) => {
            Some(Payload::Json(Json::of(&std::collections::BTreeMap::from([("content", content.0), ("rawOutput", raw.0)]))))
        }
        (Some(one), None) | (None, Some(one)) => Some(Payload::Json(one.json())),
        (None, None) => None,
    }
}

/// A `session/request_permission`; `request` is the id to answer with.
pub fn permission(turn: TurnId, request: &str, params: &Object<'_>) -> Asked {
    let call = params.get("toolCall").map_or_else(Json::empty_object, Value::json);
    let title = params.object("toolCall").text("title").unwrap_or_else(|| "permission".into());
    Asked {
        question: QuestionId::derive(turn.0, request, 0),
        kind: QuestionKind::Permission,
        title,
        digest: digest_of_call(&call),
        call: Payload::Json(call),
        request: request.to_owned(),
        options: params.list("options").into_iter().filter_map(option).collect(),
        expires_at: None,
    }
}

fn option(option: Value<'_>) -> Option<QuestionOption> {
    let fields = option.object();
    let id = fields.text("optionId")?;
    let kind = match fields.text("kind").unwrap_or_default().as_str() {
        "allow_once" => OptionKind::AllowOnce,
        "allow_always" => OptionKind::AllowAlways,
        "reject_once" => OptionKind::RejectOnce,
        "reject_always" => OptionKind::RejectAlways,
        _ => OptionKind::Other,
    };
    Some(QuestionOption { label: fields.text("name").unwrap_or_else(|| id.clone()), id, kind })
}

/// No option means no: the agent hears that its question was taken back.
pub fn outcome(option: Option<&str>) -> Owned {
    match option {
        Some(option) => json!({ "outcome": { "outcome": "selected", "optionId": option } }),
        None => json!({ "outcome": { "outcome": "cancelled" } }),
    }
}

/// What the adapter of Codex says of how its prompt goes: it ends one that failed as if it had been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Well,
    Failed,
}

pub fn health(update: &Object<'_>) -> Option<Health> {
    match update.object("_meta").object("codex").object("threadStatus").text("type")?.as_str() {
        "systemError" => Some(Health::Failed),
        "active" => Some(Health::Well),
        _ => None,
    }
}

/// Words that are no message of the model's: those of an error, when there was one.
pub fn unsigned_text(update: &Object<'_>) -> Option<String> {
    let is_chunk = update.text("sessionUpdate").as_deref() == Some("agent_message_chunk");
    chunk_text(update).filter(|(message, _)| is_chunk && message.is_none()).map(|(_, text)| text)
}

/// The tokens of one prompt, as its result tells them.
pub fn usage(result: &Object<'_>) -> Usage {
    let usage = result.object("usage");
    let count = |key| usage.get(key).and_then(Value::number);
    Usage {
        input_tokens: count("inputTokens"),
        output_tokens: count("outputTokens"),
        reasoning_tokens: count("thoughtTokens"),
        cache_read_tokens: count("cachedReadTokens"),
        cache_write_tokens: count("cachedWriteTokens"),
        ..Usage::default()
    }
}

/// What the whole session cost so far, in millionths of a US dollar.
pub fn session_cost(update: &Object<'_>) -> Option<u64> {
    let cost = update.object("cost");
    let amount = cost.get("amount").and_then(Value::float).filter(|_| cost.text("currency").as_deref() == Some("USD"))?;
    (0.0..1e9).contains(&amount).then(|| (amount * 1e6).round() as u64)
}

pub fn done(result: &Object<'_>) -> Done {
    match result.text("stopReason") {
        Some(reason) if reason == "cancelled" => Done::Cancelled,
        Some(reason) => Done::Completed { reason },
        None => Done::Completed { reason: "unknown".into() },
    }
}

/// The content blocks of a prompt.
pub fn blocks(prompt: &Prompt, accepts: Accepts) -> Vec<Owned> {
    let history = (!prompt.history.is_empty()).then(|| text_block(&words::of_history(&prompt.history)));
    history.into_iter().chain(prompt.parts.iter().map(|part| block(part, accepts))).collect()
}

fn text_block(text: &str) -> Owned {
    json!({ "type": "text", "text": text })
}

fn block(part: &PromptPart, accepts: Accepts) -> Owned {
    match part {
        PromptPart::Text(text) => text_block(text),
        PromptPart::File { name, media_type, bytes } => file(name.as_deref().unwrap_or("file"), media_type, bytes, accepts),
    }
}

/// As the agent takes it; in words when it takes no such file.
fn file(name: &str, media_type: &str, bytes: &Bytes, accepts: Accepts) -> Owned {
    let uri = format!("attachment:///{name}");
    let text = std::str::from_utf8(bytes).ok();
    match media_type.split('/').next() {
        Some("image") if accepts.image => json!({ "type": "image", "mimeType": media_type, "data": BASE64_STANDARD.encode(bytes) }),
        Some("audio") if accepts.audio => json!({ "type": "audio", "mimeType": media_type, "data": BASE64_STANDARD.encode(bytes) }),
        _ => match text {
            Some(text) if accepts.embedded => {
                json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media_type, "text": text } })
            }
            None if accepts.embedded => {
                let blob = BASE64_STANDARD.encode(bytes);
                json!({ "type": "resource", "resource": { "uri": uri, "mimeType": media_type, "blob": blob } })
            }
            Some(_) | None => text_block(&words::of_file(name, media_type, bytes)),
        },
    }
}
