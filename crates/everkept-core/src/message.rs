//! A message and its parts, as a reader sees them.

use crate::{Json, MessageId, PartId, TextDigest, Timestamp, TurnId, Usage};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
    System,
}

/// One message with its parts as they stand after some event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    pub id: MessageId,
    /// Absent for a message that an outside loop recorded.
    pub turn: Option<TurnId>,
    pub role: Role,
    pub parts: Vec<Part>,
    pub created_at: Timestamp,
    /// What the model's requests that made it used, where the agent says so.
    pub usage: Option<Usage>,
}

impl Message {
    /// The text parts, joined without a separator: what histories are compared by.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::text).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    Text { id: PartId, text: String },
    Reasoning { id: PartId, text: String },
    Tool(ToolPart),
    File(FilePart),
}

impl Part {
    pub fn id(&self) -> PartId {
        match self {
            Part::Text { id, .. } | Part::Reasoning { id, .. } => *id,
            Part::Tool(tool) => tool.id,
            Part::File(file) => file.id,
        }
    }

    /// What a text part says; other parts say nothing.
    pub fn text(&self) -> Option<&str> {
        match self {
            Part::Text { text, .. } => Some(text),
            Part::Reasoning { .. } | Part::Tool(_) | Part::File(_) => None,
        }
    }
}

/// What a part's deltas add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    Text,
    Reasoning,
}

/// One call of a tool, with the agent's own input and output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolPart {
    pub id: PartId,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    Pending,
    Running,
    Completed,
    Failed,
}

/// A tool's data: the agent's JSON as it came, or where it is kept when it is too large for an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    Json(Json),
    Blob(BlobRef),
}

/// Bytes kept under their own SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    pub id: TextDigest,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilePart {
    pub id: PartId,
    pub name: Option<String>,
    pub media_type: String,
    pub blob: BlobRef,
}

/// A part of a message that somebody sends, before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub enum NewPart {
    Text(String),
    File { name: Option<String>, media_type: String, blob: BlobRef },
}
