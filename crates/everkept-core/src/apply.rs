//! The only way a session's state changes: live, in replay and in recovery alike.
//!
//! Never fails and never refuses: what is in the log has happened.

use crate::state::{MessageEntry, OpenPart, OpenTool, Slot, SlotKind, State, TurnEntry};
use crate::{
    AddedPart, AgentSession, AgentSessionKept, AgentSessionPutBack, AgentThread, Answer, Body, Event, HiddenTurn, KeptSession,
    MessageAdded, Question, QuestionState, Role, SessionForked, SessionState, SessionUpdated, SuccessionCause, Successor, TextKind,
    ToolStatus, Turn, TurnEdited, TurnEnd, TurnId, TurnQueued, TurnState,
};
use sha2::{Digest, Sha256};

impl State {
    /// Takes the next event of the log.
    pub fn apply(&mut self, event: &Event) {
        self.head += 1;
        self.session.context = event.context;
        match &event.body {
            Body::SessionCreated(data) => {
                let session = &mut self.session;
                session.id = event.session;
                session.title.clone_from(&data.title);
                session.resource.clone_from(&data.resource);
                session.thread.clone_from(&data.thread);
                session.directory.clone_from(&data.directory);
                session.agent.clone_from(&data.agent);
                session.model.clone_from(&data.model);
                session.parent = data.parent;
                session.metadata = data.metadata.clone();
                session.created_at = event.at;
            }
            Body::SessionUpdated(data) => self.update(event, data),
            Body::SessionForked(data) => self.become_fork(event, data),
            Body::SessionReverted(data) => {
                match (data.first_hidden, self.session.revert) {
                    (Some(_), None) => self.reverts.push((self.head, None)),
                    (None, _) => self.end_revert(),
                    (Some(_), Some(_)) => {}
                }
                self.session.revert = data.first_hidden;
                self.list_hidden();
            }
            Body::SessionArchived(data) => self.session.archived_at = data.archived.then_some(event.at),
            Body::SessionDeleted(data) => (self.session.deleted_at, self.session.purge_at) = (Some(event.at), data.purge_at),
            Body::SessionRestored(_) => (self.session.deleted_at, self.session.purge_at) = (None, None),
            Body::AgentSessionPinned(data) => {
                if self.agent_session(&data.agent).is_none() {
                    self.session.agent_sessions.push(AgentSession {
                        agent: data.agent.clone(),
                        context: event.context,
                        first: data.agent_session.clone(),
                        current: data.agent_session.clone(),
                        successors: Vec::new(),
                    });
                }
            }
            Body::AgentSessionSucceeded(data) => {
                let context = event.context;
                let pinned = self.session.agent_sessions.iter_mut().find(|it| it.agent == data.agent && it.context == context);
                if let Some(pinned) = pinned {
                    match data.cause {
                        SuccessionCause::Agent | SuccessionCause::Revert => pinned.current = data.agent_session.clone(),
                        SuccessionCause::Explicit => {}
                    }
                    let id = data.agent_session.clone();
                    pinned.successors.push(Successor { id, cause: data.cause, turn: event.turn, at: event.at });
                }
            }
            Body::AgentSessionKept(data) => self.keep(event, data),
            Body::AgentSessionPutBack(data) => self.put_back(event, data),
            Body::ContextCleared(_) => self.clear(),
            Body::TurnQueued(data) => self.queue_turn(event, data),
            Body::TurnEdited(data) => self.edit_turn(event, data),
            Body::TurnDelayed(data) => self.with_turn(event, |turn| {
                turn.tries.opening = data.tries;
                turn.tries.not_before = Some(data.until);
            }),
            Body::TurnStarted(_) => self.start_turn(event),
            Body::TurnWaiting(_) => self.with_turn(event, |turn| turn.state = TurnState::Waiting),
            Body::TurnCancelling(_) => self.with_turn(event, |turn| turn.cancelling = true),
            Body::TurnDismissed(_) => self.settle_letter(event),
            Body::TurnRetried(data) => {
                self.settle_letter(event);
                self.next_attempt = event.turn.and_then(|id| self.turn(id)).map(|entry| (data.by, entry.slot));
            }
            Body::TurnEnded(data) => self.end_turn(event, data.state, &data.reason, data.error.clone()),
            Body::MessageAdded(data) => self.add_message(event, data),
            Body::PartDelta(data) => {
                if !self.open_parts.contains_key(&data.part) {
                    self.parts_made += 1;
                }
                let fresh = || OpenPart { message: data.message, kind: data.kind, bytes: 0, hash: Sha256::new() };
                let hash = self.open_parts.entry(data.part).or_insert_with(fresh);
                hash.hash.update(&data.text);
                hash.bytes += data.text.len() as u64;
                match data.kind {
                    TextKind::Text => self.say(event.turn, data.message, &data.text),
                    TextKind::Reasoning => {}
                }
            }
            Body::PartCompleted(data) => {
                self.open_parts.remove(&data.part);
                self.settle_message(data.message);
            }
            Body::PlanUpdated(_) | Body::MessageUsed(_) | Body::AgentRaw(_) => {}
            Body::ToolStarted(data) => {
                self.parts_made += 1;
                let tool = OpenTool { message: data.message, part: data.part, status: data.status };
                self.tools.insert(data.call.clone(), tool);
            }
            Body::ToolUpdated(data) => self.with_tool(data.part, data.status),
            Body::ToolCompleted(data) => self.with_tool(data.part, data.status),
            Body::UsageReported(data) => {
                let usage = data.usage.clone();
                self.with_turn(event, |turn| turn.usage = Some(usage));
            }
            Body::QuestionAsked(data) => {
                if let Some(turn) = event.turn {
                    self.questions.push(Question {
                        id: data.question,
                        session: event.session,
                        turn,
                        kind: data.kind,
                        title: data.title.clone(),
                        call: data.call.clone(),
                        digest: data.digest,
                        request: data.request.clone(),
                        options: data.options.clone(),
                        state: QuestionState::Open,
                        answer: None,
                        asked_at: event.at,
                        expires_at: data.expires_at,
                    });
                }
            }
            Body::QuestionAnswered(data) => {
                let answer = Answer { option: data.option.clone(), note: data.note.clone(), at: event.at };
                self.close_question(event, data.question, QuestionState::Answered, Some(answer));
                self.session.rules.extend(data.rule.clone());
            }
            Body::QuestionExpired(data) => self.close_question(event, data.question, QuestionState::Expired, None),
            Body::RuleRemoved(data) => self.session.rules.retain(|rule| rule.id != data.rule),
        }
        self.show(event);
    }

    fn update(&mut self, event: &Event, data: &SessionUpdated) {
        let session = &mut self.session;
        if let Some(title) = &data.title {
            session.title.clone_from(title);
        }
        if let Some(agent) = &data.agent {
            session.agent.clone_from(agent);
        }
        if let Some(model) = &data.model {
            session.model.clone_from(model);
        }
        if let Some(thread) = &data.thread {
            session.thread.clone_from(thread);
        }
        if let Some(metadata) = &data.metadata {
            session.metadata = metadata.clone();
        }
        if let Some(changes) = &data.file_changes {
            session.file_changes = (changes.get() != "null").then(|| changes.clone());
        }
        if let Some(compacting) = data.compacting {
            session.compacting_at = compacting.then_some(event.at);
        }
    }

    fn keep(&mut self, event: &Event, data: &AgentSessionKept) {
        let through = event.turn.and_then(|turn| self.turn(turn)).and_then(|entry| entry.started_seq).unwrap_or(0);
        let ours = |kept: &KeptSession| kept.agent == data.agent && kept.agent_session == data.agent_session;
        let at = self.kept.iter().position(ours).unwrap_or_else(|| {
            let (agent, agent_session) = (data.agent.clone(), data.agent_session.clone());
            self.kept.push(KeptSession { agent, agent_session, files: Vec::new(), through });
            self.kept.len() - 1
        });
        let kept = &mut self.kept[at];
        kept.through = through;
        for file in &data.files {
            kept.add(file);
        }
    }

    /// What was said after the copy is not in it.
    fn put_back(&mut self, event: &Event, data: &AgentSessionPutBack) {
        let Some(through) = self.kept(&data.agent, &data.agent_session).map(|kept| kept.through) else { return };
        let named = self.named_beside_the_pin(&data.agent, Some(&data.agent_session));
        if let Some(thread) = self.threads.iter_mut().find(|thread| thread.is_of(&data.agent, event.context, named.as_ref())) {
            thread.seen_seq = thread.seen_seq.min(through);
        }
    }

    /// What waits will be said in the new context. The parent's agent sessions are of the old one.
    fn clear(&mut self) {
        self.clears.push(self.head);
        self.origins.clear();
        for id in &self.queue {
            let Some(&at) = self.turn_index.get(id) else { continue };
            let slot = &mut self.slots[self.turns[at].slot];
            // An attempt goes to the new context when it begins; until then the place is the older attempt's.
            if matches!(&slot.kind, SlotKind::Turns(attempts) if attempts.len() == 1) {
                slot.context = self.session.context;
            }
        }
    }

    /// What stood until the cut is the parent's; from here on the session is the child.
    fn become_fork(&mut self, event: &Event, data: &SessionForked) {
        for turn in std::mem::take(&mut self.queue).into_iter().chain(self.running.take()) {
            self.leave_behind(event, turn);
        }
        self.settle_revert();
        // The parent's dead letters are taken up there.
        self.turns.iter_mut().for_each(|entry| entry.dead_letter = false);
        // What an agent that forks its session knows already is not told to it again.
        let forks = |thread: &AgentThread| data.origins.iter().any(|origin| origin.agent == thread.agent);
        self.threads.retain(|thread| thread.context == event.context && forks(thread));
        self.questions.clear();
        self.open_parts.clear();
        self.tools.clear();
        self.origins.clone_from(&data.origins);
        self.list_hidden();
        let session = &mut self.session;
        session.id = event.session;
        session.title.clone_from(&data.title);
        session.thread.clone_from(&data.thread);
        session.directory.clone_from(&data.directory);
        session.agent.clone_from(&data.agent);
        session.model.clone_from(&data.model);
        session.metadata = data.metadata.clone();
        session.parent = Some(data.parent);
        session.agent_sessions.clear();
        session.usage = Default::default();
        session.file_changes = None;
        session.rules.clear();
        session.compacting_at = None;
        session.archived_at = None;
        session.deleted_at = None;
        session.purge_at = None;
        session.created_at = event.at;
        session.updated_at = event.at;
    }

    /// A turn that was open at the cut goes on in the parent; in the child it ends before it began.
    fn leave_behind(&mut self, event: &Event, id: TurnId) {
        let head = self.head;
        let Some(entry) = self.turn_mut(id) else { return };
        entry.turn.state = TurnState::Cancelled;
        entry.turn.reason = Some(crate::REASON_FORKED.to_owned());
        entry.turn.ended_at = Some(event.at);
        entry.ended_seq = Some(head);
        let slot = entry.slot;
        self.drop_from(slot, id);
    }

    fn queue_turn(&mut self, event: &Event, data: &TurnQueued) {
        let Some(id) = event.turn else { return };
        self.settle_revert();
        let at = self.turns.len();
        let earlier = self.next_attempt.take().filter(|(by, _)| *by == id).map(|(_, slot)| slot);
        let slot = match earlier {
            Some(slot) => {
                if let SlotKind::Turns(attempts) = &mut self.slots[slot].kind {
                    attempts.push(at);
                }
                slot
            }
            None => {
                self.slots.push(Slot { context: event.context, hidden_at: None, kind: SlotKind::Turns(vec![at]) });
                self.slots.len() - 1
            }
        };
        self.turns.push(TurnEntry {
            turn: Turn {
                id,
                session: event.session,
                context: event.context,
                state: TurnState::Queued,
                reason: None,
                agent: data.agent.clone(),
                agent_because: data.agent_because,
                model: data.model.clone(),
                model_because: data.model_because,
                attempt: data.attempt,
                continues: data.continues,
                agent_session: data.agent_session.clone(),
                request_message: data.request_message,
                response_messages: Vec::new(),
                cancelling: false,
                tries: data.tries.unwrap_or_default(),
                queued_at: event.at,
                started_at: None,
                ended_at: None,
                usage: None,
                error: None,
            },
            queued_seq: self.head,
            started_seq: None,
            ended_seq: None,
            dead_letter: false,
            answer: Sha256::new(),
            answered: false,
            slot,
        });
        self.turn_index.insert(id, at);
        match data.tries {
            // The conversation goes on with what was asked first.
            Some(_) => self.queue.push_front(id),
            None => self.queue.push_back(id),
        }
        if earlier.is_some() {
            self.list_hidden();
        }
    }

    fn edit_turn(&mut self, event: &Event, data: &TurnEdited) {
        let mut replaced = None;
        self.with_turn(event, |turn| {
            if let Some(message) = data.request_message {
                replaced = turn.request_message.replace(message);
            }
            if let Some(agent) = &data.agent {
                // An agent session that was asked for is its agent's own.
                turn.agent_session = turn.agent_session.take().filter(|_| turn.agent == *agent);
                turn.agent.clone_from(agent);
            }
            if let Some(because) = data.agent_because {
                turn.agent_because = because;
            }
            if let Some(model) = &data.model {
                turn.model.clone_from(model);
            }
            if let Some(because) = data.model_because {
                turn.model_because = because;
            }
        });
        self.session.replaced.extend(replaced);
    }

    fn start_turn(&mut self, event: &Event) {
        let Some(id) = event.turn else { return };
        self.queue.retain(|queued| *queued != id);
        self.running = Some(id);
        self.tools.clear();
        self.open_parts.clear();
        self.parts_made = 0;
        let head = self.head;
        let Some(entry) = self.turn_mut(id) else { return };
        entry.turn.state = TurnState::Running;
        entry.turn.context = event.context;
        entry.turn.started_at = Some(event.at);
        entry.started_seq = Some(head);
        let (slot, agent) = (entry.slot, entry.turn.agent.clone());
        let explicit = entry.turn.agent_session.clone();
        self.slots[slot].context = event.context;
        let named = self.named_beside_the_pin(&agent, explicit.as_ref());
        match self.threads.iter_mut().find(|thread| thread.is_of(&agent, event.context, named.as_ref())) {
            Some(thread) => {
                thread.seen_seq = head;
                thread.stale = false;
            }
            None => self.threads.push(AgentThread { agent, context: event.context, named, seen_seq: head, stale: false }),
        }
    }

    fn end_turn(&mut self, event: &Event, end: TurnEnd, reason: &str, error: Option<crate::TurnError>) {
        let Some(id) = event.turn else { return };
        self.queue.retain(|queued| *queued != id);
        if self.running == Some(id) {
            self.running = None;
            self.open_parts.clear();
            self.tools.clear();
            self.session.compacting_at = None;
        }
        let head = self.head;
        let Some(entry) = self.turn_mut(id) else { return };
        entry.turn.state = end.into();
        entry.turn.reason = Some(reason.to_owned());
        entry.turn.error = error;
        entry.turn.ended_at = Some(event.at);
        entry.ended_seq = Some(head);
        entry.dead_letter = end == TurnEnd::DeadLettered;
        let (slot, dropped) = (entry.slot, entry.started_seq.is_none() && reason == crate::REASON_DROPPED);
        let usage = entry.turn.usage.clone();
        let responses = entry.turn.response_messages.clone();
        for message in responses {
            if let Some(&at) = self.message_index.get(&message) {
                self.messages[at].last_seq = Some(head);
            }
        }
        if let Some(usage) = usage {
            self.session.usage.add(&usage);
        }
        if dropped {
            self.drop_from(slot, id);
        }
    }

    /// A turn that was taken back before it began leaves the conversation, its request too unless an older attempt has it.
    fn drop_from(&mut self, slot: usize, id: TurnId) {
        let (at, head) = (self.turn_index.get(&id).copied(), self.head);
        if let SlotKind::Turns(attempts) = &mut self.slots[slot].kind {
            if attempts.len() == 1 {
                self.slots[slot].hidden_at = Some(head);
            } else {
                attempts.retain(|attempt| Some(*attempt) != at);
                self.give_back_request(slot, id);
            }
        }
        self.list_hidden();
    }

    /// An edit of a dropped attempt had replaced a request that the older attempt still answers.
    fn give_back_request(&mut self, slot: usize, dropped: TurnId) {
        let SlotKind::Turns(attempts) = &self.slots[slot].kind else { return };
        let held = attempts.last().and_then(|&at| self.turns[at].turn.request_message);
        let edited = self.turn(dropped).and_then(|entry| entry.turn.request_message).filter(|edited| Some(*edited) != held);
        self.session.replaced.retain(|replaced| Some(*replaced) != held);
        self.session.replaced.extend(edited);
    }

    fn add_message(&mut self, event: &Event, data: &MessageAdded) {
        let at = self.messages.len();
        let complete = event.turn.is_none() || data.role != Role::Assistant;
        self.messages.push(MessageEntry {
            id: data.message,
            turn: event.turn,
            role: data.role,
            context: event.context,
            first_seq: self.head,
            last_seq: complete.then_some(self.head),
            agent_message: data.agent_message.clone(),
            text: Sha256::new(),
        });
        self.message_index.insert(data.message, at);
        for part in &data.parts {
            match part {
                AddedPart::Text { text, .. } => self.messages[at].text.update(text),
                AddedPart::File(_) => {}
            }
        }
        match event.turn {
            None => {
                self.settle_revert();
                self.slots.push(Slot { context: event.context, hidden_at: None, kind: SlotKind::Recorded(at) });
            }
            Some(turn) => {
                if let (Role::Assistant, Some(entry)) = (data.role, self.turn_mut(turn)) {
                    entry.turn.response_messages.push(data.message);
                }
            }
        }
    }

    fn say(&mut self, turn: Option<TurnId>, message: crate::MessageId, text: &str) {
        if let Some(&at) = self.message_index.get(&message) {
            self.messages[at].text.update(text);
            if self.messages[at].role != Role::Assistant {
                return;
            }
        }
        if let Some(entry) = turn.and_then(|turn| self.turn_mut(turn)) {
            entry.answer.update(text);
            entry.answered = true;
        }
    }

    /// A long text of a request or recorded message came as deltas: it is whole with its last part.
    fn settle_message(&mut self, message: crate::MessageId) {
        let head = self.head;
        if let Some(&at) = self.message_index.get(&message)
            && let Some(last) = &mut self.messages[at].last_seq
        {
            *last = head;
        }
    }

    fn settle_letter(&mut self, event: &Event) {
        if let Some(entry) = event.turn.and_then(|id| self.turn_mut(id)) {
            entry.dead_letter = false;
        }
    }

    fn with_turn(&mut self, event: &Event, change: impl FnOnce(&mut Turn)) {
        if let Some(entry) = event.turn.and_then(|id| self.turn_mut(id)) {
            change(&mut entry.turn);
        }
    }

    fn with_tool(&mut self, part: crate::PartId, status: ToolStatus) {
        if let Some(tool) = self.tools.values_mut().find(|tool| tool.part == part) {
            tool.status = status;
        }
    }

    fn close_question(&mut self, event: &Event, id: crate::QuestionId, state: QuestionState, answer: Option<Answer>) {
        if let Some(question) = self.questions.iter_mut().find(|question| question.id == id) {
            question.state = state;
            question.answer = answer;
        }
        let Some(turn) = event.turn else { return };
        if self.open_questions(turn).next().is_none() {
            self.with_turn(event, |turn| {
                if turn.state == TurnState::Waiting {
                    turn.state = TurnState::Running;
                }
            });
        }
    }

    /// A revert becomes final when something new is said after it.
    fn settle_revert(&mut self) {
        if self.session.revert.is_none() {
            return;
        }
        let first = self.first_reverted_slot();
        let shown = |slot: &&Slot| slot.hidden_at.is_none();
        let knows = |thread: &AgentThread| self.slots[first..].iter().filter(shown).any(|slot| self.knows(thread, slot));
        let stale: Vec<bool> = self.threads.iter().map(knows).collect();
        for (thread, stale) in self.threads.iter_mut().zip(stale) {
            thread.stale |= stale;
        }
        let head = self.head;
        for slot in &mut self.slots[first..] {
            slot.hidden_at.get_or_insert(head);
        }
        self.end_revert();
        self.session.revert = None;
        self.origins.clear();
        self.list_hidden();
    }

    fn end_revert(&mut self) {
        let head = self.head;
        if let Some((_, until @ None)) = self.reverts.last_mut() {
            *until = Some(head);
        }
    }

    /// Which turns a reader leaves out, read off the slots.
    fn list_hidden(&mut self) {
        let reverted = self.first_reverted_slot();
        let mut hidden = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let SlotKind::Turns(attempts) = &slot.kind else { continue };
            let gone = slot.hidden_at.is_some() || at >= reverted;
            let last = attempts.last().map(|&at| self.turns[at].turn.id);
            for &attempt in attempts {
                let turn = self.turns[attempt].turn.id;
                if gone {
                    hidden.push(HiddenTurn { turn, by: None });
                } else if last != Some(turn) {
                    hidden.push(HiddenTurn { turn, by: last });
                }
            }
        }
        self.session.hidden = hidden;
    }

    /// What a reader is shown of the session besides: its state and when it was last active.
    fn show(&mut self, event: &Event) {
        if event.body.is_flow() {
            return;
        }
        self.session.updated_at = self.session.updated_at.max(event.at);
        let waiting = |id: TurnId| self.turn(id).is_some_and(|entry| entry.turn.state == TurnState::Waiting);
        self.session.state = match self.current_turn() {
            Some(id) if waiting(id) => SessionState::Waiting,
            Some(_) => SessionState::Running,
            None => SessionState::Idle,
        };
    }
}
