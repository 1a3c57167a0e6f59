//! Failpoints: at every place between a commit and what follows from it, the server is killed, what follows fails, and
//! what follows is held up.
//!
//! Each script is played once to count how often it comes to which place. Then one coming at a time is stopped:
//! `EVERKEPT_HITS` says how many of a script's comings to one place (2, spread over all; 0 for every one). A place that no
//! script comes to fails its test. Never: a sleep that is not virtual, or a place that is left out without a word.

mod gate;
mod scripts;

use crate::power::check::{Held, recovered, settle};
use crate::power::server::{Beside, Ended, Past, Recording, Scripted, Server, run_beside};
use crate::power::{begin, from_environment};
use crate::world::{admin, name, turn_of};
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{PlaceQuery, Problem, Store, StoreFault};
use futures::future::{join, join_all};
pub use gate::{Act, Gate};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const DEFAULT_HITS: u64 = 2;
/// After a script, for what comes by itself.
const AFTER: Duration = Duration::from_secs(5);
/// How long a place holds everything up.
const HELD_UP: Duration = Duration::from_secs(30);

/// A script and the coming to a place that is stopped in it.
#[derive(Debug, Clone, Copy)]
struct Trial {
    script: &'static str,
    place: Failpoint,
    nth: usize,
}

fn beside(gate: &Arc<Gate>) -> Beside {
    Beside { failpoints: Some(gate.clone()), agents: scripts::agents() }
}

async fn play(script: &str, server: &Server) -> Scripted {
    let played = scripts::play(script, server).await;
    tokio::time::sleep(AFTER).await;
    played
}

/// How often the script comes to each place.
fn census(script: &str) -> BTreeMap<Failpoint, usize> {
    let gate = Arc::new(Gate::new(None, Act::Pause));
    let (played, _) = run_beside(begin(script), beside(&gate), |_| {}, async |server: &Server| play(script, server).await);
    scripts::whole(played).unwrap_or_else(|why| panic!("{script}, undisturbed: {why}"));
    gate.counts()
}

/// So many of the comings, spread over all; every one when `hits` is 0.
fn spread(count: usize, hits: usize) -> BTreeSet<usize> {
    match hits {
        0 => (1..=count).collect(),
        1 => BTreeSet::from([1]),
        hits => (0..hits).map(|n| 1 + n * (count - 1) / (hits - 1)).collect(),
    }
}

/// Tries every place that `wanted` has, wherever a script comes to it.
fn each(test: &str, wanted: fn(Failpoint) -> bool, trial: impl Fn(Trial) -> Held) {
    let hits = usize::try_from(from_environment("EVERKEPT_HITS", DEFAULT_HITS)).unwrap();
    let (mut tried, mut failed, mut hit) = (0, Vec::new(), BTreeSet::new());
    for script in scripts::NAMES {
        for (place, count) in census(script).into_iter().filter(|(place, _)| wanted(*place)) {
            for nth in spread(count, hits) {
                let one = Trial { script, place, nth };
                if !applies(test, one) {
                    continue;
                }
                tried += 1;
                hit.insert(place);
                if let Err(why) = trial(one) {
                    failed.push(format!("{test} at {place:?} {nth} of {count} in {script}: {why}"));
                }
            }
        }
    }
    println!("{test}: {tried} trials at {} places, {} failed", hit.len(), failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let missed: Vec<_> = Failpoint::ALL.iter().filter(|place| wanted(**place) && !hit.contains(place)).collect();
    assert!(missed.is_empty(), "no script comes to {missed:?}");
}

/// A script that ends the server itself leaves nobody to ask what a held-up place holds up.
fn applies(test: &str, trial: Trial) -> bool {
    let is_asked = !ends_the_server(trial.script) || (trial.script != "boot" && is_of_a_start_or_stop(trial.place));
    test != "pause" || is_asked
}

fn ends_the_server(script: &str) -> bool {
    matches!(script, "boot" | "killed" | "stopped")
}

/// Where the server takes no orders, or where a session's task begins or ends with the server.
fn is_of_a_start_or_stop(place: Failpoint) -> bool {
    match place {
        Failpoint::Booted | Failpoint::Taken | Failpoint::Settled | Failpoint::Stop => true,
        Failpoint::Committed
        | Failpoint::Shown
        | Failpoint::Answer
        | Failpoint::RunTurn
        | Failpoint::OpenAgent
        | Failpoint::AgentOpened
        | Failpoint::KeepBreaker
        | Failpoint::SetModel
        | Failpoint::Prompt
        | Failpoint::Prompted
        | Failpoint::Cancel
        | Failpoint::CancelTold
        | Failpoint::AnswerAgent
        | Failpoint::Deny
        | Failpoint::EndAgent
        | Failpoint::Pack
        | Failpoint::Copy
        | Failpoint::Index
        | Failpoint::WakeFork
        | Failpoint::TokenChanged
        | Failpoint::Leave
        | Failpoint::HandOn => false,
    }
}

fn takes_orders(place: Failpoint) -> bool {
    !matches!(place, Failpoint::Booted | Failpoint::Stop)
}

/// Starts on what is left, and holds it against everything that was noted; then every session takes another turn.
fn comes_back(script: &str, recording: &Recording) -> Held {
    let gate = Arc::new(Gate::new(None, Act::Pause));
    let (held, _) = within_a_week(recording.at(recording.ops.len()), &gate, async |server: &Server| {
        recovered(server).await?;
        goes_on(server, script).await
    });
    held
}

/// Runs it, and does not wait for ever for what never comes.
fn within_a_week(past: Past, gate: &Arc<Gate>, body: impl AsyncFnOnce(&Server) -> Held) -> (Held, Recording) {
    let week = Duration::from_secs(7 * 24 * 3_600);
    let body = async |server: &Server| tokio::time::timeout(week, body(server)).await.unwrap_or_else(|_| Err("it hangs".into()));
    run_beside(past, beside(gate), |_| {}, body)
}

/// No session hangs, and no promise was broken on the way.
async fn goes_on(server: &Server, script: &str) -> Held {
    let starts = server.witness.starts.load(std::sync::atomic::Ordering::Relaxed);
    for session in server.store().all_sessions(None, 1_000).await.map_err(|fault| fault.to_string())? {
        let held = server.store().session(session).await.map_err(|fault| fault.to_string())?;
        if held.is_none_or(|held| held.deleted_at.is_some()) {
            continue;
        }
        let text = format!("is {session} still there, start {starts}");
        let hangs = |ended| format!("{session} takes no turn any more: {ended:?}");
        let turn = server.submit_new(session, &text, NewTurn { agent: Some(name("demo")), ..turn_of(&text) }).await.map_err(hangs)?;
        let turn = server.ended(turn).await.map_err(hangs)?;
        if turn.state != TurnState::Completed {
            return Err(format!("{session} completes no turn any more: {:?}, {:?}", turn.state, turn.reason));
        }
    }
    settle(server).await?;
    none_was_given_up(server, script).await
}

/// O6: a turn that nothing runs, and one that is cancelled and does not stop, is given up after ten minutes of silence.
/// Two scripts have an agent that is silent by itself.
async fn none_was_given_up(server: &Server, script: &str) -> Held {
    let silent = matches!(script, "cancel" | "odd");
    let given_up = |turn: &&Turn| turn.state == TurnState::TimedOut && (turn.cancelling || !silent);
    for session in server.store().all_sessions(None, 1_000).await.map_err(|fault| fault.to_string())? {
        let query = PlaceQuery { session, after: None, before: None, backward: false, limit: 1_000 };
        let turns = server.store().turns(query).await.map_err(|fault| fault.to_string())?;
        if let Some(turn) = turns.iter().map(|record| &record.turn).find(given_up) {
            return Err(format!("O6: nothing ran turn {} of {session}, it ended as {:?}", turn.id, turn.reason));
        }
    }
    Ok(())
}

fn abort(trial: Trial) -> Held {
    let Trial { script, place, nth } = trial;
    let gate = Arc::new(Gate::new(Some((place, nth)), Act::Abort));
    let (came, recording) = within_a_week(begin(script), &gate, async |server: &Server| {
        tokio::select! {
            biased;
            _ = gate.came() => Ok(()),
            _ = play(script, server) => Err("it was not reached".to_owned()),
        }
    });
    came?;
    comes_back(script, &recording)
}

fn error(trial: Trial) -> Held {
    let Trial { script, place, nth } = trial;
    let gate = Arc::new(Gate::new(Some((place, nth)), Act::Error));
    let (held, recording) = within_a_week(begin(script), &gate, async |server: &Server| {
        let played = play(script, server).await;
        if !gate.has_come() {
            return Err("it was not reached".to_owned());
        }
        follows(place, played)?;
        if server.is_down() {
            return Ok(());
        }
        // A script that starts the server again has one that goes on.
        if place == Failpoint::Committed && (!ends_the_server(script) || server.engine().storage_failed()) {
            return stands_still(server).await;
        }
        settle(server).await?;
        goes_on(server, script).await
    });
    held?;
    comes_back(script, &recording)
}

/// What a script may come to when something failed at the place.
fn follows(place: Failpoint, played: Scripted) -> Held {
    match (played, place) {
        // A turn that ended otherwise than the script thinks cannot be retried, edited or answered.
        (Ok(()) | Err(Ended::Failure(Failure::Refused(_))), _) => Ok(()),
        (
            Err(Ended::Failure(Failure::Store(StoreFault { problem: Problem::Failed(_), may_have_happened: true, .. }))),
            Failpoint::Committed,
        ) => Ok(()),
        (Err(Ended::Failure(Failure::Store(StoreFault { problem: Problem::Full, .. }))), Failpoint::Booted) => Ok(()),
        // The agent is gone, or its turn cancelled, before it says what the script waits for.
        (Err(Ended::Late), _) => Ok(()),
        (other, _) => Err(format!("the script ends with {other:?}")),
    }
}

/// D4: a store that could not say what it did is not asked again.
async fn stands_still(server: &Server) -> Held {
    let engine = server.engine();
    let refused = engine.create_session(&admin(), NewSession::default(), None).await;
    match (engine.storage_failed(), refused) {
        (true, Err(failure)) if failure.is_storage_failed() => Ok(()),
        other => Err(format!("D4: it goes on: {other:?}")),
    }
}

fn pause(trial: Trial) -> Held {
    let Trial { script, place, nth } = trial;
    let gate = Arc::new(Gate::new(Some((place, nth)), Act::Pause));
    let (held, recording) = within_a_week(begin(script), &gate, async |server: &Server| {
        let (played, held) = join(play(script, server), async {
            let held = meanwhile(server, place, &gate).await;
            gate.let_through();
            held
        })
        .await;
        held?;
        follows(place, played)?;
        if server.is_down() {
            return Ok(());
        }
        settle(server).await?;
        goes_on(server, script).await
    });
    held?;
    comes_back(script, &recording)
}

async fn meanwhile(server: &Server, place: Failpoint, gate: &Gate) -> Held {
    let session = gate.came().await;
    if !takes_orders(place) {
        tokio::time::sleep(HELD_UP).await;
        return Ok(());
    }
    others_go_on(server).await?;
    orders_are_obeyed(server, place, session, gate).await
}

/// L2: a whole turn of another session, while the one is held up.
async fn others_go_on(server: &Server) -> Held {
    let hangs = |ended| format!("another session is held up, too: {ended:?}");
    let talk = async {
        let session = server.create("another").await?;
        server.talk(session, "goes on meanwhile").await
    };
    let turn = tokio::time::timeout(Duration::from_secs(1), talk);
    match turn.await.map_err(|_| "another session is held up, too".to_owned())?.map_err(hangs)? {
        turn if turn.state == TurnState::Completed => Ok(()),
        turn => Err(format!("another session's turn ends as {:?}", turn.state)),
    }
}

/// A cancel, and another order, that come while the session is held up are obeyed once it is not.
async fn orders_are_obeyed(server: &Server, place: Failpoint, session: Option<SessionId>, gate: &Gate) -> Held {
    let mut requests = Vec::new();
    let mut cancelled = None;
    if let Some(session) = session {
        let query = PlaceQuery { session, after: None, before: None, backward: true, limit: 100 };
        let turns = server.store().turns(query).await.map_err(|fault| fault.to_string())?;
        cancelled = turns.into_iter().map(|record| record.turn).find(|turn| turn.state.is_open()).map(|turn| turn.id);
        requests.extend(cancelled.map(|turn| scripts::beside("cancel meanwhile", session, Order::Cancel { turn })));
        let update = UpdateSession { title: Some(Some("renamed meanwhile".into())), ..UpdateSession::default() };
        requests.push(scripts::beside("rename meanwhile", session, Order::Update(update)));
    }
    let asked = join_all(requests.into_iter().map(|request| server.ask(request)));
    let (answers, ()) = join(tokio::time::timeout(2 * HELD_UP, asked), async {
        tokio::time::sleep(HELD_UP).await;
        gate.let_through();
    })
    .await;
    for answer in answers.map_err(|_| "an order that came meanwhile is not answered".to_owned())? {
        match answer {
            Ok(_) | Err(Ended::Failure(Failure::Refused(_))) => {}
            other => return Err(format!("an order that came meanwhile is answered with {other:?}")),
        }
    }
    let Some(turn) = cancelled else { return Ok(()) };
    let state = match server.ended(turn).await {
        Ok(ended) => ended.state,
        // Its session went to the trash.
        Err(Ended::Failure(Failure::Refused(_))) => return Ok(()),
        Err(ended) => return Err(format!("a cancelled turn does not end: {ended:?}")),
    };
    match (state, place) {
        (TurnState::Cancelled | TurnState::Completed | TurnState::Failed, _) => Ok(()),
        // It was over when the cancel came.
        (TurnState::Interrupted, Failpoint::Taken) | (TurnState::DeadLettered, _) => Ok(()),
        other => Err(format!("a cancelled turn ends as {other:?}")),
    }
}

fn stop(trial: Trial) -> Held {
    let Trial { script, place, nth } = trial;
    let gate = Arc::new(Gate::new(Some((place, nth)), Act::Pause));
    let (held, recording) = within_a_week(begin(script), &gate, async |server: &Server| {
        tokio::select! {
            biased;
            _ = gate.came() => {}
            _ = play(script, server) => return Err("it was not reached".to_owned()),
        }
        let engine = server.engine();
        let stopped = join(tokio::time::timeout(Duration::from_secs(600), engine.stop(Stop::Settle)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            gate.let_through();
        });
        let (stopped, ()) = stopped.await;
        server.kill().await;
        stopped.map_err(|_| "a stop that was held up does not end".to_owned())
    });
    held?;
    comes_back(script, &recording)
}

#[test]
fn d1_d2_d3_o1_o3_o5_o6_hold_after_a_kill_at_every_place() {
    each("abort", |_| true, abort);
}

#[test]
fn what_fails_at_a_place_is_made_good_or_told() {
    each("error", Failpoint::can_fail, error);
}

#[test]
fn l2_what_is_held_up_at_a_place_holds_up_nobody_else_and_goes_on() {
    each("pause", |_| true, pause);
}

#[test]
fn a_stop_that_comes_while_a_place_is_held_up_ends_in_order() {
    each("stop", takes_orders, stop);
}
