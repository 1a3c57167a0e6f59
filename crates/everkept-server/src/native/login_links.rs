//! Links that let one more browser in.
//!
//! Never twice the same, and never by anybody but the admin: whoever opens one may do all that the admin may.

use super::{Shared, answer::write, tokens::only_admin};
use crate::{
    app::App,
    extract::Sent,
    failed::{Failed, json_response},
    front::login_link,
};
use axum::{http::StatusCode, response::Response};
use everkept_api::{Empty, LoginLink};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(create))
}

/// Makes a link that lets one browser in, once, within 15 minutes.
///
/// An idempotency key is refused: the code could only be told again if it were kept.
#[utoipa::path(post, path = "/api/login-links", operation_id = "create_login_link", tag = "tokens", request_body = Empty,
    responses((status = 201, body = LoginLink, description = "The link, which is told nowhere else")))]
async fn create(app: Shared, sent: Sent<Empty>) -> Result<Response, Failed> {
    only_admin(&sent.caller)?;
    if sent.key.is_some() {
        return Err(Failed::field("idempotency-key", "cannot be used for a secret, which is not kept"));
    }
    let url = login_link(&app.engine, app.site.origin()).await?;
    Ok(json_response(StatusCode::CREATED, write(&LoginLink { url })))
}
