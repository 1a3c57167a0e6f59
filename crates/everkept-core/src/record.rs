//! What a store keeps beside the events so that lists need no replay: rows that are a pure function of the state.
//!
//! Never the truth: `verify` replays the log, asks for the same rows and compares.

use crate::{
    AgentName, Body, Effect, Event, MessageEntry, MessageId, ModelName, Question, Role, Session, State, Timestamp, Turn, TurnEntry, TurnId,
    Usage, owed,
};
use serde::{Deserialize, Serialize};

/// One row to put in the place of the row with the same key.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Session(Session),
    Turn(TurnRecord),
    Usage(UsageRecord),
    Message(MessageRecord),
    Question(Question),
    /// Everything the session is owed now.
    Owed(Vec<Effect>),
}

/// A turn and where it stands in its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    pub turn: Turn,
    pub queued_seq: u64,
    pub ended_seq: Option<u64>,
    /// A dead letter that nobody has taken up yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_letter: bool,
}

/// What a turn cost, by model. Another turn's, an inherited one's above all, is in no other session's rows: each is there once.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRecord {
    pub turn: TurnId,
    pub queued_seq: u64,
    pub agent: AgentName,
    /// When the turn began.
    pub at: Timestamp,
    pub parts: Vec<(Option<ModelName>, Usage)>,
}

/// Which events of its log a message is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    pub id: MessageId,
    pub turn: Option<TurnId>,
    pub role: Role,
    pub first_seq: u64,
    /// None while its turn may still add to it.
    pub last_seq: Option<u64>,
}

impl From<&TurnEntry> for TurnRecord {
    fn from(entry: &TurnEntry) -> Self {
        TurnRecord { turn: entry.turn.clone(), queued_seq: entry.queued_seq, ended_seq: entry.ended_seq, dead_letter: entry.dead_letter }
    }
}

impl UsageRecord {
    /// None for a turn that nothing is known of.
    pub fn of(record: &TurnRecord) -> Option<Self> {
        let turn = &record.turn;
        Some(UsageRecord {
            turn: turn.id,
            queued_seq: record.queued_seq,
            agent: turn.agent.clone(),
            at: turn.started_at.unwrap_or(turn.queued_at),
            parts: turn.usage.as_ref()?.rows(turn.model.as_ref()),
        })
    }
}

impl From<&MessageEntry> for MessageRecord {
    fn from(entry: &MessageEntry) -> Self {
        MessageRecord { id: entry.id, turn: entry.turn, role: entry.role, first_seq: entry.first_seq, last_seq: entry.last_seq }
    }
}

/// The rows that `events`, just applied to `state`, have changed.
pub fn records(state: &State, events: &[Event]) -> Vec<Record> {
    let mut turns = Vec::new();
    let mut messages = Vec::new();
    let mut questions = Vec::new();
    let mut lists = false;
    for event in events {
        lists |= !event.body.is_flow();
        if let (Some(turn), false) = (event.turn, event.body.is_flow()) {
            note(&mut turns, turn);
        }
        match &event.body {
            Body::MessageAdded(data) => note(&mut messages, data.message),
            Body::PartCompleted(data) => note(&mut messages, data.message),
            Body::TurnEnded(_) => {
                let entry = event.turn.and_then(|id| state.turn(id));
                for message in entry.into_iter().flat_map(|entry| &entry.turn.response_messages) {
                    note(&mut messages, *message);
                }
            }
            Body::QuestionAsked(data) => note(&mut questions, data.question),
            Body::QuestionAnswered(data) => note(&mut questions, data.question),
            Body::QuestionExpired(data) => note(&mut questions, data.question),
            Body::SessionCreated(_)
            | Body::SessionUpdated(_)
            | Body::SessionForked(_)
            | Body::SessionReverted(_)
            | Body::SessionArchived(_)
            | Body::SessionDeleted(_)
            | Body::SessionRestored(_)
            | Body::AgentSessionPinned(_)
            | Body::AgentSessionSucceeded(_)
            | Body::AgentSessionKept(_)
            | Body::AgentSessionPutBack(_)
            | Body::ContextCleared(_)
            | Body::TurnQueued(_)
            | Body::TurnEdited(_)
            | Body::TurnDelayed(_)
            | Body::TurnStarted(_)
            | Body::TurnWaiting(_)
            | Body::TurnCancelling(_)
            | Body::TurnRetried(_)
            | Body::TurnDismissed(_)
            | Body::PartDelta(_)
            | Body::PlanUpdated(_)
            | Body::ToolStarted(_)
            | Body::ToolUpdated(_)
            | Body::ToolCompleted(_)
            | Body::UsageReported(_)
            | Body::MessageUsed(_)
            | Body::RuleRemoved(_)
            | Body::AgentRaw(_) => {}
        }
    }
    let mut rows = Vec::new();
    if lists {
        rows.push(Record::Session(state.session.clone()));
        rows.push(Record::Owed(owed(state)));
    }
    let turns: Vec<TurnRecord> = turns.into_iter().filter_map(|id| state.turn(id)).map(TurnRecord::from).collect();
    rows.extend(turns.iter().filter_map(UsageRecord::of).map(Record::Usage));
    rows.extend(turns.into_iter().map(Record::Turn));
    rows.extend(messages.into_iter().filter_map(|id| state.message(id)).map(|entry| Record::Message(entry.into())));
    rows.extend(questions.into_iter().filter_map(|id| state.question(id)).map(|question| Record::Question(question.clone())));
    rows
}

fn note<T: PartialEq>(list: &mut Vec<T>, id: T) {
    if !list.contains(&id) {
        list.push(id);
    }
}
