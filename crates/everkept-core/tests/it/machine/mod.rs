//! Random orders and crashes against a small model: whatever is asked in whatever order, the promises hold.

mod model;
mod op;

use crate::support::*;
use everkept_core::*;
use model::{Again, Model};
use op::{At, How, Op, Word};
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn o1_o5_o6_o7_whatever_is_asked_in_whatever_order_the_promises_hold(ops in op::ops()) {
        let mut machine = Machine::new();
        for op in ops {
            machine.step(op)?;
        }
        machine.crash()?;
    }
}

type Checked = Result<(), TestCaseError>;

struct Machine {
    live: State,
    /// What reading back every stored event leads to.
    replica: State,
    log: Vec<Event>,
    model: Model,
    /// The model as it was after each event that an order ended with.
    past: BTreeMap<u64, Model>,
    rows: BTreeMap<String, Record>,
    /// The last event that a fork inherited.
    cut: usize,
    fresh: u64,
    ended: BTreeMap<TurnId, TurnRecord>,
}

impl Machine {
    fn new() -> Self {
        let state = State::new(session(1));
        let mut machine = Machine {
            live: state.clone(),
            replica: state,
            log: Vec::new(),
            model: Model::default(),
            past: BTreeMap::new(),
            rows: BTreeMap::new(),
            cut: 0,
            fresh: 100,
            ended: BTreeMap::new(),
        };
        machine.perform(create(), true).expect("a session is made");
        machine.past.insert(machine.live.head, machine.model.clone());
        machine
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    /// One of the last turns, or one that never was.
    fn pick(&self, n: usize) -> u64 {
        self.model.turns.keys().rev().nth(n).copied().unwrap_or(9)
    }

    fn pick_question(&self, n: usize) -> u64 {
        self.model.questions.keys().rev().nth(n).copied().unwrap_or(9)
    }

    fn step(&mut self, op: Op) -> Checked {
        self.follow(op)?;
        self.past.insert(self.live.head, self.model.clone());
        self.agrees_with_the_model()?;
        self.keeps_its_promises()
    }

    /// Asks the model, then the core; then tells the model.
    fn follow(&mut self, op: Op) -> Checked {
        let alive = !self.model.deleted;
        match op {
            Op::Create => self.perform(create(), false),
            Op::Update { archived, agent: wanted, title } => {
                let known_agent =
                    wanted.flatten().is_none_or(|name| model::AGENTS.contains(&name) || self.model.agent.as_deref() == Some(name));
                let update = UpdateSession {
                    title: title.map(|title| title.map(str::to_owned)),
                    agent: wanted.map(|name| name.map(agent)),
                    archived,
                    known: Some(known()),
                    ..UpdateSession::default()
                };
                let allowed = alive && known_agent;
                self.perform(Command::UpdateSession(update), allowed)?;
                if allowed {
                    self.model.archived = archived.unwrap_or(self.model.archived);
                    if let Some(wanted) = wanted {
                        self.model.agent = wanted.map(str::to_owned);
                    }
                }
                Ok(())
            }
            Op::Release => self.perform(Command::ReleaseThread, alive),
            Op::Delete => {
                self.perform(Command::DeleteSession { keep_ms: None }, true)?;
                if let Some(running) = self.model.running.filter(|_| alive) {
                    self.model.turns.get_mut(&running).expect("a turn").cancelling = true;
                }
                self.model.deleted = true;
                Ok(())
            }
            Op::Restore => {
                self.perform(Command::RestoreSession, true)?;
                self.model.deleted = false;
                Ok(())
            }
            Op::Clear => {
                self.perform(Command::ClearContext, alive)?;
                self.model.context += u32::from(alive);
                Ok(())
            }
            Op::Revert(n) => {
                let wanted = n.map(|n| self.pick(n));
                let allowed = self.model.may_revert(wanted);
                let target = wanted.or(self.model.last_shown());
                self.perform(Command::Revert { turn: wanted.map(turn) }, allowed)?;
                if let Some(target) = target.filter(|_| allowed) {
                    self.model.revert = Some(self.model.turns[&target].place);
                }
                Ok(())
            }
            Op::Unrevert => {
                let allowed = alive && self.model.revert.is_some();
                self.perform(Command::Unrevert, allowed)?;
                self.model.revert = self.model.revert.filter(|_| !allowed);
                Ok(())
            }
            Op::RemoveRule(n) => {
                let rule = self.model.rules.keys().nth(n).copied().unwrap_or(9);
                let allowed = alive && self.model.rules.contains_key(&rule);
                self.perform(Command::RemoveRule { rule: question(rule) }, allowed)?;
                if allowed {
                    self.model.rules.remove(&rule);
                }
                Ok(())
            }
            Op::Submit { earlier, text: words, long, choice, explicit, if_busy } => {
                let (n, before) = (self.fresh(), self.fresh());
                let allowed = self.model.may_submit(words.is_empty(), earlier, choice.agent, if_busy);
                let history = NewMessage { id: message(before), role: Role::User, parts: text("before") };
                let command = SubmitTurn {
                    earlier: if earlier { vec![history] } else { Vec::new() },
                    parts: text(&lengthen(words, long)),
                    agent: choice.agent.map(agent),
                    model: choice.model.map(model),
                    agent_session: explicit.map(agent_session),
                    if_busy,
                    ..submitted(n, "")
                };
                self.perform(Command::SubmitTurn(command), allowed)?;
                if allowed {
                    self.model.submit(n, earlier, choice.agent, if_busy);
                }
                Ok(())
            }
            Op::Record { role, text: words, long } => {
                let allowed = alive && !self.model.busy() && !words.is_empty();
                let n = self.fresh();
                self.perform(record(n, role, &lengthen(words, long)), allowed)?;
                if allowed {
                    self.model.record();
                }
                Ok(())
            }
            Op::Edit { turn, text: words, choice } => {
                let (n, with) = (self.pick(turn), self.fresh());
                let allowed = self.model.may_edit(n, words, choice.agent);
                let request = words.map(|words| (message(with), text(words)));
                let command = EditTurn { request, agent: choice.agent.map(agent), model: choice.model.map(model), ..edited(n) };
                self.perform(Command::EditTurn(command), allowed)?;
                if let (true, Some(agent)) = (allowed, choice.agent) {
                    self.model.turns.get_mut(&n).expect("a turn").agent = agent.to_owned();
                }
                Ok(())
            }
            Op::Drop(n) => {
                let n = self.pick(n);
                let allowed = alive && self.model.queue.contains(&n);
                self.perform(Command::DropTurn { turn: turn(n) }, allowed)?;
                if allowed {
                    self.model.take_back(n);
                }
                Ok(())
            }
            Op::Cancel(n) => {
                let n = self.pick(n);
                let allowed = alive && self.model.turns.contains_key(&n);
                self.perform(Command::CancelTurn { turn: turn(n) }, allowed)?;
                if allowed && self.model.queue.contains(&n) {
                    self.model.end(n, TurnEnd::Cancelled);
                } else if allowed && self.model.running == Some(n) {
                    self.model.turns.get_mut(&n).expect("a turn").cancelling = true;
                }
                Ok(())
            }
            Op::Retry { turn, choice } => {
                let (n, by) = (self.pick(turn), self.fresh());
                let verdict = self.model.retry(n, choice.agent);
                self.perform(Command::RetryTurn(with(again(n, by), choice)), verdict != Again::Refused)?;
                if verdict == Again::Queued {
                    self.model.try_again(n, by, choice.agent);
                }
                Ok(())
            }
            Op::Redo { turn, choice } => {
                let (n, by) = (self.pick(turn), self.fresh());
                let verdict = self.model.redo(n, choice.agent);
                self.perform(Command::RedoTurn(with(again(n, by), choice)), verdict != Again::Refused)?;
                if verdict == Again::Queued {
                    self.model.try_again(n, by, choice.agent);
                }
                Ok(())
            }
            Op::Continue { turn, choice } => {
                let (n, by) = (self.pick(turn), self.fresh());
                let verdict = self.model.go_on(n, choice.agent);
                self.perform(Command::ContinueTurn(with(again(n, by), choice)), verdict != Again::Refused)?;
                if verdict == Again::Queued {
                    self.model.carry_on(n, by, choice.agent);
                }
                Ok(())
            }
            Op::Answer { question, option } => {
                let (n, by) = (self.pick_question(question), self.fresh());
                let allowed = self.model.may_answer(n, option);
                self.perform(answer(n, option, by), allowed)?;
                if allowed {
                    self.model.answer(n, option, by);
                }
                Ok(())
            }
            Op::Expire { question: n, because } => {
                let n = self.pick_question(n);
                let held = self.model.questions.contains_key(&n);
                self.perform(Command::ExpireQuestion { question: question(n), because }, held)?;
                if let Some(held) = self.model.questions.get_mut(&n) {
                    held.open = false;
                }
                Ok(())
            }
            Op::Begin { turn, agent_session, because } => {
                let first = self.model.queue.front().copied().unwrap_or(9);
                let n = turn.map_or(first, |n| self.pick(n));
                let allowed = self.model.may_begin(n);
                self.perform(began(n, agent_session, because), allowed)?;
                if allowed {
                    self.model.queue.pop_front();
                    self.model.running = Some(n);
                    self.model.turns.get_mut(&n).expect("a turn").begun = true;
                }
                Ok(())
            }
            Op::Hear { turn, said } => {
                let n = turn.map_or(self.model.running.unwrap_or(9), |n| self.pick(n));
                let allowed = self.model.running == Some(n);
                let mut told = self.model.clone();
                let said: Vec<_> = said.into_iter().map(|word| self.speak(word, n, allowed, &mut told)).collect();
                self.perform(hear(n, said), allowed)?;
                if allowed {
                    self.model = told;
                }
                Ok(())
            }
            Op::End { turn, end: how } => {
                let n = turn.map_or(self.model.running.unwrap_or(9), |n| self.pick(n));
                let waits = self.model.queue.contains(&n);
                let possible = !waits || !matches!(how, TurnEnd::Completed | TurnEnd::Interrupted);
                let allowed = self.model.is_open(n) && possible;
                self.perform(end(n, how), allowed)?;
                if allowed {
                    self.model.end(n, how);
                }
                Ok(())
            }
            Op::Fail { turn: which, how, persistent: by_policy } => {
                let current = self.model.running.or(self.model.queue.front().copied()).unwrap_or(9);
                let (n, by) = (which.map_or(current, |n| self.pick(n)), self.fresh());
                let failure = match how {
                    How::Opening { again } => not_opened(n, by, again).failure,
                    How::Prompt(end) => TurnFailure::Prompt { end, reason: "agent_error".into(), error: failure("overloaded") },
                };
                let known = if by_policy { persistent() } else { known() };
                let command = FailTurn { turn: turn(n), failure, by: turn(by), known };
                let allowed = self.model.may_fail(n, how);
                self.perform(Command::FailTurn(command), allowed)?;
                if allowed {
                    self.model.fail(n, how, by, by_policy);
                }
                Ok(())
            }
            Op::RetryLetter { turn, text: words } => {
                let (n, by, with) = (self.pick(turn), self.fresh(), self.fresh());
                let verdict = self.model.retry_letter(n, words);
                self.perform(retry_letter(n, by, words.map(|words| (with, words))), verdict != Again::Refused)?;
                if verdict == Again::Queued {
                    self.model.try_again(n, by, None);
                }
                Ok(())
            }
            Op::DismissLetter(n) => {
                let n = self.pick(n);
                let allowed = alive && self.model.turns.get(&n).is_some_and(|held| held.end == Some(TurnEnd::DeadLettered));
                self.perform(Command::DismissLetter { turn: turn(n) }, allowed)?;
                if allowed {
                    self.model.turns.get_mut(&n).expect("a turn").letter = false;
                }
                Ok(())
            }
            Op::Settle => self.settle(),
            Op::Crash => self.crash(),
            Op::Fork { at, follow } => self.fork(at, follow),
        }
    }

    fn speak(&mut self, word: Word, turn: u64, allowed: bool, told: &mut Model) -> Said {
        match word {
            Word::Said(said) => said,
            Word::Ask { kind, call } => {
                let n = self.fresh();
                if allowed {
                    told.ask(n, turn, kind, call);
                }
                Said::Asked(Asked { kind, digest: digest_of(call), ..asked(n) })
            }
            Word::Withdraw(n) => {
                let n = told.questions.keys().rev().nth(n).copied().unwrap_or(9);
                if let Some(held) =
                    told.questions.get_mut(&n).filter(|held| allowed && held.turn == turn && held.kind != QuestionKind::Review)
                {
                    held.open = false;
                }
                Said::Withdrew { request: format!("request-{n}") }
            }
        }
    }

    fn settle(&mut self) -> Checked {
        let review = self.fresh();
        self.perform(settle(review), true)?;
        self.model.settle(review);
        Ok(())
    }

    /// The log is all there is.
    fn crash(&mut self) -> Checked {
        let replayed = replay(&self.log);
        self.same(&replayed)?;
        self.live = replayed;
        self.settle()?;
        prop_assert_eq!(self.live.running, None, "nothing runs that nothing runs");
        Ok(())
    }

    fn perform(&mut self, command: Command, allowed: bool) -> Checked {
        let decided = decide(&self.live, command.clone(), NOW);
        prop_assert_eq!(decided.is_ok(), allowed, "{:?} gave {:?}", command, decided);
        let Ok(events) = decided else { return self.same(&self.replica) };
        let before = self.live.session.agent_sessions.clone();
        for event in &events {
            prop_assert!(event.context >= self.live.session.context, "a context never goes back");
            prop_assert_eq!(event.session, self.live.session.id);
            let data = event.body.data();
            prop_assert!(data.len() <= MAX_EVENT_BYTES - 512, "{} bytes", data.len());
            let body = Body::read(event.body.kind(), &data).expect("known").expect("readable");
            prop_assert_eq!(&body, &event.body);
            self.live.apply(event);
            self.replica.apply(&Event { body, ..event.clone() });
            prop_assert_eq!(event.context, self.live.session.context);
            self.log.push(event.clone());
        }
        for row in records(&self.live, &events).into_iter().filter(|row| !is_inherited(row, self.cut as u64)) {
            self.rows.insert(row_key(&row), row);
        }
        for (held, was) in self.live.session.agent_sessions.iter().zip(before) {
            prop_assert_eq!((&held.agent, held.context, &held.first), (&was.agent, was.context, &was.first), "a pin stays");
            prop_assert!(held.successors.starts_with(&was.successors), "the list of successors only grows");
        }
        self.same(&self.replica)
    }

    /// The child with and without its parent's log is the same one; then perhaps on with the child.
    fn fork(&mut self, at: At, follow: bool) -> Checked {
        let at = match at {
            At::Latest => None,
            At::Turn(n) => Some(Cut::Turn(turn(self.pick(n)))),
            At::Back(back) => Some(Cut::Seq(self.live.head.saturating_sub(back as u64))),
        };
        let Ok(forked) = fork(&self.live, forking(at), NOW) else { return Ok(()) };
        let cut = usize::try_from(forked.cut).expect("small");
        let mut log = self.log[..cut].to_vec();
        let mut state = if cut == 0 { State::new(session(1)) } else { replay(&log) };
        forked.child_events.iter().for_each(|event| state.apply(event));
        let rows = records(&state, &forked.child_events);
        if let Some(mut shell) = child_shell(&self.live, forked.cut) {
            forked.child_events.iter().for_each(|event| shell.apply(event));
            prop_assert_eq!(&records(&shell, &forked.child_events), &rows, "the child's rows need no parent's log");
            prop_assert_eq!(shell.head, state.head);
        }
        prop_assert_eq!(state.running, None);
        prop_assert!(state.turns.iter().all(|entry| !entry.turn.state.is_open()), "what was open goes on in the parent");
        prop_assert!(state.session.agent_sessions.is_empty() && state.questions.is_empty() && owed(&state).is_empty());
        // Only between two orders does the model know how things stood.
        let Some(model) = self.past.get(&forked.cut).filter(|_| follow) else { return Ok(()) };
        self.model = Model { agent: self.model.agent.clone(), ..model.child() };
        self.model.deleted = false;
        log.extend(forked.child_events);
        (self.cut, self.log, self.replica, self.live) = (cut, log, state.clone(), state);
        self.rows = rows.into_iter().map(|row| (row_key(&row), row)).collect();
        self.ended.clear();
        self.past.retain(|seq, _| *seq < forked.cut);
        Ok(())
    }

    fn same(&self, other: &State) -> Checked {
        prop_assert_eq!(observable(&self.live), observable(other));
        Ok(())
    }

    fn agrees_with_the_model(&self) -> Checked {
        let (state, model) = (&self.live, &self.model);
        prop_assert_eq!(state.queue.iter().copied().collect::<Vec<_>>(), model.queue.iter().copied().map(turn).collect::<Vec<_>>());
        prop_assert_eq!(state.running, model.running.map(turn));
        prop_assert_eq!(state.session.context, model.context);
        prop_assert_eq!(state.session.archived_at.is_some(), model.archived);
        prop_assert_eq!(state.session.deleted_at.is_some(), model.deleted);
        prop_assert_eq!(state.session.revert.is_some(), model.revert.is_some());
        let hidden: Vec<_> = state.session.hidden.iter().map(|hidden| (hidden.turn, hidden.by)).collect();
        let expected: Vec<_> = model.hidden().into_iter().map(|(hidden, by)| (turn(hidden), by.map(turn))).collect();
        prop_assert_eq!(hidden, expected);
        for (n, held) in &model.turns {
            let entry = &state.turn(turn(*n)).expect("the model's turns are there").turn;
            prop_assert_eq!(entry.state.is_open(), held.end.is_none(), "{}", entry.id);
            let ended = held.end.map(TurnState::from);
            prop_assert!(ended.is_none_or(|ended| ended == entry.state), "{:?} and not {:?}", entry.state, ended);
            prop_assert_eq!(entry.agent.as_str(), &held.agent);
            let tries = (entry.tries.opening, entry.tries.prompts, entry.tries.fallbacks);
            prop_assert_eq!(tries, (held.opening, held.prompts, held.fallbacks), "{}", entry.id);
            prop_assert_eq!(state.turn(turn(*n)).expect("it is there").dead_letter, held.letter, "{}", entry.id);
        }
        prop_assert_eq!(state.turns.len(), model.turns.len());
        let open = |held: &&Question| held.state == QuestionState::Open;
        let open: Vec<_> = state.questions.iter().filter(open).map(|held| held.id).collect();
        let expected: Vec<_> = model.questions.iter().filter(|(_, held)| held.open).map(|(n, _)| question(*n)).collect();
        prop_assert_eq!(open, expected);
        prop_assert_eq!(state.session.rules.len(), model.rules.len());
        Ok(())
    }

    /// What the events alone have to say for themselves.
    fn keeps_its_promises(&mut self) -> Checked {
        prop_assert_eq!(self.live.head, self.log.len() as u64, "o1: the numbers never skip");
        let mut lives: BTreeMap<TurnId, Life> = BTreeMap::new();
        let mut line = Vec::new();
        for event in &self.log {
            if matches!(event.body, Body::SessionForked(_)) {
                // A child's own first event: what was open stayed with the parent.
                line.clear();
                lives.values_mut().for_each(|life| *life = Life::Ended);
            }
            let Some(turn) = event.turn else { continue };
            let life = lives.get(&turn).copied();
            let next = match &event.body {
                Body::TurnQueued(data) => {
                    prop_assert_eq!(life, None);
                    // What a policy tries again goes on in the place of what failed.
                    line.insert(if data.tries.is_some() { 0 } else { line.len() }, turn);
                    Life::Queued
                }
                Body::TurnStarted(_) => {
                    prop_assert_eq!(life, Some(Life::Queued));
                    prop_assert_eq!(line.remove(0), turn, "first come first served");
                    prop_assert!(!lives.values().any(|life| *life == Life::Running), "o6: one at a time");
                    Life::Running
                }
                Body::TurnEnded(_) => {
                    prop_assert!(matches!(life, Some(Life::Queued | Life::Running)), "o6: one end");
                    line.retain(|waiting| *waiting != turn);
                    Life::Ended
                }
                Body::QuestionAsked(data) if data.kind == QuestionKind::Review => Life::Ended,
                Body::QuestionAnswered(_) | Body::QuestionExpired(_) | Body::TurnRetried(_) => life.expect("it was queued"),
                Body::AgentSessionPinned(_) | Body::AgentSessionSucceeded(_) | Body::MessageAdded(_) | Body::PartDelta(_) => {
                    prop_assert!(life != Some(Life::Ended), "nothing is said after the end");
                    life.expect("it was queued")
                }
                _ => life.expect("it was queued"),
            };
            lives.insert(turn, next);
        }
        let running = lives.iter().find(|(_, life)| **life == Life::Running).map(|(turn, _)| *turn);
        prop_assert_eq!(running, self.live.running, "running is: began and has not ended");
        for entry in &self.live.turns {
            let record = TurnRecord { dead_letter: false, ..TurnRecord::from(entry) };
            if !entry.turn.state.is_open() {
                let held = self.ended.entry(entry.turn.id).or_insert_with(|| record.clone());
                prop_assert_eq!(held, &record, "nothing changes after its end");
            }
        }
        for held in self.live.questions.iter().filter(|held| held.state == QuestionState::Open) {
            let open = self.live.turn(held.turn).is_some_and(|entry| entry.turn.state.is_open());
            prop_assert!(open || held.kind == QuestionKind::Review);
        }
        for entry in self.live.turns.iter().filter(|entry| entry.turn.state.is_open()) {
            let waiting = self.live.open_questions(entry.turn.id).next().is_some();
            prop_assert_eq!(entry.turn.state == TurnState::Waiting, waiting);
        }
        let replaced = &self.live.session.replaced;
        let counting = self.live.turns.iter().filter(|entry| !self.live.session.hidden.iter().any(|hidden| hidden.turn == entry.turn.id));
        // What goes on with another turn shows no request of its own; that of the other may have been edited since.
        let asks = |entry: &&TurnEntry| self.live.asked_for(entry.turn.id).is_some_and(|asked| asked.turn.continues.is_none());
        for request in counting.filter(asks).filter_map(|entry| entry.turn.request_message) {
            let dropped = self.live.turns.iter().any(|entry| {
                let left = [Some(REASON_DROPPED), Some(REASON_FORKED)].contains(&entry.turn.reason.as_deref());
                entry.turn.request_message == Some(request) && left
            });
            prop_assert!(dropped || !replaced.contains(&request), "a turn that counts shows its request");
        }
        let expected: BTreeMap<_, _> = expected_rows(&self.live, self.cut as u64).into_iter().map(|row| (row_key(&row), row)).collect();
        prop_assert_eq!(&self.rows, &expected);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Queued,
    Running,
    Ended,
}

fn with(again: AgainTurn, choice: op::Choice) -> AgainTurn {
    AgainTurn { agent: choice.agent.map(agent), model: choice.model.map(model), ..again }
}

fn lengthen(text: &str, long: bool) -> String {
    if long { text.repeat(MAX_DELTA_BYTES + 7) } else { text.to_owned() }
}

/// Everything one can see of a state.
fn observable(state: &State) -> impl PartialEq + std::fmt::Debug + use<> {
    let messages: Vec<_> =
        state.messages.iter().map(|held| (MessageRecord::from(held), held.digest(), held.agent_message.clone())).collect();
    let turns: Vec<_> = state.turns.iter().map(|entry| (TurnRecord::from(entry), entry.started_seq)).collect();
    let unseen: Vec<_> = state.queue.iter().map(|turn| (state.unseen(*turn, true), state.unseen(*turn, false))).collect();
    let line = (state.queue.clone(), state.running, owed(state), state.last_visible_turn());
    let agents = (state.threads.clone(), state.origins.clone(), unseen);
    (state.head, state.session.clone(), turns, messages, state.questions.clone(), line, agents)
}

/// The rows a replay leads to: what `verify` compares with.
fn expected_rows(state: &State, cut: u64) -> Vec<Record> {
    let mut rows = vec![Record::Session(state.session.clone()), Record::Owed(owed(state))];
    let turns: Vec<_> = state.turns.iter().map(TurnRecord::from).filter(|turn| turn.queued_seq > cut).collect();
    rows.extend(turns.iter().filter_map(UsageRecord::of).map(Record::Usage));
    rows.extend(turns.into_iter().map(Record::Turn));
    rows.extend(state.messages.iter().map(MessageRecord::from).filter(|message| message.first_seq > cut).map(Record::Message));
    rows.extend(state.questions.iter().cloned().map(Record::Question));
    rows
}

/// What a fork inherited keeps its rows in the parent's log: no store takes them from the child.
fn is_inherited(row: &Record, cut: u64) -> bool {
    match row {
        Record::Turn(row) => row.queued_seq <= cut,
        Record::Usage(row) => row.queued_seq <= cut,
        Record::Message(row) => row.first_seq <= cut,
        Record::Session(_) | Record::Question(_) | Record::Owed(_) => false,
    }
}

fn row_key(row: &Record) -> String {
    match row {
        Record::Session(_) => "session".into(),
        Record::Turn(row) => row.turn.id.to_string(),
        Record::Usage(row) => format!("usage of {}", row.turn),
        Record::Message(row) => row.id.to_string(),
        Record::Question(row) => row.id.to_string(),
        Record::Owed(_) => "owed".into(),
    }
}
