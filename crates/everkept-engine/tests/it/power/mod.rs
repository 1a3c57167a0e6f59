//! The power is cut at any operation of the disk, and the disk fails in every way it can; then the promises are looked at.
//!
//! Each scenario runs once and everything it does to its disk is recorded. A cut after the n-th operation is the disk as
//! it was then: all that was synced, and a torn part of the rest, chosen by the seed. `EVERKEPT_CUTS` says how many cuts
//! are made over all scenarios, `EVERKEPT_SEED` where they begin. Never: a sleep, or a file outside memory.

mod chance;
pub mod check;
mod disk;
pub mod scenarios;
pub mod server;
mod vfs;

use chance::Chance;
use check::{log, recover, seen_is_kept, settle};
use disk::{Disk, DiskFiles, Fault, Image, Op};
use everkept_core::SessionId;
use everkept_engine::*;
use everkept_store::conformance::block_on;
use everkept_store::{Store, verify};
use everkept_store_sql::{Mode, SqliteStore};
use server::{Ended, Note, Past, Recording, Scripted, Server, is_full, run};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vfs::Mounted;

const DEFAULT_CUTS: u64 = 5_000;
const DEFAULT_SEED: u64 = 1;

pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

fn cuts() -> u64 {
    from_environment("EVERKEPT_CUTS", DEFAULT_CUTS)
}

fn seed() -> u64 {
    from_environment("EVERKEPT_SEED", DEFAULT_SEED)
}

/// The seed of one scenario under one test.
fn seed_of(seed: u64, test: &str, scenario: &str) -> u64 {
    let text = format!("{test} {scenario}");
    text.bytes().fold(seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A disk with an empty database that was closed. The first scenario makes its own.
pub fn begin(scenario: &str) -> Past {
    static MADE: std::sync::OnceLock<Image> = std::sync::OnceLock::new();
    match scenario {
        "create" => return Past::default(),
        "migration" => return oldest(),
        _ => {}
    }
    let image = MADE.get_or_init(|| {
        let mounted = Mounted::new(Disk::new(u64::MAX, Image::default()));
        drop(SqliteStore::open_on(&mounted.directory(), Mode::Inline, Arc::new(DiskFiles(mounted.disk.clone()))).unwrap());
        mounted.disk.image()
    });
    Past { image: image.clone(), ..Past::default() }
}

/// A disk with a database of the oldest schema, all of whose events were seen.
fn oldest() -> Past {
    let image = Image::with("everkept.db", include_bytes!("../../../../everkept-store-sql/tests/fixtures/schema_1.db"));
    let mounted = Mounted::new(Disk::new(u64::MAX - 1, image.clone()));
    let store = SqliteStore::open_on(&mounted.directory(), Mode::Inline, Arc::new(DiskFiles(mounted.disk.clone()))).unwrap();
    let mut notes = Vec::new();
    for session in block_on(store.all_sessions(None, 1_000)).unwrap() {
        let events = block_on(log(&store, session)).unwrap();
        notes.extend(events.into_iter().map(|event| Note::Seen(session, event.seq, event.bytes)));
    }
    Past { image, notes, ..Past::default() }
}

fn record(scenario: &str) -> Recording {
    let (played, recording) = run(begin(scenario), |_| {}, async |server: &Server| scenarios::play(scenario, server).await);
    scenarios::whole(played).unwrap_or_else(|why| panic!("{scenario} without a cut: {why}"));
    recording
}

/// Runs `trial` for each scenario and trial number that this half of the tests has, and says how it went.
fn each(test: &str, half: usize, count: u64, mut trial: impl FnMut(&str, &Recording, &mut Chance) -> Result<u64, String>) {
    let names: Vec<_> = scenarios::NAMES.iter().enumerate().filter(|(n, _)| n % 2 == half).map(|(_, name)| *name).collect();
    let even = count.div_ceil(scenarios::NAMES.len() as u64);
    for scenario in names {
        // Its log is long: a cut costs thirty times that of another.
        let share = if scenario == "checkpoint" { even.div_ceil(12) } else { even };
        let recording = record(scenario);
        let (mut done, mut n, began) = (0, 0, std::time::Instant::now());
        while done < share {
            let mut chance = Chance::part(seed_of(seed(), test, scenario), n);
            match trial(scenario, &recording, &mut chance) {
                Ok(cuts) => done += cuts.max(1),
                Err(why) => panic!("{test}: scenario {scenario}, EVERKEPT_SEED={}, trial {n}, {why}", seed()),
            }
            n += 1;
        }
        println!("{test}: {scenario}: {done} over {} operations, seed {}, {:?}", recording.ops.len(), seed(), began.elapsed());
    }
}

/// Up to three in a row, each into the recovery from the one before it.
fn cut_and_recover(_: &str, recording: &Recording, chance: &mut Chance) -> Result<u64, String> {
    let mut cuts = 0;
    let mut story = Vec::new();
    let mut recovered: Option<Recording> = None;
    loop {
        let from = recovered.as_ref().unwrap_or(recording);
        let op = chance.below(from.ops.len() as u64 + 1) as usize;
        let mut past = from.at(op);
        // A kill leaves the kernel's memory as it is: what was not synced is there, and may go with the next cut.
        let power = chance.in_256(192);
        story.push(format!("{} after operation {op} of {}", if power { "cut" } else { "kill" }, from.ops.len()));
        if power {
            past.image.cut(chance);
            cuts += 1;
        }
        let next = recover(past).map_err(|why| format!("{}: {why}", story.join(", then ")))?;
        if story.len() == 3 || (power && chance.in_256(128)) {
            return Ok(cuts);
        }
        recovered = Some(next);
    }
}

#[test]
fn d1_d2_d3_o1_o3_o5_o6_hold_after_power_cuts_anywhere() {
    each("cuts", 0, cuts(), cut_and_recover);
}

#[test]
fn d1_d2_d3_o1_o3_o5_o6_hold_after_power_cuts_anywhere_too() {
    each("cuts", 1, cuts(), cut_and_recover);
}

/// The disk reports an error once, on a write, a sync, a truncate, a create or a delete.
fn fail_and_recover(scenario: &str, recording: &Recording, chance: &mut Chance) -> Result<u64, String> {
    let op = chance.below(recording.ops.len() as u64) as usize;
    let fault = if chance.in_256(64) { Fault::Short } else { Fault::Io };
    let (_, failed) = run(
        begin(scenario),
        |disk| disk.fail_at(op, fault),
        async |server: &Server| {
            let played = scenarios::play(scenario, server).await;
            // What still comes by itself may not be acknowledged either.
            tokio::time::sleep(Duration::from_secs(10)).await;
            played
        },
    );
    let mut past = failed.at(failed.ops.len());
    let power = chance.in_256(128);
    if power {
        past.image.cut(chance);
    }
    let told = |why| format!("{fault:?} at operation {op}{}: {why}", if power { ", then a cut" } else { "" });
    let again = recover(past).map_err(told)?;
    let op = chance.below(again.ops.len() as u64 + 1) as usize;
    let mut past = again.at(op);
    past.image.cut(chance);
    recover(past).map(|_| 1).map_err(|why| told(format!("after the start and a cut at {op}: {why}")))
}

#[test]
fn d4_nothing_is_acknowledged_after_an_error_of_the_disk_and_a_start_has_everything() {
    for half in 0..2 {
        each("errors", half, cuts() / 20, fail_and_recover);
    }
}

/// No file grows from one operation on; later there is space again.
fn fill_and_free(scenario: &str, recording: &Recording, chance: &mut Chance) -> Result<u64, String> {
    let op = chance.below(recording.ops.len() as u64) as usize;
    let told = |why| format!("full from operation {op} on: {why}");
    let (held, filled) = run(
        begin(scenario),
        |disk| disk.fail_at(op, Fault::Full),
        async |server: &Server| {
            match scenarios::play(scenario, server).await {
                Ok(()) | Err(Ended::Late | Ended::Open(_)) => {}
                Err(ended) if is_full(&ended) => {}
                // The first start may find no space for a database.
                Err(ended) if server.is_down() => return no_start(&ended),
                Err(ended) => return Err(format!("{ended:?}")),
            }
            if server.is_down() {
                return Ok(false);
            }
            seen_is_kept(server).await?;
            server.disk().repair();
            tokio::time::sleep(Duration::from_secs(60)).await;
            goes_on(server).await.map_err(|ended| format!("D5: does not go on when there is space: {ended:?}"))?;
            settle(server).await.map(|()| true)
        },
    );
    held.map_err(told)?;
    let mut past = filled.at(filled.ops.len());
    past.image.cut(chance);
    recover(past).map(|_| 1).map_err(|why| told(format!("and after a cut: {why}")))
}

fn no_start(ended: &Ended) -> Result<bool, String> {
    let space = |text: String| text.contains("Full") || text.contains("unable to open");
    if space(format!("{ended:?}")) { Ok(false) } else { Err(format!("a start without space says {ended:?}")) }
}

async fn goes_on(server: &Server) -> Scripted {
    let session = server.create("when there is space again").await?;
    server.talk(session, "is there space").await?;
    Ok(())
}

#[test]
fn d5_a_full_disk_is_read_only_and_goes_on_when_there_is_space() {
    for half in 0..2 {
        each("full", half, cuts() / 100, fill_and_free);
    }
}

/// What is served of a damaged file is what was written; what is not is reported.
fn flip_and_look(_: &str, recording: &Recording, chance: &mut Chance) -> Result<u64, String> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1 << 40);
    let Past { mut image, notes, .. } = recording.at(recording.ops.len());
    let mut seen = BTreeMap::new();
    for note in notes {
        match note {
            Note::Seen(session, seq, bytes) => drop(seen.insert((session, seq), bytes)),
            // Purged by the end.
            Note::Due(session) => seen.retain(|(of, _), _| *of != session),
            _ => {}
        }
    }
    image.flip("everkept.db", chance);
    let mounted = Mounted::new(Disk::new(NUMBERS.fetch_add(1, Ordering::Relaxed), image));
    let Ok(store) = SqliteStore::open_on(&mounted.directory(), Mode::Inline, Arc::new(DiskFiles(mounted.disk.clone()))) else {
        return Ok(1);
    };
    let mut missing = None;
    for ((session, seq), bytes) in seen {
        let query = EventsQuery { session: Some(session), after: seq - 1, limit: 1, ..EventsQuery::default() };
        match block_on(store.events(query)) {
            Ok(events) if events.first().is_some_and(|event| event.bytes == bytes && event.seq == seq) => {}
            Ok(events) if events.first().is_some_and(|event| event.seq == seq) => {
                return Err(format!("D6: event {seq} of {session} is served as {:?}", events[0].bytes));
            }
            Ok(_) => missing = Some((session, seq)),
            Err(_) => {}
        }
    }
    let reported = block_on(verify(&store, &mut |_| {})).map_or(true, |report| !report.damages.is_empty());
    match missing {
        Some((session, seq)) if !reported => Err(format!("D6: event {seq} of {session} is gone, and nothing says so")),
        _ => Ok(1),
    }
}

#[test]
fn d6_a_flipped_bit_is_reported_or_not_served() {
    for half in 0..2 {
        each("flips", half, cuts() / 10, flip_and_look);
    }
}

/// What a reader is shown by a start that does, or does not, write back what may not be on disk; and what a cut leaves of it.
fn shown_and_lost(recording: &Recording, op: usize, write_back: bool) -> Option<(SessionId, u64)> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1 << 50);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    // Killed: the kernel shows what was never synced.
    let mounted = Mounted::new(Disk::new(number, recording.at(op).image));
    let files = Arc::new(DiskFiles(mounted.disk.clone()));
    let store = match write_back {
        true => SqliteStore::open_on(&mounted.directory(), Mode::Inline, files).unwrap(),
        false => SqliteStore::open_without_write_back(&mounted.directory(), files).unwrap(),
    };
    let mut shown = BTreeMap::new();
    for session in block_on(store.all_sessions(None, 100)).unwrap() {
        shown.insert(session, block_on(log(&store, session)).unwrap().len());
    }
    let mut image = mounted.disk.image();
    drop((store, mounted));
    // Whatever can be lost is.
    image.lose_unsynced();
    let mounted = Mounted::new(Disk::new(number, image));
    let store = SqliteStore::open_on(&mounted.directory(), Mode::Inline, Arc::new(DiskFiles(mounted.disk.clone()))).unwrap();
    let lost = |(session, length): (SessionId, usize)| {
        let kept = block_on(log(&store, session)).unwrap().len();
        (kept < length).then_some((session, kept as u64 + 1))
    };
    shown.into_iter().find_map(lost)
}

#[test]
fn d4_a_start_that_does_not_write_back_loses_what_it_showed() {
    let recording = record("turn");
    let every = || 0..=recording.ops.len();
    let lost: Vec<_> = every().filter_map(|op| shown_and_lost(&recording, op, false)).collect();
    assert!(!lost.is_empty(), "the rule would not be needed");
    println!("without the rule {} of {} kills lead to a loss", lost.len(), recording.ops.len() + 1);
    assert_eq!(every().filter_map(|op| shown_and_lost(&recording, op, true)).collect::<Vec<_>>(), []);
}

/// SQLite said that there was a log, and went on with a journal.
#[test]
fn a_first_start_that_cannot_begin_its_log_fails() {
    let fail = |disk: &Disk| disk.fail_at(7, Fault::Io);
    let (started, failed) = run(Past::default(), fail, async |server: &Server| server.start().await);
    assert!(matches!(started, Err(Ended::Failure(Failure::Store(_)))), "{started:?}");
    recover(failed.at(failed.ops.len())).unwrap();
}

/// A journal that came back beside a log stood in the way of the first look.
#[test]
fn a_first_start_that_was_cut_short_twice_starts() {
    let mut chance = Chance::part(seed_of(1, "cuts", "create"), 67);
    cut_and_recover("create", &record("create"), &mut chance).unwrap();
}

/// But for SQLite's own salts.
#[test]
fn a_scenario_does_the_same_every_time() {
    for scenario in scenarios::NAMES {
        let shapes = || record(scenario).ops.iter().map(Op::shape).collect::<Vec<_>>();
        assert_eq!(shapes(), shapes(), "{scenario}");
    }
}
