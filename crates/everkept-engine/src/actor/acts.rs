//! What a session does to the outside: opens its agent, hands over prompts, tells it to stop, hears it out.
//!
//! Never hands over a prompt whose claim is not durable, and never the same one twice.

use super::{Actor, Heard, Mail, Opening, Outcome, commit::Along};
use crate::Failure;
use crate::agent_host::{self, Host, Plan};
use crate::failpoint::{Failpoint, Injected, no_space};
use crate::orders::Reply;
use bytes::Bytes;
use everkept_agent::{AgentFault, AgentFaultKind, Connection, Done, Hold, OpenSession, Order as AgentOrder, Output, Prompt, PromptPart};
use everkept_core::{
    AgentRaw, AgentSessionBecause, BeginTurn, BlobRef, Command, Effect, EndTurn, FailTurn, FailedEnd, MessageId, MessageRecord, Part,
    Payload, QuestionId, QuestionState, REASON_AGENT_ERROR, REASON_AGENT_EXITED, REASON_BREAKER_OPEN, REASON_CANCELLED,
    REASON_START_FAILED, Refusal, Said, State, TurnEnd, TurnError, TurnFailure, TurnId, Usage, digest_of,
};
use everkept_store::{EventsQuery, Problem, Raw, StoreFault};
use futures::future::abortable;
use std::time::Duration;
use tokio::sync::mpsc;

/// A tool's data beyond this many bytes is kept as a blob beside the event.
const MAX_INLINE: usize = 16 * 1024;
/// The most of an agent's words for a title, a name or an error that are shown; all of them are in the raw bytes.
const MAX_LABEL: usize = 1_000;
/// The most models that one turn's figures are told apart by.
const MAX_MODELS: usize = 64;
/// Bytes heard that force a commit before the time is up.
const MAX_HEARD: usize = 256 * 1024;
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
        if let Some(opening) = &self.opening {
            if opening.turn == turn {
                return;
            }
            opening.abort.abort();
            self.opening = None;
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
        if self.host.as_ref().is_some_and(|host| fits(host, &plan)) {
            self.begin(turn).await;
            return;
        }
        self.host = None;
        let (open, abort) = abortable(agent_host::open(self.inner.clone(), plan));
        self.opening = Some(Opening { turn, abort });
        let Some(myself) = self.myself.upgrade() else { return };
        self.inner.runtime.spawner.spawn(Box::pin(async move {
            if let Ok(result) = open.await {
                // A session that has gone away drops the agent with the letter.
                let _ = myself.send(Mail::Opened { turn, result: Box::new(result) }).await;
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
        Ok(Some(Plan {
            session: self.id,
            turn,
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

    pub(super) async fn opened(&mut self, turn: TurnId, result: Result<Host, AgentFault>) {
        if self.opening.as_ref().is_none_or(|opening| opening.turn != turn) {
            return;
        }
        self.opening = None;
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
        let state = self.state()?;
        let entry = state.turn(turn).ok_or(Refusal::TurnNotFound)?.clone();
        let fresh = self.host.as_ref().is_some_and(|host| host.fresh);
        let unseen = state.unseen(turn, fresh).messages;
        let history = self.messages(&unseen).await?;
        let parts = self.prompt_parts(&entry).await?;
        let model_set = self.set_model(&entry).await;
        let Some(host) = &mut self.host else { return Err(Refusal::TurnNotQueued(turn).into()) };
        let command = BeginTurn {
            turn,
            agent_session: host.agent_session.clone(),
            because: host.because,
            given_messages: history.len() as u64,
            model_set,
        };
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
    async fn tell(&mut self, place: Failpoint, order: AgentOrder) {
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
        let option = match held.state {
            QuestionState::Answered => held.answer.as_ref().map(|answer| answer.option.clone()),
            QuestionState::Open | QuestionState::Expired => None,
        };
        let running = self.state.as_ref().and_then(|state| state.running) == Some(held.turn);
        if running {
            self.tell(Failpoint::AnswerAgent, AgentOrder::Answer { request, option }).await;
        }
    }

    /// Whether the agent is held back because what it said could not be stored yet.
    pub(super) fn is_held_back(&self) -> bool {
        self.timers.retry_at.is_some() && !self.heard.is_empty()
    }

    pub(super) async fn hear(&mut self, output: Option<Output>) {
        let running = self.state.as_ref().and_then(|state| state.running);
        let now = self.now();
        self.timers.watch.heard(now);
        let mut next = output;
        let mut ended = next.is_none();
        while let Some(output) = next.take() {
            self.take_in(output, running);
            if self.heard.gone.is_some() {
                ended = true;
            }
            let full = self.heard.raw.len() > MAX_HEARD || self.heard.said.len() > 1_000;
            if ended || full || self.heard.end.is_some() {
                break;
            }
            next = self.host.as_mut().and_then(|host| host.connection.output.try_recv().ok());
        }
        if ended {
            self.host = None;
            self.opening = None;
            self.timers.watch.gone();
            if running.is_some() && self.heard.gone.is_none() && self.heard.end.is_none() {
                self.heard.gone = Some("the agent ended without saying how its turn ended".into());
            }
        }
        if running.is_none() {
            self.heard.keep_raw_only();
            return;
        }
        let texts = self.heard.said.iter().all(|said| matches!(said, Said::Text { .. } | Said::Reasoning { .. }));
        let urgent = !texts || self.heard.end.is_some() || self.heard.gone.is_some() || self.heard.raw.len() > MAX_HEARD;
        let due = self.timers.flushed_at.map(|at| at + self.inner.settings.coalesce);
        match due.filter(|due| !urgent && *due > self.now()) {
            Some(due) => self.timers.flush_at = Some(due),
            None => self.flush().await,
        }
    }

    pub(super) fn take_in(&mut self, output: Output, running: Option<TurnId>) {
        match output {
            Output::Said { raw, mut said } => {
                self.take_raw(&raw);
                if raw.is_empty() {
                    said.retain(|said| !self.was_asked(running, said));
                }
                let expires_at = self.inner.wall().plus(self.inner.settings.question);
                for said in said {
                    let said = self.fit(said, expires_at);
                    self.heard.said.push(said);
                }
            }
            Output::Done { raw, done } => {
                self.take_raw(&raw);
                let Some(turn) = running else { return };
                self.heard.end = Some(match done {
                    Done::Completed { reason } => {
                        Outcome::Turn(EndTurn { turn, end: TurnEnd::Completed, reason: label(&reason), error: None })
                    }
                    Done::Cancelled => {
                        Outcome::Turn(EndTurn { turn, end: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None })
                    }
                    Done::Failed { code, message } => {
                        let error = TurnError { code: label(&code), message: label(&message), may_have_happened: true };
                        self.failed(turn, TurnFailure::Prompt { end: FailedEnd::Failed, reason: REASON_AGENT_ERROR.into(), error })
                    }
                });
            }
            Output::Gone(fault) => self.heard.gone = Some(label(&fault.to_string())),
        }
    }

    fn take_raw(&mut self, raw: &[u8]) {
        self.heard.raw.extend_from_slice(raw);
        if let Some(host) = &mut self.host {
            host.taken += raw.len() as u64;
        }
    }

    /// What was kept is known by its bytes; a question that came without any is known by its name.
    fn was_asked(&self, turn: Option<TurnId>, said: &Said) -> bool {
        let (Said::Asked(asked), Some(state)) = (said, &self.state) else { return false };
        state.questions.iter().any(|held| Some(held.turn) == turn && held.request.as_ref() == Some(&asked.request))
    }

    /// Brings what an agent said to a size that fits an event; what is longer becomes a blob, and all of it is in the raw bytes.
    fn fit(&mut self, said: Said, expires_at: everkept_core::Timestamp) -> Said {
        let blobs = &mut self.heard.blobs;
        match said {
            Said::ToolStarted { call, name, title, status, input } => Said::ToolStarted {
                call: key(call),
                name: label(&name),
                title: title.map(|title| label(&title)),
                status,
                input: input.map(|input| fit_payload(input, blobs)),
            },
            Said::ToolUpdated { call, status, title, input, output } => Said::ToolUpdated {
                call: key(call),
                status,
                title: title.map(|title| label(&title)),
                input: input.map(|input| fit_payload(input, blobs)),
                output: output.map(|output| fit_payload(output, blobs)),
            },
            Said::Plan { entries } => Said::Plan { entries: fit_payload(entries, blobs) },
            Said::FileChanges(changes) if changes.get().len() > MAX_INLINE => Said::Raw(raw_blob(changes.get().as_bytes(), blobs)),
            Said::Asked(mut asked) => {
                asked.question = QuestionId(self.inner.runtime.ids.uuid());
                asked.expires_at = Some(expires_at);
                asked.title = label(&asked.title);
                asked.call = fit_payload(asked.call, blobs);
                asked.options.truncate(16);
                for option in &mut asked.options {
                    option.label = label(&option.label);
                }
                Said::Asked(asked)
            }
            Said::Raw(raw) => Said::Raw(match raw {
                AgentRaw::Json(json) if json.get().len() > MAX_INLINE => raw_blob(json.get().as_bytes(), blobs),
                AgentRaw::Text(text) if text.len() > MAX_INLINE => raw_blob(text.as_bytes(), blobs),
                AgentRaw::Json(_) | AgentRaw::Text(_) | AgentRaw::Blob(_) => raw,
            }),
            Said::Text { message, text } => Said::Text { message: message.map(key), text },
            Said::Reasoning { message, text } => Said::Reasoning { message: message.map(key), text },
            Said::Usage(usage) => Said::Usage(self.priced(usage)),
            Said::FileChanges(_) | Said::Compacting(_) | Said::AgentSession(_) | Said::Withdrew { .. } => said,
        }
    }

    /// Prices are ours to say; how many models there are, and what they are made of, is not for an agent to make large.
    fn priced(&self, mut usage: Usage) -> Usage {
        usage.request = usage.request.map(key);
        usage.models = usage.models.into_iter().take(MAX_MODELS).collect();
        for part in usage.models.values_mut() {
            *part = Usage::from_figures(part.figures());
        }
        usage.priced_on = None;
        let turn = self.state.as_ref().and_then(|state| state.turn(state.running?));
        usage.reckon(turn.and_then(|entry| entry.turn.model.as_ref()), &self.inner.settings.prices);
        usage
    }

    /// Commits what was heard. Without space it is kept, the agent is held back, and it is tried again.
    pub(super) async fn flush(&mut self) {
        self.timers.flush_at = None;
        if self.heard.is_empty() {
            return;
        }
        if let Err(failure) = self.load().await {
            tracing::warn!(session = %self.id, %failure, "what the agent said waits");
            self.go_on_later();
            return;
        }
        let running = self.state.as_ref().and_then(|state| state.running);
        let Some(turn) = running.or(self.heard.end.as_ref().map(Outcome::turn)) else {
            self.heard.keep_raw_only();
            return;
        };
        // Taken before the commit's effects run, for they may hear the agent of the next turn.
        let mut heard = std::mem::take(&mut self.heard);
        let ended = heard.end.is_some() || heard.gone.is_some();
        let mut committed = self.commit_heard(turn, &heard, running.is_some()).await;
        if let Err(Failure::Refused(refusal)) = &committed {
            // Something in it is more than an event can say. Its bytes are kept all the same, and the turn goes on or ends.
            tracing::warn!(session = %self.id, %turn, %refusal, "what the agent said is kept as raw bytes only");
            let asked = heard.said.drain(..).filter_map(|said| if let Said::Asked(asked) = said { Some(asked.request) } else { None });
            let asked: Vec<String> = asked.collect();
            heard.blobs.clear();
            committed = self.commit_heard(turn, &heard, running.is_some()).await;
            self.deny(asked).await;
        }
        match committed {
            Ok(()) if !ended => self.timers.flushed_at = Some(self.now()),
            Ok(()) => {}
            Err(Failure::Store(StoreFault { problem: Problem::Full, .. })) => {
                self.heard = heard;
                self.go_on_later();
            }
            Err(failure) => tracing::warn!(session = %self.id, %turn, %failure, "what the agent said is no longer wanted"),
        }
    }

    /// A question that nobody can be shown is answered no.
    async fn deny(&mut self, requests: Vec<String>) {
        for request in requests {
            self.tell(Failpoint::Deny, AgentOrder::Answer { request, option: None }).await;
        }
    }

    async fn commit_heard(&mut self, turn: TurnId, heard: &Heard, running: bool) -> Result<(), Failure> {
        let mut commands = Vec::new();
        if !heard.said.is_empty() && running {
            commands.push(Command::HearAgent { turn, said: heard.said.clone() });
        }
        if let Some(end) = &heard.end {
            commands.push(match end {
                Outcome::Turn(end) => Command::EndTurn(self.own_end(end.clone())),
                Outcome::Failed(fail) => Command::FailTurn(FailTurn::clone(fail)),
            });
        } else if let Some(message) = &heard.gone {
            commands.push(self.settle_command(REASON_AGENT_EXITED, message.clone()));
        }
        let raw = (!heard.raw.is_empty()).then(|| Raw { session: self.id, turn, bytes: Bytes::copy_from_slice(&heard.raw) });
        let along = Along { raw, blobs: heard.blobs.clone(), ..Along::default() };
        self.carry_out(commands, along, |_, _| Reply::Done).await.map(|_| ())
    }

    /// An agent that stopped on its own was not cancelled by anybody.
    fn own_end(&self, end: EndTurn) -> EndTurn {
        let cancelling = self.state.as_ref().and_then(|state| state.turn(end.turn)).is_some_and(|entry| entry.turn.cancelling);
        match end.end {
            TurnEnd::Cancelled if !cancelling => EndTurn { reason: "agent_cancelled".into(), ..end },
            TurnEnd::Completed
            | TurnEnd::Failed
            | TurnEnd::Cancelled
            | TurnEnd::TimedOut
            | TurnEnd::Interrupted
            | TurnEnd::DeadLettered => end,
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

    fn settle_command(&self, reason: &'static str, message: String) -> Command {
        let question = QuestionId(self.inner.runtime.ids.uuid());
        let expires_at = Some(self.inner.wall().plus(self.inner.settings.question));
        Command::SettleTurn { reason, message, question, expires_at }
    }
}

impl Heard {
    /// Bytes that came between turns are kept with the next one.
    fn take_raw(&mut self, session: everkept_core::SessionId, turn: TurnId) -> Option<Raw> {
        let bytes = std::mem::take(&mut self.raw).freeze();
        (!bytes.is_empty()).then_some(Raw { session, turn, bytes })
    }

    fn keep_raw_only(&mut self) {
        self.said.clear();
        self.blobs.clear();
        self.end = None;
        self.gone = None;
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
        (OpenSession::New, AgentSessionBecause::Detected) => !host.abilities.resume,
        (OpenSession::New | OpenSession::Fork(_), _) => false,
    };
    same_session && host.agent == plan.agent && host.context == plan.context && !host.connection.orders.is_closed()
}

fn fit_payload(payload: Payload, blobs: &mut Vec<(BlobRef, Bytes)>) -> Payload {
    match payload {
        Payload::Json(json) if json.get().len() > MAX_INLINE => Payload::Blob(keep_blob(json.get().as_bytes(), blobs)),
        Payload::Json(_) | Payload::Blob(_) => payload,
    }
}

fn raw_blob(bytes: &[u8], blobs: &mut Vec<(BlobRef, Bytes)>) -> AgentRaw {
    AgentRaw::Blob(keep_blob(bytes, blobs))
}

pub(super) fn keep_blob(bytes: &[u8], blobs: &mut Vec<(BlobRef, Bytes)>) -> BlobRef {
    let blob = BlobRef { id: digest_of(bytes), bytes: bytes.len() as u64 };
    blobs.push((blob, Bytes::copy_from_slice(bytes)));
    blob
}

/// A name of the agent's for something: kept as it is unless it is absurdly long.
fn key(name: String) -> String {
    if name.len() <= MAX_LABEL { name } else { digest_of(&name).to_string() }
}

/// An agent's words, cut to what an event has room for.
fn label(text: &str) -> String {
    if text.len() <= MAX_LABEL {
        return text.to_owned();
    }
    let end = (0..=MAX_LABEL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
