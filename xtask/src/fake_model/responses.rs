//! OpenAI's responses.
//!
//! Never: more of the dialect than the agents of the tests read.

use super::{
    Dialect, Event,
    answer::{Answer, Conversation, Tool, text_of},
};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Responses;

impl Dialect for Responses {
    const PATH: &'static str = "/v1/responses";

    fn conversation(body: &Value) -> Conversation {
        let input = match &body["input"] {
            Value::String(text) => vec![json!({ "role": "user", "content": text })],
            input => input.as_array().cloned().unwrap_or_default(),
        };
        let users = input.iter().filter(|item| item["role"] == "user").map(|item| text_of(&item["content"]));
        let tools = body["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tool| Tool { name: tool["name"].as_str().unwrap_or_default().to_owned(), schema: tool["parameters"].clone() });
        let last_kind = input.last().and_then(|item| item["type"].as_str()).unwrap_or_default();
        Conversation {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            system: body["instructions"].as_str().unwrap_or_default().to_owned(),
            prompts: users.filter(|text| !text.is_empty()).collect(),
            after_tool: last_kind.ends_with("_call_output"),
            tools: tools.collect(),
        }
    }

    fn whole(body: &Value, answer: &Answer) -> Value {
        let mut response = envelope(body, "completed");
        response["output"] = thought(answer).into_iter().chain([item(answer)]).collect();
        response["usage"] = usage(answer);
        response
    }

    fn events(body: &Value, answer: &Answer) -> Vec<(Duration, Event)> {
        let now = |name, data| (Duration::ZERO, Event::named(name, data));
        let mut events = vec![now("response.created", json!({ "response": envelope(body, "in_progress") }))];
        if let Some(thought) = thought(answer) {
            let place = |key: &str, value: Value| json!({ "item_id": "thought_fake", "output_index": 0, "summary_index": 0, key: value });
            events.push(now(
                "response.output_item.added",
                json!({ "output_index": 0, "item": { "id": "thought_fake", "type": "reasoning", "summary": [] } }),
            ));
            events.push(now("response.reasoning_summary_part.added", place("part", json!({ "type": "summary_text", "text": "" }))));
            for word in answer.thinking.split_inclusive(' ') {
                events.push(now("response.reasoning_summary_text.delta", place("delta", word.into())));
            }
            events.push(now("response.output_item.done", json!({ "output_index": 0, "item": thought })));
        }
        let mut begun = item(answer);
        begun["status"] = "in_progress".into();
        events.push(now("response.output_item.added", json!({ "output_index": 0, "item": begun })));
        if answer.call.is_none() {
            for word in answer.words() {
                let delta = json!({ "item_id": "item_fake", "output_index": 0, "content_index": 0, "delta": word });
                events.push((answer.pace, Event::named("response.output_text.delta", delta)));
            }
        }
        events.push(now("response.output_item.done", json!({ "output_index": 0, "item": item(answer) })));
        events.push(now("response.completed", json!({ "response": Self::whole(body, answer) })));
        for (number, (_, event)) in events.iter_mut().enumerate() {
            event.data = format!("{{\"sequence_number\":{number},{}", &event.data[1..]);
        }
        events
    }

    fn error(message: &str) -> Value {
        json!({ "error": { "message": message, "type": "invalid_request_error", "code": "fake_failure" } })
    }
}

fn thought(answer: &Answer) -> Option<Value> {
    let summary = json!([{ "type": "summary_text", "text": answer.thinking }]);
    (!answer.thinking.is_empty()).then(|| json!({ "id": "thought_fake", "type": "reasoning", "summary": summary }))
}

fn item(answer: &Answer) -> Value {
    match &answer.call {
        Some(call) => json!({ "id": "item_fake", "type": "function_call", "status": "completed", "call_id": call.id, "name": call.name,
            "arguments": call.arguments }),
        None => json!({ "id": "item_fake", "type": "message", "status": "completed", "role": "assistant",
            "content": [{ "type": "output_text", "text": answer.text, "annotations": [] }] }),
    }
}

fn envelope(body: &Value, status: &str) -> Value {
    json!({ "id": "resp_fake", "object": "response", "created_at": 0, "model": body["model"], "status": status, "output": [] })
}

fn usage(answer: &Answer) -> Value {
    let (input, output) = (answer.words_in, answer.words_out());
    json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output })
}
