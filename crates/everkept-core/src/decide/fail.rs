//! What follows when a turn came to nothing: another try, another agent or model, or the end.
//!
//! Never a try that is not counted, and none after the last: a turn that was tried for the last time is a dead letter. What
//! stands in for an agent or a model is for its one turn; the session's own are left alone.

use super::turn::{end, find};
use super::{Log, limits::short_error};
use crate::policy::{OPENINGS, wait};
use crate::state::TurnEntry;
use crate::{
    AgentBecause, EndTurn, Event, FailTurn, FailedEnd, KnownAgents, ModelBecause, REASON_CANCELLED, Refusal, RetryCause, Timestamp, Tries,
    TurnDelayed, TurnEnd, TurnError, TurnFailure, TurnId, TurnQueued, TurnRetried,
};

pub(super) fn fail(mut log: Log<'_>, command: FailTurn) -> Result<Vec<Event>, Refusal> {
    let FailTurn { turn, failure, by, known } = command;
    let entry = find(&log, turn)?;
    if !entry.turn.state.is_open() {
        return Err(Refusal::TurnEnded(turn));
    }
    let tries = entry.turn.tries;
    if entry.turn.cancelling {
        return end(log, EndTurn { turn, end: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None });
    }
    let (reason, error, given_up, usual) = match failure {
        TurnFailure::Opening { error, again, not_before } => {
            if entry.started_seq.is_some() {
                return Err(Refusal::TurnNotQueued(turn));
            }
            if again && tries.opening < OPENINGS {
                delay(&mut log, turn, tries.opening + 1, not_before, error);
                return log.done();
            }
            (error.code.clone(), error, again, TurnEnd::Failed)
        }
        TurnFailure::Prompt { end, reason, error } => {
            if entry.started_seq.is_none() {
                return Err(Refusal::invalid("failure", "must be another: the turn has not begun"));
            }
            let usual = match end {
                FailedEnd::Failed => TurnEnd::Failed,
                FailedEnd::TimedOut => TurnEnd::TimedOut,
            };
            (reason, error, false, usual)
        }
    };
    let following = follow(&log, entry, &known);
    let tried = given_up || tries.is_another();
    let how = if following.is_none() && tried { TurnEnd::DeadLettered } else { usual };
    let (state, now, context) = (log.state, log.now, log.context);
    let events = end(log, EndTurn { turn, end: how, reason, error: Some(error) })?;
    let mut log = Log { state, now, context, events };
    if let Some((cause, queued)) = following {
        log.add(Some(turn), TurnRetried { by, cause });
        log.add(Some(by), queued);
    }
    log.done()
}

fn delay(log: &mut Log<'_>, turn: TurnId, tries: u32, not_before: Option<Timestamp>, error: TurnError) {
    let until = log.now.plus(wait(tries)).max(not_before.unwrap_or(log.now));
    log.add(Some(turn), TurnDelayed { tries, until, error: short_error(error) });
}

/// The turn that takes over, if its agent's configuration has one left.
fn follow(log: &Log<'_>, entry: &TurnEntry, known: &KnownAgents) -> Option<(RetryCause, TurnQueued)> {
    let turn = &entry.turn;
    if log.state.session.deleted_at.is_some() || turn.request_message.is_none() {
        return None;
    }
    let again = TurnQueued {
        request_message: turn.request_message,
        agent: turn.agent.clone(),
        agent_because: turn.agent_because,
        model: turn.model.clone(),
        model_because: turn.model_because,
        attempt: turn.attempt + 1,
        continues: turn.continues,
        agent_session: turn.agent_session.clone(),
        tries: None,
    };
    let retries = known.agents.get(&turn.agent).map_or(0, |agent| agent.retry_prompts);
    if entry.started_seq.is_some() && turn.tries.prompts < retries {
        let prompts = turn.tries.prompts + 1;
        let not_before = Some(log.now.plus(wait(prompts)));
        let tries = Tries { prompts, fallbacks: turn.tries.fallbacks, opening: 0, not_before };
        return Some((RetryCause::Retry, TurnQueued { tries: Some(tries), ..again }));
    }
    let asked = &log.state.asked_for(turn.id)?.turn;
    let list = &known.agents.get(&asked.agent)?.fallback;
    let taken = usize::try_from(turn.tries.fallbacks).unwrap_or(usize::MAX);
    // One that is not configured any more is passed over.
    let there = |(_, next): &(usize, &crate::Fallback)| next.agent.as_ref().is_none_or(|agent| known.agents.contains_key(agent));
    let (at, next) = list.iter().enumerate().skip(taken).find(there)?;
    let agent = next.agent.as_ref().unwrap_or(&asked.agent);
    let own = || known.agents.get(agent).and_then(|agent| agent.model.clone());
    let queued = TurnQueued {
        agent_because: if *agent == asked.agent { asked.agent_because } else { AgentBecause::Fallback },
        model: next.model.clone().or_else(own),
        model_because: ModelBecause::Fallback,
        continues: Some(turn.id),
        agent_session: asked.agent_session.clone().filter(|_| *agent == asked.agent),
        tries: Some(Tries { fallbacks: u32::try_from(at + 1).unwrap_or(u32::MAX), ..Tries::default() }),
        agent: agent.clone(),
        ..again
    };
    Some((RetryCause::Fallback, queued))
}
