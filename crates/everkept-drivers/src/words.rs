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
        message.parts.iter().filter_map(of_part).for_each(|part| text.push_str(&format!("\n{part}")));
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

/// A message to an agent that takes messages one by one.
pub fn of_message(message: &Message) -> String {
    message.parts.iter().filter_map(of_part).collect::<Vec<_>>().join("\n")
}

/// Reasoning is the agent's own and stays with it.
fn of_part(part: &Part) -> Option<String> {
    match part {
        Part::Text { text, .. } => Some(text.clone()),
        Part::Reasoning { .. } => None,
        Part::Tool(tool) => Some(format!("[used {}: {}]", tool.name, tool.title.as_deref().unwrap_or(&tool.call))),
        Part::File(file) => Some(format!("[attached {}]", file.name.as_deref().unwrap_or("a file"))),
    }
}
