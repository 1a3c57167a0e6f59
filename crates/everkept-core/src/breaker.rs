//! A breaker for each agent and model: after failures in a row nobody is sent there for a while, and then one turn at a time
//! finds out whether it works again.
//!
//! Never a verdict on what was cancelled or interrupted, or on a prompt that its agent could not take: nobody shuts an agent
//! to others by what is asked. And never a clock: it is told the time.

use crate::{
    AgentName, Body, ModelName, REASON_AGENT_CHATTERING, REASON_AGENT_ERROR, REASON_AGENT_SILENT, REASON_START_FAILED, Timestamp, TurnEnd,
    TurnId,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// How long it stays open at first; each probe that fails doubles it.
const OPEN: Duration = Duration::from_secs(30);
/// The longest it stays open.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    pub agent: AgentName,
    pub model: Option<ModelName>,
    /// Rises with every change that is kept: of two, the greater is the newer.
    pub version: u64,
    /// Since something last worked.
    pub failures: u32,
    /// How often it has opened since.
    pub openings: u32,
    /// Nobody is let through before; none while it is closed.
    pub open_until: Option<Timestamp>,
    /// Not kept: after a restart, nothing is under way.
    #[serde(skip)]
    pub probe: Option<Probe>,
}

/// The one turn that finds out whether it works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub turn: TurnId,
    /// When it has said nothing by then, another one is let through.
    pub until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
    /// Its time is over, or one turn is let through to see.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    NotBefore(Timestamp),
}

/// What an event says of the agent and model that its turn is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Worked,
    Failed,
    /// Somebody ended it, nobody knows, or it was never tried.
    NotCounted,
}

impl Verdict {
    /// None for what is no end of a try.
    pub fn of(body: &Body) -> Option<Self> {
        if let Body::TurnDelayed(data) = body {
            return Some(Self::of_failure(&data.error.code, &data.error.code));
        }
        let Body::TurnEnded(data) = body else { return None };
        Some(match data.state {
            TurnEnd::Completed => Verdict::Worked,
            TurnEnd::Cancelled | TurnEnd::Interrupted => Verdict::NotCounted,
            TurnEnd::Failed | TurnEnd::TimedOut | TurnEnd::DeadLettered => {
                Self::of_failure(&data.reason, data.error.as_ref().map_or("", |error| &error.code))
            }
        })
    }

    fn of_failure(reason: &str, code: &str) -> Self {
        match reason {
            REASON_AGENT_SILENT | REASON_AGENT_CHATTERING | REASON_START_FAILED => Verdict::Failed,
            REASON_AGENT_ERROR if is_out_of_service(code) => Verdict::Failed,
            // What the session or its prompt brought about says nothing of the agent, and what was not tried neither.
            _ => Verdict::NotCounted,
        }
    }
}

/// Whether an agent's own word for an error says that it, or what it runs on, cannot serve anybody now.
fn is_out_of_service(code: &str) -> bool {
    const WORDS: [&str; 13] = [
        "overload",
        "ratelimit",
        "usagelimit",
        "quota",
        "unavailable",
        "unreachable",
        "cutoff",
        "timeout",
        "connect",
        "servererror",
        "apierror",
        "authentication",
        "unauthorized",
    ];
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    let status = plain.strip_prefix("http").unwrap_or(&plain).parse::<u16>().ok();
    WORDS.iter().any(|word| plain.contains(word)) || status.is_some_and(|status| matches!(status, 401 | 429 | 500..=599))
}

impl Breaker {
    pub fn new(agent: AgentName, model: Option<ModelName>) -> Self {
        Breaker { agent, model, version: 0, failures: 0, openings: 0, open_until: None, probe: None }
    }

    /// As a server takes it up at its start: however its clock was set meanwhile, it is open no longer than it can be.
    pub fn taken_up(self, now: Timestamp) -> Self {
        Breaker { open_until: self.open_until.map(|until| until.min(now.plus(LONGEST))), probe: None, ..self }
    }

    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Whether `turn` may be tried now. Where one is to find out, this is the one.
    pub fn admit(&mut self, turn: TurnId, now: Timestamp) -> Admission {
        let Some(until) = self.open_until else { return Admission::Admitted };
        if now < until {
            return Admission::NotBefore(until);
        }
        match self.probe {
            Some(probe) if probe.turn != turn && now < probe.until => Admission::NotBefore(probe.until),
            Some(_) | None => {
                self.probe = Some(Probe { turn, until: now.plus(OPEN) });
                Admission::Admitted
            }
        }
    }

    /// Takes note of how a try of `turn` went; true when that is to be kept.
    pub fn note(&mut self, turn: TurnId, verdict: Verdict, now: Timestamp) -> bool {
        let probed = self.probe.is_some_and(|probe| probe.turn == turn);
        if probed {
            self.probe = None;
        }
        match verdict {
            Verdict::NotCounted => return false,
            Verdict::Worked if self.failures == 0 && self.open_until.is_none() => return false,
            Verdict::Worked => {
                (self.failures, self.openings, self.open_until, self.probe) = (0, 0, None, None);
            }
            Verdict::Failed => {
                self.failures = self.failures.saturating_add(1);
                let opens = match self.open_until {
                    None => self.failures >= FAILURES,
                    Some(_) => probed,
                };
                if opens {
                    let open = OPEN.saturating_mul(1_u32 << self.openings.min(8)).min(LONGEST);
                    self.openings = self.openings.saturating_add(1);
                    self.open_until = Some(now.plus(open));
                }
            }
        }
        self.version += 1;
        true
    }
}
