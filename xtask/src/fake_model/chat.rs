//! OpenAI's chat completions.
//!
//! Never: more of the dialect than the agents of the tests read.

use super::{
    Dialect, Event,
    answer::{Answer, Conversation, Tool, text_of},
};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Chat;

impl Dialect for Chat {
    const PATH: &'static str = "/v1/chat/completions";

    fn conversation(body: &Value) -> Conversation {
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        let of =
            |role: &'static str| messages.iter().filter(move |message| message["role"] == role).map(|message| text_of(&message["content"]));
        let tools = body["tools"].as_array().into_iter().flatten().map(|tool| Tool {
            name: tool["function"]["name"].as_str().unwrap_or_default().to_owned(),
            schema: tool["function"]["parameters"].clone(),
        });
        Conversation {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            system: of("system").collect(),
            prompts: of("user").filter(|text| !text.is_empty()).collect(),
            after_tool: messages.last().is_some_and(|message| message["role"] == "tool"),
            tools: tools.collect(),
        }
    }

    fn whole(body: &Value, answer: &Answer) -> Value {
        let mut message = json!({ "role": "assistant", "content": answer.text });
        if !answer.thinking.is_empty() {
            message["reasoning_content"] = answer.thinking.clone().into();
        }
        if let Some(call) = tool_calls(answer) {
            message["content"] = Value::Null;
            message["tool_calls"] = call;
        }
        let choice = json!({ "index": 0, "message": message, "finish_reason": finish(answer) });
        json!({ "id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage(answer) })
    }

    fn events(body: &Value, answer: &Answer) -> Vec<(Duration, Event)> {
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            json!({ "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": body["model"], "choices": [choice] })
        };
        let now = |data: Value| (Duration::ZERO, Event::new(&data));
        let mut events = vec![now(chunk(json!({ "role": "assistant", "content": "" }), Value::Null))];
        for word in answer.thinking.split_inclusive(' ') {
            events.push(now(chunk(json!({ "reasoning_content": word }), Value::Null)));
        }
        match tool_calls(answer) {
            Some(calls) => events.push(now(chunk(json!({ "tool_calls": calls }), Value::Null))),
            None => events.extend(answer.words().map(|word| (answer.pace, Event::new(&chunk(json!({ "content": word }), Value::Null))))),
        }
        events.push(now(chunk(json!({}), finish(answer).into())));
        let mut last = chunk(json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = usage(answer);
        events.push(now(last));
        events.push((Duration::ZERO, Event { name: None, data: "[DONE]".into() }));
        events
    }

    fn error(message: &str) -> Value {
        json!({ "error": { "message": message, "type": "invalid_request_error", "code": "fake_failure" } })
    }
}

fn tool_calls(answer: &Answer) -> Option<Value> {
    let call = answer.call.as_ref()?;
    let function = json!({ "name": call.name, "arguments": call.arguments });
    Some(json!([{ "index": 0, "id": call.id, "type": "function", "function": function }]))
}

fn finish(answer: &Answer) -> &'static str {
    if answer.call.is_some() { "tool_calls" } else { "stop" }
}

fn usage(answer: &Answer) -> Value {
    let (input, output) = (answer.words_in, answer.words_out());
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}
