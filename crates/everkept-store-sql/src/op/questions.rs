//! Questions: one, a session's, or the open ones of everybody.
//!
//! Never shows those of a session in the trash to anybody who does not name it.

use super::{Stop, parse};
use crate::tx::{Arg, Row, Tx};
use everkept_core::{Question, QuestionId, QuestionState};
use everkept_store::QuestionsQuery;
use std::fmt::Write;

pub fn state_word(state: QuestionState) -> &'static str {
    match state {
        QuestionState::Open => "open",
        QuestionState::Answered => "answered",
        QuestionState::Expired => "expired",
    }
}

pub async fn question<T: Tx>(tx: &mut T, question: QuestionId) -> Result<Option<Question>, Stop> {
    let sql = "SELECT session, place, record FROM question WHERE id = $1";
    tx.rows(sql, &[(&question).into()]).await?.pop().map(read).transpose()
}

pub async fn questions<T: Tx>(tx: &mut T, query: &QuestionsQuery) -> Result<Vec<Question>, Stop> {
    let mut sql = "SELECT q.session, q.place, q.record FROM question q JOIN session s ON s.id = q.session WHERE ".to_owned();
    let mut args: Vec<Arg<'_>> = Vec::new();
    match &query.session {
        Some(session) => {
            args.push(session.into());
            sql.push_str("q.session = $1");
        }
        None => sql.push_str("s.deleted = 0"),
    }
    if query.open_only {
        sql.push_str(" AND q.state = 'open'");
    }
    if let Some(resource) = &query.resource {
        args.push(resource.as_str().into());
        write!(sql, " AND s.resource = ${}", args.len()).expect("writing to a String cannot fail");
    }
    sql.push_str(if query.session.is_some() { " ORDER BY q.place" } else { " ORDER BY q.asked_at, q.session, q.place" });
    tx.rows(&sql, &args).await?.into_iter().map(read).collect()
}

pub fn read(mut row: Row) -> Result<Question, Stop> {
    let (session, place) = (row.session(0)?, row.number(1)?);
    parse(&row.blob(2)?, session, place)
}
