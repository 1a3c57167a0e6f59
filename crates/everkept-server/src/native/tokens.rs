//! Access tokens: made, listed and revoked by the admin alone.
//!
//! Never a secret but once, in the answer that made it.

use super::{Shared, answer::ok, convert::token};
use crate::{
    app::App,
    extract::{At, Sent},
    failed::{Failed, json_response},
    front::Who,
    secret::create_token,
};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use everkept_api::{CreateToken, CreatedToken, Empty, ErrorCode, List, Token, TokenKind};
use everkept_core::{AgentName, Resource, TokenId};
use everkept_engine::{Access, Caller, Failure};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

pub(super) fn only_admin(caller: &Caller) -> Result<(), Failed> {
    match caller.access {
        Access::All => Ok(()),
        Access::Resource(_) | Access::Recall(_) | Access::Relay(_) => Err(Failure::Forbidden.into()),
    }
}

fn no_such_token() -> Failed {
    Failed::new(ErrorCode::NotFound, "no such token")
}

/// Lists the tokens, without their secrets.
#[utoipa::path(get, path = "/api/tokens", operation_id = "list_tokens", tag = "tokens",
    responses((status = 200, body = List<Token>, description = "All of them, revoked ones included")))]
async fn list(app: Shared, Who(caller): Who) -> Result<Response, Failed> {
    only_admin(&caller)?;
    Ok(ok(&List::whole(app.engine.tokens().await?.into_iter().filter_map(token).collect())))
}

/// Makes a token for one owner, one relay, or one reader. Its secret is told here and never again.
///
/// An idempotency key is refused: the secret could only be told again if it were kept.
#[utoipa::path(post, path = "/api/tokens", operation_id = "create_token", tag = "tokens", request_body = CreateToken,
    responses((status = 201, body = CreatedToken, description = "The token and its secret")))]
async fn create(app: Shared, sent: Sent<CreateToken>) -> Result<Response, Failed> {
    only_admin(&sent.caller)?;
    if sent.key.is_some() {
        return Err(Failed::field("idempotency-key", "cannot be used for a secret, which is not kept"));
    }
    let name = sent.body.name;
    match sent.body.kind {
        TokenKind::Resource | TokenKind::Recall => _ = Resource::new(name.clone()).map_err(|_| wrong_name())?,
        TokenKind::Relay => relayed(&app, AgentName::new(name.clone()).map_err(|_| wrong_name())?)?,
        TokenKind::Admin => return Err(Failed::field("kind", "must be resource, relay or recall")),
    }
    let lives = sent.body.expires_in_ms.map(Duration::from_millis);
    let (made, secret) = create_token(&app.engine, sent.body.kind.as_str(), Some(name), lives).await?;
    let token = token(made).ok_or_else(no_such_token)?;
    Ok(json_response(StatusCode::CREATED, super::answer::write(&CreatedToken { token, secret })))
}

/// A configured agent runs here, and nowhere else.
fn relayed(app: &App, name: AgentName) -> Result<(), Failed> {
    match app.engine.agents().iter().any(|card| card.name == name && !card.remote) {
        true => Err(Failed::field("name", "is an agent of this server; name one that it does not have")),
        false => Ok(()),
    }
}

fn wrong_name() -> Failed {
    Failed::field("name", "must be a name of at most 255 bytes (64 for an agent) without control characters")
}

/// Revokes a token; streams opened with it end.
#[utoipa::path(delete, path = "/api/tokens/{tok}", operation_id = "revoke_token", tag = "tokens",
    responses((status = 204, description = "It opens nothing any more")))]
async fn revoke(app: Shared, At(tok): At<TokenId>, sent: Sent<Empty>) -> Result<Response, Failed> {
    only_admin(&sent.caller)?;
    match revoke_and_tell(&app, tok).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(no_such_token()),
    }
}

/// Ends the token's streams even when whoever asked leaves in the middle. False when there is no such token.
async fn revoke_and_tell(app: &Arc<App>, tok: TokenId) -> Result<bool, Failed> {
    let (tell, told) = oneshot::channel();
    let asked = app.clone();
    app.engine.runtime().spawner.spawn(Box::pin(async move {
        let revoked = asked.engine.revoke_token(tok).await;
        if matches!(revoked, Ok(true)) {
            // Nobody may be listening.
            _ = asked.revoked.send(tok);
        }
        _ = tell.send(revoked);
    }));
    Ok(told.await.map_err(|_| Failed::stopping())??)
}
