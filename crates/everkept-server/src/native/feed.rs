//! Hints that sessions changed, for lists that stay up to date.
//!
//! Never replayed, and never about a session the caller may not see.

use super::Shared;
use crate::{app::App, failed::Failed, front::Credential, stream::resumable};
use axum::response::Response;
use bytes::Bytes;
use everkept_api::SessionState;
use everkept_engine::{Access, Caller, Hint};
use futures::stream;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(listen))
}

/// Hints `{session, seq, state}` as server-sent events over all sessions one may see; nothing is replayed.
///
/// The event `missed` says that some were left out because the reader was slow: read the list again.
#[utoipa::path(get, path = "/api/feed", operation_id = "get_feed", tag = "events",
    responses((status = 200, content_type = "text/event-stream", body = String, description = "The stream")))]
async fn listen(app: Shared, credential: Credential) -> Result<Response, Failed> {
    credential.caller.owner()?;
    let hints = stream::unfold((app.engine.feed(), credential.caller.clone()), |(mut feed, caller)| async move {
        let chunk = next(&mut feed, &caller).await?;
        Some((chunk, (feed, caller)))
    });
    Ok(resumable(&app, &credential, hints))
}

async fn next(feed: &mut Receiver<Hint>, caller: &Caller) -> Option<Bytes> {
    loop {
        match feed.recv().await {
            Ok(hint) if sees(caller, &hint) => {
                let hint = everkept_api::Hint { session: hint.session.to_string(), seq: hint.seq, state: SessionState::from(hint.state) };
                let json = serde_json::to_string(&hint).expect("a hint has string keys only");
                return Some(Bytes::from(format!("data: {json}\n\n")));
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return Some(Bytes::from_static(b"event: missed\ndata: {}\n\n")),
            Err(RecvError::Closed) => return None,
        }
    }
}

fn sees(caller: &Caller, hint: &Hint) -> bool {
    match &caller.access {
        Access::All => true,
        Access::Resource(name) | Access::Recall(name) => hint.resource.as_ref() == Some(name),
        Access::Relay(_) => false,
    }
}
