//! Forks: a child goes on from a cut in its parent's log and copies nothing.
//!
//! Never changes the parent, except that it gives up its thread when the fork takes that over.

use crate::decide::{check_directory, check_title};
use crate::{
    AgentName, AgentSession, Event, ForkOrigin, KnownAgents, Parent, ParentKind, Refusal, SessionForked, SessionId, SessionUpdated, State,
    Thread, Timestamp, TurnId, resolve_agent,
};

/// The most agent sessions a fork names; other agents get the transcript.
const MAX_ORIGINS: usize = 8;

#[derive(Debug, Clone)]
pub struct Fork {
    pub child: SessionId,
    pub at: Option<Cut>,
    pub title: Option<String>,
    pub thread: Option<Thread>,
    /// Whether the parent gives up `thread` to the child.
    pub take_thread: bool,
    pub agent: Option<AgentName>,
    /// The child's own; the parent's when none is given.
    pub directory: Option<String>,
    pub known: KnownAgents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After the end of a turn.
    Turn(TurnId),
    /// After an event, which must not lie within a turn or a message.
    Seq(u64),
}

/// What a fork writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forked {
    /// The last event the child shares.
    pub cut: u64,
    pub parent_events: Vec<Event>,
    pub child_events: Vec<Event>,
}

pub fn fork(parent: &State, command: Fork, now: Timestamp) -> Result<Forked, Refusal> {
    if parent.head == 0 || parent.session.deleted_at.is_some() {
        return Err(Refusal::SessionNotFound);
    }
    check_title(command.title.as_deref())?;
    check_directory(command.directory.as_deref().unwrap_or_default())?;
    if let Some(agent) = &command.agent {
        resolve_agent(parent, Some(agent), &command.known)?;
    }
    let cut = match command.at {
        Some(Cut::Turn(turn)) => {
            let entry = parent.turn(turn).ok_or(Refusal::TurnNotFound)?;
            let end = entry.ended_seq.ok_or(Refusal::TurnOpen(turn))?;
            // One that was dropped from the queue may have ended in the middle of another.
            check_cut(parent, end)?;
            end
        }
        Some(Cut::Seq(seq)) => {
            check_cut(parent, seq)?;
            seq
        }
        None => latest_cut(parent),
    };
    let context = parent.context_at(cut);
    // An agent session that still holds what was reverted is not one to fork.
    let whole = !parent.reverted_at(cut);
    let seen = |pinned: &&AgentSession| {
        let thread = parent.threads.iter().find(|thread| thread.agent == pinned.agent && thread.context == context);
        whole && pinned.context == context && thread.is_some_and(|thread| thread.seen_seq <= cut && !thread.stale)
    };
    let origin = |pinned: &AgentSession| ForkOrigin { agent: pinned.agent.clone(), agent_session: pinned.current.clone() };
    let origins = parent.session.agent_sessions.iter().filter(seen).take(MAX_ORIGINS).map(origin).collect();
    let title = command.title.or_else(|| parent.session.title.clone());
    let event = |session, context, body| Event { session, turn: None, context, at: now, body };
    let forked = SessionForked {
        parent: Parent { kind: ParentKind::Fork, session: parent.session.id, seq: cut },
        title,
        thread: command.thread,
        directory: command.directory.unwrap_or_else(|| parent.session.directory.clone()),
        agent: command.agent.or_else(|| parent.session.agent.clone()),
        model: parent.session.model.clone(),
        metadata: parent.session.metadata.clone(),
        origins,
    };
    let released = SessionUpdated { thread: Some(None), ..SessionUpdated::default() };
    let takes = command.take_thread && parent.session.thread.is_some();
    Ok(Forked {
        cut,
        parent_events: if takes { vec![event(parent.session.id, parent.session.context, released.into())] } else { Vec::new() },
        child_events: vec![event(command.child, context, forked.into())],
    })
}

/// A state that a fork at `cut` can be applied to for its rows, made without reading the log again; none where the
/// log has to be read because the parent hides or holds back something.
pub fn child_shell(parent: &State, cut: u64) -> Option<State> {
    let session = &parent.session;
    let plain = session.hidden.is_empty() && session.replaced.is_empty() && parent.reverts.is_empty();
    let open_at_cut = |entry: &crate::TurnEntry| entry.queued_seq <= cut && entry.ended_seq.is_none_or(|ended| ended > cut);
    if !plain || parent.turns.iter().any(open_at_cut) {
        return None;
    }
    let mut shell = State::new(session.id);
    shell.session = session.clone();
    shell.head = cut;
    Some(shell)
}

fn check_cut(parent: &State, seq: u64) -> Result<(), Refusal> {
    if seq == 0 || seq > parent.head {
        return Err(Refusal::invalid("at", format!("must be between 1 and {}", parent.head)));
    }
    for entry in &parent.turns {
        let begun = entry.started_seq.is_some_and(|started| started <= seq);
        if begun && entry.ended_seq.is_none_or(|ended| ended > seq) {
            return Err(Refusal::invalid("at", format!("lies within turn {}; fork at its end", entry.turn.id)));
        }
    }
    let within = |message: &&crate::MessageEntry| {
        message.turn.is_none() && message.first_seq <= seq && message.last_seq.is_some_and(|last| last > seq)
    };
    match parent.messages.iter().find(within) {
        Some(message) => Err(Refusal::invalid("at", format!("lies within message {}", message.id))),
        None => Ok(()),
    }
}

/// As late as can be without cutting through the running turn.
fn latest_cut(parent: &State) -> u64 {
    let running = parent.running.and_then(|turn| parent.turn(turn)).and_then(|entry| entry.started_seq);
    running.map_or(parent.head, |started| started - 1)
}
