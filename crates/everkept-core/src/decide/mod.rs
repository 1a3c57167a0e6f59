//! Says what a command leads to, or why not. Reads the state and changes nothing.
//!
//! Never: a number, an id or a time of its own making.

mod answer;
mod fail;
mod hear;
mod keep;
mod letter;
mod lifecycle;
mod limits;
mod turn;

pub(crate) use limits::{check_directory, check_title};

use crate::{Body, Command, Event, Refusal, State, Timestamp, TurnId};

/// The events `command` leads to at `now`; none when it is already so.
pub fn decide(state: &State, command: Command, now: Timestamp) -> Result<Vec<Event>, Refusal> {
    let log = Log { state, now, context: state.session.context, events: Vec::new() };
    match command {
        Command::CreateSession(command) => lifecycle::create(log, command),
        Command::UpdateSession(command) => lifecycle::update(log, command),
        Command::ReleaseThread => lifecycle::release_thread(log),
        Command::DeleteSession { keep_ms } => lifecycle::delete(log, keep_ms),
        Command::RestoreSession => lifecycle::restore(log),
        Command::ClearContext => lifecycle::clear(log),
        Command::Revert { turn } => lifecycle::revert(log, turn),
        Command::Unrevert => lifecycle::unrevert(log),
        Command::RemoveRule { rule } => lifecycle::remove_rule(log, rule),
        Command::SubmitTurn(command) => turn::submit(log, command),
        Command::RecordMessages { messages } => turn::record(log, messages),
        Command::EditTurn(command) => turn::edit(log, command),
        Command::DropTurn { turn } => turn::drop_queued(log, turn),
        Command::CancelTurn { turn } => turn::cancel(log, turn),
        Command::RetryTurn(command) => turn::retry(log, command),
        Command::RetryLetter { again, request } => letter::retry(log, again, request),
        Command::DismissLetter { turn } => letter::dismiss(log, turn),
        Command::RedoTurn(command) => turn::redo(log, command),
        Command::ContinueTurn(command) => turn::go_on(log, command),
        Command::AnswerQuestion(command) => answer::answer(log, command),
        Command::ExpireQuestion { question, because } => answer::expire(log, question, because),
        Command::BeginTurn(command) => turn::begin(log, command),
        Command::KeepAgentSession(command) => keep::keep(log, command),
        Command::PutBackAgentSession(command) => keep::put_back(log, command),
        Command::HearAgent { turn, said } => hear::hear(log, turn, said),
        Command::EndTurn(command) => turn::end(log, command),
        Command::FailTurn(command) => fail::fail(log, command),
        Command::SettleTurn { reason, message, question, expires_at } => turn::settle(log, reason, message, question, expires_at),
    }
}

/// The events decided so far, over the state they were decided on.
struct Log<'a> {
    state: &'a State,
    now: Timestamp,
    context: u32,
    events: Vec<Event>,
}

impl Log<'_> {
    fn add(&mut self, turn: Option<TurnId>, body: impl Into<Body>) {
        let event = Event { session: self.state.session.id, turn, context: self.context, at: self.now, body: body.into() };
        self.events.push(event);
    }

    fn done(self) -> Result<Vec<Event>, Refusal> {
        Ok(self.events)
    }

    /// Refuses a session that was never made or is in the trash: for everyone it is not there.
    fn alive(&self) -> Result<(), Refusal> {
        self.made()?;
        match self.state.session.deleted_at {
            Some(_) => Err(Refusal::SessionNotFound),
            None => Ok(()),
        }
    }

    fn made(&self) -> Result<(), Refusal> {
        if self.state.head == 0 { Err(Refusal::SessionNotFound) } else { Ok(()) }
    }
}
