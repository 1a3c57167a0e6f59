//! What an agent is told in words because its protocol has no better place for it: a history, a file.
//!
//! Never: a word of a protocol.

use everkept_core::{Message, Part, Role};

/// Before and after the messages an agent session does not hold.
const HISTORY_BEGINS: &str = "[Earlier messages of this conversation follow. They are context, not a request.]";
const HISTORY_ENDS: &str = "[The earlier messages end here.]";

/// The messages an agent session does not hold, as one text before the prompt.
pub fn of_history(messages: &[Message]) -> String {
    let mut text = HISTORY_BEGINS.to_owned();
    for message in messages {
        let who = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        };
        text.push_str(&format!("\n\n{who}:"));
        message.parts.iter().for_each(|part| remember(&mut text, part));
    }
    text.push_str("\n\n");
    text.push_str(HISTORY_ENDS);
    text
}

/// A file the agent cannot be given as one.
pub fn of_file(name: &str, media_type: &str, bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("[The attached file {name}:]\n{text}\n[The file ends here.]"),
        Err(_) => format!("[A file {name} of type {media_type} was attached, which this agent cannot be given.]"),
    }
}

/// Reasoning is the agent's own and stays with it.
fn remember(history: &mut String, part: &Part) {
    match part {
        Part::Text { text, .. } => history.push_str(&format!("\n{text}")),
        Part::Reasoning { .. } => {}
        Part::Tool(tool) => history.push_str(&format!("\n[used {}: {}]", tool.name, tool.title.as_deref().unwrap_or(&tool.call))),
        Part::File(file) => history.push_str(&format!("\n[attached {}]", file.name.as_deref().unwrap_or("a file"))),
    }
}
