//! Anthropic's messages.
//!
//! Never: more of the dialect than the agents of the tests read.

use super::{
    Dialect, Event,
    answer::{Answer, Conversation, Tool, is_said, text_of, texts_of},
};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Messages;

impl Dialect for Messages {
    const PATH: &'static str = "/v1/messages";

    fn conversation(body: &Value) -> Conversation {
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        let users: Vec<&Value> = messages.iter().filter(|message| message["role"] == "user").collect();
        // Claude Code puts prompts that got no answer into one message with the next, each as a block of its own.
        let prompts = users.iter().flat_map(|message| texts_of(&message["content"]));
        let tools = body["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tool| Tool { name: tool["name"].as_str().unwrap_or_default().to_owned(), schema: tool["input_schema"].clone() });
        let last = users.last().and_then(|message| message["content"].as_array());
        let last = last.and_then(|parts| parts.iter().rfind(|part| part["text"].as_str().is_none_or(is_said)));
        Conversation {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            system: text_of(&body["system"]),
            prompts: prompts.map(|text| text.trim_end().to_owned()).collect(),
            after_tool: last.is_some_and(|part| part["type"] == "tool_result"),
            tools: tools.collect(),
        }
    }

    fn whole(body: &Value, answer: &Answer) -> Value {
        let mut message = envelope(body, answer);
        message["content"] = blocks(answer).into_iter().map(Block::whole).collect();
        message["stop_reason"] = stop_reason(answer).into();
        message["usage"] = usage(answer, answer.words_out());
        message
    }

    fn events(body: &Value, answer: &Answer) -> Vec<(Duration, Event)> {
        let now = |name, data| (Duration::ZERO, Event::named(name, data));
        let mut events = vec![now("message_start", json!({ "message": envelope(body, answer) }))];
        for (index, block) in blocks(answer).iter().enumerate() {
            events.push(now("content_block_start", json!({ "index": index, "content_block": block.empty })));
            for delta in &block.deltas {
                events.push((block.pace, Event::named("content_block_delta", json!({ "index": index, "delta": delta }))));
            }
            events.push(now("content_block_stop", json!({ "index": index })));
        }
        let usage = json!({ "output_tokens": answer.words_out() });
        events
            .push(now("message_delta", json!({ "delta": { "stop_reason": stop_reason(answer), "stop_sequence": null }, "usage": usage })));
        events.push(now("message_stop", json!({})));
        events
    }

    fn error(message: &str) -> Value {
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } })
    }
}

/// One content block, as it begins, and what is added to it.
struct Block {
    empty: Value,
    deltas: Vec<Value>,
    pace: Duration,
    /// As it stands when all is added.
    full: Value,
}

impl Block {
    fn whole(self) -> Value {
        self.full
    }
}

fn blocks(answer: &Answer) -> Vec<Block> {
    let mut blocks = Vec::new();
    if !answer.thinking.is_empty() {
        let thinking = &answer.thinking;
        blocks.push(Block {
            empty: json!({ "type": "thinking", "thinking": "", "signature": "" }),
            deltas: vec![
                json!({ "type": "thinking_delta", "thinking": thinking }),
                json!({ "type": "signature_delta", "signature": "fake" }),
            ],
            pace: Duration::ZERO,
            full: json!({ "type": "thinking", "thinking": thinking, "signature": "fake" }),
        });
    }
    blocks.push(match &answer.call {
        Some(call) => {
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
            Block {
                empty: json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} }),
                deltas: vec![json!({ "type": "input_json_delta", "partial_json": call.arguments })],
                pace: Duration::ZERO,
                full: json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }),
            }
        }
        None => Block {
            empty: json!({ "type": "text", "text": "" }),
            deltas: answer.words().map(|word| json!({ "type": "text_delta", "text": word })).collect(),
            pace: answer.pace,
            full: json!({ "type": "text", "text": answer.text }),
        },
    });
    blocks
}

fn envelope(body: &Value, answer: &Answer) -> Value {
    // Two answers of one conversation are two messages.
    let id = format!("msg_{}", body["messages"].as_array().map_or(0, Vec::len));
    json!({ "id": id, "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(answer, 0) })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.call.is_some() { "tool_use" } else { "end_turn" }
}

fn usage(answer: &Answer, words_out: usize) -> Value {
    json!({ "input_tokens": answer.words_in, "output_tokens": words_out })
}
