//! Dead letters: turns that were given up, until a person takes them up again or puts them away.
//!
//! Never one that is taken up twice: pressed again, the try that is under way is the answer.

use super::limits::{check_not_empty, check_parts};
use super::turn::{add_message, again, find};
use super::{Log, TurnId};
use crate::{AgainTurn, Event, MessageId, NewPart, Refusal, RetryCause, Role, TurnDismissed, TurnEdited, TurnState};

pub(super) fn retry(mut log: Log<'_>, command: AgainTurn, request: Option<(MessageId, Vec<NewPart>)>) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, command.turn)?.clone();
    if !entry.dead_letter {
        let newer = log.state.is_superseded(command.turn);
        let taken_up = entry.turn.state == TurnState::DeadLettered && newer;
        return if taken_up { log.done() } else { Err(Refusal::TurnNotDeadLettered(command.turn)) };
    }
    let goes_on = log.state.asked_for(command.turn).is_some_and(|asked| asked.turn.continues.is_some());
    if request.is_some() && goes_on {
        let problem = "cannot be edited: the turn continues another and asks nothing itself";
        return Err(Refusal::invalid("input", problem));
    }
    again(&mut log, &entry, &command, RetryCause::Retry)?;
    if let Some((message, parts)) = request {
        check_not_empty(&parts)?;
        check_parts(&parts)?;
        log.add(Some(command.by), TurnEdited { request_message: Some(message), ..TurnEdited::default() });
        add_message(&mut log, Some(command.by), message, Role::User, &parts);
    }
    log.done()
}

pub(super) fn dismiss(mut log: Log<'_>, turn: TurnId) -> Result<Vec<Event>, Refusal> {
    log.alive()?;
    let entry = find(&log, turn)?;
    if entry.turn.state != TurnState::DeadLettered {
        return Err(Refusal::TurnNotDeadLettered(turn));
    }
    if entry.dead_letter {
        log.add(Some(turn), TurnDismissed {});
    }
    log.done()
}
