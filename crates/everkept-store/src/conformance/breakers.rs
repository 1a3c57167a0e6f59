//! Breakers by agent and model.

use super::{Stores, ok};
use everkept_core::{AgentName, Breaker, ModelName, Probe, Timestamp, TurnId};

pub async fn re_02_the_newest_breaker_is_kept_whatever_order_they_come_in(stores: &impl Stores) {
    let store = stores.fresh();
    let agent = |name: &str| AgentName::new(name).expect("a good name");
    let breaker = |name: &str, model: Option<&str>, version| Breaker {
        version,
        failures: 5,
        openings: 1,
        open_until: Some(Timestamp(7)),
        ..Breaker::new(agent(name), model.map(|model| ModelName::new(model).expect("a good name")))
    };
    let (own, first, second) = (breaker("b", None, 1), breaker("b", Some("x/y"), 1), breaker("b", Some("x/y"), 2));
    let other = breaker("a", Some("x/y"), 9);
    for put in [&second, &own, &first, &other] {
        ok(store.put_breaker(put.clone())).await;
    }
    assert_eq!(ok(store.breakers()).await, [other.clone(), own.clone(), second.clone()]);
    let probe = Some(Probe { turn: super::hand::id(TurnId::PREFIX, 1), until: Timestamp(9) });
    let third = Breaker { version: 3, ..second };
    ok(store.put_breaker(Breaker { probe, ..third.clone() })).await;
    assert_eq!(ok(store.breakers()).await, [other, own, third], "what is under way is nothing to keep");
}
