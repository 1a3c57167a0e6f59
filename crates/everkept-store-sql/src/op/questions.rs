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
    let mut sql = "SELECT session, place, record FROM question WHERE ".to_owned();
    let mut args: Vec<Arg<'_>> = Vec::new();
    // The session is looked up from the question: open questions are few, sessions are many.
    match &query.session {
        Some(session) => {
            args.push(session.into());
            sql.push_str("session = $1");
        }
        None => sql.push_str("(SELECT deleted FROM session WHERE id = question.session) = 0"),
    }
    if query.open_only {
        sql.push_str(" AND state = 'open'");
    }
    if let Some(resource) = &query.resource {
        args.push(resource.as_str().into());
        write!(sql, " AND (SELECT resource FROM session WHERE id = question.session) = ${}", args.len())
            .expect("writing to a String cannot fail");
    }
    sql.push_str(if query.session.is_some() { " ORDER BY place" } else { " ORDER BY asked_at, session, place" });
    tx.rows(&sql, &args).await?.into_iter().map(read).collect()
}

pub fn read(mut row: Row) -> Result<Question, Stop> {
    let (session, place) = (row.session(0)?, row.number(1)?);
    parse(&row.blob(2)?, session, place)
}
