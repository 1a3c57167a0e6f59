//! Packs the deltas of an ended turn: one row for a run of one part's.
//!
//! Never changes what is read: a run is packed only when it unpacks to the very same bytes.

use super::Stop;
use crate::{
    packed::Packer,
    tx::{Arg, Tx, int},
};
use everkept_core::{SessionId, TurnId};
use everkept_store::{fits, sum};

/// How many deltas are looked at in one transaction.
const PIECE: u64 = 1_000;

/// Packs a piece of the turn's deltas, those after `after`; answers where to go on, while there is more.
pub async fn pack<T: Tx>(tx: &mut T, session: SessionId, turn: TurnId, after: u64) -> Result<Option<u64>, Stop> {
    let sql = "SELECT place, ended_seq FROM turn WHERE id = $1 AND log = $2";
    let Some(row) = tx.rows(sql, &[(&turn).into(), (&session).into()]).await?.pop() else { return Ok(None) };
    let Some(ended) = row.optional_int(1)? else { return Ok(None) };
    let after = after.max(row.number(0)?);
    let sql = "SELECT seq, sum, body FROM event WHERE log = $1 AND seq > $2 AND seq < $3
        AND kind = 'part.delta' AND turn = $4 AND count = 1 ORDER BY seq LIMIT $5";
    let rows = tx.rows(sql, &[(&session).into(), int(after), Arg::Int(ended), (&turn).into(), int(PIECE)]).await?;
    let more = rows.len() as u64 == PIECE;
    let mut run = Packer::default();
    let mut last = after;
    for mut row in rows {
        let (seq, held, body) = (row.number(0)?, row.int(1)?, row.blob(2)?);
        let body = if fits(&body, held.to_be_bytes()) { body } else { Vec::new() };
        if let Some(body) = run.add(seq, body) {
            replace(tx, session, &run).await?;
            run = Packer::default();
            run.add(seq, body);
        }
        last = seq;
    }
    replace(tx, session, &run).await?;
    Ok(more.then_some(last))
}

async fn replace<T: Tx>(tx: &mut T, session: SessionId, run: &Packer) -> Result<(), Stop> {
    let Some(packed) = run.finish() else { return Ok(()) };
    let sql = "DELETE FROM event WHERE log = $1 AND seq >= $2 AND seq < $3";
    tx.exec(sql, &[(&session).into(), int(packed.first), int(packed.last)]).await?;
    // The chain of the last event stays the chain of the row.
    let sql = "UPDATE event SET count = $3, sum = $4, body = $5 WHERE log = $1 AND seq = $2";
    let count = packed.last - packed.first + 1;
    let checked = i64::from_be_bytes(sum(&packed.bytes));
    tx.exec(sql, &[(&session).into(), int(packed.last), int(count), Arg::Int(checked), Arg::Blob(&packed.bytes)]).await?;
    Ok(())
}
