//! What the world is due because of what has happened.

use crate::{Body, Event, QuestionId, QuestionState, State, TurnId};
use serde::{Deserialize, Serialize};

/// An order to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// When its time has come, open the turn's agent session, claim the turn and hand over its prompt.
    RunTurn { turn: TurnId },
    /// The prompt is claimed: hear the agent out, or settle the turn when the agent is gone. Never prompt again.
    AwaitTurn { turn: TurnId },
    /// Tell the agent to stop, and end the turn when it does or when its time is up.
    CancelTurn { turn: TurnId },
    /// Give the agent the answer to its question.
    AnswerQuestion { question: QuestionId },
    /// The agent's process serves no longer: its session was cleared, reverted or deleted.
    CloseAgent,
}

pub type Owed = Vec<Effect>;

/// What must be done right after `event` was committed and applied.
pub fn effects(state: &State, event: &Event) -> Vec<Effect> {
    match &event.body {
        Body::TurnQueued(_) | Body::TurnDelayed(_) | Body::TurnEnded(_) | Body::SessionRestored(_) => {
            next_turn(state).into_iter().collect()
        }
        Body::TurnCancelling(_) => event.turn.map(|turn| Effect::CancelTurn { turn }).into_iter().collect(),
        Body::QuestionAnswered(data) => vec![Effect::AnswerQuestion { question: data.question }],
        Body::QuestionExpired(data) => vec![Effect::AnswerQuestion { question: data.question }],
        Body::ContextCleared(_) | Body::SessionReverted(_) | Body::SessionDeleted(_) => vec![Effect::CloseAgent],
        Body::SessionCreated(_)
        | Body::SessionUpdated(_)
        | Body::SessionForked(_)
        | Body::SessionArchived(_)
        | Body::AgentSessionPinned(_)
        | Body::AgentSessionSucceeded(_)
        | Body::AgentSessionKept(_)
        | Body::AgentSessionPutBack(_)
        | Body::TurnEdited(_)
        | Body::TurnStarted(_)
        | Body::TurnWaiting(_)
        | Body::TurnRetried(_)
        | Body::TurnDismissed(_)
        | Body::MessageAdded(_)
        | Body::PartDelta(_)
        | Body::PartCompleted(_)
        | Body::PlanUpdated(_)
        | Body::ToolStarted(_)
        | Body::ToolUpdated(_)
        | Body::ToolCompleted(_)
        | Body::UsageReported(_)
        | Body::MessageUsed(_)
        | Body::QuestionAsked(_)
        | Body::RuleRemoved(_)
        | Body::AgentRaw(_) => Vec::new(),
    }
}

/// What is still due, whenever one looks: what a restart finds.
pub fn owed(state: &State) -> Owed {
    let mut due = Vec::new();
    if let Some(turn) = state.running {
        due.push(Effect::AwaitTurn { turn });
        if state.turn(turn).is_some_and(|entry| entry.turn.cancelling) {
            due.push(Effect::CancelTurn { turn });
        }
    }
    due.extend(next_turn(state));
    let open = |question: &&crate::Question| question.state == QuestionState::Answered && Some(question.turn) == state.running;
    due.extend(state.questions.iter().rev().take(16).filter(open).map(|question| Effect::AnswerQuestion { question: question.id }));
    due
}

fn next_turn(state: &State) -> Option<Effect> {
    let free = state.running.is_none() && state.session.deleted_at.is_none();
    state.queue.front().filter(|_| free).map(|&turn| Effect::RunTurn { turn })
}
