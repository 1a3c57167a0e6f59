//! Which session a chat request belongs to, and how its messages get there.
//!
//! A name (`x-session-id`, or `x-everkept-thread` with `x-everkept-resource`) leads to one session, made on first use. A
//! single new user message appends; a whole conversation is aligned with what is kept; an edited one forks.
//! Never half of it when the client leaves: what was asked for is done.

use crate::{app::App, extract::Key, failed::Failed};
use axum::http::HeaderMap;
use everkept_core::{AgentName, IfBusy, ModelName, Refusal, Resource, Role, SessionId, Thread, TurnId};
use everkept_engine::{Answered, Caller, Failure, IfEdited, Intake, MessageIn, NewSession, NewTurn, Order, PlaceQuery, Reply};
use serde::Deserialize;
use std::sync::Arc;

const DEFAULT_RESOURCE: &str = "default";

/// Where a request's conversation is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Session(SessionId),
    Thread(Resource, Thread),
    /// A new one each time.
    Nowhere,
}

/// `agent` or `agent/model`.
pub(super) fn agent_and_model(app: &App, model: Option<&str>) -> Result<(Option<AgentName>, Option<ModelName>), Failed> {
    let Some(name) = model else { return Ok((None, None)) };
    let (agent, model) = name.split_once('/').map_or((name, None), |(agent, model)| (agent, Some(model)));
    let known = app.engine.agents().into_iter().find(|card| card.name.as_str() == agent);
    let agent = known.ok_or_else(|| Failed::field("model", "must begin with the name of an agent; GET /v1/models lists them"))?.name;
    Ok((Some(agent), model.map(ModelName::new).transpose()?))
}

/// Names may have any letters, which headers carry as UTF-8.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Failed> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| Failed::field(name, "must be UTF-8"))
}

pub(super) async fn named(app: &App, caller: &Caller, headers: &HeaderMap) -> Result<Named, Failed> {
    let header = |name| header(headers, name);
    let (session, resource, thread) = (header("x-session-id")?, header("x-everkept-resource")?, header("x-everkept-thread")?);
    if let Some(id) = session.and_then(|text| text.parse::<SessionId>().ok()) {
        match app.engine.session(caller, id).await {
            Ok(session) => return Ok(Named::Session(session.id)),
            Err(Failure::Refused(Refusal::SessionNotFound)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    if let (Some(session), Some(thread)) = (session, thread)
        && session != thread
    {
        return Err(Failed::field("x-everkept-thread", "names another conversation than x-session-id"));
    }
    let Some(thread) = thread.or(session) else { return Ok(Named::Nowhere) };
    let owner = caller.owner()?.cloned();
    let resource = match resource {
        Some(resource) => Resource::new(resource)?,
        None => owner.map_or_else(|| Resource::new(DEFAULT_RESOURCE), Ok)?,
    };
    Ok(Named::Thread(resource, Thread::new(thread)?))
}

/// One chat request, ready to be ordered.
pub(super) struct Asking {
    pub caller: Caller,
    pub named: Named,
    /// The owner asked for, for a session that has no other name.
    pub resource: Option<Resource>,
    pub messages: Vec<MessageIn>,
    pub agent: Option<AgentName>,
    pub model: Option<ModelName>,
    pub key: Option<Key>,
}

/// The turn that answers a request: a new one, or the one that did already.
pub(super) struct Turned {
    pub turn: TurnId,
    pub session: SessionId,
    pub replayed: bool,
}

/// Runs to its end even when the client leaves in the middle.
pub(super) async fn ask(app: &Arc<App>, asking: Asking) -> Result<Turned, Failed> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let asked = app.clone();
    app.engine.runtime().spawner.spawn(Box::pin(async move {
        // Nobody may wait for it any more.
        _ = tell.send(asking.order(&asked).await);
    }));
    told.await.map_err(|_| Failed::stopping())?
}

impl Asking {
    async fn order(self, app: &App) -> Result<Turned, Failed> {
        let Asking { caller, named, resource, messages, agent, model, key } = self;
        let single = messages.iter().filter(|message| message.role != Role::System).count() == 1;
        let held = match &named {
            Named::Session(id) => Some(*id),
            Named::Thread(resource, thread) => match app.engine.thread(&caller, resource, thread).await {
                Ok(session) => Some(session.id),
                Err(Failure::Refused(Refusal::SessionNotFound)) => None,
                Err(failure) => return Err(failure.into()),
            },
            Named::Nowhere => None,
        };
        let appends = named != Named::Nowhere && single;
        let intake = match held {
            Some(session) if appends => Intake::Messages(new_to(app, &caller, session, messages).await?),
            None if appends => Intake::Messages(messages),
            Some(_) | None => Intake::History { messages, if_edited: IfEdited::Fork },
        };
        let turn = |intake| NewTurn { intake, agent: agent.clone(), model: model.clone(), agent_session: None, if_busy: IfBusy::Queue };
        // Of several first messages, the quickest brings the standing instructions for all.
        let bare = match &intake {
            Intake::Messages(messages) if held.is_none() => Some(uninstructed(messages.clone())),
            Intake::Messages(_) | Intake::History { .. } | Intake::Input(_) => None,
        };
        let keyed = key.clone().map(|key| key.keyed(render));
        let answered = match named {
            Named::Session(session) => app.engine.order(&caller, session, Order::Submit(turn(intake)), keyed).await?,
            Named::Thread(resource, thread) => {
                let order = |intake| {
                    let (resource, thread) = (resource.clone(), thread.clone());
                    app.engine.order_thread(&caller, resource, thread, NewSession::default(), Order::Submit(turn(intake)), keyed.clone())
                };
                match (order(intake).await, bare) {
                    (Err(Failure::Refused(Refusal::SessionBusy(_))), Some(bare)) => order(Intake::Messages(bare)).await?,
                    (answered, _) => answered?,
                }
            }
            Named::Nowhere => {
                let new = NewSession { resource, ..NewSession::default() };
                app.engine.create_session_with_turn(&caller, new, turn(intake), keyed).await?
            }
        };
        turned(answered)
    }
}

/// A client's standing instructions come with every request; they are kept once.
async fn new_to(app: &App, caller: &Caller, session: SessionId, messages: Vec<MessageIn>) -> Result<Vec<MessageIn>, Failed> {
    let first = PlaceQuery { session, after: None, before: None, backward: true, limit: 1 };
    let empty = app.engine.messages(caller, first).await?.items.is_empty();
    Ok(if empty { messages } else { uninstructed(messages) })
}

fn uninstructed(mut messages: Vec<MessageIn>) -> Vec<MessageIn> {
    messages.retain(|message| message.role != Role::System);
    messages
}

#[derive(serde::Serialize, Deserialize)]
struct KeptTurn {
    session: SessionId,
    turn: TurnId,
}

/// What is kept with an idempotency key: where the answer is found, whenever it is asked for.
fn render(reply: &Reply) -> (u16, Vec<u8>) {
    let kept = match reply {
        Reply::Turn(turn) => Some(KeptTurn { session: turn.session, turn: turn.id }),
        Reply::Session(_) | Reply::Context { .. } | Reply::Question(_) | Reply::Recorded { .. } | Reply::Done => None,
    };
    (200, serde_json::to_vec(&kept).expect("ids are strings"))
}

fn turned(answered: Answered) -> Result<Turned, Failed> {
    match answered {
        Answered::Fresh(Reply::Turn(turn)) => Ok(Turned { turn: turn.id, session: turn.session, replayed: false }),
        Answered::Fresh(_) => Err(unexpected()),
        Answered::Kept { body, .. } => {
            let KeptTurn { session, turn } = kept(&body)?;
            Ok(Turned { turn, session, replayed: true })
        }
    }
}

fn kept(body: &[u8]) -> Result<KeptTurn, Failed> {
    serde_json::from_slice(body).map_err(|_| unexpected())
}

fn unexpected() -> Failed {
    Failed::new(everkept_api::ErrorCode::Internal, "the answer is not what was asked for")
}
