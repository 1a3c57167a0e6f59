//! Sessions: one, lists of them, and what each log is owed.
//!
//! Never an offset: a page goes on from the last row of the one before.

use super::{Stop, commit::state_word, parse};
use crate::tx::{Arg, Row, Tx, int};
use everkept_core::{Effect, Resource, Session, SessionId, Thread};
use everkept_store::{Head, Page, SessionsQuery};

pub async fn take<T: Tx>(tx: &mut T, session: SessionId) -> Result<Option<Head>, Stop> {
    let sql = "UPDATE log SET fence = fence + 1 WHERE session = $1 RETURNING head, fence";
    tx.rows(sql, &[(&session).into()]).await?.pop().map(read_head).transpose()
}

pub async fn head<T: Tx>(tx: &mut T, session: SessionId) -> Result<Option<Head>, Stop> {
    let sql = "SELECT head, fence FROM log WHERE session = $1";
    tx.rows(sql, &[(&session).into()]).await?.pop().map(read_head).transpose()
}

fn read_head(row: Row) -> Result<Head, Stop> {
    Ok(Head { seq: row.number(0)?, fence: row.number(1)? })
}

pub async fn session<T: Tx>(tx: &mut T, session: SessionId) -> Result<Option<Session>, Stop> {
    let sql = "SELECT id, record FROM session WHERE id = $1";
    tx.rows(sql, &[(&session).into()]).await?.pop().map(read_session).transpose()
}

pub async fn session_of_thread<T: Tx>(tx: &mut T, resource: &Resource, thread: &Thread) -> Result<Option<Session>, Stop> {
    let sql = "SELECT id, record FROM session WHERE resource = $1 AND thread = $2 AND deleted = 0";
    tx.rows(sql, &[resource.as_str().into(), thread.as_str().into()]).await?.pop().map(read_session).transpose()
}

pub async fn sessions<T: Tx>(tx: &mut T, query: &SessionsQuery) -> Result<Page<Session>, Stop> {
    let Ok(search) = search_argument::<T>(query) else { return Ok(Page { items: Vec::new(), has_more: false }) };
    let mut filter = Filter::of::<T>(query, search.as_deref());
    if let Some((updated_at, id)) = &query.before {
        let (at, tie) = (filter.number(*updated_at), filter.number(id));
        filter.conditions.push(format!("(updated_at, id) < (${at}, ${tie})"));
    }
    let limit = filter.number(int(u64::from(query.limit) + 1));
    let conditions = filter.conditions.join(" AND ");
    let sql = format!("SELECT id, record FROM session WHERE {conditions} ORDER BY updated_at DESC, id DESC LIMIT ${limit}");
    let mut rows = tx.rows(&sql, &filter.args).await?;
    let has_more = rows.len() > query.limit as usize;
    rows.truncate(query.limit as usize);
    Ok(Page { items: rows.into_iter().map(read_session).collect::<Result<_, _>>()?, has_more })
}

pub async fn count_sessions<T: Tx>(tx: &mut T, query: &SessionsQuery) -> Result<u64, Stop> {
    let Ok(search) = search_argument::<T>(query) else { return Ok(0) };
    let filter = Filter::of::<T>(query, search.as_deref());
    let sql = format!("SELECT COUNT(*) FROM session WHERE {}", filter.conditions.join(" AND "));
    tx.rows(&sql, &filter.args).await?.first().map_or(Ok(0), |row| row.number(0))
}

/// A search without a word in it finds nothing.
struct NothingToFind;

fn search_argument<T: Tx>(query: &SessionsQuery) -> Result<Option<String>, NothingToFind> {
    query.search.as_ref().map(|search| T::search_argument(search).ok_or(NothingToFind)).transpose()
}

/// Conditions on sessions and the arguments they name.
struct Filter<'a> {
    conditions: Vec<String>,
    args: Vec<Arg<'a>>,
}

impl<'a> Filter<'a> {
    fn of<T: Tx>(query: &'a SessionsQuery, search: Option<&'a str>) -> Self {
        let mut filter = Filter { conditions: Vec::new(), args: Vec::new() };
        filter.equal("deleted", Some(query.deleted));
        filter.equal("resource", query.resource.as_ref().map(|resource| resource.as_str()));
        filter.equal("thread", query.thread.as_ref().map(|thread| thread.as_str()));
        if query.with_thread {
            filter.conditions.push("thread IS NOT NULL".into());
        }
        filter.equal("agent", query.agent.as_ref().map(|agent| agent.as_str()));
        filter.equal("state", query.state.map(state_word));
        filter.equal("archived", query.archived);
        if let Some(search) = search {
            let number = filter.number(search);
            filter.conditions.push(T::search_condition(number));
        }
        filter
    }

    fn equal(&mut self, column: &str, value: Option<impl Into<Arg<'a>>>) {
        if let Some(value) = value {
            let number = self.number(value);
            self.conditions.push(format!("{column} = ${number}"));
        }
    }

    fn number(&mut self, arg: impl Into<Arg<'a>>) -> usize {
        self.args.push(arg.into());
        self.args.len()
    }
}

pub async fn children<T: Tx>(tx: &mut T, session: SessionId) -> Result<Vec<Session>, Stop> {
    let sql = "SELECT id, record FROM session WHERE parent = $1 AND deleted = 0 ORDER BY created_at, id";
    tx.rows(sql, &[(&session).into()]).await?.into_iter().map(read_session).collect()
}

pub async fn owed<T: Tx>(tx: &mut T) -> Result<Vec<(SessionId, Vec<Effect>)>, Stop> {
    let rows = tx.rows("SELECT session, effects FROM owed ORDER BY session", &[]).await?;
    let read = |mut row: Row| {
        let session = row.session(0)?;
        Ok((session, parse(&row.blob(1)?, session, 0)?))
    };
    rows.into_iter().map(read).collect()
}

pub async fn all_sessions<T: Tx>(tx: &mut T, after: Option<SessionId>, limit: u32) -> Result<Vec<SessionId>, Stop> {
    let rows = match &after {
        Some(after) => {
            let sql = "SELECT session FROM log WHERE session > $1 ORDER BY session LIMIT $2";
            tx.rows(sql, &[after.into(), int(limit.into())]).await?
        }
        None => tx.rows("SELECT session FROM log ORDER BY session LIMIT $1", &[int(limit.into())]).await?,
    };
    rows.iter().map(|row| row.session(0)).collect()
}

fn read_session(mut row: Row) -> Result<Session, Stop> {
    let id = row.session(0)?;
    parse(&row.blob(1)?, id, 0)
}
