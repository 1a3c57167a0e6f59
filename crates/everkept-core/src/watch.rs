//! A running turn, watched: whether its agent is heard of, whether it gets on, and whether it ends in time.
//!
//! Time is told, as what has passed since any one moment. Never a verdict on a turn that waits for a human: waiting is not
//! hanging, and no time passes for it.

use crate::{Body, Event, PartId, TurnId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long things may take. A tool's time lies within its turn's, and that within its session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// An agent that says nothing at all for so long is given up on.
    pub silence: Duration,
    /// So is one that says nothing that gets its turn on.
    pub progress: Duration,
    /// One call of a tool.
    pub tool: Duration,
    /// One turn.
    pub turn: Duration,
    /// A session, from when it has something to do until it has nothing.
    pub session: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        Limits { silence: minutes(10), progress: minutes(30), tool: minutes(60), turn: minutes(4 * 60), session: minutes(24 * 60) }
    }
}

/// What is watched of one session.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    turn: Option<Watched>,
    /// Since when the session has had something to do.
    busy: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Watched {
    id: TurnId,
    began: Duration,
    heard: Duration,
    got_on: Duration,
    tools: BTreeMap<PartId, Duration>,
    /// Since when it waits for a human.
    waits: Option<Duration>,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing is to be done before.
    Well {
        until: Duration,
    },
    WaitsForHuman,
    AgentGone,
    AgentSilent,
    /// It is heard of, and its turn does not get on.
    AgentChattering,
    Overdue(Overdue),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overdue {
    Tool,
    Turn,
    Session,
}

impl Watch {
    pub fn turn(&self) -> Option<TurnId> {
        self.turn.as_ref().map(|turn| turn.id)
    }

    /// `running` is the turn that runs now, `waits` whether it waits for a human, and `busy` whether the session has anything to do.
    pub fn look(&mut self, running: Option<TurnId>, waits: bool, busy: bool, now: Duration) {
        self.busy = busy.then(|| self.busy.unwrap_or(now));
        if self.turn() != running {
            let fresh = |id| Watched { id, began: now, heard: now, got_on: now, tools: BTreeMap::new(), waits: None, gone: false };
            self.turn = running.map(fresh);
        }
        let Some(turn) = &mut self.turn else { return };
        match (turn.waits, waits) {
            (None, true) => turn.waits = Some(now),
            (Some(since), false) => {
                let paused = now.saturating_sub(since);
                turn.waits = None;
                let tools = turn.tools.values_mut();
                for from in [&mut turn.began, &mut turn.heard, &mut turn.got_on].into_iter().chain(tools).chain(&mut self.busy) {
                    *from += paused;
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The agent's heartbeat: anything at all, down to what nobody reads.
    pub fn heard(&mut self, now: Duration) {
        if let Some(turn) = &mut self.turn {
            turn.heard = now;
        }
    }

    pub fn gone(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.gone = true;
        }
    }

    /// Takes note of what gets the turn on, and of its tools.
    pub fn note(&mut self, event: &Event, now: Duration) {
        let Some(turn) = self.turn.as_mut().filter(|turn| event.turn == Some(turn.id)) else { return };
        if let Body::ToolStarted(data) = &event.body {
            turn.tools.insert(data.part, now);
        }
        if let Body::ToolCompleted(data) = &event.body {
            turn.tools.remove(&data.part);
        }
        // Said again as it was, a tool has not got on.
        let same = matches!(&event.body, Body::ToolUpdated(data) if data.title.is_none() && data.input.is_none() && data.output.is_none());
        let flow = event.body.is_flow() && !matches!(event.body, Body::AgentRaw(_)) && !same;
        let counts = flow || matches!(&event.body, Body::MessageAdded(_) | Body::QuestionAsked(_));
        let counts = counts || matches!(&event.body, Body::SessionUpdated(data) if data.file_changes.is_some());
        if counts {
            turn.got_on = now;
        }
    }

    /// The session's time begins anew.
    pub fn rest(&mut self) {
        self.busy = None;
    }

    pub fn find(&self, limits: &Limits, now: Duration) -> Option<Finding> {
        let turn = self.turn.as_ref()?;
        if turn.gone {
            return Some(Finding::AgentGone);
        }
        if turn.waits.is_some() {
            return Some(Finding::WaitsForHuman);
        }
        let tools = turn.tools.values().map(|from| (*from + limits.tool, Finding::Overdue(Overdue::Tool)));
        let busy = self.busy.map(|from| (from + limits.session, Finding::Overdue(Overdue::Session)));
        let own = [
            (turn.heard + limits.silence, Finding::AgentSilent),
            (turn.got_on + limits.progress, Finding::AgentChattering),
            (turn.began + limits.turn, Finding::Overdue(Overdue::Turn)),
        ];
        let (at, first) = own.into_iter().chain(tools).chain(busy).min_by_key(|(at, _)| *at)?;
        Some(if at <= now { first } else { Finding::Well { until: at } })
    }
}
