//! Turns: asked for, read, edited while they wait, ended, and tried again.
//!
//! Never a second copy of a request message, and never an answer before the turn is durable.

use super::{
    Shared,
    answer::{done, gone, ok, order},
    convert::{agent, model, parts, submit},
    places::Places,
};
use crate::{
    app::App,
    extract::{Asked, At, Sent},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{AgainTurn, EditTurn, Empty, List, SubmitTurn, Turn};
use everkept_core::{SessionId, TurnId};
use everkept_engine::Order;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, edit, remove))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(redo))
        .routes(routes!(go_on))
}

/// Lists a session's turns, oldest first, superseded and reverted ones included; `last` or `before` begin at the end.
#[utoipa::path(get, path = "/api/sessions/{ses}/turns", operation_id = "list_turns", tag = "turns", params(Places),
    responses((status = 200, body = List<Turn>, description = "One page")))]
async fn list(app: Shared, Who(caller): Who, At(ses): At<SessionId>, Asked(places): Asked<Places>) -> Result<Response, Failed> {
    let hidden = app.engine.session(&caller, ses).await?.hidden;
    let page = app.engine.turns(&caller, places.query(ses)?).await?;
    Ok(ok(&places.list(page, |placed| placed.place, |placed| Turn::seen_in(placed.turn, &hidden))))
}

/// Asks the session's agent. The turn is durable when this answers, and runs as soon as it is its turn.
#[utoipa::path(post, path = "/api/sessions/{ses}/turns", operation_id = "create_turn", tag = "turns", request_body = SubmitTurn,
    responses((status = 202, body = Turn, description = "The turn as it was queued")))]
async fn create(app: Shared, At(ses): At<SessionId>, sent: Sent<SubmitTurn>) -> Result<Response, Failed> {
    let submit = submit(sent.body)?;
    order(&app, &sent.caller, ses, submit, sent.key, done).await
}

/// Answers one turn.
#[utoipa::path(get, path = "/api/turns/{trn}", operation_id = "get_turn", tag = "turns",
    responses((status = 200, body = Turn, description = "The turn")))]
async fn read(app: Shared, Who(caller): Who, At(trn): At<TurnId>) -> Result<Response, Failed> {
    let turn = app.engine.turn(&caller, trn).await?;
    let session = app.engine.session(&caller, turn.session).await?;
    Ok(ok(&Turn::seen_in(turn, &session.hidden)))
}

/// Changes a turn that has not begun.
#[utoipa::path(patch, path = "/api/turns/{trn}", operation_id = "edit_turn", tag = "turns", request_body = EditTurn,
    responses((status = 202, body = Turn, description = "The turn as it is now")))]
async fn edit(app: Shared, At(trn): At<TurnId>, sent: Sent<EditTurn>) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, trn).await?;
    let edit = Order::Edit { turn: trn, input: sent.body.input.map(parts), agent: agent(sent.body.agent)?, model: model(sent.body.model)? };
    order(&app, &sent.caller, session, edit, sent.key, done).await
}

/// Takes a turn back that has not begun.
#[utoipa::path(delete, path = "/api/turns/{trn}", operation_id = "drop_turn", tag = "turns",
    responses((status = 204, description = "It will not run")))]
async fn remove(app: Shared, At(trn): At<TurnId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, trn).await?;
    order(&app, &sent.caller, session, Order::Drop { turn: trn }, sent.key, gone).await
}

/// Ends a turn; what was answered so far is kept.
#[utoipa::path(post, path = "/api/turns/{trn}/cancel", operation_id = "cancel_turn", tag = "turns", request_body = Empty,
    responses((status = 202, body = Turn, description = "The turn as it is now; it ends as `cancelled`")))]
async fn cancel(app: Shared, At(trn): At<TurnId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, trn).await?;
    order(&app, &sent.caller, session, Order::Cancel { turn: trn }, sent.key, done).await
}

/// Tries a turn again that did not complete: the same request message, one attempt more.
#[utoipa::path(post, path = "/api/turns/{trn}/retry", operation_id = "retry_turn", tag = "turns", request_body = AgainTurn,
    responses((status = 202, body = Turn, description = "The new attempt")))]
async fn retry(app: Shared, At(trn): At<TurnId>, sent: Sent<AgainTurn>) -> Result<Response, Failed> {
    again(&app, trn, sent, |turn, agent, model| Order::Retry { turn, agent, model }).await
}

/// Asks for another answer to a turn that completed; the old one is kept and superseded.
#[utoipa::path(post, path = "/api/turns/{trn}/redo", operation_id = "redo_turn", tag = "turns", request_body = AgainTurn,
    responses((status = 202, body = Turn, description = "The new attempt")))]
async fn redo(app: Shared, At(trn): At<TurnId>, sent: Sent<AgainTurn>) -> Result<Response, Failed> {
    again(&app, trn, sent, |turn, agent, model| Order::Redo { turn, agent, model }).await
}

/// Goes on where a turn's answer stopped, in a new turn.
#[utoipa::path(post, path = "/api/turns/{trn}/continue", operation_id = "continue_turn", tag = "turns", request_body = AgainTurn,
    responses((status = 202, body = Turn, description = "The new turn")))]
async fn go_on(app: Shared, At(trn): At<TurnId>, sent: Sent<AgainTurn>) -> Result<Response, Failed> {
    again(&app, trn, sent, |turn, agent, model| Order::Continue { turn, agent, model }).await
}

type Again = fn(TurnId, Option<everkept_core::AgentName>, Option<everkept_core::ModelName>) -> Order;

async fn again(app: &App, turn: TurnId, sent: Sent<AgainTurn>, again: Again) -> Result<Response, Failed> {
    let session = app.engine.session_of_turn(&sent.caller, turn).await?;
    let wanted = again(turn, agent(sent.body.agent)?, model(sent.body.model)?);
    order(app, &sent.caller, session, wanted, sent.key, done).await
}
