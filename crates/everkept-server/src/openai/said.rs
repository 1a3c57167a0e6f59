//! What a chat client says: the request of chat completions.
//!
//! Known keys are read strictly, unknown ones are taken and left: an agent brings its own sampling, tools and limits.
//! Never fetches what a URL points to: a picture comes as data.

use crate::failed::Failed;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use everkept_core::Role;
use everkept_engine::{MessageIn, PartIn};
use serde::Deserialize;
use utoipa::ToSchema;

/// A request for a chat completion. Other keys of OpenAI's (`temperature`, `tools`, `max_tokens` ...) are taken and left.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// `agent` or `agent/model`; the session's own when it is not given.
    #[serde(default)]
    pub model: Option<String>,
    pub messages: Vec<ChatMessage>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// Only 1 can be had.
    #[serde(default)]
    pub n: Option<u32>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatMessage {
    pub role: ChatRole,
    #[serde(default)]
    pub content: Option<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChatRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart {
    Text { text: String },
    Refusal { refusal: String },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ImageUrl {
    /// A `data:` URL in base64.
    pub url: String,
}

impl ChatRequest {
    /// The conversation in our words. Results of tools are the client's own affair and not part of it.
    pub fn conversation(self) -> Result<Vec<MessageIn>, Failed> {
        let mut conversation = Vec::with_capacity(self.messages.len());
        for (at, message) in self.messages.into_iter().enumerate() {
            let role = match message.role {
                ChatRole::System | ChatRole::Developer => Role::System,
                ChatRole::User => Role::User,
                ChatRole::Assistant => Role::Assistant,
                ChatRole::Tool | ChatRole::Function => continue,
            };
            let parts = parts(message.content, at)?;
            if parts.is_empty() && role == Role::User {
                return Err(Failed::field(&format!("messages[{at}].content"), "must not be empty"));
            }
            // An assistant message without a text only called the client's tools.
            if !parts.is_empty() {
                conversation.push(MessageIn { role, parts });
            }
        }
        if conversation.last().is_none_or(|last| last.role != Role::User) {
            return Err(Failed::field("messages", "must end with a message of the user"));
        }
        Ok(conversation)
    }
}

fn parts(content: Option<Content>, at: usize) -> Result<Vec<PartIn>, Failed> {
    let parts = match content {
        None => return Ok(Vec::new()),
        Some(Content::Text(text)) if text.is_empty() => return Ok(Vec::new()),
        Some(Content::Text(text)) => return Ok(vec![PartIn::Text(text)]),
        Some(Content::Parts(parts)) => parts,
    };
    let part = |part| match part {
        ContentPart::Text { text } | ContentPart::Refusal { refusal: text } => Ok(PartIn::Text(text)),
        ContentPart::ImageUrl { image_url } => {
            let file = data_url(&image_url.url)
                .ok_or_else(|| Failed::field(&format!("messages[{at}].content"), "pictures must be data: URLs in base64"))?;
            Ok(PartIn::File { name: None, media_type: file.0, bytes: file.1 })
        }
    };
    parts.into_iter().map(part).collect()
}

fn data_url(url: &str) -> Option<(String, Bytes)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    let media_type = if media_type.is_empty() { "text/plain" } else { media_type };
    Some((media_type.to_owned(), BASE64_STANDARD.decode(data).ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_as_data() {
        assert_eq!(data_url("data:image/png;base64,aGk="), Some(("image/png".into(), Bytes::from_static(b"hi"))));
        for url in ["https://elsewhere/x.png", "data:image/png,hi", "data:image/png;base64,%%", "data:"] {
            assert_eq!(data_url(url), None, "{url}");
        }
    }
}
