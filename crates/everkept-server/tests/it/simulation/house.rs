//! What outlives every crash of the simulated server, and what clients were told and saw: the model.
//!
//! Never: a look into the server. Only acknowledgements, readers' bytes and what the agent was given come in here.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

/// The secret of the simulation's admin.
pub const SECRET: &str = "ek_simulated";
pub const PORT: u16 = 7070;

pub struct House {
    pub seed: u64,
    pub directory: PathBuf,
    /// The wall clock is wrong by so many microseconds.
    pub skew: AtomicI64,
    pub ids: AtomicU64,
    pub agent_ids: AtomicU64,
    /// How often an agent was to be opened.
    pub openings: AtomicU64,
    /// How often the server was started.
    pub boots: AtomicU64,
    pub crashes: AtomicU64,
    /// Faults are over.
    pub healed: AtomicBool,
    told: Mutex<Told>,
}

/// Everything anybody outside knows.
#[derive(Default)]
pub struct Told {
    /// What clients saw, in the order they saw it.
    pub trace: Vec<String>,
    pub shared: Option<String>,
    /// Each session and how much of it somebody was shown in a snapshot.
    pub sessions: BTreeMap<String, u64>,
    pub submits: Vec<Submit>,
    /// Answers that were kept under a key, and the requests they were given to.
    pub kept: Vec<Kept>,
    pub prompts: Vec<Prompted>,
    pub readings: Vec<Reading>,
    pub busy_clients: u64,
    pub marks: BTreeSet<&'static str>,
    /// Where each log ends, once everything is settled.
    pub heads: Option<BTreeMap<String, u64>>,
    pub panics: Vec<String>,
}

/// One message that was sent; no turn when it was never acknowledged.
#[derive(Debug, Clone)]
pub struct Submit {
    pub client: u64,
    pub session: String,
    pub word: String,
    pub turn: Option<String>,
    pub boot: u64,
}

impl Submit {
    pub fn acknowledged(&mut self, turn: &str, boot: u64) {
        (self.turn, self.boot) = (Some(turn.to_owned()), boot);
    }
}

#[derive(Debug, Clone)]
pub struct Kept {
    pub method: &'static str,
    pub path: String,
    pub key: String,
    pub body: String,
    pub status: u16,
    pub answer: Bytes,
}

#[derive(Debug, Clone)]
pub struct Prompted {
    pub turn: String,
    pub agent_session: String,
    pub text: String,
    pub boot: u64,
}

/// What one reader was shown, from `after` on.
#[derive(Debug, Clone)]
pub struct Reading {
    pub session: String,
    pub after: u64,
    pub events: Vec<Bytes>,
}

impl House {
    pub fn new(seed: u64, directory: PathBuf, clients: u64) -> House {
        House {
            seed,
            directory,
            skew: AtomicI64::new(0),
            ids: AtomicU64::new(0),
            agent_ids: AtomicU64::new(0),
            openings: AtomicU64::new(0),
            boots: AtomicU64::new(0),
            crashes: AtomicU64::new(0),
            healed: AtomicBool::new(false),
            told: Mutex::new(Told { busy_clients: clients, ..Told::default() }),
        }
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// A rare path was taken.
    pub fn mark(&self, mark: &'static str) {
        self.told().marks.insert(mark);
    }

    pub fn saw(&self, what: String) {
        self.told().trace.push(what);
    }

    pub fn boots(&self) -> u64 {
        self.boots.load(SeqCst)
    }

    pub fn is_healed(&self) -> bool {
        self.healed.load(SeqCst)
    }
}
