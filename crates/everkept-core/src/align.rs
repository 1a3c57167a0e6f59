//! Compares a conversation somebody sends with the one that is kept, so that only what is new is stored.
//!
//! Never merges two that differ: the caller is told where they part and what can be shared.

use crate::state::{Slot, SlotKind, State};
use crate::{MessageId, Role, TextDigest, TurnId, TurnState};
use std::collections::BTreeSet;

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
    /// What was sent is another conversation: it parts from the one kept in the exchange that begins with message `at`,
    /// where `held` is the message that differs. Up to `cut` the log holds all before `at` and nothing else; 0 is nothing of it.
    Diverged { at: usize, held: Option<MessageId>, cut: u64 },
}

struct Unit {
    role: Role,
    digest: TextDigest,
    /// The answer of a turn that did not complete: a client may have it, in part, or not at all.
    optional: bool,
    turn: Option<TurnId>,
    message: Option<MessageId>,
    slot: usize,
    /// The first event of it, or of its request when there is none.
    place: u64,
    /// The last event that belongs to the unit's exchange, when the unit ends it.
    end: Option<u64>,
}

/// System messages are left out of the comparison: clients rewrite them freely. Whether an answer that may be left out
/// was, shows in what follows: where both could be, it counts as sent unless that leads to another conversation.
///
/// The answer of a later attempt stands after its request in the conversation, and at the end of the list of messages: a
/// client may have read either, and the one that accounts for more of what was sent counts.
pub fn align(state: &State, sent: &[SentMessage]) -> Aligned {
    let mut units = units(state);
    let as_conversation = align_with(state, &units, sent);
    if units.is_sorted_by_key(|unit| unit.place) {
        return as_conversation;
    }
    units.sort_by_key(|unit| unit.place);
    let as_listed = align_with(state, &units, sent);
    if accounted(as_listed) > accounted(as_conversation) { as_listed } else { as_conversation }
}

/// How much of what was sent is held: none for another conversation.
fn accounted(aligned: Aligned) -> usize {
    match aligned {
        Aligned::Diverged { .. } => 0,
        Aligned::New { from } => 1 + from,
        Aligned::Answered { .. } | Aligned::Kept => usize::MAX,
    }
}

fn align_with(state: &State, units: &[Unit], sent: &[SentMessage]) -> Aligned {
    let compared: Vec<_> = sent.iter().enumerate().filter(|(_, message)| message.role != Role::System).collect();
    let (mut unit, mut next) = (0, 0);
    // After how many units how many messages are accounted for, until the two part for the first time.
    let mut bounds = Vec::new();
    // Where an answer was taken for sent that may have been left out.
    let mut choices = Vec::new();
    let mut tried = BTreeSet::new();
    let mut parted = None;
    while let Some(&(at, message)) = compared.get(next) {
        let Some(held) = units.get(unit) else { return Aligned::New { from: from(sent, at) } };
        let same = held.role == message.role && held.digest == message.digest;
        if same && (!held.optional || tried.insert((unit, next))) {
            if held.optional {
                choices.push((unit, next));
            }
            next += 1;
            bounds.push((unit + 1, at + 1));
        } else if held.optional && !same {
            bounds.push((unit + 1, at));
        } else {
            let first = *parted.get_or_insert_with(|| (last_cut(state, units, &bounds), held.message));
            let Some(choice) = choices.pop() else {
                let ((at, cut), held) = first;
                return Aligned::Diverged { at, held, cut };
            };
            (unit, next) = choice;
        }
        unit += 1;
    }
    // Requests are never left out: the n-th that was sent is the n-th that is held.
    let requests = compared.iter().filter(|(_, message)| message.role == Role::User).count();
    let ends_with_request = compared.last().is_some_and(|(_, message)| message.role == Role::User);
    let last = units.iter().filter(|unit| unit.role == Role::User).take(requests).last();
    match last.and_then(|unit| unit.turn).filter(|_| ends_with_request) {
        Some(turn) => Aligned::Answered { turn },
        None => Aligned::Kept,
    }
}

/// The latest of `bounds` at which the log holds just the units before it, and where it is cut there.
fn last_cut(state: &State, units: &[Unit], bounds: &[(usize, usize)]) -> (usize, u64) {
    let cut_at = |&(count, at): &(usize, usize)| {
        let kept = &units[..count];
        kept.last()?.end?;
        let cut = kept.iter().filter_map(|unit| unit.end).max()?;
        let kept_slot = |slot: usize| kept.iter().any(|unit| unit.slot == slot);
        let in_context = |slot: &Slot| slot.context == state.session.context;
        let mut others = state.slots.iter().enumerate().filter(|(n, slot)| in_context(slot) && !kept_slot(*n));
        others.all(|(_, slot)| is_absent(state, slot, cut)).then_some((at, cut))
    };
    bounds.iter().rev().find_map(cut_at).unwrap_or((0, 0))
}

/// Whether a log that ends with event `cut` shows nothing of a place in the conversation.
fn is_absent(state: &State, slot: &Slot, cut: u64) -> bool {
    let later = |seq: Option<u64>| seq.is_none_or(|seq| seq > cut);
    let absent = match &slot.kind {
        SlotKind::Recorded(at) => later(Some(state.messages[*at].first_seq)),
        SlotKind::Turns(attempts) => attempts.iter().all(|&at| later(state.turns[at].ended_seq)),
    };
    absent || slot.hidden_at.is_some_and(|hidden| hidden <= cut)
}

/// A system message right before the first new one is new as well, unless everything was.
fn from(sent: &[SentMessage], at: usize) -> usize {
    let system = |n: &usize| sent[*n].role == Role::System;
    (0..at).rev().take_while(system).last().unwrap_or(at)
}

fn units(state: &State) -> Vec<Unit> {
    let mut units = Vec::new();
    let end = state.first_reverted_slot();
    let shown = |slot: &Slot| slot.hidden_at.is_none() && slot.context == state.session.context;
    for (n, slot) in state.slots[..end].iter().enumerate().filter(|(_, slot)| shown(slot)) {
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
                        slot: n,
                        place: message.first_seq,
                        end: message.last_seq,
                    });
                }
            }
            SlotKind::Turns(attempts) => {
                let Some(entry) = attempts.last().map(|&at| &state.turns[at]) else { continue };
                // What stood in for another agent or model goes on with nothing that its request did not go on with.
                let continues = state.asked_for(entry.turn.id).and_then(|asked| asked.turn.continues);
                let request = entry.turn.request_message.filter(|_| continues.is_none()).and_then(|id| state.message(id));
                let asked_at = request.map_or(entry.queued_seq, |request| request.first_seq);
                if let Some(request) = request {
                    units.push(Unit {
                        role: Role::User,
                        digest: request.digest(),
                        optional: false,
                        turn: Some(entry.turn.id),
                        message: Some(request.id),
                        slot: n,
                        place: asked_at,
                        end: None,
                    });
                }
                let answer = entry.turn.response_messages.first().copied();
                let completed = entry.turn.state == TurnState::Completed && continues.is_none();
                units.push(Unit {
                    role: Role::Assistant,
                    digest: entry.answer_digest(),
                    optional: !completed || !entry.answered,
                    turn: Some(entry.turn.id),
                    message: answer,
                    slot: n,
                    place: answer.and_then(|id| state.message(id)).map_or(asked_at, |answer| answer.first_seq),
                    end: entry.ended_seq,
                });
            }
        }
    }
    units
}
