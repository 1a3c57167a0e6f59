//! From the agent's words to the words all drivers share, and back.
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
    AgentRaw, Asked, Json, ModelName, OptionKind, Payload, QuestionId, QuestionKind, QuestionOption, Said, ToolStatus, TurnId, Usage,
};
use serde::Serialize;
use serde_json::{Value as Owned, json, value::RawValue};
use std::collections::BTreeMap;

/// What its models take as pictures.
const IMAGES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

pub const ALLOW: &str = "allow";
pub const ALWAYS: &str = "always";
const DENY: &str = "deny";
const DENIED: &str = "The user does not allow this.";

pub fn raw(json: Json) -> Said {
    Said::Raw(AgentRaw::Json(json))
}

/// What a line without a turn's words in it says; none when it is of no known kind.
pub fn event(kind: &str, fields: &Object<'_>) -> Option<Vec<Said>> {
    let subtype = fields.text("subtype").unwrap_or_default();
    match (kind, subtype.as_str()) {
        ("system", "status") => Some(vec![Said::Compacting(fields.text("status").as_deref() == Some("compacting"))]),
        ("system", "compact_boundary") => Some(vec![Said::Compacting(false)]),
        // Counts, progress of what runs in the background, receipts: nothing of the answer.
        (
            "system",
            "init"
            | "thinking_tokens"
            | "api_retry"
            | "hook_started"
            | "hook_progress"
            | "hook_response"
            | "task_started"
            | "task_progress"
            | "task_updated"
            | "task_notification"
            | "background_tasks_changed"
            | "session_state_changed",
        )
        | ("command_lifecycle" | "conversation_reset" | "keep_alive" | "tool_progress" | "rate_limit_event", _) => Some(Vec::new()),
        _ => None,
    }
}

// Tools.

pub fn tool_started(block: &Object<'_>, input: Option<Payload>) -> Option<Said> {
    Some(Said::ToolStarted {
        call: block.text("id")?,
        name: block.text("name").unwrap_or_else(|| "tool".into()),
        title: input.as_ref().and_then(|_| title(&block.object("input"))),
        status: if input.is_some() { ToolStatus::Running } else { ToolStatus::Pending },
        input,
    })
}

/// A call whose input has come in whole.
pub fn tool_called(block: &Object<'_>) -> Option<Said> {
    let (call, title) = (block.text("id")?, title(&block.object("input")));
    Some(Said::ToolUpdated { call, status: Some(ToolStatus::Running), title, input: input(block), output: None })
}

pub fn input(block: &Object<'_>) -> Option<Payload> {
    block.get("input").map(|input| Payload::Json(input.json()))
}

/// What people know a call by, where the tool has a field for it.
fn title(input: &Object<'_>) -> Option<String> {
    ["description", "command", "file_path", "pattern", "url", "query"].iter().find_map(|key| input.text(key))
}

/// What a tool gave: to the model, and beside it to whoever looks (a diff, say).
pub fn tool_result(block: &Object<'_>, beside: Option<Value<'_>>) -> Option<Said> {
    let failed = block.get("is_error").is_some_and(Value::flag);
    let output = match (block.get("content"), beside) {
        (Some(content), Some(beside)) => Some(Json::of(&BTreeMap::from([("content", content.0), ("tool_use_result", beside.0)]))),
        (Some(one), None) | (None, Some(one)) => Some(one.json()),
        (None, None) => None,
    };
    Some(Said::ToolUpdated {
        call: block.text("tool_use_id")?,
        status: Some(if failed { ToolStatus::Failed } else { ToolStatus::Completed }),
        title: None,
        input: None,
        output: output.map(Payload::Json),
    })
}

// Questions.

/// A `can_use_tool`; `id` is what to answer with.
pub fn permission(turn: TurnId, id: &str, request: Value<'_>) -> Asked {
    let fields = request.object();
    let option = |id: &str, label: &str, kind| QuestionOption { id: id.into(), label: label.into(), kind };
    let mut options = vec![option(ALLOW, "Allow once", OptionKind::AllowOnce), option(DENY, "Deny", OptionKind::RejectOnce)];
    if !fields.list("permission_suggestions").is_empty() {
        options.insert(1, option(ALWAYS, "Always allow", OptionKind::AllowAlways));
    }
    let tool = fields.text("tool_name").unwrap_or_else(|| "a tool".into());
    let title = title(&fields.object("input")).map_or(tool.clone(), |title| format!("{tool}: {title}"));
    asked(turn, id, QuestionKind::Permission, title, request.json(), options)
}

/// One question that the model has for the user; the options' ids are their places.
pub fn choice(turn: TurnId, id: &str, question: Value<'_>) -> Asked {
    let fields = question.object();
    let label = |(place, option): (usize, Value<'_>)| QuestionOption {
        id: place.to_string(),
        label: option.object().text("label").unwrap_or_default(),
        kind: OptionKind::Other,
    };
    let options = fields.list("options").into_iter().enumerate().map(label).collect();
    let title = fields.text("question").unwrap_or_else(|| "question".into());
    asked(turn, id, QuestionKind::Choice, title, question.json(), options)
}

fn asked(turn: TurnId, request: &str, kind: QuestionKind, title: String, call: Json, options: Vec<QuestionOption>) -> Asked {
    Asked {
        question: QuestionId::derive(turn.0, request, 0),
        kind,
        title,
        digest: digest_of_call(&call),
        call: Payload::Json(call),
        request: request.to_owned(),
        options,
        expires_at: None,
    }
}

#[derive(Serialize)]
#[serde(tag = "behavior", rename_all = "lowercase")]
pub enum Verdict {
    Allow {
        /// The call that may be made, which is the one that was asked about.
        #[serde(rename = "updatedInput")]
        input: Box<RawValue>,
        #[serde(rename = "updatedPermissions", skip_serializing_if = "Option::is_none")]
        permissions: Option<Box<RawValue>>,
    },
    Deny {
        message: &'static str,
    },
}

/// Anything but a yes is a no.
pub fn verdict(request: &Object<'_>, option: Option<&str>) -> Verdict {
    let suggested = || request.get("permission_suggestions").map(|suggested| suggested.0.to_owned());
    match option {
        Some(ALLOW) => Verdict::Allow { input: called(request), permissions: None },
        Some(ALWAYS) => Verdict::Allow { input: called(request), permissions: suggested() },
        Some(_) | None => Verdict::Deny { message: DENIED },
    }
}

/// The questions as they came, with the answers beside them.
pub fn answered(request: &Object<'_>, answers: &BTreeMap<String, String>) -> Verdict {
    let input = called(request);
    let mut fields: BTreeMap<&str, &RawValue> = serde_json::from_str(input.get()).unwrap_or_default();
    let answers = serde_json::value::to_raw_value(answers).expect("texts are JSON");
    fields.insert("answers", &answers);
    Verdict::Allow { input: serde_json::value::to_raw_value(&fields).expect("JSON is JSON"), permissions: None }
}

fn called(request: &Object<'_>) -> Box<RawValue> {
    request.get("input").map_or_else(|| RawValue::from_string("{}".into()).expect("{} is JSON"), |input| input.0.to_owned())
}

// Ends.

/// What one turn used, as its result tells it: of each model, helpers' too, where the agent says so, else of the main one.
/// A cost that the agent only guesses, because it knows no price of the model, is none.
pub fn usage(result: &Object<'_>) -> Usage {
    let request = result.text("uuid");
    let added = result.object("model_usage_since_last_result");
    let models: Option<BTreeMap<ModelName, Usage>> =
        added.keys().map(|name| Some((ModelName::new(name).ok()?, of_model(&added.object(name))))).collect();
    if let Some(models) = models.filter(|models| !models.is_empty()) {
        let mut all = Usage::default();
        models.values().for_each(|part| all.add(part));
        // The sum of some of the costs is not the cost.
        all.cost_usd_micros = models.values().map(|part| part.cost_usd_micros).sum();
        return Usage { request, models, ..all };
    }
    let usage = result.object("usage");
    let count = |key| usage.get(key).and_then(Value::number);
    Usage {
        input_tokens: count("input_tokens"),
        output_tokens: count("output_tokens"),
        reasoning_tokens: usage.object("output_tokens_details").get("thinking_tokens").and_then(Value::number),
        cache_read_tokens: count("cache_read_input_tokens"),
        cache_write_tokens: count("cache_creation_input_tokens"),
        request,
        ..Usage::default()
    }
}

/// What one request used; what a later word on it leaves out stays as it was.
pub fn request_usage(usage: &Object<'_>, before: &Usage) -> Usage {
    let count = |key: &str, before: Option<u64>| usage.get(key).and_then(Value::number).or(before);
    Usage {
        input_tokens: count("input_tokens", before.input_tokens),
        output_tokens: count("output_tokens", before.output_tokens),
        cache_read_tokens: count("cache_read_input_tokens", before.cache_read_tokens),
        cache_write_tokens: count("cache_creation_input_tokens", before.cache_write_tokens),
        ..Usage::default()
    }
}

fn of_model(model: &Object<'_>) -> Usage {
    let count = |key| model.get(key).and_then(Value::number);
    let guessed = model.text("costBasis").as_deref() == Some("unknown");
    Usage {
        input_tokens: count("inputTokens"),
        output_tokens: count("outputTokens"),
        reasoning_tokens: count("thinkingTokens"),
        cache_read_tokens: count("cacheReadInputTokens"),
        cache_write_tokens: count("cacheCreationInputTokens"),
        cost_usd_micros: model.get("costUSD").filter(|_| !guessed).and_then(Value::float).and_then(micros),
        ..Usage::default()
    }
}

/// What the process says that its session cost, in millionths of a US dollar.
pub fn session_cost(result: &Object<'_>) -> Option<u64> {
    micros(result.get("total_cost_usd").and_then(Value::float)?)
}

fn micros(dollars: f64) -> Option<u64> {
    (0.0..1e9).contains(&dollars).then(|| (dollars * 1e6).round() as u64)
}

pub fn is_error(result: &Object<'_>) -> bool {
    // A "success" may be none.
    result.get("is_error").is_some_and(Value::flag) || result.text("subtype").is_some_and(|subtype| subtype != "success")
}

pub fn done(result: &Object<'_>, cancelled: bool) -> Done {
    let reason = || result.text("stop_reason").or_else(|| result.text("terminal_reason")).unwrap_or_else(|| "unknown".into());
    if !is_error(result) {
        return Done::Completed { reason: reason() };
    }
    if cancelled {
        return Done::Cancelled;
    }
    let (code, message) = failure(result);
    Done::Failed { code, message }
}

/// The agent's own code, and what it says about it.
pub fn failure(result: &Object<'_>) -> (String, String) {
    let http = result.get("api_error_status").map(|status| status.json().get().to_owned());
    let code = result.text("api_error_type").or(http).or_else(|| result.text("subtype").filter(|subtype| subtype != "success"));
    let errors: Vec<String> = result.list("errors").into_iter().filter_map(Value::text).collect();
    let message = result.text("result").or_else(|| (!errors.is_empty()).then(|| errors.join("; ")));
    (code.unwrap_or_else(|| "unknown".into()), message.or_else(|| result.text("terminal_reason")).unwrap_or_else(|| "no message".into()))
}

// Prompts.

/// One text as itself, since a command is only known as such; anything else as blocks.
pub fn content(prompt: &Prompt) -> Owned {
    if let ([PromptPart::Text(text)], []) = (&prompt.parts[..], &prompt.history[..]) {
        return json!(text);
    }
    let history = (!prompt.history.is_empty()).then(|| text_block(&words::of_history(&prompt.history)));
    history.into_iter().chain(prompt.parts.iter().map(block)).collect()
}

fn block(part: &PromptPart) -> Owned {
    match part {
        PromptPart::Text(text) => text_block(text),
        PromptPart::File { media_type, bytes, .. } if IMAGES.contains(&media_type.as_str()) => source("image", media_type, bytes),
        PromptPart::File { media_type, bytes, .. } if media_type == PDF => source("document", media_type, bytes),
        PromptPart::File { name, media_type, bytes } => text_block(&words::of_file(name.as_deref().unwrap_or("file"), media_type, bytes)),
    }
}

fn text_block(text: &str) -> Owned {
    json!({ "type": "text", "text": text })
}

fn source(kind: &str, media_type: &str, bytes: &Bytes) -> Owned {
    json!({ "type": kind, "source": { "type": "base64", "media_type": media_type, "data": BASE64_STANDARD.encode(bytes) } })
}
