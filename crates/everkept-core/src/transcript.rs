//! Reads messages off events: the one way a message with its parts is put together.
//!
//! Never keeps a second copy of a text: the log is where it stands.

use crate::{AddedPart, Body, Event, Message, MessageId, Part, PartDelta, TextKind, ToolPart};
use std::collections::BTreeMap;

/// Takes events in log order and holds the messages they add up to.
#[derive(Debug, Default)]
pub struct Fold {
    messages: Vec<Message>,
    index: BTreeMap<MessageId, usize>,
}

impl Fold {
    /// Kinds that say something about a message; a reader may leave out the others.
    pub const KINDS: &'static [&'static str] =
        &["message.added", "part.delta", "tool.started", "tool.updated", "tool.completed", "message.usage"];

    pub fn apply(&mut self, event: &Event) {
        match &event.body {
            Body::MessageAdded(data) => {
                let part = |part: &AddedPart| match part {
                    AddedPart::Text { id, text } => Part::Text { id: *id, text: text.clone() },
                    AddedPart::File(file) => Part::File(file.clone()),
                };
                self.index.insert(data.message, self.messages.len());
                self.messages.push(Message {
                    id: data.message,
                    turn: event.turn,
                    role: data.role,
                    parts: data.parts.iter().map(part).collect(),
                    created_at: event.at,
                    usage: None,
                });
            }
            Body::PartDelta(data) => self.add_text(data),
            Body::ToolStarted(data) => {
                if let Some(message) = self.message(data.message) {
                    message.parts.push(Part::Tool(ToolPart {
                        id: data.part,
                        call: data.call.clone(),
                        name: data.name.clone(),
                        title: data.title.clone(),
                        status: data.status,
                        input: data.input.clone(),
                        output: None,
                    }));
                }
            }
            Body::ToolUpdated(data) => {
                if let Some(tool) = self.tool(data.message, data.part) {
                    tool.status = data.status;
                    keep_newer(&mut tool.title, &data.title);
                    keep_newer(&mut tool.input, &data.input);
                    keep_newer(&mut tool.output, &data.output);
                }
            }
            Body::ToolCompleted(data) => {
                if let Some(tool) = self.tool(data.message, data.part) {
                    tool.status = data.status;
                    keep_newer(&mut tool.title, &data.title);
                    keep_newer(&mut tool.input, &data.input);
                    keep_newer(&mut tool.output, &data.output);
                }
            }
            Body::MessageUsed(data) => {
                if let Some(message) = self.message(data.message) {
                    message.usage.get_or_insert_default().add(&data.usage);
                }
            }
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
            | Body::TurnEnded(_)
            | Body::TurnDismissed(_)
            | Body::PartCompleted(_)
            | Body::PlanUpdated(_)
            | Body::UsageReported(_)
            | Body::QuestionAsked(_)
            | Body::QuestionAnswered(_)
            | Body::QuestionExpired(_)
            | Body::RuleRemoved(_)
            | Body::AgentRaw(_) => {}
        }
    }

    /// The messages so far, in the order they were added.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    fn add_text(&mut self, data: &PartDelta) {
        let Some(message) = self.message(data.message) else { return };
        let held = message.parts.iter_mut().rev().find(|part| part.id() == data.part);
        match (held, data.kind) {
            (Some(Part::Text { text, .. } | Part::Reasoning { text, .. }), _) => text.push_str(&data.text),
            (Some(Part::Tool(_) | Part::File(_)), _) => {}
            (None, TextKind::Text) => message.parts.push(Part::Text { id: data.part, text: data.text.clone() }),
            (None, TextKind::Reasoning) => message.parts.push(Part::Reasoning { id: data.part, text: data.text.clone() }),
        }
    }

    fn message(&mut self, id: MessageId) -> Option<&mut Message> {
        let at = *self.index.get(&id)?;
        Some(&mut self.messages[at])
    }

    fn tool(&mut self, message: MessageId, part: crate::PartId) -> Option<&mut ToolPart> {
        self.message(message)?.parts.iter_mut().rev().find_map(|held| match held {
            Part::Tool(tool) if tool.id == part => Some(tool),
            Part::Text { .. } | Part::Reasoning { .. } | Part::Tool(_) | Part::File(_) => None,
        })
    }
}

fn keep_newer<T: Clone>(held: &mut Option<T>, newer: &Option<T>) {
    if newer.is_some() {
        held.clone_from(newer);
    }
}
