//! A look now and then for sessions that are owed something and that no task runs, as one that broke down does not say so.
//!
//! Never a second task for a session, and nothing of the engine held while it waits.

use crate::inner::Inner;
use std::{sync::Weak, time::Duration};

/// Between two looks. One reads the table of what is owed, which has a row for each session that has something to do.
const EVERY: Duration = Duration::from_secs(10);

/// Runs as long as the engine does.
pub(crate) async fn sweep(engine: Weak<Inner>) {
    loop {
        let Some(clock) = engine.upgrade().map(|engine| engine.runtime.clock.clone()) else { return };
        clock.sleep(EVERY).await;
        let Some(engine) = engine.upgrade() else { return };
        if engine.is_stopping() || engine.failure().is_some() {
            return;
        }
        match engine.check(engine.store.owed().await) {
            Ok(owed) => owed.into_iter().filter(|(session, _)| !engine.has_task(*session)).for_each(|(session, _)| {
                tracing::error!(%session, "what ran the session broke down; it is begun again");
                engine.mailbox(session);
            }),
            Err(failure) => tracing::warn!(%failure, "what is owed was not looked through"),
        }
    }
}
