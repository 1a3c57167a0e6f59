//! What a session hears of its agent: taken in as it comes, fitted to what an event has room for, and committed in batches.
//!
//! Never a word that is shown before it is kept, and never one dropped: all of it is in the raw bytes.

use super::{Actor, Heard, Outcome, commit::Along};
use crate::Failure;
use crate::failpoint::Failpoint;
use crate::orders::Reply;
use bytes::Bytes;
use everkept_agent::{Done, Order as AgentOrder, Output};
use everkept_core::{
    AgentRaw, BlobRef, Command, EndTurn, FailTurn, FailedEnd, Json, Payload, QuestionId, REASON_AGENT_ERROR, REASON_AGENT_EXITED,
    REASON_CANCELLED, Said, TurnEnd, TurnError, TurnFailure, TurnId, Usage, digest_of,
};
use everkept_store::{Problem, Raw, StoreFault};
use std::collections::BTreeSet;

/// A tool's data beyond this many bytes is kept as a blob beside the event.
const MAX_INLINE: usize = 16 * 1024;
/// How deep JSON may nest in an event; the least that readers take is 128, with what stands around it.
const MAX_DEPTH: usize = 64;
/// The most of an agent's words for a title, a name or an error that are shown; all of them are in the raw bytes.
const MAX_LABEL: usize = 1_000;
/// The most models that one turn's figures are told apart by.
const MAX_MODELS: usize = 64;
/// Bytes heard that force a commit before the time is up.
const MAX_HEARD: usize = 256 * 1024;

impl Actor {
    /// Whether the agent is held back because what it said could not be stored yet.
    pub(super) fn is_held_back(&self) -> bool {
        self.timers.retry_at.is_some() && !self.heard.is_empty()
    }

    pub(super) async fn hear(&mut self, output: Option<Output>) {
        let running = self.state.as_ref().and_then(|state| state.running);
        let now = self.now();
        self.timers.watch.heard(now);
        let mut next = output;
        let mut ended = next.is_none();
        while let Some(output) = next.take() {
            self.take_in(output, running);
            if self.heard.gone.is_some() {
                ended = true;
            }
            let full = self.heard.raw.len() > MAX_HEARD || self.heard.said.len() > 1_000;
            if ended || full || self.heard.end.is_some() {
                break;
            }
            next = self.host.as_mut().and_then(|host| host.connection.output.try_recv().ok());
        }
        if ended {
            self.host = None;
            self.opening = None;
            self.timers.watch.gone();
            if running.is_some() && self.heard.gone.is_none() && self.heard.end.is_none() {
                self.heard.gone = Some("the agent ended without saying how its turn ended".into());
            }
        }
        if running.is_none() {
            self.heard.keep_raw_only();
            return;
        }
        let texts = self.heard.said.iter().all(|said| matches!(said, Said::Text { .. } | Said::Reasoning { .. }));
        let urgent = !texts || self.heard.end.is_some() || self.heard.gone.is_some() || self.heard.raw.len() > MAX_HEARD;
        let due = self.timers.flushed_at.map(|at| at + self.inner.settings.coalesce);
        match due.filter(|due| !urgent && *due > self.now()) {
            Some(due) => self.timers.flush_at = Some(due),
            None => self.flush().await,
        }
    }

    pub(super) fn take_in(&mut self, output: Output, running: Option<TurnId>) {
        match output {
            Output::Said { raw, mut said } => {
                self.take_raw(&raw);
                if raw.is_empty() {
                    said.retain(|said| !self.was_asked(running, said));
                }
                let expires_at = self.inner.wall().plus(self.inner.settings.question);
                for said in said {
                    if let (Said::AgentSession(id), Some(host)) = (&said, &mut self.host) {
                        host.agent_session = id.clone();
                    }
                    match self.fit(said, expires_at) {
                        // Nobody could answer it, not even with a no.
                        Said::Asked(asked) if asked.options.is_empty() => {
                            self.heard.denied.push(asked.request);
                            self.heard.said.push(Said::Raw(match asked.call {
                                Payload::Json(json) => AgentRaw::Json(json),
                                Payload::Blob(blob) => AgentRaw::Blob(blob),
                            }));
                        }
                        said => self.heard.said.push(said),
                    }
                }
            }
            Output::Done { raw, done } => {
                self.take_raw(&raw);
                let Some(turn) = running else { return };
                self.heard.end = Some(match done {
                    Done::Completed { reason } => {
                        Outcome::Turn(EndTurn { turn, end: TurnEnd::Completed, reason: label(&reason), error: None })
                    }
                    Done::Cancelled => {
                        Outcome::Turn(EndTurn { turn, end: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None })
                    }
                    Done::Failed { code, message } => {
                        let error = TurnError { code: label(&code), message: label(&message), may_have_happened: true };
                        self.failed(turn, TurnFailure::Prompt { end: FailedEnd::Failed, reason: REASON_AGENT_ERROR.into(), error })
                    }
                });
            }
            Output::Gone(fault) => self.heard.gone = Some(label(&fault.to_string())),
        }
    }

    fn take_raw(&mut self, raw: &[u8]) {
        self.heard.raw.extend_from_slice(raw);
        if let Some(host) = &mut self.host {
            host.taken += raw.len() as u64;
        }
    }

    /// What was kept is known by its bytes; a question that came without any is known by its name.
    fn was_asked(&self, turn: Option<TurnId>, said: &Said) -> bool {
        let (Said::Asked(asked), Some(state)) = (said, &self.state) else { return false };
        state.questions.iter().any(|held| Some(held.turn) == turn && held.request.as_ref() == Some(&asked.request))
    }

    /// Brings what an agent said to a size that fits an event; what is longer becomes a blob, and all of it is in the raw bytes.
    fn fit(&mut self, said: Said, expires_at: everkept_core::Timestamp) -> Said {
        let blobs = &mut self.heard.blobs;
        match said {
            Said::ToolStarted { call, name, title, status, input } => Said::ToolStarted {
                call: key(call),
                name: label(&name),
                title: title.map(|title| label(&title)),
                status,
                input: input.map(|input| fit_payload(input, blobs)),
            },
            Said::ToolUpdated { call, status, title, input, output } => Said::ToolUpdated {
                call: key(call),
                status,
                title: title.map(|title| label(&title)),
                input: input.map(|input| fit_payload(input, blobs)),
                output: output.map(|output| fit_payload(output, blobs)),
            },
            Said::Plan { entries } => Said::Plan { entries: fit_payload(entries, blobs) },
            Said::FileChanges(changes) if !is_plain(&changes) => Said::Raw(raw_blob(changes.get().as_bytes(), blobs)),
            Said::Asked(mut asked) => {
                asked.question = QuestionId(self.inner.runtime.ids.uuid());
                asked.expires_at = Some(expires_at);
                asked.title = label(&asked.title);
                asked.call = fit_payload(asked.call, blobs);
                // Which of two is meant by an id that both have, nobody could say.
                let mut ids = BTreeSet::new();
                asked.options.retain(|option| ids.insert(option.id.clone()));
                asked.options.truncate(16);
                for option in &mut asked.options {
                    option.label = label(&option.label);
                }
                Said::Asked(asked)
            }
            Said::Raw(raw) => Said::Raw(match raw {
                AgentRaw::Json(json) if !is_plain(&json) => raw_blob(json.get().as_bytes(), blobs),
                AgentRaw::Text(text) if text.len() > MAX_INLINE => raw_blob(text.as_bytes(), blobs),
                AgentRaw::Json(_) | AgentRaw::Text(_) | AgentRaw::Blob(_) => raw,
            }),
            Said::Text { message, text } => Said::Text { message: message.map(key), text },
            Said::Reasoning { message, text } => Said::Reasoning { message: message.map(key), text },
            Said::Usage(usage) => Said::Usage(self.priced(usage)),
            Said::MessageUsage { message, usage } => Said::MessageUsage { message: message.map(key), usage: self.priced(usage) },
            Said::FileChanges(_) | Said::Compacting(_) | Said::AgentSession(_) | Said::Withdrew { .. } => said,
        }
    }

    /// Prices are ours to say; how many models there are, and what they are made of, is not for an agent to make large.
    fn priced(&self, mut usage: Usage) -> Usage {
        usage.request = usage.request.map(key);
        usage.models = usage.models.into_iter().take(MAX_MODELS).collect();
        for part in usage.models.values_mut() {
            *part = Usage::from_figures(part.figures());
        }
        usage.priced_on = None;
        let turn = self.state.as_ref().and_then(|state| state.turn(state.running?));
        usage.reckon(turn.and_then(|entry| entry.turn.model.as_ref()), &self.inner.settings.prices);
        usage
    }

    /// Commits what was heard. Without space it is kept, the agent is held back, and it is tried again.
    pub(super) async fn flush(&mut self) {
        self.timers.flush_at = None;
        if self.heard.is_empty() {
            return;
        }
        if let Err(failure) = self.load().await {
            tracing::warn!(session = %self.id, %failure, "what the agent said waits");
            self.go_on_later();
            return;
        }
        let running = self.state.as_ref().and_then(|state| state.running);
        let Some(turn) = running.or(self.heard.end.as_ref().map(Outcome::turn)) else {
            self.heard.keep_raw_only();
            return;
        };
        // Taken before the commit's effects run, for they may hear the agent of the next turn.
        let mut heard = std::mem::take(&mut self.heard);
        let ended = heard.end.is_some() || heard.gone.is_some();
        let mut committed = self.commit_heard(turn, &heard, running.is_some()).await;
        if let Err(Failure::Refused(refusal)) = &committed {
            // Something in it is more than an event can say. Its bytes are kept all the same, and the turn goes on or ends.
            tracing::warn!(session = %self.id, %turn, %refusal, "what the agent said is kept as raw bytes only");
            let asked = heard.said.drain(..).filter_map(|said| if let Said::Asked(asked) = said { Some(asked.request) } else { None });
            let asked: Vec<String> = asked.collect();
            heard.denied.extend(asked);
            heard.blobs.clear();
            committed = self.commit_heard(turn, &heard, running.is_some()).await;
        }
        match committed {
            Ok(()) if !ended => {
                self.timers.flushed_at = Some(self.now());
                self.deny(heard.denied).await;
            }
            Ok(()) => {}
            Err(Failure::Store(StoreFault { problem: Problem::Full, .. })) => {
                self.heard = heard;
                self.go_on_later();
            }
            Err(failure) => tracing::warn!(session = %self.id, %turn, %failure, "what the agent said is no longer wanted"),
        }
    }

    /// A question that nobody can be shown is answered no.
    async fn deny(&mut self, requests: Vec<String>) {
        for request in requests {
            self.tell(Failpoint::Deny, AgentOrder::Answer { request, option: None }).await;
        }
    }

    async fn commit_heard(&mut self, turn: TurnId, heard: &Heard, running: bool) -> Result<(), Failure> {
        let mut commands = Vec::new();
        if !heard.said.is_empty() && running {
            commands.push(Command::HearAgent { turn, said: heard.said.clone() });
        }
        if let Some(end) = &heard.end {
            commands.push(match end {
                Outcome::Turn(end) => Command::EndTurn(self.own_end(end.clone())),
                Outcome::Failed(fail) => Command::FailTurn(FailTurn::clone(fail)),
            });
        } else if let Some(message) = &heard.gone {
            commands.push(self.settle_command(REASON_AGENT_EXITED, message.clone()));
        }
        let raw = (!heard.raw.is_empty()).then(|| Raw { session: self.id, turn, bytes: Bytes::copy_from_slice(&heard.raw) });
        let along = Along { raw, blobs: heard.blobs.clone(), ..Along::default() };
        self.carry_out(commands, along, |_, _| Reply::Done).await.map(|_| ())
    }

    /// An agent that stopped on its own was not cancelled by anybody.
    fn own_end(&self, end: EndTurn) -> EndTurn {
        let cancelling = self.state.as_ref().and_then(|state| state.turn(end.turn)).is_some_and(|entry| entry.turn.cancelling);
        match end.end {
            TurnEnd::Cancelled if !cancelling => EndTurn { reason: "agent_cancelled".into(), ..end },
            TurnEnd::Completed
            | TurnEnd::Failed
            | TurnEnd::Cancelled
            | TurnEnd::TimedOut
            | TurnEnd::Interrupted
            | TurnEnd::DeadLettered => end,
        }
    }
}

impl Heard {
    /// Bytes that came between turns are kept with the next one.
    pub(super) fn take_raw(&mut self, session: everkept_core::SessionId, turn: TurnId) -> Option<Raw> {
        let bytes = std::mem::take(&mut self.raw).freeze();
        (!bytes.is_empty()).then_some(Raw { session, turn, bytes })
    }

    fn keep_raw_only(&mut self) {
        self.said.clear();
        self.blobs.clear();
        self.denied.clear();
        self.end = None;
        self.gone = None;
    }
}

/// Whether it may stand in an event, which every reader of JSON has to take: not all of them take any depth, any number, or
/// half of a surrogate.
fn is_plain(json: &Json) -> bool {
    json.get().len() <= MAX_INLINE && json.depth() <= MAX_DEPTH && serde_json::from_str::<serde_json::Value>(json.get()).is_ok()
}

fn fit_payload(payload: Payload, blobs: &mut Vec<(BlobRef, Bytes)>) -> Payload {
    match payload {
        Payload::Json(json) if !is_plain(&json) => Payload::Blob(keep_blob(json.get().as_bytes(), blobs)),
        Payload::Json(_) | Payload::Blob(_) => payload,
    }
}

fn raw_blob(bytes: &[u8], blobs: &mut Vec<(BlobRef, Bytes)>) -> AgentRaw {
    AgentRaw::Blob(keep_blob(bytes, blobs))
}

pub(super) fn keep_blob(bytes: &[u8], blobs: &mut Vec<(BlobRef, Bytes)>) -> BlobRef {
    let blob = BlobRef { id: digest_of(bytes), bytes: bytes.len() as u64 };
    blobs.push((blob, Bytes::copy_from_slice(bytes)));
    blob
}

/// A name of the agent's for something: kept as it is unless it is absurdly long.
fn key(name: String) -> String {
    if name.len() <= MAX_LABEL { name } else { digest_of(&name).to_string() }
}

/// An agent's words, cut to what an event has room for.
pub(super) fn label(text: &str) -> String {
    if text.len() <= MAX_LABEL {
        return text.to_owned();
    }
    let end = (0..=MAX_LABEL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
