//! Decide, apply, commit, show, act: the only path by which a session changes.
//!
//! Never shows or acts before the commit returned, and never answers from a state whose commit failed.

use super::{Actor, is_due};
use crate::Failure;
use crate::failpoint::{Failpoint, Injected, no_space};
use crate::hub::{Frame, Hint};
use crate::inner::Seen;
use crate::orders::{Keyed, Reply};
use bytes::Bytes;
use everkept_agent::{Hold, Order as AgentOrder};
use everkept_core::{BlobRef, Body, Command, Effect, Event, QuestionState, State, Verdict, decide, effects, records};
use everkept_store::{Commit, CommitFault, KeptAnswer, LogWrite, Problem, Raw, StoreFault, StoredEvent};

/// What goes into the same transaction as the events.
#[derive(Default)]
pub(super) struct Along {
    pub blobs: Vec<(BlobRef, Bytes)>,
    pub raw: Option<Raw>,
    pub answer: Option<(Keyed, String)>,
    pub fork: Option<LogWrite>,
}

impl Actor {
    /// Carries out commands that nobody waits for.
    pub(super) async fn run(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        self.carry_out(commands, Along::default(), |_, _| Reply::Done).await.map(|_| ())
    }

    /// Decides the commands one after the other and commits what they lead to in one step.
    pub(super) async fn carry_out(
        &mut self,
        commands: Vec<Command>,
        along: Along,
        reply: impl FnOnce(&State, &[Event]) -> Reply,
    ) -> Result<Reply, Failure> {
        if !self.load().await? {
            self.state = Some(State::new(self.id));
        }
        let now = self.inner.wall();
        let mut state = self.state.take().expect("loaded or made just now");
        let expected_head = state.head;
        let mut events = Vec::new();
        for command in commands {
            match decide(&state, command, now) {
                Ok(decided) => {
                    decided.iter().for_each(|event| state.apply(event));
                    events.extend(decided);
                }
                Err(refusal) => {
                    // Nothing of what the earlier commands led to was kept: the log is as it was.
                    self.state = (events.is_empty() && expected_head > 0).then_some(state);
                    self.read_again().await;
                    return Err(refusal.into());
                }
            }
        }
        let reply = reply(&state, &events);
        if events.is_empty() && along.fork.is_none() && along.answer.is_none() && along.raw.is_none() {
            self.state = Some(state);
            return Ok(reply);
        }
        let rows = records(&state, &events);
        // A fork before its parent: what a step brings along belongs to the first session it writes.
        let mut writes = Vec::from_iter(along.fork);
        if !events.is_empty() {
            let fence = self.fence.unwrap_or(0);
            writes.push(LogWrite { session: self.id, expected_head, fence, fork_of: None, events: events.clone(), records: rows });
        }
        let answer = along.answer.map(|(keyed, principal)| {
            let (status, body) = (keyed.render)(&reply);
            KeptAnswer {
                principal,
                key: keyed.key,
                digest: keyed.digest,
                status,
                body: body.into(),
                // As long as its session: a life by the wall clock would end when the clock jumps (promise L3).
                expires_at: None,
                session: Some(self.id),
            }
        });
        let commit = Commit { writes, answer, blobs: along.blobs, raw: along.raw, wall: now };
        let committed = match self.commit(commit).await {
            Ok(committed) => committed,
            Err(fault) => return Err(self.not_committed(fault).await),
        };
        if !events.is_empty() {
            let stored = committed.last().expect("a step that has events was answered with them");
            assert_eq!(stored.last().map(|event| event.seq), Some(state.head), "the log numbers events as they are applied");
            self.show(&state, &events, stored);
        }
        self.state = Some(state);
        self.touch();
        self.pass(Failpoint::Shown).await;
        self.tell_breakers(&events).await;
        self.act_on(&events).await;
        Ok(reply)
    }

    async fn commit(&self, commit: Commit) -> Result<Vec<Vec<StoredEvent>>, CommitFault> {
        let committed = self.inner.store.commit(commit).await?;
        match self.reach(Failpoint::Committed).await {
            Ok(()) => Ok(committed),
            Err(Injected) => Err(unanswered().into()),
        }
    }

    /// The log did not take it: what was applied is forgotten and the log is read again.
    async fn not_committed(&mut self, fault: CommitFault) -> Failure {
        self.state = None;
        self.inner.note_seen(self.id, None);
        let failure = match fault {
            CommitFault::Conflict { session } => {
                self.fence = None;
                self.host = None;
                tracing::warn!(%session, "another writer took the session's log");
                Failure::Stopping
            }
            CommitFault::ThreadTaken(session) => Failure::ThreadTaken(session),
            CommitFault::KeyUsed(_) => Failure::KeyReused,
            CommitFault::Store(fault) => match self.inner.check::<()>(Err(fault)) {
                Err(failure) => failure,
                Ok(()) => unreachable!("a fault stays one"),
            },
        };
        self.read_again().await;
        failure
    }

    /// At once, and not when the next order comes: without a state the running turn is neither heard nor timed.
    async fn read_again(&mut self) {
        if self.state.is_some() || self.fence.is_none() {
            return;
        }
        if let Err(failure) = self.load().await {
            tracing::warn!(session = %self.id, %failure, "the session cannot be read again");
        }
    }

    fn show(&self, state: &State, events: &[Event], stored: &[StoredEvent]) {
        let seen = |event: &Event| matches!(event.body, Body::SessionCreated(_) | Body::SessionDeleted(_) | Body::SessionRestored(_));
        if events.iter().any(seen) {
            self.inner.note_seen(self.id, Some(Seen::of(&state.session)));
        }
        // Without readers there is nobody to show it to: they begin at the store.
        if self.hub.receiver_count() > 0 {
            let frames: Vec<Frame> = stored.iter().map(Frame::new).collect();
            let _ = self.hub.send(frames.into());
        }
        if events.iter().any(|event| !event.body.is_flow()) {
            let hint = Hint { session: self.id, resource: state.session.resource.clone(), seq: state.head, state: state.session.state };
            let _ = self.inner.feed.send(hint);
        }
        let text = |event: &Event| matches!(event.body, Body::MessageAdded(_) | Body::TurnEnded(_) | Body::SessionUpdated(_));
        if events.iter().any(text) {
            self.inner.committed.notify_one();
        }
    }

    /// Has the breakers count how tries went. What a crash or a full disk keeps from being kept is a failure less to them.
    async fn tell_breakers(&self, events: &[Event]) {
        for event in events {
            let Some(verdict) = Verdict::of(&event.body) else { continue };
            let Some(entry) = event.turn.and_then(|turn| self.state.as_ref()?.turn(turn)) else { continue };
            let turn = &entry.turn;
            let Some(breaker) = self.inner.breakers.note(&turn.agent, turn.model.as_ref(), turn.id, verdict) else { continue };
            let kept = match self.reach(Failpoint::KeepBreaker).await {
                Ok(()) => self.inner.store.put_breaker(breaker).await,
                Err(Injected) => Err(no_space("keeping a breaker")),
            };
            if let Err(failure) = self.inner.check(kept) {
                tracing::warn!(session = %self.id, agent = %turn.agent, %failure, "the breaker is kept with its next change");
            }
        }
    }

    async fn act_on(&mut self, events: &[Event]) {
        let mut due: Vec<Effect> = Vec::new();
        for event in events {
            self.keep_time(event);
            let Some(state) = &self.state else { return };
            for effect in effects(state, event) {
                let standing = match effect {
                    Effect::RunTurn { .. } | Effect::CancelTurn { .. } => is_due(state, effect),
                    Effect::AwaitTurn { .. } | Effect::AnswerQuestion { .. } | Effect::CloseAgent => true,
                };
                if standing && !due.contains(&effect) {
                    due.push(effect);
                }
            }
        }
        for effect in due {
            Box::pin(self.perform(effect)).await;
        }
    }

    fn keep_time(&mut self, event: &Event) {
        let now = self.now();
        self.keep_watch();
        self.timers.watch.note(event, now);
        match &event.body {
            Body::TurnStarted(_) => {
                self.timers.flushed_at = None;
            }
            Body::QuestionAsked(data) => {
                let open = |state: &State| state.question(data.question).is_some_and(|held| held.state == QuestionState::Open);
                if self.state.as_ref().is_some_and(open) {
                    self.timers.questions.insert(data.question, now + self.inner.settings.question);
                }
            }
            Body::QuestionAnswered(data) => {
                self.timers.questions.remove(&data.question);
            }
            Body::QuestionExpired(data) => {
                self.timers.questions.remove(&data.question);
            }
            Body::TurnEnded(_) => {
                self.timers.cancel_at = None;
                if let Some(host) = &mut self.host {
                    host.idle_since = now;
                    // An agent that is gone, or too busy to hear of it, is held a little longer than it must be.
                    _ = host.connection.orders.try_send(AgentOrder::Hold(Hold::Over));
                }
                self.pack(event);
                if let Some(turn) = event.turn {
                    self.copy(turn);
                }
            }
            _ => {}
        }
    }

    /// Packs the ended turn's deltas, away from the session's own work. What readers see stays the same.
    fn pack(&self, event: &Event) {
        let Some(turn) = event.turn else { return };
        let (inner, session) = (self.inner.clone(), self.id);
        self.inner.runtime.spawner.spawn(Box::pin(async move {
            let packed = match inner.runtime.reach(Failpoint::Pack, Some(session)).await {
                Ok(()) => inner.store.pack(session, turn).await,
                Err(Injected) => Err(no_space("packing a turn")),
            };
            if let Err(failure) = inner.check(packed) {
                tracing::warn!(%session, %turn, %failure, "the turn stays unpacked");
            }
        }));
    }
}

/// A store that wrote and could not say so.
fn unanswered() -> StoreFault {
    let problem = Problem::Failed("it ended before it answered".into());
    StoreFault { problem, doing: "committing".into(), may_have_happened: true }
}
