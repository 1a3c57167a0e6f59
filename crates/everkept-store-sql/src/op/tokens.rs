//! Access tokens, by the hash of their secret.
//!
//! Never sees a secret, and never judges whether a token still counts.

use super::Stop;
use crate::tx::{Arg, Row, Tx};
use everkept_core::{TextDigest, Timestamp, TokenId};
use everkept_store::Token;
use uuid::Uuid;

pub async fn put_token<T: Tx>(tx: &mut T, token: &Token) -> Result<(), Stop> {
    let sql = "INSERT INTO token (id, secret_hash, kind, name, created_at, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, kind = excluded.kind, name = excluded.name,
            created_at = excluded.created_at, expires_at = excluded.expires_at, revoked_at = excluded.revoked_at";
    let args = [
        (&token.id).into(),
        (&token.secret_hash).into(),
        Arg::Text(&token.kind),
        token.name.as_deref().into(),
        token.created_at.into(),
        token.expires_at.into(),
        token.revoked_at.into(),
    ];
    tx.exec(sql, &args).await?;
    Ok(())
}

pub async fn token<T: Tx>(tx: &mut T, secret_hash: TextDigest) -> Result<Option<Token>, Stop> {
    let sql = "SELECT id, secret_hash, kind, name, created_at, expires_at, revoked_at FROM token WHERE secret_hash = $1";
    tx.rows(sql, &[(&secret_hash).into()]).await?.pop().map(read).transpose()
}

pub async fn tokens<T: Tx>(tx: &mut T) -> Result<Vec<Token>, Stop> {
    let sql = "SELECT id, secret_hash, kind, name, created_at, expires_at, revoked_at FROM token ORDER BY created_at, id";
    tx.rows(sql, &[]).await?.into_iter().map(read).collect()
}

pub async fn revoke_token<T: Tx>(tx: &mut T, token: TokenId, at: Timestamp) -> Result<bool, Stop> {
    let sql = "UPDATE token SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1";
    Ok(tx.exec(sql, &[(&token).into(), at.into()]).await? > 0)
}

fn read(mut row: Row) -> Result<Token, Stop> {
    Ok(Token {
        id: TokenId(Uuid::from_bytes(row.fixed(0)?)),
        secret_hash: TextDigest(row.fixed(1)?),
        kind: row.text(2)?,
        name: row.optional_text(3)?,
        created_at: Timestamp(row.int(4)?),
        expires_at: row.optional_int(5)?.map(Timestamp),
        revoked_at: row.optional_int(6)?.map(Timestamp),
    })
}
