//! Messages and parts on the wire, as they are read and as they are sent.
//!
//! Never: a rewritten tool input or output; an agent's JSON is the text the agent sent.

use crate::{RawJson, Usage, words::words};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Message {
    pub id: String,
    /// Null for a message that an outside loop recorded.
    pub turn: Option<String>,
    pub role: Role,
    pub parts: Vec<Part>,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// What the requests to the model that made it used, where the agent says so: a part of what its turn cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Message {
    /// The text parts, joined without a separator.
    pub fn text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Text { text, .. } => Some(text.clone()),
            Part::Reasoning { .. } | Part::Tool(_) | Part::File(_) => None,
        };
        self.parts.iter().filter_map(text).collect()
    }
}

words! {
    Role { User = "user", Assistant = "assistant", System = "system" }

    ToolStatus { Pending = "pending", Running = "running", Completed = "completed", Failed = "failed" }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", from = "AnyPart")]
pub enum Part {
    Text { id: String, text: String },
    Reasoning { id: String, text: String },
    Tool(ToolPart),
    File(FilePart),
}

/// One call of a tool.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToolPart {
    pub id: String,
    /// The agent's own id of the call.
    pub call: String,
    pub name: String,
    pub title: Option<String>,
    pub status: ToolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FilePart {
    pub id: String,
    pub name: Option<String>,
    pub media_type: String,
    pub blob: BlobRef,
}

/// A tool's data: JSON as the agent wrote it, or where it is kept when it is large.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    #[schema(value_type = Value)]
    Json(RawJson),
    Blob(BlobRef),
}

/// Bytes kept under their own SHA-256, at `/api/blobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobRef {
    pub id: String,
    pub bytes: u64,
}

/// Raw JSON cannot be read out of a tagged enum (serde holds the fields back as values), so all fields are read flat.
#[derive(Deserialize)]
struct AnyPart {
    #[serde(rename = "type")]
    kind: PartKind,
    id: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    call: String,
    #[serde(default)]
    name: Option<String>,
    title: Option<String>,
    status: Option<ToolStatus>,
    input: Option<Payload>,
    output: Option<Payload>,
    #[serde(default)]
    media_type: String,
    blob: Option<BlobRef>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PartKind {
    Text,
    Reasoning,
    Tool,
    File,
}

impl From<AnyPart> for Part {
    fn from(any: AnyPart) -> Self {
        match any.kind {
            PartKind::Text => Part::Text { id: any.id, text: any.text },
            PartKind::Reasoning => Part::Reasoning { id: any.id, text: any.text },
            PartKind::Tool => Part::Tool(ToolPart {
                id: any.id,
                call: any.call,
                name: any.name.unwrap_or_default(),
                title: any.title,
                status: any.status.unwrap_or(ToolStatus::Pending),
                input: any.input,
                output: any.output,
            }),
            PartKind::File => Part::File(FilePart {
                id: any.id,
                name: any.name,
                media_type: any.media_type,
                blob: any.blob.unwrap_or(BlobRef { id: String::new(), bytes: 0 }),
            }),
        }
    }
}

/// A message's content as it is sent: a text, or a list of parts.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Input {
    Text(String),
    Parts(Vec<PartIn>),
}

impl Input {
    pub fn into_parts(self) -> Vec<PartIn> {
        match self {
            Input::Text(text) => vec![PartIn::Text { text }],
            Input::Parts(parts) => parts,
        }
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Input::Text(text.to_owned())
    }
}

/// By hand, because an untagged enum cannot say which key of a part is wrong.
impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> de::Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a list of parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Input, E> {
        Ok(Input::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Input, E> {
        Ok(Input::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Input, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Input::Parts)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum PartIn {
    Text {
        text: String,
    },
    File {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        media_type: String,
        /// Base64.
        #[serde(with = "base64_text")]
        #[schema(value_type = String, format = Byte)]
        data: Bytes,
    },
}

mod base64_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(|_| de::Error::custom("data is not base64"))
    }
}

/// A message of a conversation that somebody else holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageIn {
    pub role: Role,
    pub content: Input,
}

/// What an outside loop said and heard; no agent runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordMessages {
    pub messages: Vec<MessageIn>,
    /// `messages` are the whole conversation: only what is new is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// The ids of the messages that were new, in order, and the number of the last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    pub session: String,
    pub messages: Vec<String>,
    pub seq: u64,
}
