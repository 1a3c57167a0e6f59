//! Reads everything that is kept and says what does not add up: numbers, checksums, the chain, and every row beside
//! the events against a replay of them.
//!
//! Never repairs, and never stops at the first damage.

use crate::{CHAIN_START, Chain, EventsQuery, Problem, Store, StoreFault, StoredEvent, decode, link};
use everkept_core::{MessageRecord, ParentKind, Record, SessionId, State, TurnRecord, UsageRecord, owed};
use std::{collections::BTreeMap, fmt};

/// How many events or sessions are read at a time.
const PIECE: u32 = 500;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub sessions: u64,
    /// Those read through a fork are counted with each session that reads them.
    pub events: u64,
    pub damages: Vec<Damage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub session: SessionId,
    pub place: Place,
    pub what: String,
}

/// Where a damage is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Event(u64),
    /// A row beside the events, by its kind and id.
    Row(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Event(seq) => write!(f, "event {seq}"),
            Place::Row(row) => f.write_str(row),
        }
    }
}

/// Verifies every session, the trash included. `progress` is told how many sessions are done.
pub async fn verify(store: &dyn Store, progress: &mut dyn FnMut(u64)) -> Result<Report, StoreFault> {
    let mut report = Report::default();
    let mut after = None;
    loop {
        let sessions = store.all_sessions(after, PIECE).await?;
        for &session in &sessions {
            verify_session(store, session, &mut report).await?;
            report.sessions += 1;
            progress(report.sessions);
        }
        after = sessions.last().copied();
        if after.is_none() {
            return Ok(report);
        }
    }
}

async fn verify_session(store: &dyn Store, session: SessionId, report: &mut Report) -> Result<(), StoreFault> {
    let mut replay = Replay { state: State::new(session), seq: 0, chain: CHAIN_START, chains: Vec::new(), whole: true, linked: true };
    let mut damages = Vec::new();
    let head = store.head(session).await?.map_or(0, |head| head.seq);
    while replay.seq < head {
        match read(store, session, replay.seq, PIECE).await? {
            Ok(events) if events.is_empty() => {
                damages.push((Place::Event(replay.seq + 1), format!("missing, although the log goes on to {head}")));
                replay.whole = false;
                break;
            }
            Ok(events) => {
                let kept = store.chains(session, replay.seq, PIECE).await?;
                replay.take(&events, &mut damages);
                replay.compare_chains(&kept, &mut damages);
            }
            Err(Unread { seq, why: Some(why) }) => {
                damages.push((Place::Event(seq), format!("cannot be read: {why}")));
                replay.whole = false;
                break;
            }
            Err(Unread { seq, why: None }) => {
                for one in replay.seq + 1..seq {
                    if let Ok(events) = read(store, session, one - 1, 1).await? {
                        replay.take(&events, &mut damages);
                    }
                }
                damages.push((Place::Event(seq), "is not there, or its bytes do not fit their checksum".into()));
                replay.whole = false;
                replay.seq = seq;
            }
        }
    }
    // Rows are only as good as the replay: with events missing there is nothing to compare them with.
    if replay.whole {
        match store.rows(session).await {
            Ok(kept) => compare(&expected_rows(&replay.state), &kept, &mut damages),
            Err(StoreFault { problem: Problem::Corrupt { seq, .. }, .. }) => {
                damages.push((Place::Row(format!("the row at event {seq}")), "cannot be read".into()));
            }
            Err(fault) => return Err(fault),
        }
    }
    report.events += replay.seq;
    report.damages.extend(damages.into_iter().map(|(place, what)| Damage { session, place, what }));
    Ok(())
}

/// The first event that cannot be read, and why, where it is not just damaged.
struct Unread {
    seq: u64,
    why: Option<String>,
}

/// Up to `limit` events after `after`, or the one among them that stands in the way.
async fn read(store: &dyn Store, session: SessionId, after: u64, limit: u32) -> Result<Result<Vec<StoredEvent>, Unread>, StoreFault> {
    match store.events(EventsQuery { session: Some(session), after, limit, ..EventsQuery::default() }).await {
        Ok(events) => Ok(Ok(events)),
        Err(StoreFault { problem: Problem::Corrupt { seq, .. }, .. }) => Ok(Err(Unread { seq, why: None })),
        Err(StoreFault { problem: Problem::Failed(why), .. }) => Ok(Err(Unread { seq: after + 1, why: Some(why) })),
        Err(fault) => Err(fault),
    }
}

struct Replay {
    state: State,
    seq: u64,
    chain: Chain,
    /// The chain after each event of the last piece.
    chains: Vec<(u64, Chain)>,
    /// No event was missing or damaged so far.
    whole: bool,
    /// Every kept chain was right so far.
    linked: bool,
}

impl Replay {
    fn take(&mut self, events: &[StoredEvent], damages: &mut Vec<(Place, String)>) {
        self.chains.clear();
        for stored in events {
            let seq = self.seq + 1;
            (_, self.chain) = link(&self.chain, &stored.bytes);
            match decode(&stored.bytes) {
                Ok((number, event)) if number == seq && stored.seq == seq => self.state.apply(&event),
                Ok((number, _)) => {
                    damages.push((Place::Event(seq), format!("kept as {} and says it is {number}", stored.seq)));
                    self.whole = false;
                }
                Err(error) => {
                    damages.push((Place::Event(seq), error.to_string()));
                    self.whole = false;
                }
            }
            self.seq = seq;
            self.chains.push((seq, self.chain));
        }
    }

    /// After damage no chain is right any more: it is told where that begins, once.
    fn compare_chains(&mut self, kept: &[(u64, Chain)], damages: &mut Vec<(Place, String)>) {
        for (seq, chain) in kept.iter().filter(|_| self.whole) {
            let worked_out = self.chains.iter().find(|(at, _)| at == seq);
            if self.linked && worked_out.is_some_and(|(_, worked_out)| worked_out != chain) {
                damages.push((Place::Event(*seq), "the events up to here do not lead to its hash chain".into()));
                self.linked = false;
            }
        }
    }
}

/// All rows that belong to a session in this state. Those of inherited turns and messages are the parent's.
fn expected_rows(state: &State) -> Vec<Record> {
    let cut = state.session.parent.filter(|parent| parent.kind == ParentKind::Fork).map_or(0, |parent| parent.seq);
    let mut rows = vec![Record::Session(state.session.clone()), Record::Owed(owed(state))];
    let turns = state.turns.iter().map(TurnRecord::from).filter(|turn| turn.queued_seq > cut);
    for turn in turns {
        rows.extend(UsageRecord::of(&turn).map(Record::Usage));
        rows.push(Record::Turn(turn));
    }
    let messages = state.messages.iter().map(MessageRecord::from).filter(|message| message.first_seq > cut);
    rows.extend(messages.map(Record::Message));
    rows.extend(state.questions.iter().cloned().map(Record::Question));
    rows
}

fn compare(expected: &[Record], kept: &[Record], damages: &mut Vec<(Place, String)>) {
    let mut unexplained: BTreeMap<String, &Record> = kept.iter().map(|row| (key(row), row)).collect();
    for row in expected {
        let place = Place::Row(key(row));
        match unexplained.remove(&key(row)) {
            Some(held) if held == row => {}
            Some(_) => damages.push((place, "differs from what the events lead to".into())),
            None => damages.push((place, "missing".into())),
        }
    }
    damages.extend(unexplained.into_keys().map(|key| (Place::Row(key), "not led to by any event".into())));
}

fn key(row: &Record) -> String {
    match row {
        Record::Session(_) => "session".into(),
        Record::Turn(row) => row.turn.id.to_string(),
        Record::Usage(row) => format!("usage of {}", row.turn),
        Record::Message(row) => row.id.to_string(),
        Record::Question(row) => row.id.to_string(),
        Record::Owed(_) => "owed".into(),
    }
}
