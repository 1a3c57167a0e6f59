//! Stands at one place, and does there what a trial is about; at all others it counts who comes through.
//!
//! Never: a choice of its own.

use everkept_core::SessionId;
use everkept_engine::{Failpoint, Failpoints, Injected};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Everything ends here, as at a kill -9.
    Abort,
    /// What follows fails.
    Error,
    /// Nothing goes on here until it is let through.
    Pause,
}

pub struct Gate {
    /// The place, and the how manieth coming there is stopped.
    at: Option<(Failpoint, usize)>,
    act: Act,
    counts: Mutex<BTreeMap<Failpoint, usize>>,
    /// The session that came, once it has; none for the server's own work.
    came: watch::Sender<Option<Option<SessionId>>>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub fn new(at: Option<(Failpoint, usize)>, act: Act) -> Gate {
        Gate { at, act, counts: Mutex::default(), came: watch::Sender::new(None), open: watch::Sender::new(false) }
    }

    /// Waits until the one that is stopped has come.
    pub async fn came(&self) -> Option<SessionId> {
        let mut came = self.came.subscribe();
        let came = came.wait_for(Option::is_some).await.expect("the gate stands");
        came.expect("waited for")
    }

    pub fn has_come(&self) -> bool {
        self.came.borrow().is_some()
    }

    pub fn let_through(&self) {
        self.open.send_replace(true);
    }

    pub fn counts(&self) -> BTreeMap<Failpoint, usize> {
        self.counts.lock().unwrap().clone()
    }
}

impl Failpoints for Gate {
    fn reach(&self, place: Failpoint, session: Option<SessionId>) -> Pin<Box<dyn Future<Output = Result<(), Injected>> + Send>> {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(place).or_default();
        *count += 1;
        if self.at != Some((place, *count)) {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.came.send_replace(Some(session));
        match self.act {
            Act::Abort => Box::pin(std::future::pending()),
            Act::Error => Box::pin(std::future::ready(Err(Injected))),
            Act::Pause => {
                let mut open = self.open.subscribe();
                Box::pin(async move {
                    open.wait_for(|open| *open).await.expect("the gate stands");
                    Ok(())
                })
            }
        }
    }
}
