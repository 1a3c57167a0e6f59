//! Whether a link is attached, and since when not.
//!
//! Never a judgement of what is lost with it: who waits says how long.

use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Here,
    AwaySince(Instant),
}

#[derive(Debug)]
pub(super) struct Presence(watch::Sender<Link>);

impl Presence {
    pub fn new() -> Self {
        Presence(watch::channel(Link::AwaySince(Instant::now())).0)
    }

    pub fn is_here(&self) -> bool {
        *self.0.borrow() == Link::Here
    }

    pub fn came(&self) {
        self.0.send_replace(Link::Here);
    }

    /// A link that never came to work leaves the time as it is.
    pub fn left(&self) {
        self.0.send_if_modified(|link| match link {
            Link::Here => {
                *link = Link::AwaySince(Instant::now());
                true
            }
            Link::AwaySince(_) => false,
        });
    }

    /// Until a link is attached.
    pub fn here(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut watched = self.0.subscribe();
        async move {
            if watched.wait_for(|link| *link == Link::Here).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Until no link has been attached for `hold`.
    pub fn missed_for(&self, hold: Duration) -> impl Future<Output = ()> + Send + 'static {
        let mut watched = self.0.subscribe();
        async move {
            loop {
                let link = *watched.borrow_and_update();
                let changed = match link {
                    Link::Here => watched.changed().await,
                    Link::AwaySince(since) => tokio::select! {
                        biased;
                        changed = watched.changed() => changed,
                        () = sleep_until(since + hold) => return,
                    },
                };
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
