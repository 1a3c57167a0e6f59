//! A session's task that panics takes nothing along but itself: what it left is found, settled and gone on with.

use crate::world::*;
use everkept_core::*;
use everkept_engine::*;
use everkept_store::MemoryStore;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// Panics whenever a task comes to one of these places, so many times.
struct Breaks(Mutex<BTreeMap<Failpoint, u32>>);

impl Failpoints for Breaks {
    fn reach(&self, place: Failpoint, _: Option<SessionId>) -> Pin<Box<dyn Future<Output = Result<(), Injected>> + Send>> {
        let breaks = self.0.lock().unwrap().get_mut(&place).is_some_and(|left| {
            let breaks = *left > 0;
            *left = left.saturating_sub(1);
            breaks
        });
        Box::pin(async move {
            assert!(!breaks, "broken on purpose");
            Ok(())
        })
    }
}

/// Where a session's task stands in the middle of a turn that is asked, cancelled and followed by another.
const PLACES: &[Failpoint] = &[
    Failpoint::Taken,
    Failpoint::Settled,
    Failpoint::Committed,
    Failpoint::Shown,
    Failpoint::Answer,
    Failpoint::RunTurn,
    Failpoint::OpenAgent,
    Failpoint::AgentOpened,
    Failpoint::Prompt,
    Failpoint::Prompted,
    Failpoint::Cancel,
    Failpoint::CancelTold,
];

#[tokio::test(start_paused = true)]
async fn re_05_a_session_whose_task_broke_down_is_found_and_goes_on() {
    for &place in PLACES {
        for times in 1..4 {
            let mut left = BTreeMap::from([(place, times)]);
            // A session that was only just made is not taken over.
            if let Failpoint::Taken | Failpoint::Settled = place {
                left.insert(Failpoint::Prompted, 1);
            }
            let breaks = Arc::new(Breaks(Mutex::new(left)));
            let runtime = Runtime { failpoints: Some(breaks.clone()), ..TokioRuntime::runtime() };
            let world = World::on(Arc::new(MemoryStore::new()), runtime, |_| {}).await;
            while let Err(failure) = world.engine.create_session(&admin(), NewSession::default(), Some(keyed("s", "s"))).await {
                assert_eq!(failure, Failure::BrokenDown);
            }
            let query = SessionsQuery { limit: 9, ..SessionsQuery::default() };
            let session = world.engine.sessions(&admin(), query).await.unwrap().items[0].id;
            insist(&world, session, "long", Order::Submit(turn_of("!long"))).await;
            insist(&world, session, "next", Order::Submit(turn_of("and then"))).await;
            let long = turns(&world, session).await[0];
            insist(&world, session, "cancel", Order::Cancel { turn: long }).await;
            insist(&world, session, "last", Order::Submit(turn_of("at last"))).await;
            let turns = turns(&world, session).await;
            assert_eq!(turns.len(), 3, "{place:?} {times}: each was kept once");
            for turn in &turns {
                let ended = world.ended(*turn).await;
                assert!(!ended.state.is_open(), "{place:?} {times}: {ended:?}");
            }
            assert!(breaks.0.lock().unwrap()[&place] < times, "{place:?} is reached");
            let (turn, _) = world.ask(session, "again").await;
            assert_eq!(turn.state, TurnState::Completed, "{place:?} {times}");
        }
    }
}

/// Asks again with the same key as long as the answer is that it broke down.
async fn insist(world: &World, session: SessionId, key: &str, order: Order) {
    while let Err(failure) = world.engine.order(&admin(), session, order.clone(), Some(keyed(key, key))).await {
        if let Failure::Refused(Refusal::TurnEnded(_)) = failure {
            return;
        }
        assert_eq!(failure, Failure::BrokenDown, "{key}");
    }
}

async fn turns(world: &World, session: SessionId) -> Vec<TurnId> {
    let query = PlaceQuery { session, after: None, before: None, backward: false, limit: 100 };
    world.engine.turns(&admin(), query).await.unwrap().items.iter().map(|placed| placed.turn.id).collect()
}
