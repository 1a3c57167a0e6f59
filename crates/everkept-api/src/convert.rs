//! Core types to wire types and back, one `From` for each.
//!
//! Never: a decision. What is not here does not cross the line.

use crate::*;
use everkept_core as core;
use serde_json::value::RawValue;

/// RFC 3339 in UTC, as it stands in events; a time that no calendar has is shown as the nearest one.
pub fn time(at: core::Timestamp) -> String {
    let nearest = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(at.0).unwrap_or(nearest).to_string()
}

/// The instant that a text names: a day, which begins at midnight UTC, or a time as RFC 3339 writes it.
pub fn time_of(text: &str) -> Option<core::Timestamp> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let at = text.parse::<jiff::Timestamp>().ok().or_else(|| day().map(|day| day.timestamp()))?;
    Some(core::Timestamp(at.as_microsecond()))
}

/// A name for file names and addresses: the title's letters and digits, else the id.
pub fn slug(title: Option<&str>, id: core::SessionId) -> String {
    let mut slug = String::new();
    for letter in title.unwrap_or_default().chars().flat_map(char::to_lowercase) {
        if slug.len() >= 60 {
            break;
        }
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { id.to_string() } else { slug.to_owned() }
}

fn raw(json: &core::Json) -> RawJson {
    RawValue::from_string(json.get().to_owned()).expect("Json holds one JSON value")
}

fn text(name: impl ToString) -> String {
    name.to_string()
}

impl From<core::Session> for Session {
    fn from(session: core::Session) -> Self {
        Session {
            slug: slug(session.title.as_deref(), session.id),
            id: text(session.id),
            title: session.title,
            resource: session.resource.map(text),
            thread: session.thread.map(text),
            directory: session.directory,
            agent: session.agent.map(text),
            model: session.model.map(text),
            state: session.state.into(),
            context: session.context,
            parent: session.parent.map(Into::into),
            agent_sessions: session.agent_sessions.into_iter().map(Into::into).collect(),
            usage: session.usage.into(),
            metadata: raw(&session.metadata),
            file_changes: session.file_changes.as_ref().map(raw),
            rules: session.rules.into_iter().map(Into::into).collect(),
            revert: session.revert.map(text),
            compacting_at: session.compacting_at.map(time),
            archived_at: session.archived_at.map(time),
            deleted_at: session.deleted_at.map(time),
            purge_at: session.purge_at.map(time),
            created_at: time(session.created_at),
            updated_at: time(session.updated_at),
        }
    }
}

impl From<core::Parent> for Parent {
    fn from(parent: core::Parent) -> Self {
        Parent { kind: parent.kind.into(), session: text(parent.session), seq: parent.seq }
    }
}

impl From<core::AgentSession> for AgentSession {
    fn from(pinned: core::AgentSession) -> Self {
        AgentSession {
            agent: text(pinned.agent),
            context: pinned.context,
            first: text(pinned.first),
            current: text(pinned.current),
            successors: pinned.successors.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::Successor> for Successor {
    fn from(successor: core::Successor) -> Self {
        Successor { id: text(successor.id), cause: successor.cause.into(), turn: successor.turn.map(text), at: time(successor.at) }
    }
}

impl From<core::Rule> for Rule {
    fn from(rule: core::Rule) -> Self {
        Rule { id: text(rule.id), agent: text(rule.agent), digest: text(rule.digest), title: rule.title, created_at: time(rule.created_at) }
    }
}

impl From<core::Usage> for Usage {
    fn from(usage: core::Usage) -> Self {
        Usage {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cost_usd_micros: usage.cost_usd_micros,
            priced_on: usage.priced_on,
            request: usage.request,
            models: usage.models.into_iter().map(|(model, part)| (text(model), part.into())).collect(),
        }
    }
}

/// A turn of a session that hides nothing.
impl From<core::Turn> for Turn {
    fn from(turn: core::Turn) -> Self {
        Turn::seen_in(turn, &[])
    }
}

impl Turn {
    /// A turn among its session's `hidden` ones, which tell whether its answer still counts.
    pub fn seen_in(turn: core::Turn, hidden: &[core::HiddenTurn]) -> Self {
        let hidden = hidden.iter().find(|other| other.turn == turn.id);
        Turn {
            id: text(turn.id),
            session: text(turn.session),
            context: turn.context,
            state: turn.state.into(),
            reason: turn.reason,
            agent: text(turn.agent),
            agent_because: turn.agent_because.into(),
            model: turn.model.map(text),
            model_because: turn.model_because.into(),
            attempt: turn.attempt,
            continues: turn.continues.map(text),
            agent_session: turn.agent_session.map(text),
            request_message: turn.request_message.map(text),
            response_messages: turn.response_messages.into_iter().map(text).collect(),
            cancelling: turn.cancelling,
            tries: turn.tries.into(),
            superseded_by: hidden.and_then(|hidden| hidden.by).map(text),
            reverted: hidden.is_some_and(|hidden| hidden.by.is_none()),
            queued_at: time(turn.queued_at),
            started_at: turn.started_at.map(time),
            ended_at: turn.ended_at.map(time),
            usage: turn.usage.map(Into::into),
            error: turn.error.map(Into::into),
        }
    }
}

impl From<core::Tries> for Tries {
    fn from(tries: core::Tries) -> Self {
        let core::Tries { opening, prompts, fallbacks, not_before } = tries;
        Tries { opening, prompts, fallbacks, not_before: not_before.map(time) }
    }
}

impl From<core::TurnError> for TurnError {
    fn from(error: core::TurnError) -> Self {
        TurnError { code: error.code, message: error.message, may_have_happened: error.may_have_happened }
    }
}

impl From<core::Message> for Message {
    fn from(message: core::Message) -> Self {
        Message {
            id: text(message.id),
            turn: message.turn.map(text),
            role: message.role.into(),
            parts: message.parts.into_iter().map(Into::into).collect(),
            created_at: time(message.created_at),
            usage: message.usage.map(Into::into),
        }
    }
}

impl From<core::Part> for Part {
    fn from(part: core::Part) -> Self {
        match part {
            core::Part::Text { id, text } => Part::Text { id: id.to_string(), text },
            core::Part::Reasoning { id, text } => Part::Reasoning { id: id.to_string(), text },
            core::Part::Tool(tool) => Part::Tool(ToolPart {
                id: text(tool.id),
                call: tool.call,
                name: tool.name,
                title: tool.title,
                status: tool.status.into(),
                input: tool.input.map(Into::into),
                output: tool.output.map(Into::into),
            }),
            core::Part::File(file) => {
                Part::File(FilePart { id: text(file.id), name: file.name, media_type: file.media_type, blob: file.blob.into() })
            }
        }
    }
}

impl From<core::Payload> for Payload {
    fn from(payload: core::Payload) -> Self {
        match payload {
            core::Payload::Json(json) => Payload::Json(raw(&json)),
            core::Payload::Blob(blob) => Payload::Blob(blob.into()),
        }
    }
}

impl From<core::BlobRef> for BlobRef {
    fn from(blob: core::BlobRef) -> Self {
        BlobRef { id: text(blob.id), bytes: blob.bytes }
    }
}

impl From<core::Question> for Question {
    fn from(question: core::Question) -> Self {
        let option = |option: core::QuestionOption| QuestionOption { id: option.id, label: option.label, kind: option.kind.into() };
        let answer = |answer: core::Answer| Answer { option: answer.option, note: answer.note, at: time(answer.at) };
        Question {
            id: text(question.id),
            session: text(question.session),
            turn: text(question.turn),
            kind: question.kind.into(),
            title: question.title,
            call: question.call.into(),
            digest: text(question.digest),
            options: question.options.into_iter().map(option).collect(),
            state: question.state.into(),
            answer: question.answer.map(answer),
            asked_at: time(question.asked_at),
            expires_at: question.expires_at.map(time),
        }
    }
}

impl From<IfBusy> for core::IfBusy {
    fn from(if_busy: IfBusy) -> Self {
        match if_busy {
            IfBusy::Queue => core::IfBusy::Queue,
            IfBusy::Reject => core::IfBusy::Reject,
            IfBusy::Interrupt => core::IfBusy::Interrupt,
        }
    }
}

impl TryFrom<ForkPoint> for core::Cut {
    type Error = core::Refusal;

    fn try_from(point: ForkPoint) -> Result<Self, core::Refusal> {
        match point {
            ForkPoint::Seq(seq) => Ok(core::Cut::Seq(seq)),
            ForkPoint::Turn(turn) => match turn.parse() {
                Ok(turn) => Ok(core::Cut::Turn(turn)),
                Err(_) => Err(core::Refusal::invalid("at", "must be a turn id or an event number")),
            },
        }
    }
}

/// Names are checked; whether the agent is configured is the core's to say, so `known` stays open.
impl TryFrom<UpdateSession> for core::UpdateSession {
    type Error = core::Refusal;

    fn try_from(update: UpdateSession) -> Result<Self, core::Refusal> {
        Ok(core::UpdateSession {
            title: update.title,
            agent: update.agent.map(|agent| agent.map(core::AgentName::new).transpose()).transpose()?,
            model: update.model.map(|model| model.map(core::ModelName::new).transpose()).transpose()?,
            metadata: update.metadata.as_deref().map(own),
            archived: update.archived,
            known: None,
        })
    }
}

/// Raw JSON of a request, as the core keeps it.
pub(crate) fn own(raw: &RawValue) -> core::Json {
    core::Json::parse(raw.get().to_owned()).expect("raw JSON is JSON")
}

impl CreateSession {
    /// The client's metadata as the core keeps it.
    pub fn metadata_json(&self) -> Option<core::Json> {
        self.metadata.as_deref().map(own)
    }
}
