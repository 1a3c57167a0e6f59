//! What the agent says in a turn: first in pieces as its model streams, then once more in whole.
//!
//! Never: a word twice. A block that was streamed adds only what its pieces lacked.

use super::convert::{self, raw};
use crate::json::{Object, Value};
use everkept_core::{AgentSessionId, Said, Usage};
use std::collections::BTreeSet;

/// What was said so far in the running turn, as far as the next line depends on it.
#[derive(Default)]
pub struct Speech {
    /// The message that is streamed.
    message: Option<String>,
    /// What the request that makes it has used so far.
    usage: Usage,
    /// The text of the block that is streamed.
    streamed: String,
    /// The calls that are begun.
    calls: BTreeSet<String>,
    /// It said something that people can read.
    spoke: bool,
}

/// How a line gives a text.
#[derive(Clone, Copy)]
enum Voice {
    Answer,
    Thought,
}

impl Speech {
    /// One line of a turn; none when it is of no known kind.
    pub fn hear(&mut self, kind: &str, fields: &Object<'_>) -> Option<Vec<Said>> {
        // What its helpers say is theirs; what they come to is the result of a tool.
        let helper = fields.get("parent_tool_use_id").is_some();
        match kind {
            "stream_event" | "assistant" | "user" if helper => Some(Vec::new()),
            "stream_event" => self.streamed(fields.get("event")?),
            "assistant" => Some(self.said(fields)),
            "user" => Some(results(fields)),
            _ => convert::event(kind, fields),
        }
    }

    /// What a turn without a word comes to: the agent's own commands answer in their result alone.
    pub fn unsaid(&self, result: &Object<'_>) -> Option<Said> {
        let text = result.text("result").filter(|text| !self.spoke && !convert::is_error(result) && !text.is_empty())?;
        Some(Said::Text { message: None, text })
    }

    fn streamed(&mut self, event: Value<'_>) -> Option<Vec<Said>> {
        let fields = event.object();
        let said = match fields.text("type")?.as_str() {
            "message_start" => {
                let message = fields.object("message");
                self.message = message.text("id");
                self.usage = convert::request_usage(&message.object("usage"), &Usage::default());
                self.streamed.clear();
                Some(Vec::new())
            }
            "message_delta" => {
                let usage = convert::request_usage(&fields.object("usage"), &std::mem::take(&mut self.usage));
                let message = self.message.clone();
                Some((usage != Usage::default()).then_some(Said::MessageUsage { message, usage }).into_iter().collect())
            }
            "content_block_start" => {
                self.streamed.clear();
                Some(self.begun(&fields.object("content_block")))
            }
            "content_block_delta" => self.piece(&fields.object("delta")),
            "content_block_stop" | "message_stop" | "ping" => Some(Vec::new()),
            _ => None,
        };
        Some(said.unwrap_or_else(|| vec![raw(event.json())]))
    }

    fn begun(&mut self, block: &Object<'_>) -> Vec<Said> {
        let call = block.text("id").filter(|_| block.text("type").as_deref() == Some("tool_use"));
        match call.map(|call| self.calls.insert(call)) {
            Some(true) => convert::tool_started(block, None).into_iter().collect(),
            // Its text comes in pieces; what is of another kind comes in whole.
            Some(false) | None => Vec::new(),
        }
    }

    fn piece(&mut self, delta: &Object<'_>) -> Option<Vec<Said>> {
        let (voice, text) = match delta.text("type")?.as_str() {
            "text_delta" => (Voice::Answer, delta.text("text")?),
            "thinking_delta" => (Voice::Thought, delta.text("thinking")?),
            "input_json_delta" | "signature_delta" | "citations_delta" => return Some(Vec::new()),
            _ => return None,
        };
        self.streamed.push_str(&text);
        let message = self.message.clone();
        Some(vec![self.utter(voice, message, text)])
    }

    /// One message, or a block of it, in whole.
    fn said(&mut self, fields: &Object<'_>) -> Vec<Said> {
        let message = fields.object("message");
        // The words of an error are not the model's; the turn's end has them.
        if fields.get("error").is_some() && message.text("model").as_deref() == Some("<synthetic>") {
            return Vec::new();
        }
        let id = message.text("id");
        message.list("content").into_iter().flat_map(|block| self.block(id.clone(), block)).collect()
    }

    fn block(&mut self, message: Option<String>, block: Value<'_>) -> Vec<Said> {
        let fields = block.object();
        let said = match fields.text("type").unwrap_or_default().as_str() {
            "text" => fields.text("text").map(|text| self.rest(Voice::Answer, message, text)),
            "thinking" => fields.text("thinking").map(|text| self.rest(Voice::Thought, message, text)),
            "redacted_thinking" => Some(Vec::new()),
            "tool_use" => self.call(&fields).map(|said| vec![said]),
            _ => None,
        };
        said.unwrap_or_else(|| vec![raw(block.json())])
    }

    fn call(&mut self, block: &Object<'_>) -> Option<Said> {
        let input = convert::input(block);
        match self.calls.insert(block.text("id")?) {
            true => convert::tool_started(block, input),
            false => convert::tool_called(block),
        }
    }

    fn rest(&mut self, voice: Voice, message: Option<String>, text: String) -> Vec<Said> {
        let streamed = std::mem::take(&mut self.streamed);
        let rest = text.strip_prefix(&streamed).map_or(text.clone(), str::to_owned);
        if rest.is_empty() { Vec::new() } else { vec![self.utter(voice, message, rest)] }
    }

    fn utter(&mut self, voice: Voice, message: Option<String>, text: String) -> Said {
        match voice {
            Voice::Answer => {
                self.spoke = true;
                Said::Text { message, text }
            }
            Voice::Thought => Said::Reasoning { message, text },
        }
    }
}

/// What the tools gave. The rest of a user's message is what we said, or a note to the model.
fn results(fields: &Object<'_>) -> Vec<Said> {
    let blocks = fields.object("message").list("content");
    let results: Vec<_> =
        blocks.into_iter().map(Value::object).filter(|block| block.text("type").as_deref() == Some("tool_result")).collect();
    // Of several it does not say whose it is.
    let beside = fields.get("tool_use_result").filter(|_| results.len() == 1);
    results.iter().filter_map(|block| convert::tool_result(block, beside)).collect()
}

/// The session a turn runs in, as its first line says.
pub fn session(kind: &str, fields: &Object<'_>) -> Option<AgentSessionId> {
    let init = kind == "system" && fields.text("subtype").as_deref() == Some("init");
    fields.text("session_id").filter(|_| init).and_then(|id| AgentSessionId::new(id).ok())
}
