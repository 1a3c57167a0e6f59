//! What a session does to the outside: opens its agent, hands over prompts, tells it to stop.
//!
//! Never hands over a prompt whose claim is not durable, and never the same one twice.

use super::{Actor, Heard, Mail, Opening, Outcome, commit::Along, heard::label};
use crate::Failure;
use crate::agent_host::{self, Host, Plan};
use crate::failpoint::{Failpoint, Injected, no_space};
use crate::orders::Reply;
use everkept_agent::{AgentFault, AgentFaultKind, Connection, Hold, OpenSession, Order as AgentOrder, Prompt, PromptPart};
use everkept_core::{
    AgentSessionBecause, BeginTurn, BlobRef, Command, Effect, EndTurn, FailTurn, MessageId, MessageRecord, Part, PutBackAgentSession,
    QuestionId, REASON_BREAKER_OPEN, REASON_CANCELLED, REASON_START_FAILED, Refusal, State, TurnEnd, TurnError, TurnFailure, TurnId,
};
use everkept_store::{EventsQuery, Problem, StoreFault};
use futures::{FutureExt, future::abortable};
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::sync::mpsc;

/// How long an agent has to take a model; a cancel waits no longer than this.
const SET_MODEL: Duration = Duration::from_secs(5);
/// Why a turn ended of which something that was kept cannot be read.
const CORRUPT: &str = "corrupt";
/// What a continuing turn says to the agent.
const CONTINUE: &str = "Continue from where you left off.";

impl Actor {
    pub(super) async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::RunTurn { turn } => self.run_turn(turn).await,
            // Claimed by a run of ours that still hears the agent, or gone on with or settled when the session was opened.
            Effect::AwaitTurn { .. } => {}
            Effect::CancelTurn { turn } => self.cancel_turn(turn).await,
            Effect::AnswerQuestion { question } => self.answer_agent(question).await,
            Effect::CloseAgent => {
                if self.is_idle() {
                    self.end_agent().await;
                }
            }
        }
    }

    /// Goes on with the next turn, for when something had been in its way.
    pub(super) async fn go_on(&mut self) {
        if let Err(failure) = self.load().await {
            tracing::warn!(session = %self.id, %failure, "the session cannot be read");
            return;
        }
        let Some(state) = &self.state else { return };
        for effect in everkept_core::owed(state) {
            if matches!(effect, Effect::RunTurn { .. }) {
                self.perform(effect).await;
            }
        }
    }

    async fn run_turn(&mut self, turn: TurnId) {
        if self.stopping || self.inner.is_stopping() {
            return;
        }
        if self.opening.as_ref().is_some_and(|opening| opening.turn == turn) {
            return;
        }
        if self.is_put_off(turn) {
            return;
        }
        if let Some(left) = self.is_barred(turn) {
            let error = TurnError {
                code: REASON_BREAKER_OPEN.into(),
                message: "its agent and model failed too often to be tried now".into(),
                may_have_happened: false,
            };
            let failure = TurnFailure::Opening { error, again: true, not_before: Some(self.inner.wall().plus(left)) };
            self.heard.end = Some(self.failed(turn, failure));
            self.flush().await;
            return;
        }
        let plan = match self.plan(turn).await {
            Ok(plan) => plan,
            Err(failure) => {
                self.not_begun(turn, failure).await;
                return;
            }
        };
        let Some(plan) = plan else { return };
        // What is being opened for a turn that was cancelled meanwhile: an agent session that is begun is not left lying there.
        if let Some(opening) = self.opening.as_mut().filter(|opening| opening.plan.serves(&plan)) {
            opening.turn = turn;
            return;
        }
        if let Some(opening) = self.opening.take() {
            opening.abort.abort();
        }
        if let Some(host) = self.host.as_mut().filter(|host| fits(host, &plan)) {
            // An agent that cannot resume goes on with what it made, which is nothing new any more.
            if let (OpenSession::Resume(_), false) = (&plan.open, host.because == AgentSessionBecause::Preserved) {
                host.because = plan.because;
            }
            self.begin(turn).await;
            return;
        }
        self.host = None;
        let broken = agent_host::broken(&plan);
        let (open, abort) = abortable(AssertUnwindSafe(agent_host::open(self.inner.clone(), plan.clone())).catch_unwind());
        self.opening = Some(Opening { turn, plan, abort });
        let Some(myself) = self.myself.upgrade() else { return };
        self.inner.runtime.spawner.spawn(Box::pin(async move {
            if let Ok(opened) = open.await {
                // Without a word of it the turn would wait for ever.
                let (put_back, result) = opened.unwrap_or((None, Err(broken)));
                // A session that has gone away drops the agent with the letter.
                let _ = myself.send(Mail::Opened { planned: turn, result: Box::new(result), put_back }).await;
            }
        }));
    }

    /// How long the breaker of the turn's agent and model does not let it through.
    fn is_barred(&mut self, turn: TurnId) -> Option<Duration> {
        let entry = self.state.as_ref()?.turn(turn)?;
        let freed = self.inner.breakers.watch();
        let left = self.inner.breakers.bars(&entry.turn.agent, entry.turn.model.as_ref(), turn)?;
        self.freed = Some(freed);
        Some(left)
    }

    /// Which agent session the turn runs on, and how it is opened.
    async fn plan(&self, turn: TurnId) -> Result<Option<Plan>, Failure> {
        if self.reach(Failpoint::RunTurn).await.is_err() {
            return Err(no_space("planning a turn").into());
        }
        let state = self.state()?;
        let Some(entry) = state.turn(turn) else { return Ok(None) };
        let agent = entry.turn.agent.clone();
        let abilities = self.inner.agents.get(&agent).map(|agent| agent.abilities());
        let can_resume = abilities.is_some_and(|abilities| abilities.resume);
        let can_fork = abilities.is_some_and(|abilities| abilities.fork);
        let stale = state.thread(&agent).is_some_and(|thread| thread.stale);
        let origin = state.origins.iter().find(|origin| origin.agent == agent);
        let (open, because) = match (&entry.turn.agent_session, state.agent_session(&agent)) {
            (Some(asked), _) => (OpenSession::Resume(asked.clone()), AgentSessionBecause::Request),
            (None, Some(_)) if stale => (OpenSession::New, AgentSessionBecause::Reverted),
            (None, Some(pinned)) if can_resume => (OpenSession::Resume(pinned.current.clone()), AgentSessionBecause::Inherited),
            (None, Some(_)) => (OpenSession::New, AgentSessionBecause::Detected),
            (None, None) => match origin {
                Some(origin) if can_fork && self.parent_stands_at_cut(state).await? => {
                    (OpenSession::Fork(origin.agent_session.clone()), AgentSessionBecause::Forked)
                }
                Some(_) | None => (OpenSession::New, AgentSessionBecause::Detected),
            },
        };
        let kept = match &open {
            OpenSession::Resume(id) | OpenSession::Fork(id) => state.kept(&agent, id).cloned(),
            OpenSession::New => None,
        };
        Ok(Some(Plan {
            session: self.id,
            turn,
            kept,
            agent,
            context: state.session.context,
            open,
            because,
            directory: state.session.directory.clone().into(),
            model: entry.turn.model.clone(),
        }))
    }

    /// An agent forks its session as it is now: only while the parent has not gone on is that what was forked here.
    async fn parent_stands_at_cut(&self, state: &State) -> Result<bool, Failure> {
        let Some(parent) = state.session.parent else { return Ok(false) };
        let query = EventsQuery {
            session: Some(parent.session),
            after: parent.seq,
            limit: 1,
            kinds: vec!["turn.started".into()],
            ..EventsQuery::default()
        };
        Ok(self.inner.check(self.inner.store.events(query).await)?.is_empty())
    }

    pub(super) async fn opened(&mut self, planned: TurnId, result: Result<Host, AgentFault>, put_back: Option<PutBackAgentSession>) {
        self.put_back = put_back.or(self.put_back.take());
        let Some(opening) = self.opening.take_if(|opening| opening.plan.turn == planned) else { return };
        let turn = opening.turn;
        match result {
            Ok(host) => {
                self.host = Some(host);
                self.begin(turn).await;
            }
            Err(fault) => {
                let code = match fault.kind {
                    AgentFaultKind::UnknownSession => "agent_session_unknown",
                    AgentFaultKind::CannotStart
                    | AgentFaultKind::Exited
                    | AgentFaultKind::Protocol
                    | AgentFaultKind::Refused
                    | AgentFaultKind::TimedOut => REASON_START_FAILED,
                };
                self.note_put_back_in_vain().await;
                let error = TurnError { code: code.into(), message: label(&fault.to_string()), may_have_happened: false };
                let failure = TurnFailure::Opening { error, again: fault.retryable, not_before: None };
                self.heard = Heard { end: Some(self.failed(turn, failure)), ..Heard::default() };
                self.flush().await;
            }
        }
    }

    /// Claims the turn and hands its prompt over.
    async fn begin(&mut self, turn: TurnId) {
        if let Err(failure) = self.claim(turn).await {
            self.not_begun(turn, failure).await;
        }
    }

    async fn not_begun(&mut self, turn: TurnId, failure: Failure) {
        match failure {
            // It was cancelled or dropped in the meantime; the next one has been asked for by that.
            Failure::Refused(_) => self.go_on_later(),
            // What cannot be read now cannot be read later; the conversation goes on without it.
            Failure::Store(StoreFault { problem: Problem::Corrupt { .. }, .. }) if self.state.is_some() => {
                tracing::warn!(session = %self.id, %turn, %failure, "the turn cannot be given to its agent");
                let error = TurnError { code: CORRUPT.into(), message: label(&failure.to_string()), may_have_happened: false };
                let end = EndTurn { turn, end: TurnEnd::Failed, reason: CORRUPT.into(), error: Some(error) };
                self.heard = Heard { end: Some(Outcome::Turn(end)), ..Heard::default() };
                self.flush().await;
            }
            failure => {
                tracing::warn!(session = %self.id, %turn, %failure, "the turn could not be begun yet");
                self.go_on_later();
            }
        }
    }

    pub(super) fn go_on_later(&mut self) {
        self.timers.retry_at = Some(self.now() + Duration::from_millis(500));
    }

    async fn claim(&mut self, turn: TurnId) -> Result<(), Failure> {
        self.load().await?;
        self.note_put_back().await?;
        let state = self.state()?;
        let entry = state.turn(turn).ok_or(Refusal::TurnNotFound)?.clone();
        let fresh = self.host.as_ref().is_some_and(|host| host.fresh);
        let given = state.unseen(turn, fresh);
        let history = self.messages(&given.messages).await?;
        let parts = self.prompt_parts(&entry).await?;
        let model_set = self.set_model(&entry).await;
        let Some(host) = &mut self.host else { return Err(Refusal::TurnNotQueued(turn).into()) };
        let command = BeginTurn { turn, agent_session: host.agent_session.clone(), because: host.because, given, model_set };
        let raw = self.heard.take_raw(self.id, turn);
        let between = raw.as_ref().map(|raw| raw.bytes.clone());
        let kept = between.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let along = Along { raw, ..Along::default() };
        let claimed = self.carry_out(vec![Command::BeginTurn(command)], along, |_, _| Reply::Done).await;
        if let (Err(_), Some(bytes)) = (&claimed, between) {
            self.heard.raw = bytes.into();
        }
        claimed?;
        let Some(host) = &mut self.host else { return Ok(()) };
        host.fresh = false;
        host.because = AgentSessionBecause::Inherited;
        let taken = host.taken;
        // A connection that is closed shows so by the prompt.
        _ = host.connection.orders.send(AgentOrder::Hold(Hold::Turn { kept, taken })).await;
        self.tell(Failpoint::Prompt, AgentOrder::Prompt(Prompt { turn, parts, history })).await;
        self.pass(Failpoint::Prompted).await;
        Ok(())
    }

    /// Gives the agent an order. A closed channel shows as the end of its output, which settles the turn.
    pub(super) async fn tell(&mut self, place: Failpoint, order: AgentOrder) {
        let reached = self.reach(place).await;
        let Some(host) = &mut self.host else { return };
        match reached {
            Ok(()) => _ = host.connection.orders.send(order).await,
            Err(Injected) => host.connection = closed(),
        }
    }

    /// Lets the agent go, with all it started.
    pub(super) async fn end_agent(&mut self) {
        if self.host.is_some() {
            self.pass(Failpoint::EndAgent).await;
            self.host = None;
        }
    }

    async fn set_model(&mut self, entry: &everkept_core::TurnEntry) -> Option<bool> {
        let wanted = entry.turn.model.clone()?;
        let host = self.host.as_mut()?;
        if host.model.as_ref() == Some(&wanted) {
            return Some(true);
        }
        if !host.abilities.set_model {
            return Some(false);
        }
        if host.model_set == Some(false) && host.model.is_none() {
            return host.model_set.take();
        }
        let (done, answer) = tokio::sync::oneshot::channel();
        let order = AgentOrder::SetModel { model: wanted.clone(), done };
        let orders = host.connection.orders.clone();
        if self.reach(Failpoint::SetModel).await.is_err() || orders.send(order).await.is_err() {
            return Some(false);
        }
        let set = self.within(SET_MODEL, answer).await.is_some_and(|answer| answer.unwrap_or(false));
        if let Some(host) = self.host.as_mut().filter(|_| set) {
            host.model = Some(wanted);
        }
        Some(set)
    }

    async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let late = self.inner.runtime.clock.sleep(limit);
        tokio::select! {
            biased;
            value = future => Some(value),
            () = late => None,
        }
    }

    async fn messages(&self, ids: &[MessageId]) -> Result<Vec<everkept_core::Message>, Failure> {
        let state = self.state()?;
        let rows: Vec<MessageRecord> = ids.iter().filter_map(|id| state.message(*id)).map(MessageRecord::from).collect();
        self.inner.fold_messages(self.id, &rows, None).await
    }

    async fn prompt_parts(&self, entry: &everkept_core::TurnEntry) -> Result<Vec<PromptPart>, Failure> {
        // What stands in for another turn asks what that one asked.
        let asked = self.state()?.asked_for(entry.turn.id).unwrap_or(entry);
        if asked.turn.continues.is_some() {
            return Ok(vec![PromptPart::Text(CONTINUE.into())]);
        }
        let request: Vec<MessageId> = entry.turn.request_message.into_iter().collect();
        let mut parts = Vec::new();
        for part in self.messages(&request).await?.into_iter().flat_map(|message| message.parts) {
            match part {
                Part::Text { text, .. } => parts.push(PromptPart::Text(text)),
                Part::File(file) => {
                    let blob = self.inner.check(self.inner.store.blob(file.blob.id).await)?;
                    let bytes = blob.ok_or_else(|| self.missing_blob(entry, file.blob))?;
                    parts.push(PromptPart::File { name: file.name, media_type: file.media_type, bytes });
                }
                Part::Reasoning { .. } | Part::Tool(_) => {}
            }
        }
        Ok(parts)
    }

    fn missing_blob(&self, entry: &everkept_core::TurnEntry, blob: BlobRef) -> Failure {
        Failure::Store(StoreFault {
            problem: Problem::Corrupt { session: self.id, seq: entry.queued_seq },
            doing: format!("reading blob {} of a prompt", blob.id),
            may_have_happened: false,
        })
    }

    async fn cancel_turn(&mut self, turn: TurnId) {
        let running = self.state.as_ref().is_some_and(|state| state.running == Some(turn));
        if !running {
            return;
        }
        let reached = self.reach(Failpoint::Cancel).await.is_ok();
        let can_cancel = reached && self.host.as_ref().is_some_and(|host| host.abilities.cancel);
        let told = match &self.host {
            Some(host) if can_cancel => host.connection.orders.try_send(AgentOrder::Cancel).is_ok(),
            Some(_) | None => false,
        };
        if told {
            self.timers.cancel_at = Some(self.now() + self.inner.settings.cancel);
            self.pass(Failpoint::CancelTold).await;
        } else {
            self.give_up_cancelled().await;
        }
    }

    /// The agent did not stop by itself in time.
    pub(super) async fn give_up_cancelled(&mut self) {
        self.timers.cancel_at = None;
        let Some(turn) = self.state.as_ref().and_then(|state| state.running) else { return };
        self.end_agent().await;
        let end = EndTurn { turn, end: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None };
        self.heard.end = Some(Outcome::Turn(end));
        self.flush().await;
    }

    /// A turn that came to nothing, with what its agent's configuration says of that.
    pub(super) fn failed(&self, turn: TurnId, failure: TurnFailure) -> Outcome {
        let by = TurnId(self.inner.runtime.ids.uuid());
        Outcome::Failed(Box::new(FailTurn { turn, failure, by, known: self.inner.agents.known() }))
    }

    pub(super) async fn answer_agent(&mut self, question: QuestionId) {
        let Some(held) = self.state.as_ref().and_then(|state| state.question(question)) else { return };
        let Some(request) = held.request.clone() else { return };
        let option = held.told().map(str::to_owned);
        let running = self.state.as_ref().and_then(|state| state.running) == Some(held.turn);
        if running {
            self.tell(Failpoint::AnswerAgent, AgentOrder::Answer { request, option }).await;
        }
    }

    /// Settles a claimed turn that nothing runs.
    pub(super) async fn settle(&mut self, reason: &'static str, message: &str) -> Result<(), Failure> {
        if self.state.as_ref().is_some_and(|state| state.running.is_some()) {
            let command = self.settle_command(reason, message.into());
            self.run(vec![command]).await?;
        }
        Ok(())
    }

    pub(super) fn settle_command(&self, reason: &'static str, message: String) -> Command {
        let question = QuestionId(self.inner.runtime.ids.uuid());
        let expires_at = Some(self.inner.wall().plus(self.inner.settings.question));
        Command::SettleTurn { reason, message, question, expires_at }
    }
}

/// A connection whose other end is gone.
fn closed() -> Connection {
    Connection { orders: mpsc::channel(1).0, output: mpsc::channel(1).1 }
}

/// Whether an open agent serves the plan as it is.
fn fits(host: &Host, plan: &Plan) -> bool {
    let same_session = match (&plan.open, plan.because) {
        (OpenSession::Resume(id), _) => *id == host.agent_session,
        // An agent that cannot resume goes on in the process that holds its session.
        (OpenSession::New, AgentSessionBecause::Detected) if !host.abilities.resume => true,
        // One that was opened for this, and no turn began with it: then it still says why it was.
        (OpenSession::New | OpenSession::Fork(_), because) => host.because == because && (plan.model.is_some() || host.model.is_none()),
    };
    same_session && host.agent == plan.agent && host.context == plan.context && !host.connection.orders.is_closed()
}
