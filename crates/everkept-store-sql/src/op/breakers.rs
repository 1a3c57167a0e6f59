//! Breakers, one for each agent and model.
//!
//! Never an older one in the place of a newer one, in whatever order they come.

use super::{Stop, json};
use crate::tx::{Arg, SqlFault, Tx, int};
use everkept_core::Breaker;

pub async fn put_breaker<T: Tx>(tx: &mut T, breaker: &Breaker) -> Result<(), Stop> {
    let sql = "INSERT INTO breaker (agent, model, version, record) VALUES ($1, $2, $3, $4)
        ON CONFLICT (agent, model) DO UPDATE SET version = excluded.version, record = excluded.record
        WHERE excluded.version > breaker.version";
    let model = breaker.model.as_ref().map_or("", |model| model.as_str());
    let record = json(breaker);
    tx.exec(sql, &[breaker.agent.as_str().into(), model.into(), int(breaker.version), Arg::Blob(&record)]).await?;
    Ok(())
}

pub async fn breakers<T: Tx>(tx: &mut T) -> Result<Vec<Breaker>, Stop> {
    let damaged = |_| Stop::Sql(SqlFault::Damaged("a breaker cannot be read".into()));
    let rows = tx.rows("SELECT record FROM breaker ORDER BY agent, model", &[]).await?;
    rows.into_iter().map(|mut row| serde_json::from_slice(&row.blob(0)?).map_err(damaged)).collect()
}
