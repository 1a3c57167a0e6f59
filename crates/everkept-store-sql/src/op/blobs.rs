//! Bytes kept beside the events: blobs under their digest, and what an agent sent during a turn.
//!
//! Never changes bytes once they are kept.

use super::Stop;
use crate::tx::{Arg, Tx, int};
use bytes::{Bytes, BytesMut};
use everkept_core::{SessionId, TextDigest, TurnId};
use everkept_store::Raw;

/// The most bytes of an agent's output in one row.
const RAW_ROW: usize = 256 * 1024;
/// About how many bytes of it one read returns.
const RAW_PIECE: usize = 64 * 1024;

pub async fn put_blob<T: Tx>(tx: &mut T, id: TextDigest, bytes: &[u8], session: Option<SessionId>) -> Result<(), Stop> {
    tx.exec("INSERT INTO blob (id, bytes) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", &[(&id).into(), Arg::Blob(bytes)]).await?;
    if let Some(session) = &session {
        let sql = "INSERT INTO blob_session (blob, session) VALUES ($1, $2) ON CONFLICT (blob, session) DO NOTHING";
        tx.exec(sql, &[(&id).into(), session.into()]).await?;
    }
    Ok(())
}

pub async fn blob<T: Tx>(tx: &mut T, id: TextDigest) -> Result<Option<Bytes>, Stop> {
    let row = tx.rows("SELECT bytes FROM blob WHERE id = $1", &[(&id).into()]).await?.pop();
    row.map(|mut row| row.blob(0).map(Bytes::from)).transpose()
}

pub async fn blob_sessions<T: Tx>(tx: &mut T, id: TextDigest) -> Result<Vec<SessionId>, Stop> {
    let rows = tx.rows("SELECT session FROM blob_session WHERE blob = $1 ORDER BY session", &[(&id).into()]).await?;
    rows.iter().map(|row| row.session(0)).collect()
}

pub async fn put_raw<T: Tx>(tx: &mut T, raw: &Raw) -> Result<(), Stop> {
    let sql = "SELECT place + size FROM raw WHERE session = $1 AND turn = $2 ORDER BY place DESC LIMIT 1";
    let rows = tx.rows(sql, &[(&raw.session).into(), (&raw.turn).into()]).await?;
    let mut place = rows.first().map_or(Ok(0), |row| row.number(0))?;
    for piece in raw.bytes.chunks(RAW_ROW) {
        let size = piece.len() as u64;
        let sql = "INSERT INTO raw (session, turn, place, size, bytes) VALUES ($1, $2, $3, $4, $5)";
        tx.exec(sql, &[(&raw.session).into(), (&raw.turn).into(), int(place), int(size), Arg::Blob(piece)]).await?;
        place += size;
    }
    Ok(())
}

pub async fn raw<T: Tx>(tx: &mut T, session: SessionId, turn: TurnId, from: u64) -> Result<Bytes, Stop> {
    let sql = "SELECT place, bytes FROM raw WHERE session = $1 AND turn = $2 AND place >= $3 ORDER BY place LIMIT $4";
    let mut found = BytesMut::new();
    // The row that `from` lies in begins at or before it.
    let before = "SELECT COALESCE(MAX(place), 0) FROM raw WHERE session = $1 AND turn = $2 AND place <= $3";
    let rows = tx.rows(before, &[(&session).into(), (&turn).into(), int(from)]).await?;
    let mut place = rows.first().map_or(Ok(0), |row| row.number(0))?;
    loop {
        let rows = tx.rows(sql, &[(&session).into(), (&turn).into(), int(place), int(4)]).await?;
        if rows.is_empty() {
            return Ok(found.freeze());
        }
        for mut row in rows {
            let (start, bytes) = (row.number(0)?, row.blob(1)?);
            let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
            found.extend_from_slice(&bytes[skip..]);
            place = start + bytes.len() as u64;
            if found.len() >= RAW_PIECE {
                found.truncate(RAW_PIECE);
                return Ok(found.freeze());
            }
        }
    }
}
