//! The breakers of all agents and models, as all sessions see them.
//!
//! Never kept here alone: what is to outlive a restart is handed to whoever stores it, and what is shown is what is stored.
//! Never by a clock that jumps: the time here goes on from the wall time of the start as the monotonic clock does.

use crate::runtime::Clock;
use everkept_core::{Admission, AgentName, Breaker, BreakerState, ModelName, Timestamp, TurnId, Verdict};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

type Key = (AgentName, Option<ModelName>);

pub(crate) struct Breakers {
    held: Mutex<BTreeMap<Key, Breaker>>,
    /// Counts the closings, for those who wait for one.
    closed: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    /// What the wall clock and the monotonic one showed at the start.
    began: (Timestamp, Duration),
}

impl Breakers {
    pub fn new(kept: Vec<Breaker>, clock: Arc<dyn Clock>, wall: Timestamp) -> Self {
        let key = |breaker: &Breaker| (breaker.agent.clone(), breaker.model.clone());
        let held = kept.into_iter().map(|breaker| (key(&breaker), breaker.taken_up(wall))).collect();
        let began = (wall, clock.monotonic());
        Breakers { held: Mutex::new(held), closed: watch::channel(0).0, clock, began }
    }

    /// None for a turn that may be tried now, or how long none may.
    pub fn bars(&self, agent: &AgentName, model: Option<&ModelName>, turn: TurnId) -> Option<Duration> {
        let now = self.now();
        match self.held().get_mut(&(agent.clone(), model.cloned()))?.admit(turn, now) {
            Admission::Admitted => None,
            Admission::NotBefore(until) => Some(Duration::from_micros(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))),
        }
    }

    /// The breaker as it is to be kept, if it changed.
    pub fn note(&self, agent: &AgentName, model: Option<&ModelName>, turn: TurnId, verdict: Verdict) -> Option<Breaker> {
        let now = self.now();
        let mut held = self.held();
        let key = (agent.clone(), model.cloned());
        let (probed, changed, breaker) = match verdict {
            Verdict::Failed => {
                let breaker = held.entry(key).or_insert_with(|| Breaker::new(agent.clone(), model.cloned()));
                (breaker.probe, breaker.note(turn, verdict, now), breaker)
            }
            // What never failed is not kept.
            Verdict::Worked | Verdict::NotCounted => {
                let breaker = held.get_mut(&key)?;
                (breaker.probe, breaker.note(turn, verdict, now), breaker)
            }
        };
        let kept = changed.then(|| breaker.clone());
        if probed.is_some() && breaker.probe.is_none() || changed && breaker.open_until.is_none() {
            self.closed.send_modify(|times| *times += 1);
        }
        kept
    }

    /// How a breaker that is kept stands now, and who finds out at the moment.
    pub fn stands(&self, kept: &Breaker) -> (BreakerState, Option<TurnId>) {
        let held = self.held();
        let probe = held.get(&(kept.agent.clone(), kept.model.clone())).and_then(|breaker| breaker.probe);
        (kept.state(self.now()), probe.map(|probe| probe.turn))
    }

    /// Told when those who were not admitted may be now.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.closed.subscribe()
    }

    fn now(&self) -> Timestamp {
        let (wall, monotonic) = self.began;
        wall.plus(self.clock.monotonic().saturating_sub(monotonic))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Key, Breaker>> {
        self.held.lock().expect("nothing panics while it holds the breakers")
    }
}
