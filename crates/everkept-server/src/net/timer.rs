//! Lets hyper's timers run on the engine's clock.
//!
//! Never: another clock beside it. The one `Instant` taken here is an origin to count from, not a time.

use everkept_engine::Clock;
use futures::future::BoxFuture;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

#[derive(Clone)]
pub(super) struct EngineTimer {
    clock: Arc<dyn Clock>,
    origin: Instant,
    begun: Duration,
}

impl EngineTimer {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let begun = clock.monotonic();
        EngineTimer { clock, origin: Instant::now(), begun }
    }
}

impl hyper::rt::Timer for EngineTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleeping(Mutex::new(self.clock.sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        self.origin + self.clock.monotonic().saturating_sub(self.begun)
    }
}

/// The lock is never taken: it only makes the future shareable, as hyper asks.
struct Sleeping(Mutex<BoxFuture<'static, ()>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleeping = self.0.get_mut().expect("nobody locks it, so nobody can poison it");
        sleeping.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for Sleeping {}
