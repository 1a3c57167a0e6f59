//! The whole server on a simulated network and clock, with faults that a seed decides, and a small model beside it.
//!
//! A failing seed is printed; `EVERKEPT_SEED` replays it to the same log. `EVERKEPT_SIMULATIONS` says how many seeds there
//! are, from that one or from 0 on.
//! Never: a real clock, a real network or a second thread in one simulation.

mod check;
mod client;
mod host;
mod house;
mod judge;
mod marks;
mod reader;
mod wire;

use crate::dice::Dice;
use check::Logs;
use client::Client;
use everkept_agent::demo::MemoryInRam;
use everkept_store_sql::{Mode, SqliteStore};
use futures::FutureExt;
use house::House;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::{Arc, atomic::Ordering::SeqCst};
use std::time::Duration;
use turmoil::Sim;

const TICK: Duration = Duration::from_millis(5);
/// How long faults go on; a run is over when everybody is done.
const FAULTS: Duration = Duration::from_secs(4);
const COMMANDS: u64 = 10;
/// Within it a failing run gives up.
const LONGEST: Duration = Duration::from_secs(600);
const HOUR: i64 = 3_600_000_000;

/// Rare paths; every one must be taken somewhere in a whole run.
const SOMETIMES: [&str; 12] = [
    "a cancel came after the end",
    "a command went unanswered without a crash",
    "a crash while a command was under way",
    "a dead letter was put away",
    "a dead letter was taken up",
    "a permission was answered",
    "a queued turn ran after a crash",
    "a reader fell behind and read the store",
    "a reader went on after a crash",
    "a retry was given the kept answer",
    "an interrupted turn was reviewed",
    "the wall clock went back",
];

/// Everything that is the same when a seed is.
#[derive(PartialEq)]
struct Outcome {
    trace: Vec<String>,
    logs: Logs,
    marks: Vec<&'static str>,
}

#[test]
fn every_promise_holds_in_every_simulated_world() {
    let (first, count) = match (number("EVERKEPT_SEED"), number("EVERKEPT_SIMULATIONS")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(DEFAULT)),
    };
    let mut hit = BTreeMap::<&str, u64>::new();
    let (mut events, mut observations) = (0, 0);
    for seed in first..first + count {
        let outcome = simulate(seed);
        events += outcome.logs.values().map(Vec::len).sum::<usize>();
        observations += outcome.trace.len();
        for mark in outcome.marks {
            *hit.entry(mark).or_default() += 1;
        }
        let done = seed + 1 - first;
        if done % 1_000 == 0 {
            println!("{done} of {count} seeds");
        }
    }
    println!("seeds from {first}: {count}, {events} events kept, {observations} observations; rare paths, by seeds: {hit:#?}");
    if count >= 100 {
        let missed: Vec<_> = SOMETIMES.iter().filter(|mark| !hit.contains_key(*mark)).collect();
        assert!(missed.is_empty(), "never hit in {count} seeds: {missed:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world_to_the_byte() {
    for seed in 0..20 {
        let (first, second) = (simulate(seed), simulate(seed));
        let differs = first.trace.iter().zip(&second.trace).position(|(first, second)| first != second);
        let around = |outcome: &Outcome| differs.map(|at| outcome.trace[at.saturating_sub(2)..=at].join("\n"));
        assert_eq!(around(&first), around(&second), "seed {seed}");
        assert!(first == second, "seed {seed} gave two logs");
    }
}

/// How many seeds there are when nobody says.
const DEFAULT: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

fn simulate(seed: u64) -> Outcome {
    match catch_unwind(|| run(seed)) {
        Ok(outcome) => outcome,
        Err(panic) => {
            eprintln!("failed: EVERKEPT_SEED={seed} cargo test -p everkept-server --test it simulation");
            resume_unwind(panic)
        }
    }
}

fn run(seed: u64) -> Outcome {
    let mut dice = Dice::new(seed, 1);
    let memory_disk = std::path::Path::new("/dev/shm");
    let directory = if memory_disk.is_dir() { tempfile::tempdir_in(memory_disk) } else { tempfile::tempdir() }.unwrap();
    let clients = dice.between(3, 4);
    let house = Arc::new(House::new(seed, directory.path().into(), clients));
    let _heard = marks::listen(house.clone());
    let mut sim = network(seed);
    let memory = Arc::new(MemoryInRam::default());
    let (living, remembered) = (house.clone(), memory.clone());
    sim.host("server", move || host::live(living.clone(), remembered.clone()));
    let mut names = vec!["judge".to_owned()];
    sim.client("judge", judge::judge(house.clone()));
    for number in 0..clients {
        let name = format!("client-{number}");
        sim.client(name.as_str(), Client::new(house.clone(), number).live(COMMANDS));
        names.push(name);
    }
    rage(&mut sim, &house, &names, &mut dice);
    sim.run().unwrap_or_else(|error| panic!("{error}"));
    sim.crash("server");
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    // Inline, every answer is there at once.
    let logs = check::check(&house, &store, &*memory).now_or_never().expect("the store answers at once");
    let told = house.told();
    let waited = |prompt: &&house::Prompted| {
        told.submits.iter().any(|submit| submit.turn.as_ref() == Some(&prompt.turn) && submit.boot < prompt.boot)
    };
    let mut marks: Vec<_> = told.marks.iter().copied().collect();
    marks.extend(told.prompts.iter().find(waited).map(|_| "a queued turn ran after a crash"));
    Outcome { trace: told.trace.clone(), logs, marks }
}

fn network(seed: u64) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(std::time::UNIX_EPOCH)
        .tick_duration(TICK)
        .simulation_duration(LONGEST)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(30))
        .tcp_capacity(16)
        .enable_random_order()
        .build()
}

/// Breaks things until it is time to heal them.
fn rage(sim: &mut Sim<'_>, house: &House, names: &[String], dice: &mut Dice) {
    while sim.elapsed() < FAULTS {
        let victim = dice.of(names).unwrap().as_str();
        match dice.below(10) {
            0 => {
                sim.hold("server", victim);
                step(sim, dice.millis(50, 2_500));
                sim.release("server", victim);
            }
            1 => {
                sim.partition("server", victim);
                step(sim, dice.millis(50, 1_500));
                sim.repair("server", victim);
            }
            2 => {
                sim.partition_oneway("server", victim);
                step(sim, dice.millis(50, 1_500));
                sim.repair_oneway("server", victim);
            }
            3 => sim.set_link_max_message_latency("server", victim, dice.millis(2, 400)),
            4 => {
                sim.set_link_fail_rate("server", victim, 0.02);
                step(sim, dice.millis(50, 500));
                sim.set_link_fail_rate("server", victim, 0.0);
                sim.repair("server", victim);
            }
            5 | 6 => {
                sim.crash("server");
                house.crashes.fetch_add(1, SeqCst);
                step(sim, dice.millis(5, 400));
                sim.bounce("server");
            }
            7 | 8 => {
                let skew = i64::try_from(dice.below(60 * 24)).unwrap() * HOUR - 30 * 24 * HOUR;
                if house.skew.swap(skew, SeqCst) > skew {
                    house.mark("the wall clock went back");
                }
            }
            _ => {}
        }
        step(sim, dice.millis(20, 700));
    }
    for name in names {
        sim.set_link_max_message_latency("server", name.as_str(), Duration::from_millis(5));
    }
    house.healed.store(true, SeqCst);
}

fn step(sim: &mut Sim<'_>, time: Duration) {
    let until = sim.elapsed() + time;
    while sim.elapsed() < until {
        sim.step().unwrap_or_else(|error| panic!("{error}"));
    }
}
