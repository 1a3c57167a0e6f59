//! Wire bodies to orders, and what the engine counts to wire types.
//!
//! Never: a decision. A body that can be read in two ways is refused.

use crate::failed::Failed;
use everkept_api as api;
use everkept_core::{AgentName, AgentSessionId, ModelName, Resource, Thread};
use everkept_engine::{
    AgentCard, BreakerCard, ContextSummary, DeadLetter, IfEdited, Intake, MessageIn, NewFork, NewSession, NewTurn, Order, PartIn, Snapshot,
    Summary, Token,
};

pub(super) fn new_session(body: api::CreateSession) -> Result<NewSession, Failed> {
    Ok(NewSession {
        metadata: body.metadata_json(),
        title: body.title,
        resource: body.resource.map(Resource::new).transpose()?,
        thread: body.thread.map(Thread::new).transpose()?,
        directory: body.directory,
        agent: agent(body.agent)?,
        model: model(body.model)?,
        agent_session: body.agent_session.map(AgentSessionId::new).transpose()?,
        parent: None,
    })
}

pub(super) fn new_fork(body: api::ForkSession) -> Result<NewFork, Failed> {
    Ok(NewFork {
        at: body.at.map(TryInto::try_into).transpose()?,
        title: body.title,
        thread: body.thread.map(Thread::new).transpose()?,
        agent: agent(body.agent)?,
        directory: body.directory,
    })
}

pub(super) fn submit(body: api::SubmitTurn) -> Result<Order, Failed> {
    let intake = match (body.input, body.messages) {
        (Some(input), None) if !body.history => Intake::Input(parts(input)),
        (None, Some(messages)) if body.history => Intake::History { messages: new_turn_messages(messages), if_edited: IfEdited::Refuse },
        (None, Some(messages)) => Intake::Messages(new_turn_messages(messages)),
        (Some(_), None) => return Err(Failed::field("history", "goes with messages")),
        (Some(_), Some(_)) => return Err(Failed::field("messages", "cannot come with input")),
        (None, None) => return Err(Failed::field("input", "or messages must be given")),
    };
    Ok(Order::Submit(NewTurn {
        intake,
        agent: agent(body.agent)?,
        model: model(body.model)?,
        agent_session: body.agent_session.map(AgentSessionId::new).transpose()?,
        if_busy: body.if_busy.into(),
    }))
}

pub(super) fn record(body: api::RecordMessages) -> Order {
    Order::Record { messages: new_turn_messages(body.messages), history: body.history }
}

pub(super) fn agent(name: Option<String>) -> Result<Option<AgentName>, Failed> {
    Ok(name.map(AgentName::new).transpose()?)
}

pub(super) fn model(name: Option<String>) -> Result<Option<ModelName>, Failed> {
    Ok(name.map(ModelName::new).transpose()?)
}

fn new_turn_messages(messages: Vec<api::MessageIn>) -> Vec<MessageIn> {
    messages.into_iter().map(|message| MessageIn { role: message.role.into(), parts: parts(message.content) }).collect()
}

pub(super) fn parts(input: api::Input) -> Vec<PartIn> {
    let part = |part| match part {
        api::PartIn::Text { text } => PartIn::Text(text),
        api::PartIn::File { name, media_type, data } => PartIn::File { name, media_type, bytes: data },
    };
    input.into_parts().into_iter().map(part).collect()
}

pub(super) fn agent_card(card: AgentCard) -> api::Agent {
    let can = card.abilities;
    api::Agent {
        name: card.name.to_string(),
        default: card.is_default,
        model: card.model.map(|model| model.to_string()),
        abilities: api::Abilities {
            resume: can.resume,
            fork: can.fork,
            cancel: can.cancel,
            ask_permission: can.ask_permission,
            set_model: can.set_model,
            report_usage: can.report_usage,
            remember: can.remember,
            transcript: can.transcript,
        },
        remote: card.remote,
        connected: card.connected,
    }
}

pub(super) fn breaker(card: BreakerCard) -> api::Breaker {
    let held = card.breaker;
    api::Breaker {
        agent: held.agent.to_string(),
        model: held.model.map(|model| model.to_string()),
        state: card.state.into(),
        failures: held.failures,
        openings: held.openings,
        open_until: held.open_until.map(api::time),
        probe: card.probe.map(|turn| turn.to_string()),
    }
}

pub(super) fn dead_letter(letter: DeadLetter) -> api::DeadLetter {
    api::DeadLetter { turn: letter.turn.into(), input: letter.input.into_iter().map(Into::into).collect() }
}

pub(super) fn snapshot(snapshot: Snapshot) -> api::Snapshot {
    let hidden = snapshot.session.hidden.clone();
    api::Snapshot {
        session: snapshot.session.into(),
        messages: snapshot.messages.into_iter().map(Into::into).collect(),
        has_more: snapshot.has_more,
        turns: snapshot.turns.into_iter().map(|turn| api::Turn::seen_in(turn, &hidden)).collect(),
        questions: snapshot.questions.into_iter().map(Into::into).collect(),
        cursor: snapshot.cursor,
    }
}

pub(super) fn summary(summary: Summary) -> api::Summary {
    let context = |context: ContextSummary| api::ContextSummary {
        context: context.context,
        turns: context.turns,
        events: context.events,
        first_at: api::time(context.first_at),
        last_at: api::time(context.last_at),
    };
    api::Summary {
        usage: summary.session.usage.clone().into(),
        session: summary.session.into(),
        events: summary.events,
        messages: summary.messages,
        turns: summary.turns,
        kinds: summary.kinds.into_iter().collect(),
        contexts: summary.contexts.into_iter().map(context).collect(),
    }
}

/// None for kinds that are not the API's: login codes and cookies.
pub(super) fn token(token: Token) -> Option<api::Token> {
    use api::TokenKind::{Admin, Recall, Relay, Resource};
    let kind = [Admin, Resource, Relay, Recall].into_iter().find(|kind| kind.as_str() == token.kind)?;
    Some(api::Token {
        id: token.id.to_string(),
        kind,
        name: token.name,
        created_at: api::time(token.created_at),
        expires_at: token.expires_at.map(api::time),
        revoked_at: token.revoked_at.map(api::time),
    })
}
