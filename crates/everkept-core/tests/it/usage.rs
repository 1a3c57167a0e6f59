//! What turns cost: each thing once, and no price that nobody stated.

use crate::support::*;
use everkept_core::*;

#[test]
fn what_an_agent_counts_again_under_the_same_id_counts_once_in_forks_too() {
    let counted = |n: u64, id: &str| Said::Usage(Usage { request: Some(id.into()), ..tokens(n) });
    let mut world = World::new();
    world.run_all([submit(1, "a"), begin(1), hear(1, [counted(1, "r1"), counted(3, "r1")]), end(1, TurnEnd::Completed)]);
    let again = |world: &mut World, n| {
        world.run_all([submit(n, "b"), begin(n), hear(n, [counted(3, "r1")]), hear(n, [counted(4, "r2")]), end(n, TurnEnd::Completed)]);
    };
    let mut child = child(&world, None);
    again(&mut world, 2);
    again(&mut child, 3);
    let sum = |world: &World| world.state.session.usage.input_tokens;
    assert_eq!((sum(&world), sum(&child)), (Some(7), Some(4)));
    let kinds = world.log.iter().filter(|event| event.body.kind() == "usage").count();
    assert_eq!(kinds, 3);
    // Another agent has ids of its own.
    let other = SubmitTurn { agent: Some(agent("coder")), ..submitted(4, "c") };
    world.run_all([Command::SubmitTurn(other), begin(4), hear(4, [counted(5, "r1")]), end(4, TurnEnd::Completed)]);
    assert_eq!(sum(&world), Some(12));
}

#[test]
fn a_cost_is_reckoned_where_there_is_a_price_for_all_of_it_and_nowhere_else() {
    let price =
        |cache_read| Price { input: 3_000_000, output: 15_000_000, cache_read, cache_write: None, up_to: None, date: "2026-11-20".into() };
    let prices = Prices::from([(model("p/m"), price(Some(300_000))), (model("p/small"), price(None))]);
    let used = Usage { input_tokens: Some(1_000), output_tokens: Some(10), cache_read_tokens: Some(100), ..Usage::default() };
    let reckoned = |mut usage: Usage, asked: Option<&str>| {
        usage.reckon(asked.map(model).as_ref(), &prices);
        (usage.cost_usd_micros, usage.priced_on)
    };
    let known = (Some(3_000 + 150 + 30), Some("2026-11-20".to_owned()));
    assert_eq!(reckoned(used.clone(), Some("p/m")), known);
    assert_eq!(reckoned(used.clone(), Some("m")), known, "an agent may leave the provider out");
    let bounded = |up_to| {
        let prices = Prices::from([(model("p/m"), Price { up_to: Some(up_to), ..price(Some(300_000)) })]);
        let mut usage = used.clone();
        usage.reckon(Some(&model("p/m")), &prices);
        usage.cost_usd_micros
    };
    assert_eq!((bounded(1_100), bounded(1_099)), (known.0, None), "a longer prompt may have another price");
    let unknown = [Some("p/m2"), Some("q/m"), Some("p"), Some("p/small"), None];
    for asked in unknown {
        assert_eq!(reckoned(used.clone(), asked), (None, None), "{asked:?} has no price, or none for a cache");
    }
    assert_eq!(reckoned(Usage::default(), Some("p/m")), (None, None), "of nothing known nothing is reckoned");
    assert_eq!(reckoned(Usage { cost_usd_micros: Some(7), ..used.clone() }, Some("p/m")), (Some(7), None), "the agent knows best");
    assert_eq!(reckoned(Usage { input_tokens: Some(u64::MAX), ..used }, Some("p/m")).0, Some(u64::MAX));
}

#[test]
fn the_cost_of_several_models_is_that_of_each_or_unknown() {
    let price = Price { input: 2_000_000, output: 0, cache_read: None, cache_write: None, up_to: None, date: "2026-11-20".into() };
    let prices = Prices::from([(model("p/a"), price)]);
    let reported = Usage { cost_usd_micros: Some(5), ..tokens(1) };
    let of = |other: Usage| {
        let mut usage = Usage { models: [(model("a"), tokens(10)), (model("b"), other)].into(), ..tokens(11) };
        usage.reckon(None, &prices);
        usage
    };
    let whole = of(reported);
    assert_eq!((whole.cost_usd_micros, whole.priced_on.as_deref()), (Some(25), Some("2026-11-20")));
    let partly = of(tokens(1));
    assert_eq!((partly.cost_usd_micros, partly.priced_on.as_deref()), (None, None));
    assert_eq!(partly.models[&model("a")].cost_usd_micros, Some(20));
    // One that is alone is the one that was asked for.
    let mut usage = Usage { models: [(model("a-2026-01-01"), tokens(10))].into(), ..tokens(10) };
    usage.reckon(Some(&model("p/a")), &prices);
    assert_eq!(usage.cost_usd_micros, Some(20));
}

fn tokens(n: u64) -> Usage {
    Usage { input_tokens: Some(n), ..Usage::default() }
}
