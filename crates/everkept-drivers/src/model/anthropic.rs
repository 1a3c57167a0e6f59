//! Anthropic's messages, streamed.
//!
//! Never: thinking given back to the model, which would need its signature.

use super::{
    dialect::{Read, failed, raw},
    transcript::{Content, Told},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use everkept_agent::Done;
use everkept_api::client::Sse;
use everkept_core::{ModelName, Role, Said, Usage};
use serde_json::{Value, json};

pub const VERSION: &str = "2023-06-01";
/// The API has to be told how long an answer may be. Every model it has today gives as much.
const MAX_TOKENS: u32 = 8_192;

pub fn takes(media_type: &str) -> bool {
    matches!(media_type, "image/jpeg" | "image/png" | "image/gif" | "image/webp" | "application/pdf")
}

pub fn body(model: &ModelName, max_tokens: Option<u32>, messages: &[Told]) -> Value {
    let block = |part: &Content| match part {
        Content::Text(text) => json!({ "type": "text", "text": text }),
        Content::File { media_type, bytes } => {
            let kind = if media_type == "application/pdf" { "document" } else { "image" };
            let source = json!({ "type": "base64", "media_type": media_type, "data": BASE64_STANDARD.encode(bytes) });
            json!({ "type": kind, "source": source })
        }
    };
    let blocks = |told: &Told| told.parts.iter().map(block).collect::<Vec<_>>();
    let (mut system, mut said) = (Vec::new(), Vec::new());
    for told in messages {
        match told.role {
            Role::System => system.extend(blocks(told)),
            Role::User => said.push(json!({ "role": "user", "content": blocks(told) })),
            Role::Assistant => said.push(json!({ "role": "assistant", "content": blocks(told) })),
        }
    }
    let mut body = json!({ "model": model, "max_tokens": max_tokens.unwrap_or(MAX_TOKENS), "stream": true, "messages": said });
    if !system.is_empty() {
        body["system"] = system.into();
    }
    body
}

#[derive(Debug, Default)]
pub struct Answer {
    message: Option<String>,
    reason: Option<String>,
    usage: Usage,
}

impl Answer {
    pub fn read(&mut self, event: &Sse) -> Read {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            return Read { said: vec![raw(&event.data)], done: None };
        };
        let delta = &data["delta"];
        let text = |key: &str| delta[key].as_str().unwrap_or_default().to_owned();
        let said = match (data["type"].as_str().unwrap_or_default(), delta["type"].as_str().unwrap_or_default()) {
            ("message_start", _) => {
                self.message = data["message"]["id"].as_str().map(str::to_owned);
                return Read { said: self.usage(&data["message"]["usage"]), done: None };
            }
            ("content_block_delta", "text_delta") => Said::Text { message: self.message.clone(), text: text("text") },
            ("content_block_delta", "thinking_delta") => Said::Reasoning { message: self.message.clone(), text: text("thinking") },
            ("message_delta", _) => {
                self.reason = delta["stop_reason"].as_str().map(str::to_owned).or(self.reason.take());
                return Read { said: self.usage(&data["usage"]), done: None };
            }
            ("message_stop", _) => {
                let reason = self.reason.take().unwrap_or_else(|| "end_turn".into());
                let usage = self.usage.clone();
                let of_message = (usage != Usage::default()).then(|| Said::MessageUsage { message: self.message.clone(), usage });
                return Read { said: of_message.into_iter().collect(), done: Some(Done::Completed { reason }) };
            }
            ("error", _) => return Read { said: Vec::new(), done: Some(failed(&data, "error")) },
            ("ping" | "content_block_start" | "content_block_stop", _) | ("content_block_delta", "signature_delta") => {
                return Read::default();
            }
            _ => raw(&event.data),
        };
        Read { said: vec![said], done: None }
    }

    /// What a later event leaves out stays as it was.
    fn usage(&mut self, usage: &Value) -> Vec<Said> {
        if !usage.is_object() {
            return Vec::new();
        }
        let last = self.usage.clone();
        self.usage = Usage {
            input_tokens: usage["input_tokens"].as_u64().or(last.input_tokens),
            output_tokens: usage["output_tokens"].as_u64().or(last.output_tokens),
            cache_read_tokens: usage["cache_read_input_tokens"].as_u64().or(last.cache_read_tokens),
            cache_write_tokens: usage["cache_creation_input_tokens"].as_u64().or(last.cache_write_tokens),
            ..last
        };
        vec![Said::Usage(self.usage.clone())]
    }
}
