//! When an open stream must end.
//!
//! Never later than the credential it was opened with: revoked or expired, the stream is gone.

use crate::{
    app::{App, ended},
    front::Credential,
};
use everkept_core::Timestamp;
use everkept_engine::Engine;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// The clock may jump, so expiry is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn ending(app: &App, credential: &Credential) -> BoxFuture<'static, ()> {
    let stopping = ended(app.ending.clone());
    let mut revoked = app.revoked.subscribe();
    let (token, secret_hash) = (credential.token, credential.secret_hash);
    let engine = app.engine.clone();
    let expiry = expiry(app.engine.clone(), credential.expires_at);
    Box::pin(async move {
        let revocation = async {
            // It may have been revoked after the request was let in and before anybody listened.
            if let Ok(held) = engine.token_by_hash(secret_hash).await
                && held.is_none_or(|held| held.revoked_at.is_some())
            {
                return;
            }
            loop {
                match revoked.recv().await {
                    Ok(other) if other != token => {}
                    // Whoever missed some cannot know: the reader comes back and is looked at again.
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            () = stopping => {}
            () = revocation => {}
            () = expiry => {}
        }
    })
}

async fn expiry(engine: Engine, at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    while engine.latest_wall() < at {
        engine.runtime().clock.sleep(LOOK).await;
    }
}
