//! OpenAI's chat completions, as its own server and the many that took it over speak it.
//!
//! Never: a field that only some servers know, but for the one that asks for the usage.

use super::{
    dialect::{Read, failed, raw},
    transcript::{Content, Told},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use everkept_agent::Done;
use everkept_api::client::Sse;
use everkept_core::{ModelName, Role, Said, Usage};
use serde_json::{Value, json};

pub fn takes(media_type: &str) -> bool {
    media_type.starts_with("image/")
}

pub fn body(model: &ModelName, max_tokens: Option<u32>, messages: &[Told]) -> Value {
    let message = |told: &Told| json!({ "role": role(told.role), "content": content(&told.parts) });
    let mut body = json!({
        "model": model,
        "stream": true,
        "stream_options": { "include_usage": true },
        "messages": messages.iter().map(message).collect::<Vec<_>>(),
    });
    if let Some(most) = max_tokens {
        body["max_tokens"] = most.into();
    }
    body
}

fn role(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    }
}

/// Text alone is a string: not every server takes a list.
fn content(parts: &[Content]) -> Value {
    let text = |part: &Content| if let Content::Text(text) = part { Some(text.clone()) } else { None };
    if let Some(texts) = parts.iter().map(text).collect::<Option<Vec<_>>>() {
        return texts.join("\n\n").into();
    }
    let part = |part: &Content| match part {
        Content::Text(text) => json!({ "type": "text", "text": text }),
        Content::File { media_type, bytes } => {
            let url = format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(bytes));
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
    };
    parts.iter().map(part).collect()
}

#[derive(Debug, Default)]
pub struct Answer {
    /// Why it ended, which is said before the usage is.
    reason: Option<String>,
    message: Option<String>,
    usage: Option<Usage>,
}

impl Answer {
    pub fn read(&mut self, event: &Sse) -> Read {
        if event.data == "[DONE]" {
            let message = self.message.clone();
            let of_message = self.usage.take().map(|usage| Said::MessageUsage { message, usage });
            return Read { said: of_message.into_iter().collect(), done: self.completed() };
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&event.data) else {
            return Read { said: vec![raw(&event.data)], done: None };
        };
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Read { said: Vec::new(), done: Some(failed(&chunk, "error")) };
        }
        let mut said = Vec::new();
        let message = || chunk["id"].as_str().map(str::to_owned);
        self.message = message().or(self.message.take());
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        // DeepSeek, vLLM and others name it the first way, OpenRouter and llama.cpp the second.
        let reasoning = delta["reasoning_content"].as_str().or_else(|| delta["reasoning"].as_str());
        if let Some(text) = reasoning.filter(|text| !text.is_empty()) {
            said.push(Said::Reasoning { message: message(), text: text.to_owned() });
        }
        let text = delta["content"].as_str().or_else(|| delta["refusal"].as_str());
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            said.push(Said::Text { message: message(), text: text.to_owned() });
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            let usage = self::usage(usage);
            said.push(Said::Usage(usage.clone()));
            self.usage = Some(usage);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.reason = Some(reason.to_owned());
        }
        if !delta["tool_calls"].is_null() || (chunk.get("choices").is_none() && said.is_empty()) {
            said.push(raw(&event.data));
        }
        Read { said, done: None }
    }

    /// Some servers leave out the last line.
    pub fn end(self) -> Option<Done> {
        self.completed()
    }

    fn completed(&self) -> Option<Done> {
        self.reason.clone().map(|reason| Done::Completed { reason })
    }
}

/// What was cached is among what went in.
fn usage(usage: &Value) -> Usage {
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    Usage {
        input_tokens: usage["prompt_tokens"].as_u64().map(|all| all.saturating_sub(cached.unwrap_or(0))),
        output_tokens: usage["completion_tokens"].as_u64(),
        reasoning_tokens: usage["completion_tokens_details"]["reasoning_tokens"].as_u64(),
        cache_read_tokens: cached,
        ..Usage::default()
    }
}
