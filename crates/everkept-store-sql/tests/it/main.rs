//! The SQLite store keeps what it promises: what every store must show, and what only a file on a disk can.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod backup;
mod bounds;
mod damage;
mod disk;
mod failing;
mod full;
mod inline;
mod opening;
mod packing;
mod restart;
mod search;
mod threads;

use everkept_core::{Command, SessionId, TurnId};
use everkept_store::{
    Store,
    conformance::{Hand, Stores},
};
use everkept_store_sql::{Mode, SqliteStore};
use rusqlite::Connection;
use std::{cell::Cell, path::Path, sync::Arc};
use tempfile::TempDir;

const BOTH: [Mode; 2] = [Mode::Inline, Mode::Threads { readers: 2 }];

/// Makes stores in directories of their own, which go when it goes.
struct Directories {
    root: TempDir,
    made: Cell<u32>,
    mode: Mode,
}

impl Directories {
    fn new(mode: Mode) -> Self {
        Directories { root: tempfile::tempdir().unwrap(), made: Cell::new(0), mode }
    }
}

impl Stores for Directories {
    fn fresh(&self) -> Arc<dyn Store> {
        self.made.set(self.made.get() + 1);
        let directory = self.root.path().join(self.made.get().to_string());
        std::fs::create_dir(&directory).unwrap();
        Arc::new(SqliteStore::open(&directory, self.mode).unwrap())
    }
}

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, Mode::Inline).unwrap()
}

/// The file as it is, past the store.
fn raw(directory: &Path) -> Connection {
    Connection::open(directory.join("everkept.db")).unwrap()
}

/// A little of everything: two turns, a fork, a question, something in the trash.
async fn furnish(store: &dyn Store) -> (SessionId, TurnId) {
    let mut hand = Hand::new(store);
    let session = hand.create_for(Some("a title"), Some("anna"), Some("t")).await;
    let turn = hand.talk(session, "first question", &["an ", "answer ", "in ", "pieces"]).await;
    let child = hand.fork(session, None).await;
    hand.talk(child, "further", &["on"]).await;
    hand.submit(session, "second question").await;
    let trash = hand.create(None).await;
    hand.act(trash, Command::DeleteSession { keep_ms: None }).await;
    (session, turn)
}
