//! The deltas of a turn, packed into rows by the SQL store, and read back through any window.
//!
//! An odd first byte puts the input itself in the place of a packed row, under a checksum that fits.
//! Never: a byte of an event changed by packing, or anything but an error from a row that no packing made.

use crate::house::directory;
use everkept_core::{Command, EndTurn, MessageId, Said, SessionId, TurnEnd, TurnId};
use everkept_store::{
    EventsQuery, Store, StoredEvent,
    conformance::{Hand, log},
    sum,
};
use everkept_store_sql::{Mode, SqliteStore};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use std::{cell::RefCell, fs, path::PathBuf};
use uuid::Uuid;

/// Inputs one database takes.
const VISITS: u32 = 200;

struct Shelf {
    store: SqliteStore,
    file: PathBuf,
    visits: u32,
    tokio: tokio::runtime::Runtime,
}

pub fn run(bytes: &[u8]) {
    thread_local!(static SHELF: RefCell<Option<Shelf>> = const { RefCell::new(None) });
    let Some((how, rest)) = bytes.split_first() else { return };
    SHELF.with_borrow_mut(|kept| {
        let shelf = match kept.take() {
            Some(shelf) if shelf.visits < VISITS => kept.insert(shelf),
            // The last one's files are closed before new ones are made in their place.
            Some(_) | None => kept.insert(Shelf::new()),
        };
        shelf.visits += 1;
        // Each input's ids are its own, in a log that only it has.
        let seed = u128::from(shelf.visits) << 64;
        if how % 2 == 1 {
            shelf.damage(seed, rest);
        } else if let Ok(script) = script(&mut Unstructured::new(rest)) {
            shelf.pack(seed, &script);
        }
    });
}

/// A turn's pieces with the time between them, then the windows it is read through.
struct Script {
    said: Vec<(Said, i64)>,
    windows: Vec<(u64, u64, u32)>,
}

fn script(input: &mut Unstructured<'_>) -> Result<Script> {
    let mut said = Vec::new();
    for _ in 0..input.int_in_range(0..=24)? {
        let message = if input.arbitrary()? { None } else { Some(input.int_in_range(b'a'..=b'c')?.to_string()) };
        let text: String = input.arbitrary()?;
        let one = if input.ratio(1, 6)? { Said::Reasoning { message, text } } else { Said::Text { message, text } };
        said.push((one, input.int_in_range(0..=3_000_000)?));
    }
    let mut windows = Vec::new();
    for _ in 0..input.int_in_range(1..=4)? {
        windows.push((input.int_in_range(0..=40)?, input.int_in_range(0..=40)?, input.int_in_range(1..=12)?));
    }
    Ok(Script { said, windows })
}

impl Shelf {
    fn new() -> Self {
        let folder = directory().join("store");
        // The first time there is none.
        _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder can be made");
        let store = SqliteStore::open(&folder, Mode::Inline).expect("an empty folder becomes a store");
        let file = folder.join("everkept.db");
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Shelf { store, file, visits: 0, tokio }
    }

    fn pack(&self, seed: u128, script: &Script) {
        self.tokio.block_on(async {
            let (session, turn) = self.talk(seed, &script.said).await;
            let before = log(&self.store, session).await;
            let windows: Vec<_> = script.windows.iter().map(|&(after, until, limit)| query(session, after, until, limit)).collect();
            let mut seen = Vec::new();
            for window in &windows {
                seen.push(self.store.events(window.clone()).await.expect("the log is whole"));
            }
            self.store.pack(session, turn).await.expect("an ended turn is packed");
            assert_eq!(log(&self.store, session).await, before, "packing changes nothing");
            for (window, seen) in windows.into_iter().zip(seen) {
                let found = self.store.events(window.clone()).await.expect("the log is whole");
                assert_eq!(found, seen, "{window:?}");
                assert_eq!(seen, cut_out(&before, &window), "{window:?}");
            }
        });
    }

    /// A turn as it was said, and ended.
    async fn talk(&self, seed: u128, said: &[(Said, i64)]) -> (SessionId, TurnId) {
        let mut hand = Hand::new(&self.store);
        let [session, turn, message] = [1, 2, 3].map(|n| Uuid::from_u128(seed + n));
        let (session, turn) = (SessionId(session), TurnId(turn));
        hand.act(session, Hand::creation(session, None, None, None)).await;
        hand.act(session, Hand::submission(turn, MessageId(message), "go")).await;
        hand.begin(session, turn).await;
        for (one, micros) in said {
            hand.later(*micros);
            hand.act(session, Command::HearAgent { turn, said: vec![one.clone()] }).await;
        }
        let end = EndTurn { turn, end: TurnEnd::Completed, reason: "end_turn".into(), error: None };
        hand.act(session, Command::EndTurn(end)).await;
        (session, turn)
    }

    /// Puts bytes where packing put its own, and reads them.
    fn damage(&self, seed: u128, body: &[u8]) {
        self.tokio.block_on(async {
            let said: Vec<_> = ["one ", "two ", "three"].map(|text| (Said::Text { message: None, text: text.into() }, 5)).into();
            let (session, turn) = self.talk(seed, &said).await;
            let before = log(&self.store, session).await;
            self.store.pack(session, turn).await.expect("an ended turn is packed");
            let other = rusqlite::Connection::open(&self.file).expect("the database can be opened twice");
            let sql = "UPDATE event SET body = ?1, sum = ?2 WHERE count = 3 AND turn = ?3";
            let changed = other.execute(sql, rusqlite::params![body, i64::from_be_bytes(sum(body)), turn.0.as_bytes()]);
            assert_eq!(changed.expect("the row can be written"), 1, "three deltas became one row");
            let found = self.store.events(EventsQuery { session: Some(session), limit: u32::MAX, ..EventsQuery::default() }).await;
            if let Ok(found) = found {
                assert_eq!(numbers(&found), numbers(&before), "what it unpacks to has the same numbers");
            }
        });
    }
}

fn query(session: SessionId, after: u64, until: u64, limit: u32) -> EventsQuery {
    EventsQuery { session: Some(session), after, until: Some(until), limit, ..EventsQuery::default() }
}

fn cut_out(log: &[StoredEvent], window: &EventsQuery) -> Vec<StoredEvent> {
    let until = window.until.unwrap_or(u64::MAX);
    let within = log.iter().filter(|event| event.seq > window.after && event.seq <= until);
    within.take(window.limit as usize).cloned().collect()
}

fn numbers(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}
