//! Time, ids and tasks, as they are handed in.
//!
//! Never read from anywhere else in this crate: a simulator replaces all three.

use crate::failpoint::{Failpoint, Failpoints, Injected};
use everkept_core::{SessionId, Timestamp};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use uuid::Uuid;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub trait Clock: Send + Sync {
    /// For showing and for expiry only.
    fn wall(&self) -> Timestamp;
    /// Since some fixed moment; never goes back. Timers run by it.
    fn monotonic(&self) -> Duration;
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

pub trait Ids: Send + Sync {
    /// A fresh one, later ones sorting after earlier ones.
    fn uuid(&self) -> Uuid;
}

pub trait Spawner: Send + Sync {
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

#[derive(Clone)]
pub struct Runtime {
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub spawner: Arc<dyn Spawner>,
    /// None in a server; tests stop, stall and break it at its places.
    pub failpoints: Option<Arc<dyn Failpoints>>,
}

impl Runtime {
    /// Goes through a place after which something may fail.
    pub(crate) async fn reach(&self, place: Failpoint, session: Option<SessionId>) -> Result<(), Injected> {
        match &self.failpoints {
            None => Ok(()),
            Some(failpoints) => failpoints.reach(place, session).await,
        }
    }

    /// Goes through a place after which nothing can.
    pub(crate) async fn pass(&self, place: Failpoint, session: Option<SessionId>) {
        self.reach(place, session).await.expect("nothing is broken where nothing can fail");
    }
}

/// Runs where it is awaited; dropped before its end, it goes on in a task of its own.
pub(crate) struct ToItsEnd<T: 'static> {
    pub rest: Option<BoxFuture<'static, T>>,
    pub spawner: Arc<dyn Spawner>,
}

impl<T> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let done = self.rest.as_mut().expect("it is awaited to its end once").as_mut().poll(context);
        if done.is_ready() {
            self.rest = None;
        }
        done
    }
}

impl<T> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| !std::thread::panicking()) {
            self.spawner.spawn(Box::pin(async move { _ = rest.await }));
        }
    }
}

/// The real thing: the system's clock, random ids, tokio's tasks.
#[derive(Debug)]
pub struct TokioRuntime {
    started: tokio::time::Instant,
}

impl TokioRuntime {
    pub fn runtime() -> Runtime {
        let real = Arc::new(TokioRuntime { started: tokio::time::Instant::now() });
        Runtime { clock: real.clone(), ids: real.clone(), spawner: real, failpoints: None }
    }
}

impl Clock for TokioRuntime {
    fn wall(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Ids for TokioRuntime {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}

impl Spawner for TokioRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
