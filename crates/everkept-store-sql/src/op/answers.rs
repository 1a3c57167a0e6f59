//! Answers kept under their idempotency keys.
//!
//! Never gives a key away that is still held, and never goes by an earlier time than one that was kept.

use super::Stop;
use crate::tx::{Arg, Row, Tx, session_id};
use everkept_core::{TextDigest, Timestamp};
use everkept_store::KeptAnswer;

/// Keeps the answer, or stops with the one that is held under its key.
pub async fn keep_answer<T: Tx>(tx: &mut T, answer: &KeptAnswer, wall: Timestamp) -> Result<(), Stop> {
    let sql = "INSERT INTO answer (principal, key, digest, status, body, expires_at, session) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (principal, key) DO UPDATE SET digest = excluded.digest, status = excluded.status, body = excluded.body,
            expires_at = excluded.expires_at, session = excluded.session
        WHERE answer.expires_at <= $8 OR answer.expires_at <= (SELECT at FROM wall WHERE id = 1)";
    let args = [
        Arg::Text(&answer.principal),
        Arg::Text(&answer.key),
        (&answer.digest).into(),
        Arg::Int(answer.status.into()),
        Arg::Blob(&answer.body),
        answer.expires_at.into(),
        answer.session.as_ref().into(),
        wall.into(),
    ];
    if tx.exec(sql, &args).await? > 0 {
        return Ok(());
    }
    match held(tx, &answer.principal, &answer.key).await? {
        Some((held, _)) => Err(Stop::KeyUsed(Box::new(held))),
        None => Err(Stop::Sql(crate::tx::SqlFault::Refused("a key is held and has no answer".into()))),
    }
}

pub async fn kept_answer<T: Tx>(tx: &mut T, principal: &str, key: &str, now: Timestamp) -> Result<Option<KeptAnswer>, Stop> {
    let found = held(tx, principal, key).await?;
    Ok(found.filter(|(answer, wall)| answer.is_kept_at(now.max(*wall))).map(|(answer, _)| answer))
}

/// The answer under a key, expired or not, and the latest wall time kept.
async fn held<T: Tx>(tx: &mut T, principal: &str, key: &str) -> Result<Option<(KeptAnswer, Timestamp)>, Stop> {
    let sql = "SELECT digest, status, body, expires_at, session, (SELECT at FROM wall WHERE id = 1) FROM answer
        WHERE principal = $1 AND key = $2";
    let row = tx.rows(sql, &[Arg::Text(principal), Arg::Text(key)]).await?.pop();
    row.map(|row| read(row, principal, key)).transpose()
}

fn read(mut row: Row, principal: &str, key: &str) -> Result<(KeptAnswer, Timestamp), Stop> {
    let answer = KeptAnswer {
        principal: principal.into(),
        key: key.into(),
        digest: TextDigest(row.fixed(0)?),
        status: u16::try_from(row.int(1)?).unwrap_or(u16::MAX),
        body: row.blob(2)?.into(),
        expires_at: row.optional_int(3)?.map(Timestamp),
        session: row.optional_fixed(4)?.map(session_id),
    };
    Ok((answer, Timestamp(row.int(5)?)))
}
