//! What an agent itself has written of its session: kept after each turn, and put back where the agent lost it.
//!
//! Never a copy in which a turn stands half: what was read while the agent went on is not kept.

use super::{Log, turn::find};
use crate::{AgentSessionKept, AgentSessionPutBack, Event, KeepAgentSession, PutBackAgentSession, Refusal};

pub(super) fn keep(mut log: Log<'_>, command: KeepAgentSession) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let KeepAgentSession { turn, agent_session, files } = command;
    let entry = find(&log, turn)?;
    if entry.ended_seq.is_none() {
        return Err(Refusal::TurnOpen(turn));
    }
    let agent = entry.turn.agent.clone();
    let held = log.state.kept(&agent, &agent_session);
    for file in &files {
        let held = held.and_then(|held| held.file(&file.file));
        if file.from > 0 && !held.is_some_and(|held| held.begins_piece(file.from)) {
            return Err(Refusal::invalid("files", format!("must go on at a piece's end, not at byte {}", file.from)));
        }
    }
    // A turn that began since has written in it, and is kept at its own end.
    let gone_on = log.state.turns.iter().any(|later| later.turn.agent == agent && later.started_seq > entry.started_seq);
    if !files.is_empty() && !gone_on {
        log.add(Some(turn), AgentSessionKept { agent, agent_session, files });
    }
    log.done()
}

pub(super) fn put_back(mut log: Log<'_>, command: PutBackAgentSession) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let PutBackAgentSession { turn, agent_session, files } = command;
    let agent = find(&log, turn)?.turn.agent.clone();
    log.add(Some(turn), AgentSessionPutBack { agent, agent_session, files });
    log.done()
}
