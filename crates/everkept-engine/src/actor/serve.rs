//! Orders from doors: ids and facts are added, the core decides, the answer is durable.
//!
//! Never trusts that what a caller saw is still so: every order is decided on the state as it is now.

use super::heard::keep_blob;
use super::{Actor, commit::Along, replay};
use crate::Failure;
use crate::failpoint::Failpoint;
use crate::handle::check_directory;
use crate::orders::{Answered, IfEdited, Intake, Keyed, MessageIn, NewFork, NewTurn, Order, PartIn, Reply};
use bytes::Bytes;
use everkept_core::{
    AgainTurn, Aligned, AnswerQuestion, BlobRef, Body, Command, CreateSession, Cut, EditTurn, Event, Fork, Forked, MessageId, NewMessage,
    NewPart, QuestionId, Refusal, Role, SentMessage, SessionId, State, SubmitTurn, Turn, TurnId, align, child_shell, decide, digest_of,
    fork, records,
};
use everkept_store::LogWrite;

impl Actor {
    /// Makes the session, with its first turn when there is one.
    pub(super) async fn create(
        &mut self,
        create: CreateSession,
        first: Option<NewTurn>,
        key: Option<Keyed>,
        principal: String,
    ) -> Result<Answered, Failure> {
        let answer = key.clone().map(|key| (key, principal.clone()));
        let mut along = Along { answer, ..Along::default() };
        let mut commands = vec![Command::CreateSession(create)];
        let made = match first {
            None => {
                let reply = |state: &State, _: &[Event]| Reply::Session(state.session.clone());
                self.carry_out(commands, along, reply).await
            }
            Some(new) => {
                let turn = TurnId(self.inner.runtime.ids.uuid());
                let messages = match new.intake.clone() {
                    Intake::Input(parts) => vec![MessageIn { role: Role::User, parts }],
                    Intake::Messages(messages) | Intake::History { messages, .. } => messages,
                };
                check_last_is_user(&messages)?;
                commands.push(self.submit_command(new, messages, turn, &mut along.blobs)?);
                self.carry_out(commands, along, turn_reply(turn)).await
            }
        };
        self.fence.get_or_insert(0);
        if made.is_err() {
            self.state = None;
            self.fence = None;
        }
        match made {
            Err(Failure::KeyReused) => self.kept(key.as_ref(), principal).await,
            made => made.map(Answered::Fresh),
        }
    }

    /// A key that was taken in the meantime: by the same request, whose answer this is then, or by another.
    async fn kept(&self, key: Option<&Keyed>, principal: String) -> Result<Answered, Failure> {
        let caller = crate::Caller { access: crate::Access::All, principal };
        self.inner.kept_answer(&caller, key).await?.ok_or(Failure::KeyReused)
    }

    pub(super) async fn order(&mut self, order: Order, key: Option<Keyed>, principal: String) -> Result<Answered, Failure> {
        self.touch();
        if !self.load().await? {
            return Err(Refusal::SessionNotFound.into());
        }
        // The same request may have been answered while this one waited for its place.
        let caller = crate::Caller { access: crate::Access::All, principal: principal.clone() };
        if let Some(kept) = self.inner.kept_answer(&caller, key.as_ref()).await? {
            return Ok(kept);
        }
        let along = Along { answer: key.clone().map(|key| (key, principal.clone())), ..Along::default() };
        match self.perform_order(order, along).await {
            Err(Failure::KeyReused) => self.kept(key.as_ref(), principal).await,
            done => done.map(Answered::Fresh),
        }
    }

    async fn perform_order(&mut self, order: Order, mut along: Along) -> Result<Reply, Failure> {
        let known = self.inner.agents.known();
        let by = TurnId(self.inner.runtime.ids.uuid());
        let again = |turn, agent, model| AgainTurn { turn, by, agent, model, known: known.clone() };
        let session = |state: &State, _: &[Event]| Reply::Session(state.session.clone());
        match order {
            Order::Update(mut update) => {
                update.known = Some(known);
                self.carry_out(vec![Command::UpdateSession(update)], along, session).await
            }
            Order::Delete => {
                self.carry_out(vec![Command::DeleteSession { keep_ms: self.inner.settings.keep_trash_ms() }], along, |_, _| Reply::Done)
                    .await
            }
            Order::Restore => self.carry_out(vec![Command::RestoreSession], along, session).await,
            Order::Clear => {
                let id = self.id;
                let context = |state: &State, _: &[Event]| Reply::Context { session: id, context: state.session.context };
                self.carry_out(vec![Command::ClearContext], along, context).await
            }
            Order::Revert { turn } => self.carry_out(vec![Command::Revert { turn }], along, session).await,
            Order::Unrevert => self.carry_out(vec![Command::Unrevert], along, session).await,
            Order::RemoveRule { rule } => self.carry_out(vec![Command::RemoveRule { rule }], along, |_, _| Reply::Done).await,
            Order::Fork(new) => self.fork(new, along).await,
            Order::Submit(new) => self.submit(new, by, along).await,
            Order::Record { messages, history } => self.record(messages, history, along).await,
            Order::Edit { turn, input, agent, model } => {
                let request = match input {
                    Some(parts) => Some((self.message_id(), new_parts(parts, &mut along.blobs))),
                    None => None,
                };
                let edit = EditTurn { turn, request, agent, model, known };
                self.carry_out(vec![Command::EditTurn(edit)], along, turn_reply(turn)).await
            }
            Order::Drop { turn } => self.carry_out(vec![Command::DropTurn { turn }], along, turn_reply(turn)).await,
            Order::Cancel { turn } => self.carry_out(vec![Command::CancelTurn { turn }], along, turn_reply(turn)).await,
            Order::Retry { turn, agent, model } => {
                self.carry_out(vec![Command::RetryTurn(again(turn, agent, model))], along, latest_reply(turn, by)).await
            }
            Order::RetryLetter { turn, input } => {
                let request = input.map(|parts| (self.message_id(), new_parts(parts, &mut along.blobs)));
                let command = Command::RetryLetter { again: again(turn, None, None), request };
                self.carry_out(vec![command], along, latest_reply(turn, by)).await
            }
            Order::DismissLetter { turn } => self.carry_out(vec![Command::DismissLetter { turn }], along, turn_reply(turn)).await,
            Order::Redo { turn, agent, model } => {
                self.carry_out(vec![Command::RedoTurn(again(turn, agent, model))], along, latest_reply(turn, by)).await
            }
            Order::Continue { turn, agent, model } => {
                self.carry_out(vec![Command::ContinueTurn(again(turn, agent, model))], along, continued_reply(turn, by)).await
            }
            Order::Answer { question, option, note } => {
                let answer = AnswerQuestion { question, option, note, turn: by, known };
                self.carry_out(vec![Command::AnswerQuestion(answer)], along, question_reply(question)).await
            }
        }
    }

    async fn submit(&mut self, new: NewTurn, turn: TurnId, mut along: Along) -> Result<Reply, Failure> {
        let (mut messages, if_edited) = match new.intake.clone() {
            Intake::Input(parts) => (vec![MessageIn { role: Role::User, parts }], None),
            Intake::Messages(messages) => (messages, None),
            Intake::History { messages, if_edited } => (messages, Some(if_edited)),
        };
        check_last_is_user(&messages)?;
        if let Some(if_edited) = if_edited {
            let state = self.state()?;
            match align(state, &sent(&messages)) {
                Aligned::New { from } => drop(messages.drain(..from)),
                Aligned::Answered { turn: held } => return self.answered(held, turn, along).await,
                Aligned::Kept => return Err(Refusal::invalid("messages", "bring nothing new and no turn answers the last one").into()),
                Aligned::Diverged { at, held, cut } => match if_edited {
                    IfEdited::Refuse => return Err(Refusal::HistoryDiverged { at, held }.into()),
                    IfEdited::Fork => {
                        let from = kept_before(&messages, at);
                        let rest = messages.split_off(from);
                        return self.submit_to_fork(new, rest, turn, cut, along).await;
                    }
                },
            }
        }
        let command = self.submit_command(new, messages, turn, &mut along.blobs)?;
        self.carry_out(vec![command], along, turn_reply(turn)).await
    }

    /// The last message is the turn's request; those before it are recorded.
    fn submit_command(
        &self,
        new: NewTurn,
        mut messages: Vec<MessageIn>,
        turn: TurnId,
        blobs: &mut Vec<(BlobRef, Bytes)>,
    ) -> Result<Command, Refusal> {
        let Some(last) = messages.pop() else { return Err(Refusal::invalid("messages", "must not be empty")) };
        Ok(Command::SubmitTurn(SubmitTurn {
            turn,
            earlier: self.new_messages(messages, blobs),
            message: self.message_id(),
            parts: new_parts(last.parts, blobs),
            agent: new.agent,
            model: new.model,
            agent_session: new.agent_session,
            if_busy: new.if_busy,
            known: self.inner.agents.known(),
        }))
    }

    /// Everything that was sent is kept: the stored answer again. A turn that did not complete is tried again.
    async fn answered(&mut self, held: TurnId, by: TurnId, along: Along) -> Result<Reply, Failure> {
        let state = self.state()?;
        let entry = state.turn(held).ok_or(Refusal::TurnNotFound)?;
        let settled = entry.turn.state == everkept_core::TurnState::Completed || entry.turn.state.is_open();
        if settled {
            return self.carry_out(Vec::new(), along, turn_reply(held)).await;
        }
        let again = AgainTurn { turn: held, by, agent: None, model: None, known: self.inner.agents.known() };
        self.carry_out(vec![Command::RetryTurn(again)], along, latest_reply(held, by)).await
    }

    /// An earlier message was edited: the conversation goes on in a fork, which takes the session's name over. Fork and
    /// turn are one step: sent again, neither is made twice.
    async fn submit_to_fork(
        &mut self,
        new: NewTurn,
        messages: Vec<MessageIn>,
        turn: TurnId,
        cut: u64,
        mut along: Along,
    ) -> Result<Reply, Failure> {
        let thread = self.state()?.session.thread.clone();
        let fork = NewFork { at: (cut > 0).then_some(Cut::Seq(cut)), thread, ..NewFork::default() };
        let (mut forked, mut child) = self.forked(fork, Some(cut)).await?;
        let command = self.submit_command(new, messages, turn, &mut along.blobs)?;
        let events = decide(&child, command, self.inner.wall())?;
        events.iter().for_each(|event| child.apply(event));
        forked.child_events.extend(events);
        let reply = self.commit_fork(forked, &child, along, find_turn(&child, turn)).await?;
        self.pass(Failpoint::WakeFork).await;
        self.inner.mailbox(child.session.id);
        Ok(reply)
    }

    async fn record(&mut self, mut messages: Vec<MessageIn>, history: bool, mut along: Along) -> Result<Reply, Failure> {
        if messages.is_empty() {
            return Err(Refusal::invalid("messages", "must not be empty").into());
        }
        if history {
            match align(self.state()?, &sent(&messages)) {
                Aligned::New { from } => drop(messages.drain(..from)),
                Aligned::Answered { .. } | Aligned::Kept => messages.clear(),
                Aligned::Diverged { at, held, .. } => return Err(Refusal::HistoryDiverged { at, held }.into()),
            }
        }
        let messages = self.new_messages(messages, &mut along.blobs);
        let session = self.id;
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let reply = |state: &State, _: &[Event]| Reply::Recorded { session, messages: ids, seq: state.head };
        self.carry_out(vec![Command::RecordMessages { messages }], along, reply).await
    }

    /// `took` is given when the fork takes the parent's thread over and goes on at once; a cut of 0 then begins with
    /// nothing of it. The child is as the fork leaves it.
    async fn forked(&self, new: NewFork, took: Option<u64>) -> Result<(Forked, State), Failure> {
        let now = self.inner.wall();
        let state = self.state()?;
        let at = match took {
            Some(0) => Some(Cut::Seq(first_cut(state))),
            Some(_) | None => new.at,
        };
        let command = Fork {
            child: SessionId(self.inner.runtime.ids.uuid()),
            at,
            title: new.title,
            thread: new.thread,
            take_thread: took.is_some(),
            agent: new.agent,
            directory: check_directory(new.directory)?,
            known: self.inner.agents.known(),
        };
        let forked = fork(state, command, now)?;
        let mut child = match child_shell(state, forked.cut).filter(|_| took.is_none()) {
            Some(shell) => shell,
            None => replay(&self.inner, self.id, forked.cut).await?,
        };
        forked.child_events.iter().for_each(|event| child.apply(event));
        Ok((forked, child))
    }

    async fn fork(&mut self, new: NewFork, along: Along) -> Result<Reply, Failure> {
        let (forked, child) = self.forked(new, None).await?;
        let reply = Reply::Session(child.session.clone());
        self.commit_fork(forked, &child, along, reply).await
    }

    async fn commit_fork(&mut self, forked: Forked, child: &State, along: Along, reply: Reply) -> Result<Reply, Failure> {
        let rows = records(child, &forked.child_events);
        let write = LogWrite {
            session: child.session.id,
            expected_head: forked.cut,
            fence: 0,
            fork_of: Some((self.id, forked.cut)),
            events: forked.child_events,
            records: rows,
        };
        let releases = forked.parent_events.iter().any(|event| matches!(event.body, Body::SessionUpdated(_)));
        let commands = if releases { vec![Command::ReleaseThread] } else { Vec::new() };
        self.carry_out(commands, Along { fork: Some(write), ..along }, move |_, _| reply).await
    }

    fn message_id(&self) -> MessageId {
        MessageId(self.inner.runtime.ids.uuid())
    }

    fn new_messages(&self, messages: Vec<MessageIn>, blobs: &mut Vec<(BlobRef, Bytes)>) -> Vec<NewMessage> {
        let message = |message: MessageIn| NewMessage { id: self.message_id(), role: message.role, parts: new_parts(message.parts, blobs) };
        messages.into_iter().map(message).collect()
    }
}

/// The first place at which anything can be forked: right after the session was made.
fn first_cut(state: &State) -> u64 {
    state.head.min(1)
}

fn new_parts(parts: Vec<PartIn>, blobs: &mut Vec<(BlobRef, Bytes)>) -> Vec<NewPart> {
    let part = |part| match part {
        PartIn::Text(text) => NewPart::Text(text),
        PartIn::File { name, media_type, bytes } => NewPart::File { name, media_type, blob: keep_blob(&bytes, blobs) },
    };
    parts.into_iter().map(part).collect()
}

fn sent(messages: &[MessageIn]) -> Vec<SentMessage> {
    let text = |part: &PartIn| match part {
        PartIn::Text(text) => text.clone(),
        PartIn::File { .. } => String::new(),
    };
    let one =
        |message: &MessageIn| SentMessage { role: message.role, digest: digest_of(message.parts.iter().map(text).collect::<String>()) };
    messages.iter().map(one).collect()
}

/// System messages stand before the message they belong to.
fn kept_before(messages: &[MessageIn], at: usize) -> usize {
    (0..at).rev().take_while(|n| messages[*n].role == Role::System).last().unwrap_or(at)
}

fn check_last_is_user(messages: &[MessageIn]) -> Result<(), Refusal> {
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(()),
        Some(_) => Err(Refusal::invalid("messages", "must end with a user message")),
        None => Err(Refusal::invalid("messages", "must not be empty")),
    }
}

fn find_turn(state: &State, turn: TurnId) -> Reply {
    match state.turn(turn) {
        Some(entry) => Reply::Turn(entry.turn.clone()),
        None => unreachable!("a turn that was just decided on is there"),
    }
}

fn turn_reply(turn: TurnId) -> impl FnOnce(&State, &[Event]) -> Reply {
    move |state, _| find_turn(state, turn)
}

/// The new attempt, or the one that made it unneeded.
fn latest_reply(turn: TurnId, by: TurnId) -> impl FnOnce(&State, &[Event]) -> Reply {
    move |state, _| match state.turn(by).or_else(|| state.latest_attempt(turn)) {
        Some(entry) => Reply::Turn(entry.turn.clone()),
        None => find_turn(state, turn),
    }
}

fn continued_reply(turn: TurnId, by: TurnId) -> impl FnOnce(&State, &[Event]) -> Reply {
    move |state, _| {
        let going_on = |turn_: &&Turn| turn_.continues == Some(turn) && turn_.state.is_open();
        let open = state.turns.iter().rev().map(|entry| &entry.turn).find(going_on);
        match state.turn(by).map(|entry| &entry.turn).or(open) {
            Some(turn) => Reply::Turn(turn.clone()),
            None => find_turn(state, turn),
        }
    }
}

fn question_reply(question: QuestionId) -> impl FnOnce(&State, &[Event]) -> Reply {
    move |state, _| match state.question(question) {
        Some(question) => Reply::Question(question.clone()),
        None => unreachable!("a question that was just answered is there"),
    }
}
