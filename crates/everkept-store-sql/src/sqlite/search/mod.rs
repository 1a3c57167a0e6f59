//! The full-text index: a file of its own that trails the log and can be made anew from it.
//!
//! Never takes what a searcher writes for query syntax, never makes a writer wait, and never decides what is true: an
//! index that is damaged, or of another log, is begun again.

mod file;
mod indexer;

pub use indexer::Indexer;

use everkept_core::SessionId;
use everkept_store::words;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many bits of a row's id name the place of a message in its log; the rest is the log's number in the index.
const PLACE_BITS: u32 = 36;

pub fn condition(number: usize) -> String {
    format!(
        "id IN (SELECT indexed.log FROM words.search JOIN words.indexed ON indexed.number = search.rowid >> {PLACE_BITS}
            WHERE search.text MATCH ${number})"
    )
}

/// All words quoted, the last one as the beginning of a word.
pub fn argument(search: &str) -> Option<String> {
    let quoted: Vec<String> = words(search).map(|word| format!("\"{word}\"")).collect();
    if quoted.is_empty() { None } else { Some(quoted.join(" ") + " *") }
}

/// The sessions that changed since they were last indexed, as far as this process knows.
#[derive(Debug, Default)]
pub struct Behind {
    sessions: Mutex<BTreeSet<SessionId>>,
}

impl Behind {
    fn held(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_all(&self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.held())
    }

    fn add(&self, sessions: impl IntoIterator<Item = SessionId>) {
        self.held().extend(sessions);
    }
}

/// Sessions that a write changes: they are behind from the moment it is dropped, whatever became of it.
#[derive(Debug)]
pub struct Changed {
    pub sessions: Vec<SessionId>,
    pub behind: Arc<Behind>,
}

impl Drop for Changed {
    fn drop(&mut self) {
        self.behind.add(self.sessions.drain(..));
    }
}
