//! Every request handler's future, dropped at every await it reaches.
//!
//! A request is sent on a connection that is polled by hand and dropped the first time it waits, then the second time, and
//! so on until it is served to its end. Each time the same request is sent again with its key, and again later: it has one
//! effect in all, the answers are one, every session completes another turn, no task is left, and `verify` finds nothing.
//! Never: a route without a row.

mod house;
mod rows;

use crate::line::Answer;
use everkept_store::Store;
use house::{Came, House, bearer, read_until, request};
use rows::{By, Kind, ROWS, Row, Things, UPGRADE};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// No handler waits more often.
const MOST: usize = 2_000;

/// A stream that nothing comes on is kept alive for ever.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Says where it was when a check fails.
struct At(String);

impl Drop for At {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0);
        }
    }
}

/// What there is in the end.
#[derive(Debug, PartialEq)]
struct Effects {
    events: BTreeMap<&'static str, usize>,
    tokens: usize,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Drops at the first wait, the second and so on; how many there were. `trial` tells whether it was dropped, and what
/// there is in the end.
fn at_every_wait(name: &str, trial: impl AsyncFn(usize) -> (bool, Effects)) -> usize {
    let run = |steps: usize| {
        let _at = At(format!("{name}, dropped as it waits for the time after {steps}"));
        block_on(async { tokio::time::timeout(WEEK, trial(steps)).await.expect("it comes to an end") })
    };
    let (dropped, whole) = run(usize::MAX);
    assert!(!dropped, "{name} is served to its end");
    for steps in 0..MOST {
        let (dropped, effects) = run(steps);
        assert_eq!(effects, whole, "{name}, dropped as it waits for the time after {steps}");
        if !dropped {
            return steps;
        }
    }
    panic!("{name} waits more than {MOST} times");
}

fn walk(rows: impl Iterator<Item = &'static Row>) {
    let mut drops = 0;
    for row in rows {
        let name = format!("{} {} {}", row.method, row.target, row.body);
        let waits = at_every_wait(&name, async |steps| whole_trial(row, steps).await);
        assert!(waits > 0, "{name} never waits, so that nothing was dropped");
        drops += waits;
        println!("{name}: {waits} waits");
    }
    println!("{drops} drops");
}

async fn whole_trial(row: &Row, steps: usize) -> (bool, Effects) {
    let (house, things) = House::start().await;
    let key = if row.kind == Kind::Write { "idempotency-key: once\r\n" } else { "" };
    let caller = match row.by {
        By::Admin => &house.admin,
        By::Relay => &things.relay_header,
    };
    let headers = format!("{caller}{key}{}", row.headers);
    let request = request(row.method, &things.fill(row.target), &headers, &things.fill(row.body));
    let ask = async |steps| {
        if row.path == "/api/feed" {
            house.rename_soon(&things.ses);
        }
        house.ask(steps, &request, row.until).await
    };
    let held = if row.path == "/api/tokens/{tok}" { Some(held_open(&house, &things).await) } else { None };
    let first = ask(steps).await;
    if let Some(held) = held {
        a4_a_revocation_is_whole_or_not_there(&house, &things, held).await;
    }
    if row.by == By::Relay {
        // Of one agent there is one, until the server sees that it is gone.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let second = ask(usize::MAX).await;
    house.settle().await;
    let third = ask(usize::MAX).await;
    assert_same(row, &first, &second, &third);
    if row.kind == Kind::Secret {
        for came in [&second, &third] {
            let told = came.answer.as_ref().unwrap().json();
            let (asked, status) = match told["url"].as_str().and_then(|url| url.split_once("#code=")) {
                Some((_, code)) => {
                    let json = "content-type: application/json\r\n";
                    (house::request("POST", "/login", json, &format!("{{\"code\":\"{code}\"}}")), 204)
                }
                None => (house::request("GET", "/api/sessions", &bearer(told["secret"].as_str().unwrap()), ""), 200),
            };
            assert_eq!(house.ask(usize::MAX, &asked, None).await.answer.unwrap().status, status);
        }
    }
    house.settle().await;
    let effects = effects(&house, row).await;
    house.goes_on().await;
    house.check().await;
    (first.dropped, effects)
}

async fn effects(house: &House, row: &Row) -> Effects {
    // A secret that nobody was told may be there, or not.
    let tokens = if row.kind == Kind::Secret { 0 } else { house.store.tokens().await.unwrap().len() };
    Effects { events: house.effects().await, tokens }
}

fn assert_same(row: &Row, first: &Came, second: &Came, third: &Came) {
    for came in [second, third] {
        let answer = came.answer.as_ref().expect("an answer to the same request");
        assert!(answer.status < 300, "{} {}", answer.status, answer.text());
        if let Some(until) = row.until {
            let read = String::from_utf8_lossy(&came.read);
            assert!(read.contains(until), "the stream ends before {until}: {read}");
        }
    }
    if row.kind != Kind::Write {
        return;
    }
    let said = |came: &Came| came.answer.as_ref().map(|answer| (answer.status, answer.body.clone(), came.read.clone()));
    assert_eq!(said(second), said(third), "one answer");
    // One that came whole before the drop was an answer, too.
    if row.until.is_none() && first.answer.is_some() || !first.dropped {
        assert_eq!(said(first), said(second), "one answer");
    }
    let replayed = third.answer.as_ref().and_then(|answer| answer.header("idempotency-replayed"));
    assert_eq!(replayed, Some("true"), "it is the kept answer");
}

/// A stream that somebody reads by a token.
async fn held_open(house: &House, things: &Things) -> DuplexStream {
    let (stream, head) = house.open(&request("GET", "/api/feed", &things.token_header, ""), &mut Vec::new()).await;
    assert_eq!(head.status, 200);
    stream
}

/// A token that is revoked in the store opens nothing, and what it had opened has ended.
async fn a4_a_revocation_is_whole_or_not_there(house: &House, things: &Things, mut held: DuplexStream) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tokens = house.store.tokens().await.unwrap();
    let revoked = tokens.iter().find(|token| token.id.to_string() == things.token).unwrap().revoked_at.is_some();
    let asked = request("GET", "/api/sessions", &things.token_header, "");
    let seen = house.ask(usize::MAX, &asked, None).await.answer.unwrap();
    assert_eq!(seen.status, if revoked { 401 } else { 200 }, "a token that is revoked: {revoked}");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_millis(1), held.read_to_end(&mut rest)).await.is_ok();
    assert_eq!(ended, revoked, "the stream of a token that is revoked: {revoked}");
}

#[test]
fn every_route_has_a_row() {
    let there: BTreeSet<_> = everkept_server::route_table().into_iter().collect();
    let mut rows: BTreeSet<_> = ROWS.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    // Its code is used up by its first use, so that it has a test of its own.
    rows.insert(("POST".into(), "/login".into()));
    assert_eq!(there.difference(&rows).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "a new route: say how it is asked");
    assert_eq!(rows.difference(&there).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "no such route");
}

#[test]
fn o3_a_write_that_is_dropped_anywhere_and_sent_again_has_one_effect() {
    walk(ROWS.iter().filter(|row| row.method != "GET" && !row.path.starts_with("/v1/")));
}

#[test]
fn o3_a_chat_that_is_dropped_anywhere_and_sent_again_has_one_effect() {
    walk(ROWS.iter().filter(|row| row.method != "GET" && row.path.starts_with("/v1/")));
}

#[test]
fn a_read_that_is_dropped_anywhere_leaves_nothing_behind() {
    walk(ROWS.iter().filter(|row| row.method == "GET"));
}

/// A socket's own task, from the upgrade to the end.
async fn socket_trial(steps: usize) -> (bool, Effects) {
    let (house, things) = House::start().await;
    let headers = format!("{}{UPGRADE}", house.admin);
    let upgrade = request("GET", &things.fill("/api/sessions/{ses}/socket?after=1"), &headers, "");
    let command = json!({ "id": 1, "command": "submit", "idempotency_key": "once", "input": "!tool hello" }).to_string();
    let mut answers = Vec::new();
    let mut dropped = false;
    for (nth, steps) in [steps, usize::MAX, usize::MAX].into_iter().enumerate() {
        let told = house.drop_next_task(steps);
        let mut read = Vec::new();
        let (mut client, head) = house.open(&upgrade, &mut read).await;
        assert_eq!(head.status, 101, "{}", head.text());
        // The server may be gone before it has read it.
        _ = client.write_all(&frame(&command)).await;
        read_until(&mut client, &mut read, "{\"id\":1,").await;
        drop(client);
        let gone = told.await.unwrap();
        if nth == 0 {
            dropped = gone;
        }
        answers.push(texts(&read).into_iter().find(|text| text.starts_with("{\"id\":1,")));
        if nth == 1 {
            house.settle().await;
        }
    }
    let [first, second, third] = answers.try_into().unwrap();
    let ok: Value = serde_json::from_str(second.as_ref().expect("an answer to the same command")).unwrap();
    assert!(ok["ok"]["id"].is_string(), "{ok}");
    assert_eq!(second, third, "one answer");
    assert!(first.is_none() || first == second, "one answer");
    house.settle().await;
    let effects = Effects { events: house.effects().await, tokens: house.store.tokens().await.unwrap().len() };
    house.goes_on().await;
    house.check().await;
    (dropped, effects)
}

#[test]
fn o3_a_socket_that_is_dropped_anywhere_and_opened_again_obeys_a_command_once() {
    let waits = at_every_wait("a socket", socket_trial);
    assert!(waits > 5, "only {waits} waits");
    println!("{waits} drops");
}

/// A text frame of a client, masked with nothing.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short command");
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The payloads of the server's frames that came whole.
fn texts(mut read: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [_, length, rest @ ..] = read {
        let (length, rest) = match (length, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (0..126, rest) => (usize::from(*length), rest),
            _ => break,
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        texts.push(String::from_utf8_lossy(payload).into_owned());
        read = rest;
    }
    texts
}

/// A code is used up at most once, and whoever is cut off on the way in gets in with the next.
async fn login_trial(steps: usize) -> (bool, Effects) {
    let (house, _) = House::start().await;
    let cookies = async || house.store.tokens().await.unwrap().iter().filter(|token| token.kind == "cookie").count();
    let log_in = async |steps: usize, link: &str| -> (bool, Option<Answer>) {
        let body = json!({ "code": link.split_once("#code=").unwrap().1 }).to_string();
        let came = house.ask(steps, &request("POST", "/login", "", &body), None).await;
        (came.dropped, came.answer)
    };
    let link = everkept_server::login_link(&house.engine, "").await.unwrap();
    let (dropped, _) = log_in(steps, &link).await;
    let again = log_in(usize::MAX, &link).await.1.expect("an answer").status;
    assert!(matches!(again, 204 | 401), "{again}");
    assert!(cookies().await <= 1, "one code is {} cookies", cookies().await);
    let link = everkept_server::login_link(&house.engine, "").await.unwrap();
    assert_eq!(log_in(usize::MAX, &link).await.1.expect("an answer").status, 204);
    let effects = Effects { events: house.effects().await, tokens: 0 };
    house.check().await;
    (dropped, effects)
}

#[test]
fn a_login_that_is_dropped_anywhere_gives_at_most_one_cookie_and_the_next_gets_in() {
    let waits = at_every_wait("a login", login_trial);
    assert!(waits > 3, "only {waits} waits");
    println!("{waits} drops");
}
