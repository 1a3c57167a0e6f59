//! What is done beside the sessions: the full-text index kept close behind, and what has run out taken away.
//!
//! Never in anybody's way, and never anything out of the trash before its stated time: a clock that is wrong for less than
//! an hour of running takes nothing.

use crate::failpoint::{Failpoint, no_space};
use crate::inner::Inner;
use everkept_core::SessionId;
use everkept_store::StoreFault;
use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// How long what changed waits for company before it is indexed.
const COMPANY: Duration = Duration::from_secs(1);
/// What is found due is purged when it still is after so much running time.
const SECOND_LOOK: Duration = Duration::from_secs(3_600);
/// Sessions looked at in one go; the next go comes with the next one.
const PIECE: u32 = 100;

/// Runs as long as the engine does, whenever something was committed. Holds nothing of the engine while it waits.
pub(crate) async fn upkeep(engine: Weak<Inner>, committed: Arc<Notify>) {
    let mut trash = Trash::default();
    loop {
        let Some(clock) = engine.upgrade().map(|engine| engine.runtime.clock.clone()) else { return };
        if let Some(engine) = engine.upgrade()
            && !engine.is_stopping()
            && engine.failure().is_none()
            && let Err(failure) = trash.look(&engine).await
        {
            tracing::warn!(%failure, "the trash was not looked through");
        }
        committed.notified().await;
        clock.sleep(COMPANY).await;
        loop {
            let Some(engine) = engine.upgrade() else { return };
            if engine.is_stopping() || engine.failure().is_some() {
                return;
            }
            match piece(&engine).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(failure) => {
                    // What is left over is tried again with the next commit or search.
                    tracing::warn!(%failure, "upkeep stopped");
                    break;
                }
            }
        }
    }
}

/// True when nothing is left to do.
async fn piece(engine: &Inner) -> Result<bool, crate::Failure> {
    if engine.runtime.reach(Failpoint::Index, None).await.is_err() {
        return Err(no_space("indexing").into());
    }
    Ok(engine.check(engine.store.index().await)? && engine.check(engine.store.forget_expired().await)?)
}

/// What was found due, and when.
#[derive(Default)]
struct Trash {
    looked_at: Option<Duration>,
    due: BTreeSet<SessionId>,
}

impl Trash {
    async fn look(&mut self, engine: &Inner) -> Result<(), crate::Failure> {
        let now = engine.runtime.clock.monotonic();
        if self.looked_at.is_some_and(|at| now < at + SECOND_LOOK) {
            return Ok(());
        }
        self.looked_at = Some(now);
        let found = engine.check(engine.store.due(engine.runtime.clock.wall(), PIECE).await)?;
        let (again, new): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|session| self.due.contains(session));
        self.due = new;
        for session in again {
            let purged: Result<bool, StoreFault> = engine.store.purge(session, engine.runtime.clock.wall()).await;
            if engine.check(purged)? {
                engine.note_seen(session, None);
                tracing::info!(%session, "purged: its time in the trash is over");
            }
        }
        Ok(())
    }
}
