//! Requests made from the API's own document, right and wrong, against the real engine and the real SQLite store.
//!
//! `EVERKEPT_REQUESTS` says how many (10,000 by default), `EVERKEPT_SEED` which; a failure prints the seed of its world
//! and the request. Never a request without a check: no 5xx, a status the document names, an error of the one table, a body
//! that is what the document says, and nothing left of what was refused.

mod generate;
mod schema;
mod text;
mod world;

use crate::dice::Dice;
use crate::line::Answer;
use everkept_api::ErrorCode;
use generate::{Maker, Operation, Request, Seen, operations};
use schema::Document;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use world::World;

/// Requests to one server; then a new one begins with the next seed.
const WORLD: u64 = 2_500;
/// So often there is a session with something in every state.
const PLANTING: u64 = 50;
/// Nothing that is asked here takes longer, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

fn figure(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// What all worlds together have seen.
#[derive(Default)]
struct Tally {
    requests: u64,
    events: u64,
    /// By operation and status.
    answers: BTreeMap<(String, u16), u64>,
    codes: BTreeSet<String>,
}

#[test]
fn a8_no_request_breaks_the_server_or_is_answered_with_what_the_document_does_not_say() {
    let (seed, requests) = (figure("EVERKEPT_SEED", 5), figure("EVERKEPT_REQUESTS", 10_000));
    let mut tally = Tally::default();
    let mut world = seed;
    while tally.requests < requests {
        let count = WORLD.min(requests - tally.requests);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(world, count, &mut tally));
        world += 1;
    }
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for ((_, status), count) in &tally.answers {
        *statuses.entry(*status).or_default() += count;
    }
    println!("{requests} requests in worlds {seed} to {}, {} events verified; by status {statuses:?}", world - 1, tally.events);
    if requests >= 10_000 {
        every_way_was_gone(&tally);
    }
}

/// A fuzzer that is never let in, or never refused, shows nothing.
fn every_way_was_gone(tally: &Tally) {
    let operations: BTreeSet<_> = tally.answers.keys().map(|(operation, _)| operation).collect();
    for operation in operations {
        let statuses: BTreeSet<u16> = tally.answers.keys().filter(|(one, _)| one == operation).map(|(_, status)| *status).collect();
        assert!(statuses.iter().any(|status| *status < 400), "{operation} was never answered well: {statuses:?}");
        // What takes nothing is refused to strangers only, who are few.
        let refused = statuses.iter().any(|status| (400..500).contains(status));
        assert!(refused || tally.requests < 100_000, "{operation} was never refused: {statuses:?}");
    }
    for code in [
        "invalid_json",
        "invalid_request",
        "unsupported_media_type",
        "unknown_field",
        "invalid_field",
        "not_found",
        "idempotency_mismatch",
        "body_too_large",
        "busy",
        "turn_not_queued",
    ] {
        assert!(tally.codes.contains(code), "{code} was never answered: {:?}", tally.codes);
    }
}

async fn live(seed: u64, count: u64, tally: &mut Tally) {
    let mut dice = Dice::new(seed, 7);
    let mut world = World::of(seed).await;
    let admin = world.callers[0].0.clone();
    let document = Document(world.line.as_client(&admin, "GET", "/api/openapi.json", None).await.json());
    let operations = operations(&document);
    let tokens = world.line.as_client(&admin, "GET", "/api/tokens", None).await.json();
    let tokens = tokens["items"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap().to_owned());
    let mut seen = Seen::default();
    seen.spared.extend(tokens);
    let mut kept = world.kept();
    for number in 0..count {
        if number % PLANTING == 0 {
            world.plant(number, &mut seen).await;
            kept = world.kept();
        }
        let operation = weighted(&mut dice, &operations, Operation::weight);
        let (caller, _) = weighted(&mut dice, &world.callers, |(_, weight)| *weight);
        let well = dice.one_in(2);
        let request = Maker { document: &document, seen: &seen, dice: &mut dice, well, both: None }.request(operation, caller);
        let writes = world.writes();
        let asked = tokio::time::timeout(PATIENCE, world.line.ask(&request.bytes)).await;
        let judged = asked.map_err(|_| "no answer".to_owned()).and_then(|answer| judge(&document, operation, &request, answer));
        let judged = judged.and_then(|answer| match world.panics() {
            0 => Ok(answer),
            _ => Err("a task of the server panicked".into()),
        });
        let answer = judged.unwrap_or_else(|wrong| {
            let shown = String::from_utf8_lossy(&request.bytes).into_owned();
            panic!("EVERKEPT_SEED={seed} EVERKEPT_REQUESTS={}: {wrong}\n{shown:.1500}", number + 1)
        });
        tally.requests += 1;
        *tally.answers.entry((operation.id.clone(), answer.status)).or_default() += 1;
        let changed = world.writes() != writes;
        // A turn that did not complete is an answer to a chat, and no refusal.
        // Nor is one that came to nothing in the time it took.
        let refused = answer.status >= 400 && !matches!(answer.status, 408 | 502);
        if refused {
            if let Some(code) = code(&answer) {
                tally.codes.insert(code);
            }
            if changed {
                assert_eq!(
                    world.kept(),
                    kept,
                    "EVERKEPT_SEED={seed} EVERKEPT_REQUESTS={}: what was refused has left something\n{}\n{}",
                    number + 1,
                    String::from_utf8_lossy(&request.bytes),
                    answer.text()
                );
            }
        } else if answer.header("content-type") == Some("application/json") && !answer.body.is_empty() {
            seen.learn(&read(&answer.body).unwrap());
        }
        if !refused {
            world.settle().await;
            kept = world.kept();
        }
    }
    tally.events += world.check().await;
}

fn weighted<'a, T>(dice: &mut Dice, all: &'a [T], weight: impl Fn(&T) -> u64) -> &'a T {
    let mut at = dice.below(all.iter().map(&weight).sum());
    for one in all {
        match at.checked_sub(weight(one)) {
            Some(rest) => at = rest,
            None => return one,
        }
    }
    unreachable!("it is below the sum of all")
}

fn code(answer: &Answer) -> Option<String> {
    serde_json::from_slice::<Value>(&answer.body).ok()?["error"]["code"].as_str().map(str::to_owned)
}

/// A number that no float holds is JSON all the same, and is kept as it came.
fn read(body: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    serde_json::from_str(&text.replace("1e999", "1e99")).map_err(|error| error.to_string())
}

/// The answer, if it is one that the document names.
fn judge(document: &Document, operation: &Operation, request: &Request, answer: Option<Answer>) -> Result<Answer, String> {
    let Some(answer) = answer else { return Err("the connection was closed without an answer".into()) };
    let said = || format!("{} {}", answer.status, answer.text().chars().take(2_000).collect::<String>());
    if answer.status >= 500 && answer.status != 502 {
        return Err(format!("a mistake of ours: {}", said()));
    }
    if matches!(answer.status, 400 | 414 | 431) && answer.body.is_empty() && request.odd_http {
        return Ok(answer);
    }
    for name in ["x-content-type-options", "content-security-policy", "cache-control"] {
        answer.header(name).ok_or_else(|| format!("{name} is missing: {}", said()))?;
    }
    if request.to_head {
        return if answer.body.is_empty() { Ok(answer) } else { Err(format!("a body to HEAD: {}", said())) };
    }
    let named = &operation.responses[answer.status.to_string()];
    let response = if named.is_null() { &operation.responses["default"] } else { named };
    if named.is_null() && answer.status < 400 {
        return Err(format!("the document does not name this status: {}", said()));
    }
    let contents = response["content"].as_object();
    let kind = answer.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    match contents {
        None if answer.body.is_empty() => return Ok(answer),
        // All that someone without a credential is told.
        Some(_) if operation.id == "get_health" && answer.body.is_empty() => return Ok(answer),
        None => return Err(format!("a body where the document has none: {}", said())),
        Some(contents) => {
            let content = contents.get(kind).ok_or_else(|| format!("the document does not name {kind:?}: {}", said()))?;
            if kind == "application/json" {
                let body = read(&answer.body).map_err(|error| format!("{error}: {}", said()))?;
                document.check(&content["schema"], &body).map_err(|wrong| format!("not as the document says: {wrong}: {}", said()))?;
                if named.is_null() {
                    check_error(&answer, &body["error"]).map_err(|wrong| format!("{wrong}: {}", said()))?;
                }
            }
        }
    }
    Ok(answer)
}

/// An error is one of the table, and says which field is wrong.
fn check_error(answer: &Answer, error: &Value) -> Result<(), String> {
    let code = ErrorCode::ALL.iter().find(|code| Some(code.as_str()) == error["code"].as_str()).ok_or("a code that is not in the table")?;
    if code.status() != answer.status {
        return Err(format!("{code} is {}", code.status()));
    }
    let field = error["field"].as_str().or(error["param"].as_str());
    match answer.status {
        422 if field.is_none() => Err("the wrong field is not named".into()),
        _ => Ok(()),
    }
}
