//! A turn that outlives the server: handed over when it goes, gone on with when the next one comes.
//!
//! Never gives a prompt; what was given before is heard out, or the turn is settled.

use super::Actor;
use crate::Failure;
use crate::agent_host::{self, Host};
use everkept_agent::{Held, Hold, Left, Order};
use everkept_core::{QuestionState, REASON_SERVER_CRASHED, Refusal, TurnId};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an agent may take to be handed over; it takes no longer than its keeper does to read what waits for it.
const HAND_OVER: Duration = Duration::from_secs(5);
const STOPPED: &str = "the server, or what ran the turn in it, stopped while the turn ran";

impl Actor {
    /// Goes on hearing the agent of a turn that the last server gave it, or settles the turn.
    pub(super) async fn hear_on(&mut self) -> Result<(), Failure> {
        let Some(turn) = self.state.as_ref().and_then(|state| state.running).filter(|_| self.host.is_none()) else { return Ok(()) };
        let entry = self.state()?.turn(turn).ok_or(Refusal::TurnNotFound)?;
        let left = match self.inner.agents.get(&entry.turn.agent) {
            Some(agent) => agent.left_of(turn).await,
            None => Left::Nothing,
        };
        let message = match left {
            Left::Running(held) => match self.take_back(turn, held).await? {
                Some(host) => {
                    tracing::info!(session = %self.id, %turn, "the turn outlived the last server and goes on");
                    self.host = Some(host);
                    return Ok(());
                }
                None => STOPPED.to_owned(),
            },
            Left::Lost(why) => format!("{STOPPED}, and its agent could not be gone on with: {why}"),
            Left::Nothing => STOPPED.to_owned(),
        };
        self.settle(REASON_SERVER_CRASHED, &message).await
    }

    async fn take_back(&self, turn: TurnId, held: Held) -> Result<Option<Host>, Failure> {
        let state = self.state()?;
        let entry = &state.turn(turn).ok_or(Refusal::TurnNotFound)?.turn;
        let pinned = state.session.agent_sessions.iter().find(|pinned| pinned.agent == entry.agent && pinned.context == entry.context);
        let agent_session = entry.agent_session.clone().or(pinned.map(|pinned| pinned.current.clone()));
        let (Some(agent), Some(agent_session)) = (self.inner.agents.get(&entry.agent), agent_session) else { return Ok(None) };
        let kept = self.bytes_kept(turn).await?;
        Ok(Some(agent_host::go_on(&self.inner, held, entry, agent_session, agent.abilities(), kept).await))
    }

    /// How many bytes are kept of what the agent said in the turn.
    async fn bytes_kept(&self, turn: TurnId) -> Result<u64, Failure> {
        let mut kept = 0;
        loop {
            let piece = self.inner.check(self.inner.store.raw(self.id, turn, kept).await)?;
            if piece.is_empty() {
                return Ok(kept);
            }
            kept += piece.len() as u64;
        }
    }

    /// Questions that ran out of time while nobody could tell the agent so.
    pub(super) async fn say_no_again(&mut self) {
        let Some(state) = self.state.as_ref().filter(|_| self.host.is_some()) else { return };
        let expired = state.questions.iter().filter(|held| Some(held.turn) == state.running && held.state == QuestionState::Expired);
        let expired: Vec<_> = expired.map(|held| held.id).collect();
        for question in expired {
            self.answer_agent(question).await;
        }
    }

    /// Leaves the running turn to the next server; false when there is none, or when its agent ends with this one.
    pub(super) async fn hand_over(&mut self) -> bool {
        let running = self.state.as_ref().and_then(|state| state.running);
        let Some(host) = self.host.as_mut().filter(|_| running.is_some()) else { return false };
        let (done, mut answer) = oneshot::channel();
        if host.connection.orders.send(Order::Hold(Hold::HandOver { done })).await.is_err() {
            return false;
        }
        let late = self.inner.runtime.clock.sleep(HAND_OVER);
        tokio::pin!(late);
        // What it still says the next server hears; it is taken here only so that nothing is in the way of the answer.
        let mut said = Vec::new();
        let handed_over = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer.is_ok(),
                Some(output) = host.connection.output.recv() => said.push(output),
                () = &mut late => break false,
            }
        };
        if !handed_over {
            said.into_iter().for_each(|output| self.take_in(output, running));
            self.flush().await;
        }
        handed_over
    }
}
