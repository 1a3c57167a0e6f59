//! The words of the agent trait to frames and back.
//!
//! What comes in is checked here: names are made by their own rules, digests are computed and not believed, and a
//! payload is always whole, because a reference would reach into the server's store.
//! Never: a decision about the conversation.

use super::{
    Broken, RAW_BYTES,
    frame::{
        ApprovalKind, Capabilities, FaultFrame, FaultKind, MessageFrame, OrderFrame, OutcomeFrame, OutputFrame, PartFrame, PieceFrame,
        PromptPartFrame, RawFrame, SaidFrame, SessionFrame,
    },
};
use crate::{Abilities, AgentFault, AgentFaultKind, Done, OpenSession, Output, Piece, Prompt, PromptPart, digest_of_call};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use everkept_core::{
    AgentRaw, AgentSessionId, Asked, Json, Message, ModelName, Part, Payload, QuestionId, QuestionKind, Said, Timestamp, ToolPart,
};

fn unreadable(problem: impl std::fmt::Display) -> Broken {
    Broken::Unreadable(problem.to_string())
}

pub(super) fn agent_session(text: String) -> Result<AgentSessionId, Broken> {
    AgentSessionId::new(text).map_err(unreadable)
}

pub(super) fn model(text: String) -> Result<ModelName, Broken> {
    ModelName::new(text).map_err(unreadable)
}

impl From<Abilities> for Capabilities {
    fn from(can: Abilities) -> Self {
        let Abilities { resume, fork, cancel, ask_permission, set_model, report_usage, remember, transcript } = can;
        Capabilities { resume, fork, cancel, ask_permission, set_model, report_usage, remember, transcript }
    }
}

impl From<Capabilities> for Abilities {
    fn from(can: Capabilities) -> Self {
        let Capabilities { resume, fork, cancel, ask_permission, set_model, report_usage, remember, transcript } = can;
        Abilities { resume, fork, cancel, ask_permission, set_model, report_usage, remember, transcript }
    }
}

impl From<OpenSession> for SessionFrame {
    fn from(session: OpenSession) -> Self {
        match session {
            OpenSession::New => SessionFrame::New,
            OpenSession::Resume(id) => SessionFrame::Resume(id.to_string()),
            OpenSession::Fork(id) => SessionFrame::Fork(id.to_string()),
        }
    }
}

impl TryFrom<SessionFrame> for OpenSession {
    type Error = Broken;

    fn try_from(session: SessionFrame) -> Result<Self, Broken> {
        Ok(match session {
            SessionFrame::New => OpenSession::New,
            SessionFrame::Resume(id) => OpenSession::Resume(agent_session(id)?),
            SessionFrame::Fork(id) => OpenSession::Fork(agent_session(id)?),
        })
    }
}

impl From<AgentFault> for FaultFrame {
    fn from(fault: AgentFault) -> Self {
        let kind = match fault.kind {
            AgentFaultKind::CannotStart => FaultKind::CannotStart,
            AgentFaultKind::Exited => FaultKind::Exited,
            AgentFaultKind::Protocol => FaultKind::Protocol,
            AgentFaultKind::UnknownSession => FaultKind::UnknownSession,
            AgentFaultKind::Refused => FaultKind::Refused,
            AgentFaultKind::TimedOut => FaultKind::TimedOut,
        };
        let AgentFault { doing, message, retryable, may_have_happened, .. } = fault;
        FaultFrame { kind, doing, message, retryable, may_have_happened }
    }
}

impl From<FaultFrame> for AgentFault {
    fn from(fault: FaultFrame) -> Self {
        let kind = match fault.kind {
            FaultKind::CannotStart => AgentFaultKind::CannotStart,
            FaultKind::Exited => AgentFaultKind::Exited,
            FaultKind::Protocol => AgentFaultKind::Protocol,
            FaultKind::UnknownSession => AgentFaultKind::UnknownSession,
            FaultKind::Refused => AgentFaultKind::Refused,
            FaultKind::TimedOut => AgentFaultKind::TimedOut,
        };
        let FaultFrame { doing, message, retryable, may_have_happened, .. } = fault;
        AgentFault { kind, doing, message, retryable, may_have_happened }
    }
}

impl From<Prompt> for OrderFrame {
    fn from(prompt: Prompt) -> Self {
        let part = |part| match part {
            PromptPart::Text(text) => PromptPartFrame::Text { text },
            PromptPart::File { name, media_type, bytes } => {
                PromptPartFrame::File { name, media_type, base64: BASE64_STANDARD.encode(bytes) }
            }
        };
        OrderFrame::Prompt {
            turn_id: prompt.turn,
            parts: prompt.parts.into_iter().map(part).collect(),
            history: prompt.history.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<PromptPartFrame> for PromptPart {
    type Error = Broken;

    fn try_from(part: PromptPartFrame) -> Result<Self, Broken> {
        Ok(match part {
            PromptPartFrame::Text { text } => PromptPart::Text(text),
            PromptPartFrame::File { name, media_type, base64 } => {
                PromptPart::File { name, media_type, bytes: BASE64_STANDARD.decode(base64).map_err(unreadable)?.into() }
            }
        })
    }
}

impl From<Message> for MessageFrame {
    fn from(message: Message) -> Self {
        let part = |part| match part {
            Part::Text { id, text } => PartFrame::Text { id, text },
            Part::Reasoning { id, text } => PartFrame::Reasoning { id, text },
            Part::Tool(ToolPart { id, call, name, title, status, input, output }) => {
                PartFrame::Tool { id, call, name, title, status, input, output }
            }
            Part::File(file) => PartFrame::File(file),
        };
        let Message { id, turn, role, parts, created_at, usage: _ } = message;
        MessageFrame { id, turn, role, parts: parts.into_iter().map(part).collect(), created_at: created_at.0 }
    }
}

impl From<MessageFrame> for Message {
    fn from(message: MessageFrame) -> Self {
        let part = |part| match part {
            PartFrame::Text { id, text } => Part::Text { id, text },
            PartFrame::Reasoning { id, text } => Part::Reasoning { id, text },
            PartFrame::Tool { id, call, name, title, status, input, output } => {
                Part::Tool(ToolPart { id, call, name, title, status, input, output })
            }
            PartFrame::File(file) => Part::File(file),
        };
        let MessageFrame { id, turn, role, parts, created_at } = message;
        Message { id, turn, role, parts: parts.into_iter().map(part).collect(), created_at: Timestamp(created_at), usage: None }
    }
}

impl From<&[u8]> for RawFrame {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => RawFrame::Text(text.to_owned()),
            Err(_) => RawFrame::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl TryFrom<RawFrame> for Bytes {
    type Error = Broken;

    fn try_from(raw: RawFrame) -> Result<Self, Broken> {
        Ok(match raw {
            RawFrame::Text(text) => text.into(),
            RawFrame::Base64(text) => BASE64_STANDARD.decode(text).map_err(unreadable)?.into(),
        })
    }
}

impl TryFrom<PieceFrame> for Piece {
    type Error = Broken;

    fn try_from(piece: PieceFrame) -> Result<Self, Broken> {
        let PieceFrame { file, from, bytes, more } = piece;
        Ok(Piece { file, from, bytes: bytes.try_into()?, more })
    }
}

impl From<Done> for OutcomeFrame {
    fn from(done: Done) -> Self {
        match done {
            Done::Completed { reason } => OutcomeFrame::Completed { reason },
            Done::Cancelled => OutcomeFrame::Cancelled,
            Done::Failed { code, message } => OutcomeFrame::Failed { code, message },
        }
    }
}

impl From<OutcomeFrame> for Done {
    fn from(outcome: OutcomeFrame) -> Self {
        match outcome {
            OutcomeFrame::Completed { reason } => Done::Completed { reason },
            OutcomeFrame::Cancelled => Done::Cancelled,
            OutcomeFrame::Failed { code, message } => Done::Failed { code, message },
        }
    }
}

/// None for a reference into a store, which no agent has.
fn json(payload: Payload) -> Option<Json> {
    match payload {
        Payload::Json(json) => Some(json),
        Payload::Blob(_) => None,
    }
}

fn said_frame(said: Said) -> Option<SaidFrame> {
    Some(match said {
        Said::Text { message, text } => SaidFrame::Message { message, text },
        Said::Reasoning { message, text } => SaidFrame::Reasoning { message, text },
        Said::ToolStarted { call, name, title, status, input } => {
            SaidFrame::ToolCall { call, name, title, status, input: input.and_then(json) }
        }
        Said::ToolUpdated { call, status, title, input, output } => {
            SaidFrame::ToolUpdate { call, status, title, input: input.and_then(json), output: output.and_then(json) }
        }
        Said::Plan { entries } => SaidFrame::Plan { entries: json(entries)? },
        Said::Usage(usage) => SaidFrame::Usage(usage),
        Said::MessageUsage { message, usage } => SaidFrame::MessageUsage { message, usage },
        Said::FileChanges(changes) => SaidFrame::FileChanges(changes),
        Said::Compacting(begins) => SaidFrame::Compacting(begins),
        Said::AgentSession(id) => SaidFrame::AgentSession(id.to_string()),
        Said::Asked(asked) => SaidFrame::ApprovalRequest {
            request: asked.request,
            kind: match asked.kind {
                QuestionKind::Permission => ApprovalKind::Permission,
                // What to do with an interrupted turn is asked by the server alone.
                QuestionKind::Choice | QuestionKind::Review => ApprovalKind::Choice,
            },
            title: asked.title,
            call: json(asked.call)?,
            options: asked.options,
        },
        Said::Withdrew { request } => SaidFrame::ApprovalWithdrawn { request },
        Said::Raw(AgentRaw::Json(json)) => SaidFrame::RawJson(json),
        Said::Raw(AgentRaw::Text(text)) => SaidFrame::RawText(text),
        Said::Raw(AgentRaw::Blob(_)) => return None,
    })
}

impl TryFrom<SaidFrame> for Said {
    type Error = Broken;

    fn try_from(said: SaidFrame) -> Result<Self, Broken> {
        Ok(match said {
            SaidFrame::Message { message, text } => Said::Text { message, text },
            SaidFrame::Reasoning { message, text } => Said::Reasoning { message, text },
            SaidFrame::ToolCall { call, name, title, status, input } => {
                Said::ToolStarted { call, name, title, status, input: input.map(Payload::Json) }
            }
            SaidFrame::ToolUpdate { call, status, title, input, output } => {
                Said::ToolUpdated { call, status, title, input: input.map(Payload::Json), output: output.map(Payload::Json) }
            }
            SaidFrame::Plan { entries } => Said::Plan { entries: Payload::Json(entries) },
            SaidFrame::Usage(usage) => Said::Usage(usage),
            SaidFrame::MessageUsage { message, usage } => Said::MessageUsage { message, usage },
            SaidFrame::FileChanges(changes) => Said::FileChanges(changes),
            SaidFrame::Compacting(begins) => Said::Compacting(begins),
            SaidFrame::AgentSession(id) => Said::AgentSession(agent_session(id)?),
            SaidFrame::ApprovalRequest { request, kind, title, call, options } => Said::Asked(Asked {
                question: QuestionId::derive(Default::default(), &request, 0),
                kind: match kind {
                    ApprovalKind::Permission => QuestionKind::Permission,
                    ApprovalKind::Choice => QuestionKind::Choice,
                },
                title,
                digest: digest_of_call(&call),
                call: Payload::Json(call),
                request,
                options,
                expires_at: None,
            }),
            SaidFrame::ApprovalWithdrawn { request } => Said::Withdrew { request },
            SaidFrame::RawJson(json) => Said::Raw(AgentRaw::Json(json)),
            SaidFrame::RawText(text) => Said::Raw(AgentRaw::Text(text)),
        })
    }
}

/// The frames of what an agent said: its bytes in parts that a link carries well, then what they mean.
pub(super) fn said_frames(raw: &[u8], said: Vec<Said>) -> Vec<OutputFrame> {
    let (mut frames, rest) = raw_frames(raw);
    frames.push(OutputFrame::Said { raw: rest.into(), said: said.into_iter().filter_map(said_frame).collect() });
    frames
}

pub(super) fn done_frames(raw: &[u8], done: Done, resume_token: String) -> Vec<OutputFrame> {
    let (mut frames, rest) = raw_frames(raw);
    frames.push(OutputFrame::TurnComplete { raw: rest.into(), outcome: done.into(), usage: None, resume_token: Some(resume_token) });
    frames
}

fn raw_frames(raw: &[u8]) -> (Vec<OutputFrame>, &[u8]) {
    let last = raw.len().saturating_sub(1) / RAW_BYTES * RAW_BYTES;
    let (first, rest) = raw.split_at(last);
    let frame = |raw: &[u8]| OutputFrame::Said { raw: raw.into(), said: Vec::new() };
    (first.chunks(RAW_BYTES).map(frame).collect(), rest)
}

/// What the engine is told of a frame of a running agent, in this order. `session` is the agent session as it is known.
pub(super) fn outputs(frame: OutputFrame, session: &mut AgentSessionId) -> Result<Vec<Output>, Broken> {
    Ok(match frame {
        OutputFrame::Said { raw, said } => {
            let said = said.into_iter().map(Said::try_from).collect::<Result<Vec<_>, _>>()?;
            for said in &said {
                if let Said::AgentSession(id) = said {
                    *session = id.clone();
                }
            }
            vec![Output::Said { raw: raw.try_into()?, said }]
        }
        OutputFrame::TurnComplete { raw, outcome, usage, resume_token } => {
            let mut said: Vec<Said> = usage.map(|usage| Said::Usage(*usage)).into_iter().collect();
            if let Some(token) = resume_token.map(agent_session).transpose()?.filter(|token| token != session) {
                *session = token.clone();
                said.push(Said::AgentSession(token));
            }
            let before = (!said.is_empty()).then_some(Output::Said { raw: Bytes::new(), said });
            before.into_iter().chain([Output::Done { raw: raw.try_into()?, done: outcome.into() }]).collect()
        }
        OutputFrame::Gone { fault } => vec![Output::Gone(fault.into())],
        OutputFrame::Opened { .. }
        | OutputFrame::NotOpened { .. }
        | OutputFrame::ModelSet { .. }
        | OutputFrame::Ended
        | OutputFrame::Pieces { .. }
        | OutputFrame::Names { .. }
        | OutputFrame::NotDone { .. } => Vec::new(),
    })
}
