//! The native API: one file per noun, each in the order error, response, documentation, handler.
//!
//! Never a rule of its own: requests become orders, replies become answers.

mod agents;
mod answer;
mod blobs;
mod breakers;
mod convert;
mod dead_letters;
mod events;
mod export;
mod feed;
mod forks;
mod health;
mod login_links;
mod messages;
mod places;
mod questions;
mod raw;
mod rules;
mod sessions;
mod snapshot;
mod socket;
mod summary;
mod threads;
mod tokens;
mod turns;
mod usage;

use crate::app::App;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;

type Shared = axum::extract::State<Arc<App>>;

pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(sessions::routes())
        .merge(forks::routes())
        .merge(rules::routes())
        .merge(turns::routes())
        .merge(messages::routes())
        .merge(snapshot::routes())
        .merge(events::routes())
        .merge(socket::routes())
        .merge(summary::routes())
        .merge(export::routes())
        .merge(raw::routes())
        .merge(questions::routes())
        .merge(dead_letters::routes())
        .merge(threads::routes())
        .merge(feed::routes())
        .merge(usage::routes())
        .merge(agents::routes())
        .merge(breakers::routes())
        .merge(blobs::routes())
        .merge(tokens::routes())
        .merge(login_links::routes())
        .merge(health::routes())
}
