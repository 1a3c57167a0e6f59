//! What turns cost, added up.

use super::{
    Stores,
    hand::{Hand, agent, resource},
    ok,
};
use crate::{DAY_MICROS, Store, UsageBy, UsageQuery, UsageSum, verify};
use everkept_core::{AgainTurn, Command, EndTurn, ModelName, Said, SessionId, Timestamp, TurnEnd, TurnId, Usage};

pub async fn a_turn_is_counted_once_through_forks_and_retries_and_in_the_trash(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let parent = hand.create_for(None, Some("anna"), None).await;
    cost(&mut hand, parent, &[tokens(1), tokens(10)], TurnEnd::Completed).await;
    let failed = cost(&mut hand, parent, &[tokens(200)], TurnEnd::Failed).await;
    let child = hand.fork(parent, None).await;
    assert_eq!(total(&*store).await, (2, Some(210)), "what is inherited is the parent's");
    cost(&mut hand, child, &[tokens(3_000)], TurnEnd::Completed).await;
    let turn: TurnId = hand.fresh(TurnId::PREFIX);
    let again = AgainTurn { turn: failed, by: turn, agent: None, model: None, known: super::hand::known() };
    hand.act(parent, Command::RetryTurn(again)).await;
    hand.begin(parent, turn).await;
    hand.act(parent, Command::HearAgent { turn, said: vec![Said::Usage(tokens(40_000))] }).await;
    hand.end(parent, turn).await;
    assert_eq!(total(&*store).await, (4, Some(43_210)));
    hand.act(parent, Command::DeleteSession { keep_ms: Some(0) }).await;
    assert_eq!(total(&*store).await, (4, Some(43_210)), "money that was spent is spent");
    hand.act(child, Command::DeleteSession { keep_ms: Some(0) }).await;
    let over = Timestamp(hand.now.0 + DAY_MICROS);
    assert!(ok(store.purge(child, over)).await);
    assert_eq!(total(&*store).await, (3, Some(40_210)), "nothing is left of what was purged");
    assert!(ok(verify(&*store, &mut |_| {})).await.damages.is_empty());
}

pub async fn usage_is_told_apart_filtered_and_bounded(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let model = |name: &str| ModelName::new(name).expect("the names used here are allowed");
    let anna = hand.create_for(None, Some("anna"), None).await;
    let nobody = hand.create(None).await;
    let reckoned = Usage { cost_usd_micros: Some(7), priced_on: Some("2026-11-20".into()), ..tokens(10) };
    let reported = Usage { cost_usd_micros: Some(500), ..tokens(200) };
    let both = Usage { models: [(model("a"), reckoned.clone()), (model("b"), reported.clone())].into(), ..tokens(210) };
    cost(&mut hand, anna, &[both], TurnEnd::Completed).await;
    hand.later(DAY_MICROS);
    let later = hand.now;
    cost(&mut hand, nobody, &[tokens(u64::MAX)], TurnEnd::Completed).await;
    let list = |query: UsageQuery| {
        let store = store.clone();
        async move { ok(store.usage(UsageQuery { limit: 100, ..query })).await.items }
    };
    let one = |turns, usage: Usage| UsageSum {
        turns,
        turns_without_cost: u64::from(usage.cost_usd_micros.is_none()),
        usage,
        ..UsageSum::default()
    };
    let by = UsageBy { day: true, resource: true, agent: true, model: true, session: true };
    let named = |sum, day, owner: Option<&str>, model, session| UsageSum {
        day: Some(day),
        resource: owner.map(resource),
        agent: Some(agent("demo")),
        model,
        session: Some(session),
        ..sum
    };
    let day = |at: Timestamp| at.0.div_euclid(DAY_MICROS);
    // As much as a turn may count for.
    let most = tokens(1_000_000_000_000);
    let all = [
        named(one(1, most.clone()), day(later), None, None, nobody),
        named(UsageSum { reckoned_usd_micros: Some(7), ..one(1, reckoned.clone()) }, day(later) - 1, Some("anna"), Some(model("a")), anna),
        named(one(1, reported.clone()), day(later) - 1, Some("anna"), Some(model("b")), anna),
    ];
    assert_eq!(list(UsageQuery { by, ..UsageQuery::default() }).await, all);
    let page = ok(store.usage(UsageQuery { by, limit: 2, ..UsageQuery::default() })).await;
    assert_eq!((page.items, page.has_more), (all[..2].to_vec(), true));
    let mut of_anna = reckoned.clone();
    of_anna.add(&reported);
    let of_anna = UsageSum { reckoned_usd_micros: Some(7), ..one(1, of_anna) };
    for query in [
        UsageQuery { session: Some(anna), ..UsageQuery::default() },
        UsageQuery { resource: Some(resource("anna")), ..UsageQuery::default() },
        UsageQuery { to: Some(later), ..UsageQuery::default() },
    ] {
        assert_eq!(list(query).await, std::slice::from_ref(&of_anna));
    }
    assert_eq!(list(UsageQuery { from: Some(later), ..UsageQuery::default() }).await, [one(1, most)]);
    assert_eq!(list(UsageQuery { model: Some(model("b")), ..UsageQuery::default() }).await, [one(1, reported)]);
    let of_days =
        list(UsageQuery { by: UsageBy { day: true, ..UsageBy::default() }, agent: Some(agent("demo")), ..UsageQuery::default() }).await;
    assert_eq!(of_days.iter().map(|sum| (sum.day, sum.turns)).collect::<Vec<_>>(), [(Some(day(later)), 1), (Some(day(later) - 1), 1)]);
    for nothing in [
        UsageQuery { agent: Some(agent("nobody")), ..UsageQuery::default() },
        UsageQuery { model: Some(model("c")), by, ..UsageQuery::default() },
        UsageQuery { resource: Some(resource("bert")), ..UsageQuery::default() },
    ] {
        assert_eq!(list(nothing).await, []);
    }
}

/// A whole turn that reports this, one after the other.
async fn cost(hand: &mut Hand<'_>, session: SessionId, reports: &[Usage], end: TurnEnd) -> TurnId {
    let turn = hand.submit(session, "hello").await;
    hand.begin(session, turn).await;
    for usage in reports {
        hand.act(session, Command::HearAgent { turn, said: vec![Said::Usage(usage.clone())] }).await;
    }
    hand.act(session, Command::EndTurn(EndTurn { turn, end, reason: "as told".into(), error: None })).await;
    turn
}

async fn total(store: &dyn Store) -> (u64, Option<u64>) {
    let sums = ok(store.usage(UsageQuery { limit: 2, ..UsageQuery::default() })).await;
    assert!(sums.items.len() == 1 && !sums.has_more);
    (sums.items[0].turns, sums.items[0].usage.input_tokens)
}

fn tokens(n: u64) -> Usage {
    Usage { input_tokens: Some(n), ..Usage::default() }
}
