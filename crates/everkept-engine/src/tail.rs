//! Reads a session along: first what the store holds, then what is committed, without a seam.
//!
//! Never skips or repeats a number, and never waits for anything but the next event.

use crate::hub::{Batch, Frame};
use crate::{Failure, inner::Inner};
use everkept_core::SessionId;
use everkept_store::EventsQuery;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Events read from the store at a time, and the bytes after which a page ends: with the one event that goes beyond it,
/// it is all of its own that a reader holds, and less than the 256 KiB of promise L1.
const PAGE: u32 = 256;
const PAGE_BYTES: usize = 32 * 1024;

pub struct Tail {
    inner: Arc<Inner>,
    session: SessionId,
    cursor: u64,
    live: Option<Receiver<Batch>>,
    /// The store may hold events after the cursor that no batch will bring.
    behind: bool,
}

impl Tail {
    pub(crate) fn new(inner: Arc<Inner>, session: SessionId, after: u64, live: Receiver<Batch>) -> Self {
        Tail { inner, session, cursor: after, live: Some(live), behind: true }
    }

    /// The number of the last event given out.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next events; waits for them. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<Frame>, Failure> {
        loop {
            if let Some(fault) = self.inner.failure() {
                return Err(fault.into());
            }
            if self.behind {
                let frames = self.stored().await?;
                if !frames.is_empty() {
                    return Ok(frames);
                }
                self.behind = false;
            }
            let Some(live) = &mut self.live else { return Err(self.ended()) };
            let batch = match live.recv().await {
                Ok(batch) => batch,
                Err(RecvError::Lagged(_)) => {
                    tracing::debug!(session = %self.session, "a reader fell behind and reads the store");
                    self.behind = true;
                    continue;
                }
                Err(RecvError::Closed) => return Err(self.ended()),
            };
            let fresh: Vec<Frame> = batch.iter().filter(|frame| frame.seq > self.cursor).cloned().collect();
            match fresh.first().zip(fresh.last()) {
                None if batch.is_empty() => return Err(self.ended()),
                None => {}
                Some((first, _)) if first.seq > self.cursor + 1 => self.behind = true,
                Some((_, last)) => {
                    self.cursor = last.seq;
                    return Ok(fresh);
                }
            }
        }
    }

    /// Why nothing more comes.
    fn ended(&self) -> Failure {
        self.inner.failure().map_or(Failure::Stopping, Failure::from)
    }

    async fn stored(&mut self) -> Result<Vec<Frame>, Failure> {
        let query = EventsQuery {
            session: Some(self.session),
            after: self.cursor,
            limit: PAGE,
            max_bytes: Some(PAGE_BYTES),
            ..EventsQuery::default()
        };
        let events = self.inner.check(self.inner.store.events(query).await)?;
        if let Some(last) = events.last() {
            self.cursor = last.seq;
        }
        Ok(events.iter().map(Frame::new).collect())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.live = None;
        self.inner.forget(self.session);
    }
}
