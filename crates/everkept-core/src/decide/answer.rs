//! Questions: answered once, from anywhere, for exactly the call that was shown. Silence means no.

use super::limits::check_note;
use super::{Log, turn};
use crate::{
    AgainTurn, AnswerQuestion, Event, ExpiredBecause, OptionKind, QuestionAnswered, QuestionExpired, QuestionId, QuestionKind,
    QuestionState, REVIEW_CONTINUE, REVIEW_REDO, Refusal, Rule, TurnId,
};

pub(super) fn answer(mut log: Log<'_>, command: AnswerQuestion) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let state = log.state;
    let question = state.question(command.question).ok_or(Refusal::QuestionNotFound)?;
    match question.state {
        QuestionState::Open => {}
        QuestionState::Answered => return Err(Refusal::QuestionAnswered(question.id)),
        QuestionState::Expired => return Err(Refusal::QuestionExpired(question.id)),
    }
    let option = question.options.iter().find(|option| option.id == command.option).ok_or_else(|| {
        let known: Vec<&str> = question.options.iter().map(|option| option.id.as_str()).collect();
        Refusal::invalid("option", format!("must be one of {}", known.join(", ")))
    })?;
    check_note(command.note.as_deref())?;
    let agent = state.turn(question.turn).map(|entry| entry.turn.agent.clone());
    let rule = agent.filter(|_| option.kind == OptionKind::AllowAlways && question.kind == QuestionKind::Permission).map(|agent| Rule {
        id: question.id,
        agent,
        digest: question.digest,
        title: question.title.clone(),
        created_at: log.now,
    });
    let turn = question.turn;
    let (kind, chosen) = (question.kind, option.id.clone());
    log.add(Some(turn), QuestionAnswered { question: command.question, option: command.option, note: command.note, rule, by_rule: None });
    if kind != QuestionKind::Review {
        return log.done();
    }
    let again = AgainTurn { turn, by: command.turn, agent: None, model: None, known: command.known };
    let follow_up = |log: Log<'_>| match chosen.as_str() {
        REVIEW_CONTINUE => turn::go_on(log, again),
        REVIEW_REDO => turn::retry(log, again),
        _ => log.done(),
    };
    let events = std::mem::take(&mut log.events);
    let mut then = follow_up(Log { state, now: log.now, context: log.context, events: Vec::new() })?;
    // The follow-up would withdraw the very question that is being answered.
    then.retain(|event| !matches!(&event.body, crate::Body::QuestionExpired(data) if data.question == command.question));
    log.events = events;
    log.events.extend(then);
    log.done()
}

pub(super) fn expire(mut log: Log<'_>, question: QuestionId, because: ExpiredBecause) -> Result<Vec<Event>, Refusal> {
    let held = log.state.question(question).ok_or(Refusal::QuestionNotFound)?;
    if held.state == QuestionState::Open {
        let turn = held.turn;
        expired(&mut log, question, turn, because);
    }
    log.done()
}

pub(super) fn expired(log: &mut Log<'_>, question: QuestionId, turn: TurnId, because: ExpiredBecause) {
    log.add(Some(turn), QuestionExpired { question, because });
}
