//! A session in the simplest terms there are: places with attempts, a line, who runs, what is open.
//!
//! It is told orders and never sees an event. What it says of an order comes before the core is asked.

use super::op::How;
use everkept_core::{FailedEnd, IfBusy, QuestionKind, TurnEnd};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub deleted: bool,
    pub archived: bool,
    pub context: u32,
    pub agent: Option<String>,
    pub turns: BTreeMap<u64, Turn>,
    /// Where things are said, in order; recorded messages have no attempts.
    pub places: Vec<Place>,
    pub queue: VecDeque<u64>,
    pub running: Option<u64>,
    /// The first place that a revert hides.
    pub revert: Option<usize>,
    pub questions: BTreeMap<u64, Question>,
    /// Agent and call of each standing answer, by the question that made it.
    pub rules: BTreeMap<u64, (String, &'static str)>,
}

#[derive(Debug, Clone)]
pub struct Turn {
    pub place: usize,
    pub agent: String,
    pub end: Option<TurnEnd>,
    pub continues: Option<u64>,
    pub cancelling: bool,
    pub begun: bool,
    pub letter: bool,
    pub opening: u32,
    pub prompts: u32,
    pub fallbacks: u32,
    /// The turn it stands in for.
    pub asked: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Place {
    pub attempts: Vec<u64>,
    pub hidden: bool,
}

#[derive(Debug, Clone)]
pub struct Question {
    pub turn: u64,
    pub kind: QuestionKind,
    pub call: &'static str,
    pub open: bool,
}

/// What asking for another attempt comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    Refused,
    AlreadyUnderWay,
    Queued,
}

pub const AGENTS: [&str; 2] = ["demo", "coder"];

impl Model {
    pub fn busy(&self) -> bool {
        self.running.is_some() || !self.queue.is_empty()
    }

    pub fn is_open(&self, turn: u64) -> bool {
        self.turns.get(&turn).is_some_and(|held| held.end.is_none())
    }

    fn shown(&self, place: usize) -> bool {
        !self.places[place].hidden && self.revert.is_none_or(|first| place < first)
    }

    pub fn latest(&self, turn: u64) -> u64 {
        *self.places[self.turns[&turn].place].attempts.last().expect("a place has an attempt")
    }

    pub fn last_shown(&self) -> Option<u64> {
        let shown = (0..self.places.len()).rev().filter(|place| self.shown(*place));
        shown.filter_map(|place| self.places[place].attempts.last().copied()).next()
    }

    /// The agent a turn would run with, if it can.
    pub fn resolve(&self, asked: Option<&str>) -> Option<String> {
        match (asked, self.agent.as_deref()) {
            (Some(agent), _) => AGENTS.contains(&agent).then(|| agent.to_owned()),
            (None, Some(agent)) if AGENTS.contains(&agent) => Some(agent.to_owned()),
            (None, _) => Some("demo".to_owned()),
        }
    }

    pub fn may_submit(&self, empty: bool, earlier: bool, agent: Option<&str>, if_busy: IfBusy) -> bool {
        let waits = if_busy != IfBusy::Reject && !earlier;
        !self.deleted && !self.archived && !empty && self.resolve(agent).is_some() && (!self.busy() || waits)
    }

    pub fn submit(&mut self, turn: u64, earlier: bool, agent: Option<&str>, if_busy: IfBusy) {
        if self.busy() && if_busy == IfBusy::Interrupt {
            for waiting in std::mem::take(&mut self.queue) {
                self.end(waiting, TurnEnd::Cancelled);
            }
            if let Some(running) = self.running.and_then(|running| self.turns.get_mut(&running)) {
                running.cancelling = true;
            }
        }
        if earlier {
            self.record();
        }
        let agent = self.resolve(agent).expect("it was allowed");
        self.queue(turn, None, agent, None);
    }

    pub fn record(&mut self) {
        self.settle_revert();
        self.places.push(Place::default());
    }

    fn queue(&mut self, turn: u64, place: Option<usize>, agent: String, continues: Option<u64>) {
        self.make(turn, place, agent, continues);
        self.queue.push_back(turn);
    }

    fn make(&mut self, turn: u64, place: Option<usize>, agent: String, continues: Option<u64>) -> &mut Turn {
        self.settle_revert();
        let place = place.unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.places[place].attempts.push(turn);
        let made = Turn {
            place,
            agent,
            end: None,
            continues,
            cancelling: false,
            begun: false,
            letter: false,
            opening: 0,
            prompts: 0,
            fallbacks: 0,
            asked: turn,
        };
        self.turns.entry(turn).or_insert(made)
    }

    fn settle_revert(&mut self) {
        if let Some(first) = self.revert.take() {
            self.places[first..].iter_mut().for_each(|place| place.hidden = true);
        }
    }

    pub fn may_edit(&self, turn: u64, text: Option<&str>, agent: Option<&str>) -> bool {
        let own = self.turns.get(&turn).is_some_and(|held| held.continues.is_none());
        let text = text.is_none_or(|text| !text.is_empty() && own);
        !self.deleted && self.queue.contains(&turn) && text && agent.is_none_or(|agent| AGENTS.contains(&agent))
    }

    pub fn end(&mut self, turn: u64, end: TurnEnd) {
        self.queue.retain(|queued| *queued != turn);
        self.running = self.running.filter(|running| *running != turn);
        let held = self.turns.get_mut(&turn).expect("a turn");
        held.end = Some(end);
        held.letter = end == TurnEnd::DeadLettered;
        for question in self.questions.values_mut().filter(|question| question.turn == turn) {
            question.open = false;
        }
    }

    /// As if it had never been asked.
    pub fn take_back(&mut self, turn: u64) {
        self.end(turn, TurnEnd::Cancelled);
        let place = &mut self.places[self.turns[&turn].place];
        if place.attempts.len() == 1 {
            place.hidden = true;
        } else {
            place.attempts.retain(|attempt| *attempt != turn);
        }
    }

    pub fn retry(&self, turn: u64, agent: Option<&str>) -> Again {
        self.again(turn, agent, |end| end != TurnEnd::Completed, true)
    }

    pub fn redo(&self, turn: u64, agent: Option<&str>) -> Again {
        self.again(turn, agent, |end| end == TurnEnd::Completed, false)
    }

    fn again(&self, turn: u64, agent: Option<&str>, fits: impl Fn(TurnEnd) -> bool, done_is_fine: bool) -> Again {
        if self.deleted || !self.turns.contains_key(&turn) {
            return Again::Refused;
        }
        let latest = self.latest(turn);
        let Some(end) = self.turns[&latest].end else { return Again::AlreadyUnderWay };
        if !fits(end) {
            let newer = done_is_fine && latest != turn;
            return if newer { Again::AlreadyUnderWay } else { Again::Refused };
        }
        let agent_is_there = agent.is_none_or(|agent| AGENTS.contains(&agent));
        let allowed = !self.archived && self.shown(self.turns[&turn].place) && agent_is_there;
        if allowed { Again::Queued } else { Again::Refused }
    }

    pub fn try_again(&mut self, turn: u64, by: u64, agent: Option<&str>) {
        let latest = self.latest(turn);
        self.withdraw_review(latest);
        self.turns.get_mut(&latest).expect("a turn").letter = false;
        let held = self.turns[&self.turns[&latest].asked].clone();
        let agent = agent.map_or(held.agent, str::to_owned);
        self.queue(by, Some(held.place), agent, held.continues);
    }

    pub fn go_on(&self, turn: u64, agent: Option<&str>) -> Again {
        let Some(held) = self.turns.get(&turn) else { return Again::Refused };
        let counts = self.shown(held.place) && self.latest(turn) == turn;
        if self.deleted || held.end.is_none() || !counts {
            return Again::Refused;
        }
        if self.turns.values().any(|other| other.continues == Some(turn) && other.end.is_none()) {
            return Again::AlreadyUnderWay;
        }
        let agent_is_there = agent.is_none_or(|agent| AGENTS.contains(&agent));
        if !self.archived && agent_is_there { Again::Queued } else { Again::Refused }
    }

    pub fn carry_on(&mut self, turn: u64, by: u64, agent: Option<&str>) {
        self.withdraw_review(turn);
        let asked = self.turns[&turn].asked;
        let agent = agent.map_or(self.turns[&asked].agent.clone(), str::to_owned);
        self.queue(by, None, agent, Some(turn));
    }

    fn withdraw_review(&mut self, turn: u64) {
        for question in self.questions.values_mut().filter(|question| question.turn == turn) {
            question.open = false;
        }
    }

    pub fn may_answer(&self, question: u64, option: &str) -> bool {
        let Some(held) = self.questions.get(&question).filter(|held| held.open) else { return false };
        let follow_up = match (held.kind, option) {
            (QuestionKind::Review, "continue") => self.go_on(held.turn, None) != Again::Refused,
            (QuestionKind::Review, "redo") => self.retry(held.turn, None) != Again::Refused,
            (QuestionKind::Review, option) => option == "leave",
            (QuestionKind::Permission | QuestionKind::Choice, option) => ["once", "always", "no"].contains(&option),
        };
        !self.deleted && follow_up
    }

    pub fn answer(&mut self, question: u64, option: &str, by: u64) {
        let held = self.questions.get_mut(&question).expect("it was allowed");
        held.open = false;
        let held = held.clone();
        match (held.kind, option) {
            (QuestionKind::Permission, "always") => {
                self.rules.insert(question, (self.turns[&held.turn].agent.clone(), held.call));
            }
            (QuestionKind::Review, "continue") if self.go_on(held.turn, None) == Again::Queued => self.carry_on(held.turn, by, None),
            (QuestionKind::Review, "redo") if self.retry(held.turn, None) == Again::Queued => self.try_again(held.turn, by, None),
            _ => {}
        }
    }

    pub fn ask(&mut self, question: u64, turn: u64, kind: QuestionKind, call: &'static str) {
        let agent = self.turns[&turn].agent.clone();
        let ruled = kind == QuestionKind::Permission && self.rules.values().any(|rule| *rule == (agent.clone(), call));
        self.questions.insert(question, Question { turn, kind, call, open: !ruled });
    }

    pub fn may_begin(&self, turn: u64) -> bool {
        !self.deleted && self.running.is_none() && self.queue.front() == Some(&turn)
    }

    pub fn may_fail(&self, turn: u64, how: How) -> bool {
        let Some(held) = self.turns.get(&turn) else { return false };
        let begun = matches!(how, How::Prompt(_));
        held.end.is_none() && (held.cancelling || held.begun == begun)
    }

    pub fn fail(&mut self, turn: u64, how: How, by: u64, by_policy: bool) {
        let held = self.turns[&turn].clone();
        if held.cancelling {
            return self.end(turn, TurnEnd::Cancelled);
        }
        let again = matches!(how, How::Opening { again: true });
        if again && held.opening < 4 {
            self.turns.get_mut(&turn).expect("a turn").opening += 1;
            return;
        }
        // `demo` tries twice, then another model, passes over an agent that is gone, then asks `coder`.
        let listed = by_policy && !self.deleted;
        let retries = listed && held.begun && held.agent == "demo" && held.prompts < 1;
        let next = match (listed && self.turns[&held.asked].agent == "demo", held.fallbacks) {
            (true, 0) => Some((1, "demo")),
            (true, 1) => Some((3, "coder")),
            _ => None,
        };
        let end = match how {
            _ if !retries && next.is_none() && (again || held.prompts > 0 || held.fallbacks > 0) => TurnEnd::DeadLettered,
            How::Opening { .. } | How::Prompt(FailedEnd::Failed) => TurnEnd::Failed,
            How::Prompt(FailedEnd::TimedOut) => TurnEnd::TimedOut,
        };
        self.end(turn, end);
        let made = if retries {
            let made = self.make(by, Some(held.place), held.agent, held.continues);
            (made.prompts, made.fallbacks) = (held.prompts + 1, held.fallbacks);
            made
        } else if let Some((fallbacks, agent)) = next {
            let made = self.make(by, Some(held.place), agent.to_owned(), Some(turn));
            made.fallbacks = fallbacks;
            made
        } else {
            return;
        };
        made.asked = if made.fallbacks > 0 { held.asked } else { by };
        self.queue.push_front(by);
    }

    pub fn retry_letter(&self, turn: u64, text: Option<&str>) -> Again {
        let Some(held) = self.turns.get(&turn).filter(|_| !self.deleted) else { return Again::Refused };
        if !held.letter {
            let taken_up = held.end == Some(TurnEnd::DeadLettered) && self.latest(turn) != turn;
            return if taken_up { Again::AlreadyUnderWay } else { Again::Refused };
        }
        let editable = text.is_none_or(|text| !text.is_empty() && self.turns[&held.asked].continues.is_none());
        let allowed = editable && !self.archived && self.shown(held.place);
        if allowed { Again::Queued } else { Again::Refused }
    }

    pub fn settle(&mut self, review: u64) {
        let Some(turn) = self.running else { return };
        let cancelling = self.turns[&turn].cancelling;
        self.end(turn, if cancelling { TurnEnd::Cancelled } else { TurnEnd::Interrupted });
        if !cancelling {
            self.questions.insert(review, Question { turn, kind: QuestionKind::Review, call: "", open: true });
        }
    }

    pub fn may_revert(&self, turn: Option<u64>) -> bool {
        let target = match turn {
            Some(turn) => self.turns.get(&turn).is_some_and(|held| self.shown(held.place)),
            None => self.last_shown().is_some(),
        };
        !self.deleted && !self.busy() && target
    }

    /// The turns a reader leaves out, and what counts in their place.
    pub fn hidden(&self) -> Vec<(u64, Option<u64>)> {
        let mut hidden = Vec::new();
        for (at, place) in self.places.iter().enumerate() {
            let last = place.attempts.last().copied();
            for attempt in &place.attempts {
                match last {
                    _ if !self.shown(at) => hidden.push((*attempt, None)),
                    last if last != Some(*attempt) => hidden.push((*attempt, last)),
                    _ => {}
                }
            }
        }
        hidden
    }

    /// The child of a fork right here.
    pub fn child(&self) -> Model {
        let mut child = self.clone();
        for waiting in self.queue.clone() {
            child.take_back(waiting);
        }
        child.settle_revert();
        child.turns.values_mut().for_each(|turn| turn.letter = false);
        child.questions.clear();
        child.rules.clear();
        child.archived = false;
        child
    }
}
