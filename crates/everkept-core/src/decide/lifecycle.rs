//! A session's own life: made, changed, cleared, reverted, trashed.

use super::Log;
use super::limits::{check_directory, check_metadata, check_title};
use crate::{
    AgentSessionPinned, ContextCleared, CreateSession, Event, Json, PinnedBecause, QuestionId, Refusal, RuleRemoved, SessionArchived,
    SessionCreated, SessionDeleted, SessionRestored, SessionReverted, SessionUpdated, Timestamp, TurnCancelling, TurnId, TurnState,
    UpdateSession, resolve_agent,
};

pub(super) fn create(mut log: Log<'_>, command: CreateSession) -> Result<Vec<Event>, Refusal> {
    if log.state.head > 0 {
        return Err(Refusal::SessionExists(command.session));
    }
    check_title(command.title.as_deref())?;
    check_metadata(command.metadata.as_ref())?;
    check_directory(&command.directory)?;
    let (agent, _) = resolve_agent(log.state, command.agent.as_ref(), &command.known)?;
    log.add(
        None,
        SessionCreated {
            title: command.title,
            resource: command.resource,
            thread: command.thread,
            directory: command.directory,
            agent: command.agent,
            model: command.model,
            parent: command.parent,
            metadata: command.metadata.unwrap_or_else(Json::empty_object),
        },
    );
    if let Some(agent_session) = command.agent_session {
        log.add(None, AgentSessionPinned { agent, agent_session, because: PinnedBecause::Request });
    }
    log.done()
}

pub(super) fn update(mut log: Log<'_>, command: UpdateSession) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let session = &log.state.session;
    check_title(command.title.as_ref().and_then(|title| title.as_deref()))?;
    check_metadata(command.metadata.as_ref())?;
    if let (Some(Some(agent)), Some(known)) = (&command.agent, &command.known)
        && session.agent.as_ref() != Some(agent)
    {
        resolve_agent(log.state, Some(agent), known)?;
    }
    let changes = SessionUpdated {
        title: command.title.filter(|title| *title != session.title),
        agent: command.agent.filter(|agent| *agent != session.agent),
        model: command.model.filter(|model| *model != session.model),
        metadata: command.metadata.filter(|metadata| *metadata != session.metadata),
        ..SessionUpdated::default()
    };
    let archived = command.archived.filter(|archived| *archived != session.archived_at.is_some());
    if changes != SessionUpdated::default() {
        log.add(None, changes);
    }
    if let Some(archived) = archived {
        log.add(None, SessionArchived { archived });
    }
    log.done()
}

pub(super) fn release_thread(mut log: Log<'_>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    if log.state.session.thread.is_some() {
        log.add(None, SessionUpdated { thread: Some(None), ..SessionUpdated::default() });
    }
    log.done()
}

pub(super) fn delete(mut log: Log<'_>, keep_ms: Option<u64>) -> Result<Vec<Event>, Refusal> {
    log.made()?;
    if log.state.session.deleted_at.is_some() {
        return log.done();
    }
    if let Some(turn) = log.state.running.filter(|turn| log.state.turn(*turn).is_some_and(|entry| !entry.turn.cancelling)) {
        log.add(Some(turn), TurnCancelling {});
    }
    let micros = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000);
    let purge_at = keep_ms.map(|ms| Timestamp(log.now.0.saturating_add(micros(ms))));
    log.add(None, SessionDeleted { purge_at });
    log.done()
}

pub(super) fn restore(mut log: Log<'_>) -> Result<Vec<Event>, Refusal> {
    log.made()?;
    if log.state.session.deleted_at.is_some() {
        log.add(None, SessionRestored {});
    }
    log.done()
}

pub(super) fn clear(mut log: Log<'_>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    log.context += 1;
    log.add(None, ContextCleared {});
    log.done()
}

pub(super) fn revert(mut log: Log<'_>, turn: Option<TurnId>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let state = log.state;
    if let Some(open) = state.current_turn() {
        return Err(Refusal::TurnOpen(open));
    }
    let turn = match turn {
        Some(turn) => {
            state.turn(turn).ok_or(Refusal::TurnNotFound)?;
            turn
        }
        None => state.last_visible_turn().ok_or(Refusal::NothingToRevert)?,
    };
    if !state.is_visible(turn) {
        return Err(Refusal::TurnHidden(turn));
    }
    log.add(None, SessionReverted { first_hidden: Some(turn) });
    log.done()
}

pub(super) fn unrevert(mut log: Log<'_>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    if log.state.session.revert.is_none() {
        return Err(Refusal::NothingReverted);
    }
    log.add(None, SessionReverted { first_hidden: None });
    log.done()
}

pub(super) fn remove_rule(mut log: Log<'_>, rule: QuestionId) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    if !log.state.session.rules.iter().any(|held| held.id == rule) {
        return Err(Refusal::RuleNotFound);
    }
    log.add(None, RuleRemoved { rule });
    log.done()
}

/// Whether a turn may still be changed by its user.
pub(super) fn is_queued(state: TurnState) -> bool {
    state == TurnState::Queued
}
