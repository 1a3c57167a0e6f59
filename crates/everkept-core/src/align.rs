//! Compares a conversation somebody sends with the one that is kept, so that only what is new is stored.
//!
//! Never merges two that differ: the caller is told where they part and what can be shared.

use crate::state::{SlotKind, State};
use crate::{MessageId, Role, TextDigest, TurnId, TurnState};

/// A message as it was sent: its role and the digest of its joined text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMessage {
    pub role: Role,
    pub digest: TextDigest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aligned {
    /// Everything before `from` is kept already; what follows is new.
    New { from: usize },
    /// All of it is kept: the last user message is this turn's request.
    Answered { turn: TurnId },
    /// All of it is kept, and no turn answers its last message.
    Kept,
    /// Message `at` is another than the one kept there. Up to `cut` the log is the same conversation; 0 is nothing of it.
    Diverged { at: usize, held: Option<MessageId>, cut: u64 },
}

struct Unit {
    role: Role,
    digest: TextDigest,
    /// The answer of a turn that did not complete: a client may have it, in part, or not at all.
    optional: bool,
    turn: Option<TurnId>,
    message: Option<MessageId>,
    /// The last event that belongs to the unit and all before it.
    end: Option<u64>,
}

/// System messages are left out of the comparison: clients rewrite them freely.
pub fn align(state: &State, sent: &[SentMessage]) -> Aligned {
    let units = units(state);
    let mut held = units.iter().peekable();
    let mut cut = 0;
    let mut last_user = None;
    for (at, message) in sent.iter().enumerate().filter(|(_, message)| message.role != Role::System) {
        let unit = loop {
            match held.peek() {
                None => return Aligned::New { from: from(sent, at) },
                Some(unit) if unit.role == message.role && unit.digest == message.digest => break held.next(),
                Some(unit) if unit.optional => {
                    cut = unit.end.unwrap_or(cut);
                    held.next();
                }
                Some(unit) => return Aligned::Diverged { at, held: unit.message, cut },
            }
        };
        if let Some(unit) = unit {
            cut = unit.end.unwrap_or(cut);
            if unit.role == Role::User {
                last_user = unit.turn;
            }
        }
    }
    let ends_with_user = sent.iter().rev().find(|message| message.role != Role::System).is_some_and(|message| message.role == Role::User);
    match last_user.filter(|_| ends_with_user) {
        Some(turn) => Aligned::Answered { turn },
        None => Aligned::Kept,
    }
}

/// A system message right before the first new one is new as well, unless everything was.
fn from(sent: &[SentMessage], at: usize) -> usize {
    let system = |n: &usize| sent[*n].role == Role::System;
    (0..at).rev().take_while(system).last().unwrap_or(at)
}

fn units(state: &State) -> Vec<Unit> {
    let mut units = Vec::new();
    for slot in state.visible_slots().filter(|slot| slot.context == state.session.context) {
        match &slot.kind {
            SlotKind::Recorded(at) => {
                let message = &state.messages[*at];
                if message.role != Role::System {
                    units.push(Unit {
                        role: message.role,
                        digest: message.digest(),
                        optional: false,
                        turn: None,
                        message: Some(message.id),
                        end: message.last_seq,
                    });
                }
            }
            SlotKind::Turns(attempts) => {
                let Some(entry) = attempts.last().map(|&at| &state.turns[at]) else { continue };
                let request = entry.turn.request_message.filter(|_| entry.turn.continues.is_none()).and_then(|id| state.message(id));
                if let Some(request) = request {
                    units.push(Unit {
                        role: Role::User,
                        digest: request.digest(),
                        optional: false,
                        turn: Some(entry.turn.id),
                        message: Some(request.id),
                        end: None,
                    });
                }
                let completed = entry.turn.state == TurnState::Completed && entry.turn.continues.is_none();
                units.push(Unit {
                    role: Role::Assistant,
                    digest: entry.answer_digest(),
                    optional: !completed || !entry.answered,
                    turn: Some(entry.turn.id),
                    message: entry.turn.response_messages.first().copied(),
                    end: entry.ended_seq,
                });
            }
        }
    }
    units
}
