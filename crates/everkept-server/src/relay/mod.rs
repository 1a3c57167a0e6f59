//! Agents on other machines: their relays dial in here, one for each agent.
//!
//! A relay's token opens this route and no other. What goes over the WebSocket is a link's texts, piece by piece; what they
//! say is the agents' own business.
//! Never: two connections of one agent, or a name that a dead connection keeps.

mod socket;

use crate::{app::App, failed::Failed, front::Credential, stream::ending};
use axum::{
    extract::{FromRequestParts, Request, State, ws::WebSocketUpgrade},
    response::Response,
};
use everkept_api::ErrorCode;
use everkept_engine::{Access, PIECE_BYTES};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) const PATH: &str = "/agents/connect";

pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(connect))
}

fn refused(credential: &Credential) -> Failed {
    // Nobody else is let in as far as here.
    let Access::Relay(name) = &credential.caller.access else { return Failed::not_found() };
    Failed::new(ErrorCode::AgentConnected, format!("another relay runs the agent {name}"))
}

/// A WebSocket for the relay of an agent on another machine; its token names the agent. A second one is refused.
///
/// Each text is a piece of a frame; a frame is one line of JSON. The server begins with `initialize`, the relay answers
/// `ready` with what its agent can do; then come numbered `order`s (`open`, `prompt`, `approval_response`, `set_model`,
/// `cancel`) and `output`s (`opened`, `said`, `turn_complete`, `gone`), each acknowledged by `heard` and sent again over the
/// next connection until it is.
#[utoipa::path(get, path = "/agents/connect", operation_id = "connect_agent", tag = "server",
    responses((status = 101, description = "The connection is a WebSocket now")))]
async fn connect(State(app): State<Arc<App>>, credential: Credential, request: Request) -> Result<Response, Failed> {
    let agent = app.engine.relayed(&credential.caller).ok_or_else(Failed::not_found)?;
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| Failed::new(ErrorCode::InvalidRequest, "this route is a WebSocket"))?;
    let claim = agent.claim().ok_or_else(|| refused(&credential))?;
    let (ending, clock) = (ending(&app, &credential), app.engine.runtime().clock.clone());
    let upgrade = upgrade.max_message_size(PIECE_BYTES).max_frame_size(PIECE_BYTES).write_buffer_size(0);
    tracing::info!(token = %credential.token, "a relay dials in");
    let spawner = app.engine.runtime().spawner.clone();
    Ok(upgrade.on_upgrade(move |socket| async move { spawner.spawn(Box::pin(socket::carry(socket, claim, ending, clock))) }))
}
