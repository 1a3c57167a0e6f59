//! What an agent itself writes of its session: copied when a turn has ended, and told of when the agent was given it back.
//!
//! A copy is not owed: what a kill or a full disk keeps from being copied is copied with the next turn, and what a copy
//! that is put back does not have is told to the agent again. Never: a turn that waits for a copy.

use super::{Actor, Mail, commit::Along, heard::keep_blob};
use crate::failpoint::{Failpoint, Injected};
use crate::kept;
use crate::orders::Reply;
use everkept_agent::{AgentFault, Kept, Piece};
use everkept_core::{AgentSessionId, Command, Event, FileKept, KeepAgentSession, State, TurnId};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;

/// What was read of the session that a turn ran on.
pub(crate) struct Copied {
    pub turn: TurnId,
    pub agent_session: AgentSessionId,
    pub read: Result<Vec<Piece>, AgentFault>,
}

impl Actor {
    /// Has what the agent wrote in the turn read, away from the session's own work.
    pub(super) fn copy(&mut self, turn: TurnId) {
        let Some((agent_session, kept, transcripts)) = self.to_copy(turn) else { return };
        let Some(myself) = self.myself.upgrade() else { return };
        self.copying += 1;
        let (inner, session) = (self.inner.clone(), self.id);
        self.inner.runtime.spawner.spawn(Box::pin(async move {
            let read = match inner.runtime.reach(Failpoint::Copy, Some(session)).await {
                // Without a word of it the session would wait for ever.
                Ok(()) => AssertUnwindSafe(transcripts.written(kept)).catch_unwind().await.unwrap_or_else(|_| Err(kept::unreadable())),
                Err(Injected) => Err(kept::unreadable()),
            };
            // A session that has gone away copies with its next turn.
            let _ = myself.send(Mail::Copied(Copied { turn, agent_session, read })).await;
        }));
    }

    fn to_copy(&self, turn: TurnId) -> Option<(AgentSessionId, Kept, std::sync::Arc<dyn everkept_agent::Transcripts>)> {
        let state = self.state.as_ref()?;
        let entry = state.turn(turn).filter(|entry| entry.started_seq.is_some())?;
        let turn = &entry.turn;
        let transcripts = self.inner.agents.get(&turn.agent)?.transcripts()?;
        let pinned = state.session.agent_sessions.iter().find(|pinned| pinned.agent == turn.agent && pinned.context == turn.context);
        let agent_session = turn.agent_session.clone().or_else(|| pinned.map(|pinned| pinned.current.clone()))?;
        let kept = kept::as_kept(&state.session.directory, &agent_session, state.kept(&turn.agent, &agent_session));
        Some((agent_session, kept, transcripts))
    }

    pub(super) async fn copied(&mut self, copied: Copied) {
        self.copying -= 1;
        let Copied { turn, agent_session, read } = copied;
        let pieces = match read {
            Ok(pieces) => pieces,
            Err(fault) => return tracing::warn!(session = %self.id, %turn, %fault, "what the agent wrote is copied with its next turn"),
        };
        let more = pieces.iter().any(|piece| piece.more);
        let mut along = Along::default();
        let mut file =
            |piece: Piece| FileKept { file: piece.file, from: piece.from, pieces: vec![keep_blob(&piece.bytes, &mut along.blobs)] };
        let files: Vec<FileKept> = pieces.into_iter().map(&mut file).collect();
        let command = Command::KeepAgentSession(KeepAgentSession { turn, agent_session, files });
        let mut kept = false;
        let noted = |_: &State, events: &[Event]| {
            kept = !events.is_empty();
            Reply::Done
        };
        match self.carry_out(vec![command], along, noted).await {
            Ok(_) if kept && more => self.copy(turn),
            Ok(_) => {}
            Err(failure) => tracing::warn!(session = %self.id, %turn, %failure, "what the agent wrote is kept with its next turn"),
        }
    }

    /// Says in the log what an agent was given back, before anything is said to it.
    pub(super) async fn note_put_back(&mut self) -> Result<(), crate::Failure> {
        if let Some(put_back) = self.put_back.clone() {
            self.run(vec![Command::PutBackAgentSession(put_back)]).await?;
            self.put_back = None;
        }
        Ok(())
    }

    /// The same for a session that could not be opened all the same; when there is no space for it now, then later.
    pub(super) async fn note_put_back_in_vain(&mut self) {
        if let Err(failure) = self.note_put_back().await {
            tracing::warn!(session = %self.id, %failure, "that an agent was given its session back is noted later");
        }
    }
}
