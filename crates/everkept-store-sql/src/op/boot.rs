//! What the store knows of its starts and of wall time.
//!
//! Never lets the kept wall time go back: what has expired stays so.

use super::Stop;
use crate::tx::{Arg, Row, Tx, int};
use everkept_core::Timestamp;
use everkept_store::Boot;

/// How many kept answers are forgotten at once.
const FORGET_PIECE: u64 = 1_000;

pub async fn boot<T: Tx>(tx: &mut T, wall: Timestamp) -> Result<Boot, Stop> {
    let sql = "INSERT INTO boot (number, at) SELECT COALESCE(MAX(number), 0) + 1, $1 FROM boot RETURNING number";
    let number = one(tx.rows(sql, &[wall.into()]).await?)?.number(0)?;
    note_wall(tx, wall).await?;
    Ok(Boot { number, latest_wall: latest_wall(tx).await? })
}

pub async fn note_wall<T: Tx>(tx: &mut T, wall: Timestamp) -> Result<(), Stop> {
    tx.exec("UPDATE wall SET at = $1 WHERE id = 1 AND at < $1", &[wall.into()]).await?;
    Ok(())
}

pub async fn latest_wall<T: Tx>(tx: &mut T) -> Result<Timestamp, Stop> {
    one(tx.rows("SELECT at FROM wall WHERE id = 1", &[]).await?)?.int(0).map(Timestamp)
}

/// Takes a piece of the answers away whose time is over; true when none is left.
pub async fn forget_expired<T: Tx>(tx: &mut T) -> Result<bool, Stop> {
    let sql = "SELECT principal, key FROM answer WHERE expires_at <= (SELECT at FROM wall WHERE id = 1) LIMIT $1";
    let mut expired = tx.rows(sql, &[int(FORGET_PIECE)]).await?;
    for row in &mut expired {
        let (principal, key) = (row.text(0)?, row.text(1)?);
        tx.exec("DELETE FROM answer WHERE principal = $1 AND key = $2", &[Arg::Text(&principal), Arg::Text(&key)]).await?;
    }
    Ok((expired.len() as u64) < FORGET_PIECE)
}

fn one(mut rows: Vec<Row>) -> Result<Row, Stop> {
    rows.pop().ok_or_else(|| Stop::Sql(crate::tx::SqlFault::Refused("a row that is always there is missing".into())))
}
