//! What an agent says becomes events: texts joined into parts, calls matched to their tools, questions made durable.

use super::limits::check_heard;
use super::{Log, answer};
use crate::{
    AgentRaw, AgentSessionId, AgentSessionSucceeded, Asked, Event, ExpiredBecause, MAX_DELTA_BYTES, MessageAdded, MessageId, MessageUsed,
    OptionKind, PartCompleted, PartDelta, PartId, Payload, PlanUpdated, QuestionAnswered, QuestionAsked, QuestionId, QuestionKind, Refusal,
    Role, Said, SessionUpdated, SuccessionCause, TextDigest, TextKind, ToolCompleted, ToolStarted, ToolStatus, ToolUpdated, TurnId,
    TurnWaiting, UsageReported, split_text,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

pub(super) fn hear(mut log: Log<'_>, turn: TurnId, said: Vec<Said>) -> Result<Vec<Event>, Refusal> {
    if log.state.running != Some(turn) {
        return Err(Refusal::TurnEnded(turn));
    }
    let mut ear = Ear::new(&log, turn);
    for said in said {
        ear.hear(&mut log, said);
    }
    ear.flush(&mut log);
    check_heard(&log.events)?;
    log.done()
}

/// Closes the parts that the running turn left open.
pub(super) fn complete_open_parts(log: &mut Log<'_>, turn: TurnId) {
    if log.state.running == Some(turn) {
        let mut ear = Ear::new(log, turn);
        ear.close_part(log);
    }
}

/// The answer as it grows over one batch.
struct Ear {
    turn: TurnId,
    message: Option<(Option<String>, MessageId)>,
    messages: u64,
    parts: u64,
    open: Option<OpenText>,
    tools: BTreeMap<String, (MessageId, PartId, ToolStatus)>,
    /// The agent session that the turn is in now; none where its context has none yet.
    current: Option<AgentSessionId>,
    /// Open questions of the turn by the agent's request.
    asked: BTreeMap<String, QuestionId>,
}

struct OpenText {
    message: MessageId,
    part: PartId,
    kind: TextKind,
    bytes: u64,
    hash: Sha256,
    /// Text that is not an event yet.
    pending: String,
}

impl Ear {
    fn new(log: &Log<'_>, turn: TurnId) -> Self {
        let state = log.state;
        let entry = state.turn(turn);
        let responses = entry.map_or(&[][..], |entry| &entry.turn.response_messages);
        let message = responses.last().and_then(|id| state.message(*id)).map(|entry| (entry.agent_message.clone(), entry.id));
        let open = state.open_parts.iter().next().map(|(part, open)| OpenText {
            message: open.message,
            part: *part,
            kind: open.kind,
            bytes: open.bytes,
            hash: open.hash.clone(),
            pending: String::new(),
        });
        let tools = state.tools.iter().map(|(call, tool)| (call.clone(), (tool.message, tool.part, tool.status))).collect();
        let pinned = entry.and_then(|entry| state.agent_session(&entry.turn.agent));
        let named = entry.and_then(|entry| entry.turn.agent_session.as_ref());
        let current = pinned.map(|pinned| named.unwrap_or(&pinned.current).clone());
        let asked = state.open_questions(turn).filter_map(|question| Some((question.request.clone()?, question.id))).collect();
        Ear { turn, message, messages: responses.len() as u64, parts: state.parts_made, open, tools, current, asked }
    }

    fn hear(&mut self, log: &mut Log<'_>, said: Said) {
        let turn = Some(self.turn);
        match said {
            Said::Text { message, text } => self.text(log, message, TextKind::Text, &text),
            Said::Reasoning { message, text } => self.text(log, message, TextKind::Reasoning, &text),
            Said::ToolStarted { call, name, title, status, input } => {
                if self.tools.contains_key(&call) {
                    self.update_tool(log, call, Some(status), title, input, None);
                } else {
                    self.start_tool(log, call, name, title, status, input);
                }
            }
            Said::ToolUpdated { call, status, title, input, output } => {
                if !self.tools.contains_key(&call) {
                    self.start_tool(log, call.clone(), call.clone(), title.clone(), ToolStatus::Running, None);
                }
                self.update_tool(log, call, status, title, input, output);
            }
            Said::Plan { entries } => {
                self.flush(log);
                log.add(turn, PlanUpdated { entries });
            }
            Said::Usage(usage) => {
                self.flush(log);
                if !log.state.has_counted(self.turn, &usage) {
                    log.add(turn, UsageReported { usage });
                }
            }
            Said::MessageUsage { message, usage } => {
                self.flush(log);
                if let Some(message) = self.message_of(log, message.as_deref()) {
                    log.add(turn, MessageUsed { message, usage });
                }
            }
            Said::FileChanges(changes) => {
                self.flush(log);
                log.add(turn, SessionUpdated { file_changes: Some(changes), ..SessionUpdated::default() });
            }
            Said::Compacting(compacting) => {
                self.flush(log);
                log.add(turn, SessionUpdated { compacting: Some(compacting), ..SessionUpdated::default() });
            }
            Said::AgentSession(id) => {
                self.flush(log);
                self.succeed(log, id);
            }
            Said::Asked(asked) => {
                self.flush(log);
                self.ask(log, asked);
            }
            Said::Withdrew { request } => {
                self.flush(log);
                if let Some(id) = self.asked.remove(&request) {
                    answer::expired(log, id, self.turn, ExpiredBecause::Withdrawn);
                }
            }
            Said::Raw(raw) => {
                self.flush(log);
                match raw {
                    AgentRaw::Text(text) if text.len() > MAX_DELTA_BYTES => {
                        split_text(&text, MAX_DELTA_BYTES).for_each(|piece| log.add(turn, AgentRaw::Text(piece.into())));
                    }
                    AgentRaw::Text(_) | AgentRaw::Json(_) | AgentRaw::Blob(_) => log.add(turn, raw),
                }
            }
        }
    }

    /// Consecutive pieces of one part become one delta, cut where an event would grow too large.
    fn text(&mut self, log: &mut Log<'_>, key: Option<String>, kind: TextKind, text: &str) {
        if text.is_empty() {
            return;
        }
        let message = self.message_for(log, key);
        if self.open.as_ref().is_none_or(|open| open.message != message || open.kind != kind) {
            self.close_part(log);
            let part = PartId::derive(self.turn.0, "part", self.parts);
            self.parts += 1;
            self.open = Some(OpenText { message, part, kind, bytes: 0, hash: Sha256::new(), pending: String::new() });
        }
        if let Some(open) = &mut self.open {
            open.pending.push_str(text);
        }
    }

    /// The message the agent is writing; another name of the agent's begins another message. One without a name takes
    /// all that follows: what it belongs to, nobody said.
    fn message_for(&mut self, log: &mut Log<'_>, key: Option<String>) -> MessageId {
        if let Some((held, id)) = &self.message
            && (key.is_none() || held.is_none() || key == *held)
        {
            return *id;
        }
        self.close_part(log);
        let id = MessageId::derive(self.turn.0, "message", self.messages);
        self.messages += 1;
        let agent_message = key.clone();
        log.add(Some(self.turn), MessageAdded { message: id, role: Role::Assistant, parts: Vec::new(), agent_message });
        self.message = Some((key, id));
        id
    }

    /// The turn's message of that name. Calls without a word have no message of their own: they stand in the one before.
    fn message_of(&self, log: &Log<'_>, key: Option<&str>) -> Option<MessageId> {
        let (held, current) = self.message.as_ref()?;
        let of_turn = log.state.turn(self.turn).map_or(&[][..], |entry| &entry.turn.response_messages);
        let mut earlier = of_turn.iter().filter_map(|id| log.state.message(*id));
        let named = earlier.find(|message| key.is_some() && held.as_deref() != key && message.agent_message.as_deref() == key);
        Some(named.map_or(*current, |message| message.id))
    }

    fn flush(&mut self, log: &mut Log<'_>) {
        let Some(open) = &mut self.open else { return };
        let text = std::mem::take(&mut open.pending);
        open.bytes += text.len() as u64;
        open.hash.update(&text);
        let (message, part, kind) = (open.message, open.part, open.kind);
        for piece in split_text(&text, MAX_DELTA_BYTES) {
            log.add(Some(self.turn), PartDelta { message, part, kind, text: piece.into() });
        }
    }

    fn close_part(&mut self, log: &mut Log<'_>) {
        self.flush(log);
        if let Some(open) = self.open.take() {
            let digest = TextDigest(open.hash.finalize().into());
            log.add(Some(self.turn), PartCompleted { message: open.message, part: open.part, bytes: open.bytes, digest });
        }
    }

    fn start_tool(
        &mut self,
        log: &mut Log<'_>,
        call: String,
        name: String,
        title: Option<String>,
        status: ToolStatus,
        input: Option<Payload>,
    ) {
        let key = self.message.as_ref().and_then(|(key, _)| key.clone());
        let message = self.message_for(log, key);
        self.close_part(log);
        let part = PartId::derive(self.turn.0, "part", self.parts);
        self.parts += 1;
        self.tools.insert(call.clone(), (message, part, status));
        log.add(Some(self.turn), ToolStarted { message, part, call, name, title, status, input });
    }

    fn update_tool(
        &mut self,
        log: &mut Log<'_>,
        call: String,
        status: Option<ToolStatus>,
        title: Option<String>,
        input: Option<Payload>,
        output: Option<Payload>,
    ) {
        self.flush(log);
        let Some(tool) = self.tools.get_mut(&call) else { return };
        let status = status.unwrap_or(tool.2);
        tool.2 = status;
        let (message, part) = (tool.0, tool.1);
        match status {
            ToolStatus::Pending | ToolStatus::Running => {
                log.add(Some(self.turn), ToolUpdated { message, part, status, title, input, output });
            }
            ToolStatus::Completed | ToolStatus::Failed => {
                log.add(Some(self.turn), ToolCompleted { message, part, status, title, input, output });
            }
        }
    }

    /// An id the agent announces is listed after the pinned one. It never replaces one that was asked for.
    fn succeed(&mut self, log: &mut Log<'_>, id: AgentSessionId) {
        let Some(entry) = log.state.turn(self.turn) else { return };
        let agent = entry.turn.agent.clone();
        if self.current.as_ref().is_none_or(|current| *current == id) {
            return;
        }
        let cause = if entry.turn.agent_session.is_some() { SuccessionCause::Explicit } else { SuccessionCause::Agent };
        self.current = Some(id.clone());
        log.add(Some(self.turn), AgentSessionSucceeded { agent, agent_session: id, cause });
    }

    fn ask(&mut self, log: &mut Log<'_>, asked: Asked) {
        let turn = Some(self.turn);
        let state = log.state;
        let agent = state.turn(self.turn).map(|entry| &entry.turn.agent);
        let allowed = asked.options.iter().find(|option| option.kind == OptionKind::AllowOnce);
        let allowed = allowed.or_else(|| asked.options.iter().find(|option| option.kind == OptionKind::AllowAlways));
        let rule = state.session.rules.iter().find(|rule| Some(&rule.agent) == agent && rule.digest == asked.digest);
        let by_rule = rule.filter(|_| asked.kind == QuestionKind::Permission).map(|rule| rule.id);
        let by_rule = by_rule.zip(allowed.map(|option| option.id.clone()));
        let (question, request) = (asked.question, asked.request.clone());
        log.add(
            turn,
            QuestionAsked {
                question,
                kind: asked.kind,
                title: asked.title,
                call: asked.call,
                digest: asked.digest,
                request: Some(asked.request),
                options: asked.options,
                expires_at: asked.expires_at,
            },
        );
        match by_rule {
            Some((rule, option)) => {
                log.add(turn, QuestionAnswered { question, option, note: None, rule: None, by_rule: Some(rule) });
            }
            None => {
                self.asked.insert(request, question);
                log.add(turn, TurnWaiting { question });
            }
        }
    }
}
