//! The trash: what is deleted can be restored for its stated time, and is purged after it (promise D8).

use crate::world::*;
use everkept_core::*;
use everkept_engine::*;
use everkept_store::MemoryStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// A wall clock that goes with the test's time, and can be wrong.
struct Wall {
    real: Runtime,
    wrong_by: AtomicI64,
}

impl Clock for Wall {
    fn wall(&self) -> Timestamp {
        let right = i64::try_from(self.real.clock.monotonic().as_micros()).unwrap();
        Timestamp(1_700_000_000_000_000 + right + self.wrong_by.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.real.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        self.real.clock.sleep(duration)
    }
}

async fn world(keep: Duration) -> (World, Arc<Wall>) {
    let real = TokioRuntime::runtime();
    let wall = Arc::new(Wall { real: real.clone(), wrong_by: AtomicI64::new(0) });
    let runtime = Runtime { clock: wall.clone(), ..real };
    (World::on(Arc::new(MemoryStore::new()), runtime, |settings| settings.keep_trash = Some(keep)).await, wall)
}

/// Some hours with something going on: upkeep follows what happens.
async fn hours(world: &World, busy: SessionId) {
    for _ in 0..3 {
        world.ask(busy, "tick").await;
        tokio::time::sleep(Duration::from_secs(3_700)).await;
    }
}

/// Whether it can be restored.
async fn is_there(world: &World, session: SessionId) -> bool {
    match world.order(session, Order::Delete).await {
        Ok(_) => true,
        Err(Failure::Refused(Refusal::SessionNotFound)) => false,
        Err(failure) => panic!("{failure:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn d8_what_is_deleted_is_restorable_for_its_stated_time_and_purged_after_it() {
    let (world, wall) = world(30 * DAY).await;
    let (gone, kept, busy) = (world.session().await, world.session().await, world.session().await);
    for session in [gone, kept] {
        world.ask(session, "one").await;
        world.order(session, Order::Delete).await.unwrap();
    }
    let trash = || SessionsQuery { deleted: true, limit: 10, ..SessionsQuery::default() };
    let listed = world.engine.sessions(&admin(), trash()).await.unwrap().items;
    let stated = Timestamp(wall.wall().0 + 30 * 86_400_000_000);
    assert!(listed.iter().all(|session| session.purge_at.is_some_and(|at| at <= stated && at.0 > stated.0 - 3_600_000_000)), "{listed:?}");
    tokio::time::sleep(29 * DAY).await;
    hours(&world, busy).await;
    assert!(is_there(&world, gone).await, "its time is not over");
    world.order(kept, Order::Restore).await.unwrap();
    tokio::time::sleep(2 * DAY).await;
    hours(&world, busy).await;
    assert!(!is_there(&world, gone).await);
    assert_eq!(world.order(gone, Order::Restore).await.err(), Some(Refusal::SessionNotFound.into()));
    assert_eq!(world.ask(kept, "two").await.1, "reply 2 to: two");
    assert_eq!(world.engine.sessions(&admin(), trash()).await.unwrap().items, []);
}

#[tokio::test(start_paused = true)]
async fn d8_l3_a_clock_that_is_wrong_for_a_while_takes_nothing_out_of_the_trash() {
    let (world, wall) = world(DAY).await;
    let (session, busy) = (world.session().await, world.session().await);
    world.order(session, Order::Delete).await.unwrap();
    hours(&world, busy).await;
    wall.wrong_by.store(400 * 86_400_000_000, Ordering::SeqCst);
    world.ask(busy, "tick").await;
    tokio::time::sleep(Duration::from_secs(3_500)).await;
    world.ask(busy, "tick").await;
    wall.wrong_by.store(0, Ordering::SeqCst);
    hours(&world, busy).await;
    world.order(session, Order::Restore).await.unwrap();
}
