//! Brings the index up to date: log by log, from where it was left, in bounded pieces.
//!
//! Never writes to the database, and never goes on from a log other than the one it has seen: the hash chain tells.

use super::{Behind, PLACE_BITS, file};
use crate::{
    op::{self, Stop},
    sqlite::{
        executor::{SqliteTx, answer},
        fault::{Health, commit_fault, not_done, problem, sql_fault, store_fault},
        files::Files,
        open::open_reader,
        readers,
    },
    tx::{Arg, Row, SqlFault, Tx, int},
};
use everkept_core::{Fold, SessionId};
use everkept_store::{Chain, EventsQuery, StoreFault, decode};
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// About how many bytes of text are indexed in one transaction.
const PIECE_BYTES: usize = 2 * 1024 * 1024;
/// What an indexed text costs beside its bytes.
const TEXT_BYTES: usize = 128;
/// Messages whose texts are read together, and how many events they may span unless it is one alone.
const MESSAGES: u64 = 512;
const SPAN: u64 = 2_048;
/// Events read at a time, and about how many bytes of them.
const EVENTS: u32 = 512;
const EVENT_BYTES: usize = 1024 * 1024;
/// Sessions found at a time when all are looked through.
const SESSIONS: u64 = 1_000;
const DOING: &str = "bring the full-text index up to date";

/// The connection that writes the index.
pub struct Indexer {
    pub connection: Connection,
    directory: PathBuf,
    files: Arc<dyn Files>,
    behind: Arc<Behind>,
    looking: Looking,
}

/// What a start does not know: which sessions changed without having been indexed.
#[derive(Debug, Clone, Copy)]
enum Looking {
    After(Option<SessionId>),
    Through,
}

impl Indexer {
    pub fn open(directory: &Path, files: Arc<dyn Files>, behind: Arc<Behind>) -> Result<Self, StoreFault> {
        file::prepare(directory, &*files)?;
        let connection = open_reader(directory, &*files)?;
        let writable = connection.pragma_update(None, "query_only", false);
        // It is the one to close the index last; the database is the writer's.
        let writable =
            writable.and_then(|()| connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false));
        writable.map_err(|error| not_done(problem(sql_fault(&error, directory)), DOING))?;
        file::attach(&connection, directory)?;
        Ok(Indexer { connection, directory: directory.to_owned(), files, behind, looking: Looking::After(None) })
    }

    /// Indexes a piece of what is behind; true when nothing is left.
    pub fn step(&mut self, health: &Health) -> Result<bool, StoreFault> {
        if let Some(problem) = health.problem() {
            return Err(not_done(problem, DOING));
        }
        match self.piece() {
            Err(Stop::Sql(SqlFault::Damaged(_))) if self.is_damaged() => self.begin_again().map(|()| false),
            done => done.map_err(|stop| store_fault(commit_fault(stop, DOING), DOING)),
        }
    }

    /// Reads with the index, made anew first where it turns out to be damaged.
    pub fn search<R>(
        &mut self,
        health: &Health,
        doing: &str,
        body: impl Fn(&mut SqliteTx<'_>) -> Result<R, Stop>,
    ) -> Result<R, StoreFault> {
        let mut found = self.read(health, doing, &body)?;
        if matches!(&found, Err(Stop::Sql(SqlFault::Damaged(_)))) && self.is_damaged() {
            self.begin_again()?;
            while !self.step(health)? {}
            found = self.read(health, doing, &body)?;
        }
        found.map_err(|stop| store_fault(commit_fault(stop, doing), doing))
    }

    /// One read at one moment of the database.
    fn read<R>(
        &self,
        health: &Health,
        doing: &str,
        body: impl Fn(&mut SqliteTx<'_>) -> Result<R, Stop>,
    ) -> Result<Result<R, Stop>, StoreFault> {
        readers::attempt(&self.connection, &self.directory, health, || doing.into(), body)
    }

    /// Throws the index away: all of it is to be made anew.
    fn begin_again(&mut self) -> Result<(), StoreFault> {
        tracing::warn!("the full-text index is damaged and is made anew");
        file::detach(&self.connection, &self.directory)?;
        let made = file::begin_again(&self.directory, &*self.files);
        self.looking = Looking::After(None);
        // Without it nothing could be searched before the next start.
        file::attach(&self.connection, &self.directory)?;
        made
    }

    /// Whether it is the index that cannot be read, and not the database.
    fn is_damaged(&self) -> bool {
        let checked: rusqlite::Result<String> = self.connection.query_row("PRAGMA words.quick_check(1)", [], |row| row.get(0));
        !matches!(checked.as_deref(), Ok("ok"))
    }

    fn piece(&mut self) -> Result<bool, Stop> {
        // Before the transaction: what changes after it has begun is not seen in it, and has to be behind again.
        let behind = self.behind.take_all();
        let mut queue = behind.clone();
        let done = self.transaction(&mut queue);
        match done {
            Ok(looking) => {
                self.looking = looking;
                // What came behind meanwhile is for the next to ask: who asks wants what was there before.
                let done = queue.is_empty() && matches!(looking, Looking::Through);
                self.behind.add(queue);
                Ok(done)
            }
            Err(stop) => {
                self.behind.add(behind);
                Err(stop)
            }
        }
    }

    /// Takes from `queue` what is done, all of it or none. Answers how far all logs were looked through.
    fn transaction(&self, queue: &mut BTreeSet<SessionId>) -> Result<Looking, Stop> {
        self.statement("BEGIN")?;
        let done = self.work(queue).and_then(|looking| self.statement("COMMIT").map(|()| looking).map_err(Stop::from));
        // After some errors SQLite has given the transaction up by itself.
        if done.is_err() && !self.connection.is_autocommit() {
            self.statement("ROLLBACK")?;
        }
        done
    }

    fn work(&self, queue: &mut BTreeSet<SessionId>) -> Result<Looking, Stop> {
        let mut tx = SqliteTx::new(&self.connection, &self.directory);
        let mut looking = self.looking;
        if let Looking::After(after) = looking {
            let found = answer(find_behind(&mut tx, after))?;
            looking = found.last().map_or(Looking::Through, |last| Looking::After(Some(*last)));
            queue.extend(found);
        }
        let mut room = PIECE_BYTES;
        while room > 0
            && let Some(session) = queue.pop_first()
        {
            if !answer(bring_up(&mut tx, session, &mut room))? {
                queue.insert(session);
            }
        }
        Ok(looking)
    }

    fn statement(&self, sql: &str) -> Result<(), SqlFault> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map(|_| ()).map_err(|error| sql_fault(&error, &self.directory))
    }
}

/// Sessions whose log is not the one that was indexed, by id: changed ones, and ones that are gone.
async fn find_behind(tx: &mut SqliteTx<'_>, after: Option<SessionId>) -> Result<Vec<SessionId>, Stop> {
    let after = after.as_ref().map_or(Arg::Blob(&[]), Arg::from);
    let sql = "SELECT session FROM (
            SELECT log.session AS session FROM log LEFT JOIN words.indexed ON indexed.log = log.session
            WHERE log.session > $1 AND indexed.chain IS NOT log.chain
            UNION ALL
            SELECT indexed.log FROM words.indexed WHERE indexed.log > $1
            AND NOT EXISTS (SELECT 1 FROM log WHERE log.session = indexed.log)
        ) ORDER BY session LIMIT $2";
    tx.rows(sql, &[after, int(SESSIONS)]).await?.iter().map(|row| row.session(0)).collect()
}

/// A log as far as it is indexed.
struct Indexed {
    number: u64,
    head: u64,
    chain: Option<Chain>,
    seen: u64,
    open: Vec<u64>,
    title: String,
}

/// A message that may have come to its end.
struct Place {
    place: u64,
    id: uuid::Uuid,
    last_seq: u64,
}

/// Indexes what one log has more than the index, as long as there is room; true when nothing is left of it.
async fn bring_up(tx: &mut SqliteTx<'_>, log: SessionId, room: &mut usize) -> Result<bool, Stop> {
    let held = find(tx, log).await?;
    let Some(row) = tx.rows("SELECT head, chain FROM log WHERE session = $1", &[(&log).into()]).await?.pop() else {
        if let Some(held) = held {
            wipe(tx, held.number).await?;
            tx.exec("DELETE FROM words.indexed WHERE number = $1", &[int(held.number)]).await?;
        }
        return Ok(true);
    };
    let (head, chain): (u64, Chain) = (row.number(0)?, row.fixed(1)?);
    let mut held = match held {
        Some(held) if held.chain == Some(chain) => return Ok(true),
        Some(held) if is_of(tx, log, &held).await? => held,
        Some(held) => {
            wipe(tx, held.number).await?;
            Indexed { number: held.number, head: 0, chain: None, seen: 0, open: Vec::new(), title: String::new() }
        }
        None => begin(tx, log).await?,
    };
    let title = match op::session(tx, log).await {
        // What is damaged cannot be found by its words; that is no reason to find nothing else.
        Err(Stop::Corrupt(..)) => String::new(),
        session => session?.and_then(|session| session.title).unwrap_or_default(),
    };
    if title != held.title {
        remove(tx, held.number, 0).await?;
        put(tx, held.number, 0, &title).await?;
        held.title = title;
    }
    let ended = take_ended(tx, log, &mut held.open).await?;
    index(tx, log, held.number, &ended, room).await?;
    while *room > 0 {
        let sql = "SELECT place, id, last_seq FROM message WHERE log = $1 AND place > $2 ORDER BY place LIMIT $3";
        let rows = tx.rows(sql, &[(&log).into(), int(held.seen), int(MESSAGES)]).await?;
        let all = (rows.len() as u64) < MESSAGES;
        let mut ended = Vec::new();
        for row in &rows {
            held.seen = row.number(0)?;
            match place(row)? {
                Some(place) => ended.push(place),
                None => held.open.push(held.seen),
            }
        }
        index(tx, log, held.number, &ended, room).await?;
        if all {
            (held.head, held.chain) = (head, Some(chain));
            keep(tx, &held).await?;
            return Ok(true);
        }
    }
    keep(tx, &held).await?;
    Ok(false)
}

/// Whether the log still begins with what was indexed of it. It does not after a backup was restored.
async fn is_of(tx: &mut SqliteTx<'_>, log: SessionId, held: &Indexed) -> Result<bool, Stop> {
    match (held.head, held.chain) {
        (0, _) | (_, None) => Ok(true),
        (head, Some(chain)) => match op::chain_at(tx, log, head).await {
            Err(Stop::Corrupt(..)) => Ok(false),
            found => Ok(found? == Some(chain)),
        },
    }
}

async fn find(tx: &mut SqliteTx<'_>, log: SessionId) -> Result<Option<Indexed>, Stop> {
    let sql = "SELECT number, head, chain, seen, open, title FROM words.indexed WHERE log = $1";
    let Some(mut row) = tx.rows(sql, &[(&log).into()]).await?.pop() else { return Ok(None) };
    let open = serde_json::from_slice(&row.blob(4)?).map_err(|error| SqlFault::Damaged(error.to_string()))?;
    Ok(Some(Indexed {
        number: row.number(0)?,
        head: row.number(1)?,
        chain: row.optional_fixed(2)?,
        seen: row.number(3)?,
        open,
        title: row.text(5)?,
    }))
}

async fn begin(tx: &mut SqliteTx<'_>, log: SessionId) -> Result<Indexed, Stop> {
    let sql = "INSERT INTO words.indexed (log, head, seen, open, title) VALUES ($1, 0, 0, $2, '') RETURNING number";
    let row = tx.rows(sql, &[(&log).into(), Arg::Blob(b"[]")]).await?.pop();
    let number = row.map_or(Ok(0), |row| row.number(0))?;
    Ok(Indexed { number, head: 0, chain: None, seen: 0, open: Vec::new(), title: String::new() })
}

async fn keep(tx: &mut SqliteTx<'_>, held: &Indexed) -> Result<(), Stop> {
    let sql = "UPDATE words.indexed SET head = $2, chain = $3, seen = $4, open = $5, title = $6 WHERE number = $1";
    let open = serde_json::to_vec(&held.open).expect("numbers have a JSON");
    let chain = held.chain.as_ref().map_or(Arg::Null, |chain| Arg::Blob(chain));
    tx.exec(sql, &[int(held.number), int(held.head), chain, int(held.seen), Arg::Blob(&open), Arg::Text(&held.title)]).await?;
    Ok(())
}

/// The messages of `open` that have come to their end since; the others stay there.
async fn take_ended(tx: &mut SqliteTx<'_>, log: SessionId, open: &mut Vec<u64>) -> Result<Vec<Place>, Stop> {
    let mut ended = Vec::new();
    for at in std::mem::take(open) {
        let sql = "SELECT place, id, last_seq FROM message WHERE log = $1 AND place = $2";
        let rows = tx.rows(sql, &[(&log).into(), int(at)]).await?;
        let Some(row) = rows.first() else { continue };
        match place(row)? {
            Some(place) => ended.push(place),
            None => open.push(at),
        }
    }
    Ok(ended)
}

fn place(row: &Row) -> Result<Option<Place>, Stop> {
    let (place, id) = (row.number(0)?, uuid::Uuid::from_bytes(row.fixed(1)?));
    Ok(row.optional_int(2)?.map(|last| Place { place, id, last_seq: last.unsigned_abs() }))
}

async fn index(tx: &mut SqliteTx<'_>, log: SessionId, number: u64, places: &[Place], room: &mut usize) -> Result<(), Stop> {
    let mut rest = places;
    while let Some(first) = rest.first() {
        let near = rest.iter().take_while(|place| place.last_seq.saturating_sub(first.place) < SPAN).count();
        let (together, later) = rest.split_at(near.max(1));
        rest = later;
        let texts = match texts(tx, log, together).await {
            Err(Stop::Corrupt(..)) => undamaged(tx, log, together).await?,
            texts => texts?,
        };
        for place in together {
            let Some(text) = texts.get(&place.id) else { continue };
            put(tx, number, place.place, text).await?;
            *room = room.saturating_sub(text.len() + TEXT_BYTES);
        }
    }
    Ok(())
}

/// The texts of those messages that can be read.
async fn undamaged(tx: &mut SqliteTx<'_>, log: SessionId, places: &[Place]) -> Result<BTreeMap<uuid::Uuid, String>, Stop> {
    let mut found = BTreeMap::new();
    for place in places {
        match texts(tx, log, std::slice::from_ref(place)).await {
            Err(Stop::Corrupt(..)) => {}
            texts => found.extend(texts?),
        }
    }
    Ok(found)
}

/// The words to find messages by. A message's row stands in the log that holds its events.
async fn texts(tx: &mut SqliteTx<'_>, log: SessionId, places: &[Place]) -> Result<BTreeMap<uuid::Uuid, String>, Stop> {
    let first = places.iter().map(|place| place.place).min().unwrap_or(1);
    let last = places.iter().map(|place| place.last_seq).max().unwrap_or(0);
    let mut fold = Fold::default();
    let kinds: Vec<String> = Fold::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let mut query = EventsQuery {
        session: Some(log),
        after: first.saturating_sub(1),
        until: Some(last),
        limit: EVENTS,
        max_bytes: Some(EVENT_BYTES),
        kinds,
        turn: None,
        context: None,
    };
    loop {
        let events = op::own_events(tx, log, &query).await?;
        for stored in &events {
            let (_, event) = decode(&stored.bytes).map_err(|_| Stop::Corrupt(log, stored.seq))?;
            fold.apply(&event);
        }
        match events.last() {
            Some(event) => query.after = event.seq,
            None => break,
        }
    }
    Ok(fold.into_messages().into_iter().map(|message| (message.id.0, message.text())).collect())
}

fn id(number: u64, place: u64) -> Arg<'static> {
    int((number << PLACE_BITS) | place)
}

async fn put(tx: &mut SqliteTx<'_>, number: u64, place: u64, text: &str) -> Result<(), Stop> {
    tx.exec("INSERT INTO words.search (rowid, text) VALUES ($1, $2)", &[id(number, place), Arg::Text(text)]).await?;
    Ok(())
}

async fn remove(tx: &mut SqliteTx<'_>, number: u64, place: u64) -> Result<(), Stop> {
    tx.exec("DELETE FROM words.search WHERE rowid = $1", &[id(number, place)]).await?;
    Ok(())
}

/// Takes all texts of a log out.
async fn wipe(tx: &mut SqliteTx<'_>, number: u64) -> Result<(), Stop> {
    tx.exec("DELETE FROM words.search WHERE rowid >= $1 AND rowid < $2", &[id(number, 0), id(number + 1, 0)]).await?;
    Ok(())
}
