//! Permission rules: answers that stand for the same call from now on.
//!
//! Never made here: a rule comes from a question's answer.

use super::{
    Shared,
    answer::{gone, ok, order},
};
use crate::{
    app::App,
    extract::{At, Sent},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{Empty, List, Rule};
use everkept_core::{QuestionId, SessionId};
use everkept_engine::Order;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(delete))
}

/// Lists the session's standing rules.
#[utoipa::path(get, path = "/api/sessions/{ses}/rules", operation_id = "list_rules", tag = "questions",
    responses((status = 200, body = List<Rule>, description = "All of them")))]
async fn list(app: Shared, Who(caller): Who, At(ses): At<SessionId>) -> Result<Response, Failed> {
    let session = app.engine.session(&caller, ses).await?;
    Ok(ok(&List::whole(session.rules.into_iter().map(Rule::from).collect())))
}

/// Takes a rule away: the call is asked about again.
#[utoipa::path(delete, path = "/api/sessions/{ses}/rules/{qst}", operation_id = "delete_rule", tag = "questions",
    responses((status = 204, description = "It does not stand any more")))]
async fn delete(app: Shared, At((ses, rule)): At<(SessionId, QuestionId)>, sent: Sent<Empty>) -> Result<Response, Failed> {
    order(&app, &sent.caller, ses, Order::RemoveRule { rule }, sent.key, gone).await
}
