//! One session's own log, and the rows that stand beside it.
//!
//! Never holds an inherited event: those are read from the log they were written to.

use crate::{Chain, Head, StoredEvent, link};
use everkept_core::{Effect, Event, MessageRecord, Question, QuestionId, SessionId, TurnRecord, UsageRecord};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Log {
    pub fence: u64,
    /// For a fork: whose log it goes on from.
    pub parent: Option<SessionId>,
    /// The number of the last inherited event; 0 for a log of its own.
    pub cut: u64,
    pub events: Vec<KeptEvent>,
    /// The chain after the last event.
    pub chain: Chain,
    pub turns: BTreeMap<u64, TurnRecord>,
    pub usage: BTreeMap<u64, UsageRecord>,
    pub messages: BTreeMap<u64, MessageRecord>,
    pub questions: BTreeMap<u64, Question>,
    pub owed: Vec<Effect>,
}

#[derive(Debug)]
pub(super) struct KeptEvent {
    pub stored: StoredEvent,
    pub event: Event,
    pub chain: Chain,
}

impl Log {
    pub fn new(fence: u64, parent: Option<SessionId>, cut: u64, chain: Chain) -> Self {
        Log {
            fence,
            parent,
            cut,
            events: Vec::new(),
            chain,
            turns: BTreeMap::new(),
            usage: BTreeMap::new(),
            messages: BTreeMap::new(),
            questions: BTreeMap::new(),
            owed: Vec::new(),
        }
    }

    pub fn head(&self) -> Head {
        Head { seq: self.cut + self.events.len() as u64, fence: self.fence }
    }

    pub fn append(&mut self, stored: StoredEvent, event: Event) {
        (_, self.chain) = link(&self.chain, &stored.bytes);
        self.events.push(KeptEvent { stored, event, chain: self.chain });
    }

    /// The events numbered `from + 1 ..= to` that stand in this very log.
    pub fn own(&self, from: u64, to: u64) -> &[KeptEvent] {
        let end = usize::try_from(to.saturating_sub(self.cut)).unwrap_or(usize::MAX).min(self.events.len());
        let start = usize::try_from(from.saturating_sub(self.cut)).unwrap_or(usize::MAX).min(end);
        &self.events[start..end]
    }

    pub fn place_of(&self, question: QuestionId) -> Option<u64> {
        self.questions.iter().find(|(_, held)| held.id == question).map(|(place, _)| *place)
    }
}
