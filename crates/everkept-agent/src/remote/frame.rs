//! What is said over a link, as JSON: one object with one key per frame, the key being the frame's name.
//!
//! The server says `initialize`, `order` (`open`, `prompt`, `approval_response`, `set_model`, `cancel`; `written`, `lacking`, `put_back`), `heard` and `end`;
//! the relay says `ready`, `output` (`opened`, `said` with its `message`s, `tool_call`s and `approval_request`s,
//! `turn_complete`, `gone` ...) and `heard`. What an agent cannot do it says in its capabilities; the server then does
//! without, as the `Agent` trait states for each.
//! Never: an unknown key taken, or a secret of the server's.

use super::Broken;
use everkept_core::{BlobRef, FilePart, Json, MessageId, PartId, Payload, QuestionOption, Role, ToolStatus, TurnId, Usage};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// From the server to the relay.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToRelay {
    /// The first frame. Processes that are not named are ended.
    Initialize {
        protocol: u64,
        agent: String,
        processes: Vec<Position>,
    },
    Order {
        process: String,
        number: u64,
        order: OrderFrame,
    },
    /// Every output up to this one was taken.
    Heard {
        process: String,
        number: u64,
    },
    /// Nobody wants the process any more.
    End {
        process: String,
    },
}

/// From the relay to the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromRelay {
    /// The first frame. Processes that are not named do not run any more.
    Ready {
        protocol: u64,
        capabilities: Capabilities,
        model: Option<String>,
        processes: Vec<Position>,
    },
    Output {
        process: String,
        number: u64,
        output: OutputFrame,
    },
    /// Every order up to this one was given to the agent.
    Heard {
        process: String,
        number: u64,
    },
}

/// How far this end has taken what the other said of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub process: String,
    pub heard: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    pub resume: bool,
    pub fork: bool,
    pub cancel: bool,
    pub ask_permission: bool,
    pub set_model: bool,
    pub report_usage: bool,
    pub remember: bool,
    #[serde(default)]
    pub transcript: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderFrame {
    Open {
        directory: DirectoryFrame,
        session: SessionFrame,
        model: Option<String>,
    },
    Prompt {
        turn_id: TurnId,
        parts: Vec<PromptPartFrame>,
        history: Vec<MessageFrame>,
    },
    Cancel,
    /// No option is a no.
    ApprovalResponse {
        request: String,
        option: Option<String>,
    },
    SetModel {
        model: String,
    },
    /// Answered with `pieces`; this and the next two each are a process of their own.
    Written {
        directory: DirectoryFrame,
        session: String,
        files: Vec<SoFarFrame>,
    },
    /// Answered with `names`.
    Lacking {
        directory: DirectoryFrame,
        session: String,
        files: Vec<SoFarFrame>,
    },
    /// Answered with `names`.
    PutBack {
        directory: DirectoryFrame,
        session: String,
        files: Vec<WholeFrame>,
    },
}

impl OrderFrame {
    /// Whether it is the first of a process.
    pub fn begins(&self) -> bool {
        match self {
            OrderFrame::Open { .. } | OrderFrame::Written { .. } | OrderFrame::Lacking { .. } | OrderFrame::PutBack { .. } => true,
            OrderFrame::Prompt { .. } | OrderFrame::Cancel | OrderFrame::ApprovalResponse { .. } | OrderFrame::SetModel { .. } => false,
        }
    }
}

/// A file as far as it is kept, with the last of its pieces.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoFarFrame {
    pub name: String,
    pub bytes: u64,
    pub last: BlobRef,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WholeFrame {
    pub file: String,
    pub bytes: RawFrame,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceFrame {
    pub file: String,
    pub from: u64,
    pub bytes: RawFrame,
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryFrame {
    /// One of the session's own, under this name; the relay makes it.
    Private(String),
    /// One that is there.
    Path(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionFrame {
    New,
    Resume(String),
    Fork(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PromptPartFrame {
    Text { text: String },
    File { name: Option<String>, media_type: String, base64: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageFrame {
    pub id: MessageId,
    pub turn: Option<TurnId>,
    pub role: Role,
    pub parts: Vec<PartFrame>,
    /// Microseconds since 1970.
    pub created_at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PartFrame {
    Text {
        id: PartId,
        text: String,
    },
    Reasoning {
        id: PartId,
        text: String,
    },
    Tool {
        id: PartId,
        call: String,
        name: String,
        title: Option<String>,
        status: ToolStatus,
        input: Option<Payload>,
        output: Option<Payload>,
    },
    File(FilePart),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputFrame {
    /// The first output of a process.
    Opened {
        agent_session: String,
        capabilities: Capabilities,
        model_set: Option<bool>,
    },
    /// The first and the last output of a process.
    NotOpened {
        fault: FaultFrame,
        capabilities: Capabilities,
    },
    Said {
        raw: RawFrame,
        said: Vec<SaidFrame>,
    },
    /// The answer to the order of that number.
    ModelSet {
        order: u64,
        set: bool,
    },
    /// `usage` is said so by an adapter that knows it only now; `resume_token` is the agent session to go on with.
    TurnComplete {
        raw: RawFrame,
        outcome: OutcomeFrame,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Box<Usage>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume_token: Option<String>,
    },
    /// The agent ended by itself: the last output.
    Gone {
        fault: FaultFrame,
    },
    /// The agent ended without a word: the last output.
    Ended,
    /// What was written: the first and the last output.
    Pieces {
        pieces: Vec<PieceFrame>,
    },
    /// Of files: the first and the last output.
    Names {
        files: Vec<String>,
    },
    /// What was to be done without a session was not: the first and the last output.
    NotDone {
        fault: FaultFrame,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutcomeFrame {
    Completed { reason: String },
    Cancelled,
    Failed { code: String, message: String },
}

/// Bytes as they came: as a text where they are one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawFrame {
    Text(String),
    Base64(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SaidFrame {
    Message {
        message: Option<String>,
        text: String,
    },
    Reasoning {
        message: Option<String>,
        text: String,
    },
    ToolCall {
        call: String,
        name: String,
        title: Option<String>,
        status: ToolStatus,
        input: Option<Json>,
    },
    ToolUpdate {
        call: String,
        status: Option<ToolStatus>,
        title: Option<String>,
        input: Option<Json>,
        output: Option<Json>,
    },
    Plan {
        entries: Json,
    },
    Usage(Usage),
    MessageUsage {
        message: Option<String>,
        usage: Usage,
    },
    FileChanges(Json),
    Compacting(bool),
    AgentSession(String),
    ApprovalRequest {
        request: String,
        kind: ApprovalKind,
        title: String,
        call: Json,
        options: Vec<QuestionOption>,
    },
    ApprovalWithdrawn {
        request: String,
    },
    /// What no parser takes.
    RawJson(Json),
    RawText(String),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    Permission,
    Choice,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultFrame {
    pub kind: FaultKind,
    pub doing: String,
    pub message: String,
    pub retryable: bool,
    pub may_have_happened: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    CannotStart,
    Exited,
    Protocol,
    UnknownSession,
    Refused,
    TimedOut,
}

pub(super) fn write(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("our own types have string keys only")
}

pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Broken> {
    serde_json::from_str(text).map_err(|error| Broken::Unreadable(error.to_string()))
}

/// The first frame of a link. Which version it speaks is seen before anything else of it is believed.
pub(super) fn read_first<T: DeserializeOwned>(text: &str) -> Result<T, Broken> {
    #[derive(Deserialize)]
    struct Versioned {
        protocol: u64,
    }
    let named: std::collections::BTreeMap<String, Versioned> = read(text)?;
    match named.values().find(|named| named.protocol != super::PROTOCOL) {
        Some(other) => Err(Broken::Version(other.protocol)),
        None => read(text),
    }
}
