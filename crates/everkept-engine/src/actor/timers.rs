//! The session's alarm clock. It says when to look; what is then due, the state says.
//!
//! Never by wall time: a clock that jumps wakes nobody and lets nobody oversleep.

use super::{Actor, Outcome, QuestionAlarms, is_due};
use everkept_core::{
    Command, Effect, EndTurn, ExpiredBecause, FailedEnd, Finding, Overdue, QuestionState, REASON_AGENT_CHATTERING, REASON_AGENT_SILENT,
    REASON_SESSION_OVERDUE, REASON_TOOL_OVERDUE, REASON_TURN_OVERDUE, Timestamp, TurnEnd, TurnError, TurnFailure, TurnId, Watch,
};
use std::time::Duration;

/// When nothing is to be woken for, a look now and then costs nothing.
const FAR: Duration = Duration::from_secs(3_600);
/// The longest that anything is put off.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(super) struct Timers {
    /// When the last thing happened that a person or an agent caused.
    pub active_at: Duration,
    pub watch: Watch,
    /// When the last batch of the answer was committed.
    pub flushed_at: Option<Duration>,
    /// When what was heard is to be committed.
    pub flush_at: Option<Duration>,
    /// When an agent that was told to stop is ended.
    pub cancel_at: Option<Duration>,
    pub put_off: Option<PutOff>,
    /// When a write that found no space is tried again.
    pub retry_at: Option<Duration>,
    pub questions: QuestionAlarms,
}

/// A turn that is put off until a wall time.
pub(super) struct PutOff {
    turn: TurnId,
    until: Timestamp,
    /// When that is; none once it was.
    at: Option<Duration>,
}

impl Timers {
    pub fn is_idle_for(&self, now: Duration, idle: Duration) -> bool {
        now.saturating_sub(self.active_at) >= idle
    }
}

impl Actor {
    pub(super) fn now(&self) -> Duration {
        self.inner.runtime.clock.monotonic()
    }

    pub(super) fn touch(&mut self) {
        self.timers.active_at = self.now();
    }

    pub(super) fn until_alarm(&self) -> Duration {
        let settings = &self.inner.settings;
        let timers = &self.timers;
        let mut next = self.now() + FAR;
        let mut sooner = |at: Option<Duration>| next = next.min(at.unwrap_or(next));
        sooner(self.could_leave().then(|| timers.active_at + self.inner.idle_session()));
        sooner(timers.flush_at);
        sooner(timers.cancel_at);
        sooner(timers.retry_at);
        sooner(self.put_off_until());
        sooner(timers.questions.values().min().copied());
        sooner(self.watch_at(self.now()));
        sooner(self.host.as_ref().filter(|_| self.is_idle()).map(|host| host.idle_since + settings.idle_agent));
        // An alarm that is due but cannot be acted on yet must not spin.
        next.saturating_sub(self.now()).max(Duration::from_millis(1))
    }

    /// A breaker may let through what it held up.
    pub(super) async fn set_free(&mut self) {
        self.freed = None;
        if let Some(held) = &mut self.timers.put_off {
            held.at = None;
        }
        self.go_on().await;
    }

    /// When the turn that is next may begin, if it waits for that.
    fn put_off_until(&self) -> Option<Duration> {
        let held = self.timers.put_off.as_ref()?;
        let next = self.state.as_ref().is_some_and(|state| is_due(state, Effect::RunTurn { turn: held.turn }));
        held.at.filter(|_| next)
    }

    /// Brings the watch in line with what the state says runs: a turn that is taken over is watched from now on.
    pub(super) fn keep_watch(&mut self) {
        let now = self.now();
        let Some(state) = &self.state else { return };
        let waits = state.running.is_some_and(|turn| state.open_questions(turn).next().is_some());
        self.timers.watch.look(state.running, waits, state.current_turn().is_some(), now);
    }

    /// When the running turn is to be looked at. One whose end waits for space is over.
    fn watch_at(&self, now: Duration) -> Option<Duration> {
        if self.heard.end.is_some() || self.state.as_ref()?.running != self.timers.watch.turn() {
            return None;
        }
        match self.timers.watch.find(&self.inner.settings.limits, now)? {
            Finding::Well { until } => Some(until),
            // Its end comes from whoever answers, or has come with the agent's.
            Finding::WaitsForHuman | Finding::AgentGone => None,
            Finding::AgentSilent | Finding::AgentChattering | Finding::Overdue(_) => Some(now),
        }
    }

    /// Acts on every alarm that is due.
    pub(super) async fn ring(&mut self) {
        let now = self.now();
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(self.timers.retry_at) {
            self.timers.retry_at = None;
            if !self.woken {
                self.wake().await;
            }
            self.flush().await;
            self.go_on().await;
        } else if due(self.timers.flush_at) {
            self.flush().await;
        }
        if due(self.put_off_until()) {
            self.go_on().await;
        }
        if due(self.timers.cancel_at) {
            self.give_up_cancelled().await;
        }
        if due(self.watch_at(now)) {
            self.give_up().await;
        }
        let expired: Vec<_> = self.timers.questions.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for question in expired {
            self.timers.questions.remove(&question);
            let command = Command::ExpireQuestion { question, because: ExpiredBecause::Timeout };
            if let Err(failure) = self.run(vec![command]).await {
                tracing::warn!(session = %self.id, %question, %failure, "the question could not be closed");
                self.timers.questions.insert(question, now + Duration::from_secs(1));
            }
        }
        let idle = self.inner.settings.idle_agent;
        if self.is_idle() && self.host.as_ref().is_some_and(|host| now >= host.idle_since + idle) {
            self.host = None;
        }
    }

    /// Open questions of a session that was just opened go on waiting for what is left of their time.
    pub(super) fn arm_questions(&mut self) {
        let (now, wall) = (self.now(), self.inner.wall());
        let Some(state) = &self.state else { return };
        for question in state.questions.iter().filter(|question| question.state == QuestionState::Open) {
            if let Some(expires) = question.expires_at {
                let left = u64::try_from(expires.0.saturating_sub(wall.0)).unwrap_or(0);
                self.timers.questions.entry(question.id).or_insert(now + Duration::from_micros(left));
            }
        }
        self.timers.questions.retain(|id, _| state.question(*id).is_some_and(|question| question.state == QuestionState::Open));
    }

    /// Ends the running turn for what the watch found, with what was said so far.
    async fn give_up(&mut self) {
        let Some(turn) = self.state.as_ref().and_then(|state| state.running) else { return };
        let limits = self.inner.settings.limits;
        let (reason, what, limit) = match self.timers.watch.find(&limits, self.now()) {
            Some(Finding::AgentSilent) => (REASON_AGENT_SILENT, "the agent said nothing", limits.silence),
            Some(Finding::AgentChattering) => (REASON_AGENT_CHATTERING, "the agent said nothing that got its turn on", limits.progress),
            Some(Finding::Overdue(Overdue::Tool)) => (REASON_TOOL_OVERDUE, "a tool took longer than it may", limits.tool),
            Some(Finding::Overdue(Overdue::Turn)) => (REASON_TURN_OVERDUE, "the turn took longer than it may", limits.turn),
            Some(Finding::Overdue(Overdue::Session)) => {
                (REASON_SESSION_OVERDUE, "the session was busy for longer than it may", limits.session)
            }
            Some(Finding::Well { .. } | Finding::WaitsForHuman | Finding::AgentGone) | None => return,
        };
        self.end_agent().await;
        let message = format!("{what} ({} s) and was ended", limit.as_secs());
        let error = TurnError { code: reason.into(), message, may_have_happened: true };
        self.heard.end = Some(match reason {
            // Another try takes as long: what ran out of time is not tried again by itself.
            REASON_TOOL_OVERDUE | REASON_TURN_OVERDUE | REASON_SESSION_OVERDUE => {
                Outcome::Turn(EndTurn { turn, end: TurnEnd::TimedOut, reason: reason.into(), error: Some(error) })
            }
            _ => self.failed(turn, TurnFailure::Prompt { end: FailedEnd::TimedOut, reason: reason.into(), error }),
        });
        if reason == REASON_SESSION_OVERDUE {
            self.timers.watch.rest();
        }
        self.flush().await;
    }

    /// Whether the turn is not to begin yet; it is looked at again when it may. How long that is goes by the wall clock only
    /// once, and never beyond what a policy asks for: a clock that jumps holds nobody up.
    pub(super) fn is_put_off(&mut self, turn: TurnId) -> bool {
        let entry = self.state.as_ref().and_then(|state| state.turn(turn));
        let Some(not_before) = entry.and_then(|entry| entry.turn.tries.not_before) else { return false };
        let now = self.now();
        let at = match &self.timers.put_off {
            Some(held) if (held.turn, held.until) == (turn, not_before) => held.at,
            Some(_) | None => {
                let left = u64::try_from(not_before.0.saturating_sub(self.inner.wall().0)).unwrap_or(0);
                Some(now + Duration::from_micros(left).min(LONGEST_WAIT))
            }
        };
        let at = at.filter(|at| *at > now);
        self.timers.put_off = Some(PutOff { turn, until: not_before, at });
        at.is_some()
    }
}
