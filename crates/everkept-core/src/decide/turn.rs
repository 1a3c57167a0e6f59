//! A turn's life: queued, begun, cancelled, tried again, ended. One end, once.

use super::limits::{check_not_empty, check_parts, fit_one_event, short_error, short_reason};
use super::{Log, answer, hear, lifecycle::is_queued};
use crate::state::TurnEntry;
use crate::{
    AddedPart, AgainTurn, AgentSessionBecause, AgentSessionPinned, AgentSessionSucceeded, BeginTurn, EditTurn, EndTurn, Event,
    ExpiredBecause, FilePart, IfBusy, Json, MAX_DELTA_BYTES, MAX_QUEUE, MessageAdded, MessageId, NewMessage, NewPart, OptionKind,
    PartCompleted, PartDelta, PartId, Payload, PinnedBecause, QuestionAsked, QuestionId, QuestionKind, QuestionOption, REASON_CANCELLED,
    REASON_DROPPED, REVIEW_CONTINUE, REVIEW_LEAVE, REVIEW_REDO, Refusal, RetryCause, Role, SessionUpdated, SubmitTurn, SuccessionCause,
    TextKind, Timestamp, TurnCancelling, TurnEdited, TurnEnd, TurnEnded, TurnError, TurnId, TurnQueued, TurnRetried, TurnStarted,
    TurnState, digest_of, resolve_agent, resolve_model, split_text,
};

pub(super) fn submit(mut log: Log<'_>, command: SubmitTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    check_open(&log)?;
    let state = log.state;
    check_not_empty(&command.parts)?;
    check_parts(&command.parts)?;
    command.earlier.iter().try_for_each(|message| check_parts(&message.parts))?;
    let (agent, agent_because) = resolve_agent(state, command.agent.as_ref(), &command.known)?;
    let (model, model_because) = resolve_model(state, &agent, command.model.as_ref(), &command.known);
    if let Some(current) = state.current_turn() {
        match command.if_busy {
            IfBusy::Reject => return Err(Refusal::SessionBusy(current)),
            IfBusy::Queue | IfBusy::Interrupt => {}
        }
        // History is recorded between turns only: in the middle of one it has no place.
        if !command.earlier.is_empty() {
            return Err(Refusal::SessionBusy(current));
        }
        match command.if_busy {
            IfBusy::Interrupt => interrupt_all(&mut log),
            IfBusy::Queue | IfBusy::Reject => check_queue(&log)?,
        }
    }
    for message in &command.earlier {
        add_message(&mut log, None, message.id, message.role, &message.parts);
    }
    name_after(&mut log, &command.parts);
    let turn = Some(command.turn);
    log.add(
        turn,
        TurnQueued {
            request_message: Some(command.message),
            agent,
            agent_because,
            model,
            model_because,
            attempt: 1,
            continues: None,
            agent_session: command.agent_session,
            tries: None,
        },
    );
    add_message(&mut log, turn, command.message, Role::User, &command.parts);
    log.done()
}

pub(super) fn record(mut log: Log<'_>, messages: Vec<NewMessage>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    if let Some(current) = log.state.current_turn() {
        return Err(Refusal::SessionBusy(current));
    }
    if let Some(message) = messages.iter().find(|message| message.role == Role::User) {
        name_after(&mut log, &message.parts);
    }
    for message in &messages {
        check_not_empty(&message.parts)?;
        check_parts(&message.parts)?;
        add_message(&mut log, None, message.id, message.role, &message.parts);
    }
    log.done()
}

pub(super) fn edit(mut log: Log<'_>, command: EditTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, command.turn)?;
    if !is_queued(entry.turn.state) {
        return Err(Refusal::TurnNotQueued(command.turn));
    }
    let mut edited = TurnEdited::default();
    if let Some(agent) = &command.agent {
        let (agent, because) = resolve_agent(log.state, Some(agent), &command.known)?;
        edited.agent = Some(agent);
        edited.agent_because = Some(because);
    }
    let agent = edited.agent.as_ref().unwrap_or(&entry.turn.agent);
    if command.model.is_some() || *agent != entry.turn.agent {
        let (model, because) = resolve_model(log.state, agent, command.model.as_ref(), &command.known);
        edited.model = Some(model);
        edited.model_because = Some(because);
    }
    let turn = Some(command.turn);
    match command.request {
        Some(_) if entry.turn.continues.is_some() => {
            let problem = "cannot be edited: the turn continues another and asks nothing itself";
            return Err(Refusal::invalid("input", problem));
        }
        Some((message, parts)) => {
            check_not_empty(&parts)?;
            check_parts(&parts)?;
            edited.request_message = Some(message);
            log.add(turn, edited);
            add_message(&mut log, turn, message, Role::User, &parts);
        }
        None if edited != TurnEdited::default() => log.add(turn, edited),
        None => {}
    }
    log.done()
}

pub(super) fn drop_queued(mut log: Log<'_>, turn: TurnId) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, turn)?;
    if !is_queued(entry.turn.state) {
        return Err(Refusal::TurnNotQueued(turn));
    }
    log.add(Some(turn), TurnEnded { state: TurnEnd::Cancelled, reason: REASON_DROPPED.into(), error: None });
    log.done()
}

pub(super) fn cancel(mut log: Log<'_>, turn: TurnId) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, turn)?;
    match entry.turn.state {
        TurnState::Queued => {
            log.add(Some(turn), TurnEnded { state: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None });
        }
        TurnState::Running | TurnState::Waiting => {
            if !entry.turn.cancelling {
                log.add(Some(turn), TurnCancelling {});
            }
        }
        // Cancelling what is over changes nothing; the caller is shown how it ended.
        TurnState::Completed
        | TurnState::Failed
        | TurnState::Cancelled
        | TurnState::TimedOut
        | TurnState::Interrupted
        | TurnState::DeadLettered => {}
    }
    log.done()
}

/// Tries a turn that did not complete again. Pressed twice, it is one new attempt.
pub(super) fn retry(mut log: Log<'_>, command: AgainTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let asked = find(&log, command.turn)?;
    let latest = log.state.latest_attempt(command.turn).unwrap_or(asked);
    if latest.turn.state.is_open() {
        return log.done();
    }
    if latest.turn.state == TurnState::Completed {
        return if latest.turn.id == asked.turn.id { Err(Refusal::TurnCompleted(asked.turn.id)) } else { log.done() };
    }
    let latest = latest.clone();
    again(&mut log, &latest, &command, RetryCause::Retry)?;
    log.done()
}

pub(super) fn redo(mut log: Log<'_>, command: AgainTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let asked = find(&log, command.turn)?;
    let latest = log.state.latest_attempt(command.turn).unwrap_or(asked);
    if latest.turn.state.is_open() {
        return log.done();
    }
    if latest.turn.state != TurnState::Completed {
        return Err(Refusal::TurnNotCompleted(latest.turn.id));
    }
    let latest = latest.clone();
    again(&mut log, &latest, &command, RetryCause::Redo)?;
    log.done()
}

/// A new turn that goes on where `turn` stopped, for the same request.
pub(super) fn go_on(mut log: Log<'_>, command: AgainTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let asked = find(&log, command.turn)?.clone();
    if asked.turn.state.is_open() {
        return Err(Refusal::TurnOpen(command.turn));
    }
    if !log.state.is_visible(command.turn) || log.state.is_superseded(command.turn) {
        return Err(Refusal::TurnHidden(command.turn));
    }
    let open = |entry: &&TurnEntry| entry.turn.continues == Some(command.turn) && entry.turn.state.is_open();
    if log.state.turns.iter().any(|entry| open(&entry)) {
        return log.done();
    }
    check_open(&log)?;
    check_queue(&log)?;
    withdraw_review(&mut log, command.turn);
    let queued = queued_like(&log, &asked, &command, 1, Some(command.turn))?;
    log.add(Some(command.by), queued);
    log.done()
}

pub(super) fn begin(mut log: Log<'_>, command: BeginTurn) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, command.turn)?;
    if !log.state.queue.contains(&command.turn) {
        return Err(Refusal::TurnNotQueued(command.turn));
    }
    // First come, first served: the queue is no heap to choose from.
    if let Some(first) = log.state.current_turn().filter(|first| *first != command.turn) {
        return Err(Refusal::SessionBusy(first));
    }
    let agent = entry.turn.agent.clone();
    let turn = Some(command.turn);
    let id = command.agent_session.clone();
    match log.state.agent_session(&agent) {
        None => {
            let because = match command.because {
                AgentSessionBecause::Request => PinnedBecause::Request,
                AgentSessionBecause::Forked => PinnedBecause::Forked,
                AgentSessionBecause::Inherited
                | AgentSessionBecause::Detected
                | AgentSessionBecause::Preserved
                | AgentSessionBecause::Reverted => PinnedBecause::Detected,
            };
            log.add(turn, AgentSessionPinned { agent, agent_session: id, because });
        }
        Some(pinned) if pinned.current != id => {
            let cause = match command.because {
                AgentSessionBecause::Request => SuccessionCause::Explicit,
                AgentSessionBecause::Reverted => SuccessionCause::Revert,
                AgentSessionBecause::Detected
                | AgentSessionBecause::Forked
                | AgentSessionBecause::Inherited
                | AgentSessionBecause::Preserved => SuccessionCause::Agent,
            };
            log.add(turn, AgentSessionSucceeded { agent, agent_session: id, cause });
        }
        Some(_) => {}
    }
    log.add(
        turn,
        TurnStarted {
            agent_session: command.agent_session,
            agent_session_because: command.because,
            given_messages: command.given.messages.len() as u64,
            given: command.given.runs,
            model_set: command.model_set,
        },
    );
    log.done()
}

pub(super) fn end(mut log: Log<'_>, command: EndTurn) -> Result<Vec<Event>, Refusal> {
    let entry = find(&log, command.turn)?;
    if !entry.turn.state.is_open() {
        return Err(Refusal::TurnEnded(command.turn));
    }
    check_end(entry, command.end)?;
    hear::complete_open_parts(&mut log, command.turn);
    let open: Vec<QuestionId> = log.state.open_questions(command.turn).map(|question| question.id).collect();
    for question in open {
        answer::expired(&mut log, question, command.turn, ExpiredBecause::TurnEnded);
    }
    let (reason, error) = (short_reason(command.reason), command.error.map(short_error));
    log.add(Some(command.turn), TurnEnded { state: command.end, reason, error });
    log.done()
}

/// What no agent was given can neither be answered nor be cut short.
fn check_end(entry: &TurnEntry, end: TurnEnd) -> Result<(), Refusal> {
    match end {
        TurnEnd::Completed | TurnEnd::Interrupted if entry.started_seq.is_none() => {
            Err(Refusal::invalid("end", "must be another: the turn has not begun"))
        }
        TurnEnd::Completed | TurnEnd::Interrupted | TurnEnd::Failed | TurnEnd::Cancelled | TurnEnd::TimedOut | TurnEnd::DeadLettered => {
            Ok(())
        }
    }
}

/// Ends a claimed turn that nothing runs any more. Whether the agent acted on it cannot be known.
pub(super) fn settle(
    log: Log<'_>,
    reason: &'static str,
    message: String,
    question: QuestionId,
    expires_at: Option<Timestamp>,
) -> Result<Vec<Event>, Refusal> {
    let Some(entry) = log.state.running.and_then(|turn| log.state.turn(turn)) else { return log.done() };
    let turn = entry.turn.id;
    let (state, now, context) = (log.state, log.now, log.context);
    if entry.turn.cancelling {
        return end(log, EndTurn { turn, end: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None });
    }
    let error = TurnError { code: reason.into(), message, may_have_happened: true };
    let end = end(log, EndTurn { turn, end: TurnEnd::Interrupted, reason: reason.into(), error: Some(error) })?;
    let mut log = Log { state, now, context, events: end };
    let call = Json::of(&serde_json::json!({ "turn": turn, "reason": reason }));
    let option = |id: &str, label: &str| QuestionOption { id: id.into(), label: label.into(), kind: OptionKind::Other };
    log.add(
        Some(turn),
        QuestionAsked {
            question,
            kind: QuestionKind::Review,
            title: "This turn was interrupted. What should happen?".into(),
            digest: digest_of(call.get()),
            call: Payload::Json(call),
            request: None,
            options: vec![
                option(REVIEW_CONTINUE, "Continue where it stopped"),
                option(REVIEW_REDO, "Ask again from the start"),
                option(REVIEW_LEAVE, "Leave it as it is"),
            ],
            expires_at,
        },
    );
    log.done()
}

/// The events of a message; what is too long for one event follows in deltas.
pub(super) fn add_message(log: &mut Log<'_>, turn: Option<TurnId>, message: MessageId, role: Role, parts: &[NewPart]) {
    let inline = parts.iter().map(|part| if let NewPart::Text(text) = part { text.len() } else { 0 }).sum::<usize>() <= MAX_DELTA_BYTES;
    let inline = inline && fit_one_event(parts);
    let mut added = Vec::new();
    let mut long = Vec::new();
    for (n, part) in (0..).zip(parts) {
        let id = PartId::derive(message.0, "part", n);
        match part {
            NewPart::Text(text) if inline => added.push(AddedPart::Text { id, text: text.clone() }),
            NewPart::Text(text) => {
                added.push(AddedPart::Text { id, text: String::new() });
                long.push((id, text));
            }
            NewPart::File { name, media_type, blob } => {
                added.push(AddedPart::File(FilePart { id, name: name.clone(), media_type: media_type.clone(), blob: *blob }));
            }
        }
    }
    log.add(turn, MessageAdded { message, role, parts: added, agent_message: None });
    for (part, text) in long {
        for piece in split_text(text, MAX_DELTA_BYTES) {
            log.add(turn, PartDelta { message, part, kind: TextKind::Text, text: piece.into() });
        }
        log.add(turn, PartCompleted { message, part, bytes: text.len() as u64, digest: digest_of(text) });
    }
}

/// A session without a title is named after the first thing its user said.
fn name_after(log: &mut Log<'_>, parts: &[NewPart]) {
    let state = log.state;
    if state.session.title.is_some() || !state.messages.is_empty() {
        return;
    }
    let text = parts.iter().find_map(|part| match part {
        NewPart::Text(text) => text.lines().map(str::trim).find(|line| !line.is_empty()),
        NewPart::File { .. } => None,
    });
    if let Some(line) = text {
        let title = match line.char_indices().nth(80) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        };
        log.add(None, SessionUpdated { title: Some(Some(title)), ..SessionUpdated::default() });
    }
}

/// An archived session takes no new turn.
fn check_open(log: &Log<'_>) -> Result<(), Refusal> {
    match log.state.session.archived_at {
        Some(_) => Err(Refusal::SessionArchived(log.state.session.id)),
        None => Ok(()),
    }
}

fn check_queue(log: &Log<'_>) -> Result<(), Refusal> {
    if log.state.queue.len() >= MAX_QUEUE {
        return Err(Refusal::QueueFull { limit: MAX_QUEUE });
    }
    Ok(())
}

/// Ends what runs and what waits, for a message that will not wait.
fn interrupt_all(log: &mut Log<'_>) {
    let state = log.state;
    for &turn in &state.queue {
        log.add(Some(turn), TurnEnded { state: TurnEnd::Cancelled, reason: REASON_CANCELLED.into(), error: None });
    }
    if let Some(turn) = state.running.filter(|turn| state.turn(*turn).is_some_and(|entry| !entry.turn.cancelling)) {
        log.add(Some(turn), TurnCancelling {});
    }
}

pub(super) fn again(log: &mut Log<'_>, latest: &TurnEntry, command: &AgainTurn, cause: RetryCause) -> Result<(), Refusal> {
    if latest.turn.request_message.is_none() {
        return Err(Refusal::TurnWithoutRequest(latest.turn.id));
    }
    if !log.state.is_visible(latest.turn.id) {
        return Err(Refusal::TurnHidden(latest.turn.id));
    }
    check_open(log)?;
    check_queue(log)?;
    withdraw_review(log, latest.turn.id);
    let continues = log.state.asked_for(latest.turn.id).and_then(|entry| entry.turn.continues);
    let queued = queued_like(log, latest, command, latest.turn.attempt + 1, continues)?;
    log.add(Some(latest.turn.id), TurnRetried { by: command.by, cause });
    log.add(Some(command.by), queued);
    Ok(())
}

/// The same request for the same agent and model, unless others are asked for. The session's lock is left alone.
fn queued_like(
    log: &Log<'_>,
    old: &TurnEntry,
    command: &AgainTurn,
    attempt: u32,
    continues: Option<TurnId>,
) -> Result<TurnQueued, Refusal> {
    // Whoever asks again asks for what was asked for, and not for what stood in for it.
    let old = log.state.asked_for(old.turn.id).map_or(&old.turn, |entry| &entry.turn);
    let (agent, agent_because) = match &command.agent {
        None if command.known.agents.contains_key(&old.agent) => (old.agent.clone(), old.agent_because),
        asked => resolve_agent(log.state, asked.as_ref(), &command.known)?,
    };
    let (model, model_because) = match &command.model {
        None if agent == old.agent => (old.model.clone(), old.model_because),
        asked => resolve_model(log.state, &agent, asked.as_ref(), &command.known),
    };
    Ok(TurnQueued {
        request_message: old.request_message,
        agent_session: old.agent_session.clone().filter(|_| agent == old.agent),
        agent,
        agent_because,
        model,
        model_because,
        attempt,
        continues,
        tries: None,
    })
}

/// Acting on an interrupted turn is an answer to its review.
fn withdraw_review(log: &mut Log<'_>, turn: TurnId) {
    let open: Vec<QuestionId> = log.state.open_questions(turn).map(|question| question.id).collect();
    for question in open {
        answer::expired(log, question, turn, ExpiredBecause::Withdrawn);
    }
}

pub(super) fn find<'a>(log: &Log<'a>, turn: TurnId) -> Result<&'a TurnEntry, Refusal> {
    log.state.turn(turn).ok_or(Refusal::TurnNotFound)
}
