//! The full-text index: it trails the log and is brought up to date in pieces.
//!
//! Never takes what a searcher writes for query syntax, and never holds an append up for long.

use super::executor::SqliteTx;
use crate::{
    op::{self, Stop},
    tx::{Arg, Row, Tx, int, session_id},
};
use everkept_core::{Fold, SessionId};
use everkept_store::{EventsQuery, StoredEvent, decode, words};

/// How many texts, and about how many bytes of them, are indexed in one transaction.
const PIECE: u64 = 128;
const PIECE_BYTES: usize = 128 * 1024;
const EVENTS: u32 = 500;

pub fn condition(number: usize) -> String {
    format!(
        "id IN (SELECT search_text.log FROM search JOIN search_text ON search_text.id = search.rowid WHERE search.text MATCH ${number})"
    )
}

/// All words quoted, the last one as the beginning of a word.
pub fn argument(search: &str) -> Option<String> {
    let quoted: Vec<String> = words(search).map(|word| format!("\"{word}\"")).collect();
    if quoted.is_empty() { None } else { Some(quoted.join(" ") + " *") }
}

/// Indexes a piece of what waits; true when nothing is left.
pub async fn index(tx: &mut SqliteTx<'_>) -> Result<bool, Stop> {
    let waiting = tx.rows("SELECT log, place, id FROM to_index ORDER BY id LIMIT $1", &[int(PIECE)]).await?;
    let more = waiting.len() as u64 == PIECE;
    let mut bytes = 0;
    for row in waiting {
        if bytes > PIECE_BYTES {
            return Ok(false);
        }
        let (log, place) = (session_id(row.fixed(0)?), row.number(1)?);
        // What is damaged cannot be found by its words; that is no reason to find nothing else.
        let text = match text(tx, log, place).await {
            Err(Stop::Corrupt(..)) => String::new(),
            text => text?,
        };
        bytes += text.len();
        replace(tx, log, place, &text).await?;
        tx.exec("DELETE FROM to_index WHERE id = $1", &[Arg::Int(row.int(2)?)]).await?;
    }
    Ok(!more && op::forget_expired(tx).await?)
}

async fn replace(tx: &mut SqliteTx<'_>, log: SessionId, place: u64, text: &str) -> Result<(), Stop> {
    let key = [(&log).into(), int(place)];
    let add = "INSERT INTO search_text (log, place) VALUES ($1, $2) ON CONFLICT (log, place) DO NOTHING RETURNING id";
    let id = match tx.rows(add, &key).await?.pop() {
        Some(row) => row.int(0)?,
        None => {
            let find = "SELECT id FROM search_text WHERE log = $1 AND place = $2";
            let id = tx.rows(find, &key).await?.pop().map_or(Ok(0), |row| row.int(0))?;
            tx.exec("DELETE FROM search WHERE rowid = $1", &[Arg::Int(id)]).await?;
            id
        }
    };
    tx.exec("INSERT INTO search (rowid, text) VALUES ($1, $2)", &[Arg::Int(id), Arg::Text(text)]).await?;
    Ok(())
}

/// The words to find a title (place 0) or a message by.
async fn text(tx: &mut SqliteTx<'_>, log: SessionId, place: u64) -> Result<String, Stop> {
    if place == 0 {
        return Ok(op::session(tx, log).await?.and_then(|session| session.title).unwrap_or_default());
    }
    let find = "SELECT id, last_seq FROM message WHERE log = $1 AND place = $2";
    let Some(row) = tx.rows(find, &[(&log).into(), int(place)]).await?.pop() else { return Ok(String::new()) };
    let Some(last) = row.optional_int(1)? else { return Ok(String::new()) };
    let mut fold = Fold::default();
    let kinds: Vec<String> = Fold::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let mut after = place - 1;
    loop {
        let until = Some(last.unsigned_abs());
        let query = EventsQuery { session: Some(log), after, until, limit: EVENTS, kinds: kinds.clone(), ..EventsQuery::default() };
        // A message's row stands in the log that holds its events.
        let events = op::own_events(tx, log, &query).await?;
        for StoredEvent { seq, bytes, .. } in &events {
            let (_, event) = decode(bytes).map_err(|_| Stop::Corrupt(log, *seq))?;
            fold.apply(&event);
            after = *seq;
        }
        if (events.len() as u64) < u64::from(EVENTS) {
            break;
        }
    }
    let id = uuid::Uuid::from_bytes(Row::fixed(&row, 0)?);
    Ok(fold.into_messages().into_iter().find(|message| message.id.0 == id).map(|message| message.text()).unwrap_or_default())
}
