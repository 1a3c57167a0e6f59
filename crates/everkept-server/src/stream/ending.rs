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
    let token = credential.token;
    let expiry = expiry(app.engine.clone(), credential.expires_at);
    Box::pin(async move {
        let revocation = async {
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
