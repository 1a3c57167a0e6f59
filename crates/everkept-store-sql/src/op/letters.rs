//! Turns that were given up, until somebody takes them up or puts them away.
//!
//! Never one of a session in the trash.

use super::{Stop, places::read_turn};
use crate::tx::{Arg, Tx, int};
use everkept_core::TurnRecord;
use everkept_store::{LettersQuery, Page};
use std::fmt::Write;

pub async fn dead_letters<T: Tx>(tx: &mut T, query: &LettersQuery) -> Result<Page<TurnRecord>, Stop> {
    let mut sql = "SELECT log, place, record FROM turn
        WHERE letter_at IS NOT NULL AND (SELECT deleted FROM session WHERE id = turn.log) = 0"
        .to_owned();
    let mut args: Vec<Arg<'_>> = Vec::new();
    if let Some(session) = &query.session {
        args.push(session.into());
        write!(sql, " AND log = ${}", args.len()).expect("writing to a String cannot fail");
    }
    if let Some(resource) = &query.resource {
        args.push(resource.as_str().into());
        write!(sql, " AND (SELECT resource FROM session WHERE id = turn.log) = ${}", args.len()).expect("writing to a String cannot fail");
    }
    if let Some((at, turn)) = &query.before {
        args.extend([Arg::from(*at), Arg::from(turn)]);
        write!(sql, " AND (letter_at, id) < (${}, ${})", args.len() - 1, args.len()).expect("writing to a String cannot fail");
    }
    args.push(int(u64::from(query.limit) + 1));
    write!(sql, " ORDER BY letter_at DESC, id DESC LIMIT ${}", args.len()).expect("writing to a String cannot fail");
    let rows = tx.rows(&sql, &args).await?;
    let has_more = rows.len() > query.limit as usize;
    let read = |row: crate::tx::Row| row.session(0).and_then(|log| read_turn(row, log));
    Ok(Page { items: rows.into_iter().take(query.limit as usize).map(read).collect::<Result<_, _>>()?, has_more })
}
