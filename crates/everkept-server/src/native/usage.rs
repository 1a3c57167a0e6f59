//! What turns cost, added up.
//!
//! Never a turn twice, or one of a session that the caller may not see.

use super::{Shared, answer::ok};
use crate::{app::App, extract::Asked, failed::Failed, front::Who};
use axum::response::Response;
use everkept_api::{UsageReport, UsageSum, time, time_of};
use everkept_core::{AgentName, ModelName, Refusal, Resource, Timestamp};
use everkept_engine::{DAY_MICROS, UsageBy, UsageQuery};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The most sums that are listed.
const MOST: u32 = 1_000;
const BY: &str = "day,agent,model";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asking {
    /// Only this session's turns.
    session: Option<String>,
    /// Only those of this owner's sessions.
    resource: Option<String>,
    agent: Option<String>,
    model: Option<String>,
    /// Only turns that began then or later: a day, as `2026-11-20`, or a time of it.
    from: Option<String>,
    /// Only turns that began before.
    to: Option<String>,
    /// What is told apart, separated by commas: `day`, `resource`, `agent`, `model`, `session`. Without it `day,agent,model`.
    by: Option<String>,
}

/// Adds up what turns cost. Each is counted once, whatever was forked, resumed or asked again.
#[utoipa::path(get, path = "/api/usage", operation_id = "get_usage", tag = "server", params(Asking),
    responses((status = 200, body = UsageReport, description = "The sums, a thousand at most, and the total")))]
async fn read(app: Shared, Who(caller): Who, Asked(asking): Asked<Asking>) -> Result<Response, Failed> {
    let query = UsageQuery {
        session: asking.session.map(|session| session.parse().map_err(|_| Refusal::SessionNotFound)).transpose()?,
        resource: asking.resource.map(Resource::new).transpose()?,
        agent: asking.agent.map(AgentName::new).transpose()?,
        model: asking.model.map(ModelName::new).transpose()?,
        from: asking.from.map(|text| instant("from", &text)).transpose()?,
        to: asking.to.map(|text| instant("to", &text)).transpose()?,
        by: told_apart(asking.by.as_deref().unwrap_or(BY))?,
        limit: MOST,
    };
    let page = app.engine.usage(&caller, query.clone()).await?;
    let total = app.engine.usage(&caller, UsageQuery { by: UsageBy::default(), ..query }).await?;
    let items: Vec<_> = page.items.into_iter().map(sum).collect();
    let total = total.items.into_iter().next().map(sum).unwrap_or_default();
    Ok(ok(&UsageReport { items, total, has_more: page.has_more }))
}

fn instant(name: &str, text: &str) -> Result<Timestamp, Failed> {
    time_of(text).ok_or_else(|| Failed::field(name, "must be a day, as 2026-11-20, or a time, as 2026-11-20T12:00:00Z"))
}

fn told_apart(text: &str) -> Result<UsageBy, Failed> {
    let mut by = UsageBy::default();
    for word in text.split(',') {
        let asked = match word {
            "day" => &mut by.day,
            "resource" => &mut by.resource,
            "agent" => &mut by.agent,
            "model" => &mut by.model,
            "session" => &mut by.session,
            _ => return Err(Failed::field("by", "must be some of day, resource, agent, model, session, separated by commas")),
        };
        if std::mem::replace(asked, true) {
            return Err(Failed::field("by", "names something twice"));
        }
    }
    Ok(by)
}

fn sum(sum: everkept_engine::UsageSum) -> UsageSum {
    let day = |day: i64| time(Timestamp(day.saturating_mul(DAY_MICROS))).chars().take_while(|letter| *letter != 'T').collect();
    UsageSum {
        day: sum.day.map(day),
        resource: sum.resource.map(|resource| resource.to_string()),
        agent: sum.agent.map(|agent| agent.to_string()),
        model: sum.model.map(|model| model.to_string()),
        session: sum.session.map(|session| session.to_string()),
        turns: sum.turns,
        turns_without_cost: sum.turns_without_cost,
        usage: sum.usage.into(),
        reckoned_usd_micros: sum.reckoned_usd_micros,
    }
}
