//! The SQLite store keeps what it promises: what every store must show, and what only a file on a disk can.

mod inline;
mod threads;

use everkept_store::{Store, conformance::Stores};
use everkept_store_sql::{Mode, SqliteStore};
use std::{cell::Cell, sync::Arc};
use tempfile::TempDir;

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
