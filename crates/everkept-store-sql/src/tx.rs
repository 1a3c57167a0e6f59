//! What an operation needs of an engine: statements with numbered arguments inside one transaction.
//!
//! SQL is written with `$1..$n` and kept to what the engines share.
//! Never: a statement that runs outside the transaction it was handed.

use crate::op::Stop;
use everkept_core::{QuestionId, SessionId, TextDigest, Timestamp, TokenId, TurnId};
use std::ops::ControlFlow;

pub trait Tx {
    /// How many rows were changed.
    fn exec(&mut self, sql: &str, args: &[Arg<'_>]) -> impl Future<Output = Result<u64, SqlFault>>;
    fn rows(&mut self, sql: &str, args: &[Arg<'_>]) -> impl Future<Output = Result<Vec<Row>, SqlFault>>;
    /// Hands over one row after the other, none of them kept, until `take` has enough.
    fn each(
        &mut self,
        sql: &str,
        args: &[Arg<'_>],
        take: impl FnMut(&dyn Columns) -> Result<ControlFlow<()>, Stop>,
    ) -> impl Future<Output = Result<(), Stop>>;

    /// The condition that a session has the words of the argument numbered `number`.
    fn search_condition(number: usize) -> String;
    /// The argument for that condition; none when there is no word to look for.
    fn search_argument(search: &str) -> Option<String>;
}

#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// A row as it passes by.
pub trait Columns {
    fn int(&self, at: usize) -> Result<i64, Stop>;
    fn text(&self, at: usize) -> Result<&str, Stop>;
    fn blob(&self, at: usize) -> Result<&[u8], Stop>;

    fn number(&self, at: usize) -> Result<u64, Stop> {
        u64::try_from(self.int(at)?).map_err(|_| unexpected(at))
    }
}

/// What the engine said instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlFault {
    /// No space is left.
    Full,
    /// Storage failed: nothing that was written can be counted on.
    Storage(String),
    /// Another process holds the database.
    Busy,
    ReadOnly(String),
    /// What stands in the database file cannot be read.
    Damaged(String),
    /// It would not do this one thing.
    Refused(String),
}

/// One row of an answer; its values are taken out by their place.
#[derive(Debug)]
pub struct Row(pub Vec<Value>);

impl Row {
    pub fn int(&self, at: usize) -> Result<i64, Stop> {
        self.optional_int(at)?.ok_or_else(|| unexpected(at))
    }

    pub fn number(&self, at: usize) -> Result<u64, Stop> {
        u64::try_from(self.int(at)?).map_err(|_| unexpected(at))
    }

    pub fn optional_int(&self, at: usize) -> Result<Option<i64>, Stop> {
        match self.0.get(at) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_) | Value::Blob(_)) | None => Err(unexpected(at)),
        }
    }

    pub fn text(&mut self, at: usize) -> Result<String, Stop> {
        self.optional_text(at)?.ok_or_else(|| unexpected(at))
    }

    pub fn optional_text(&mut self, at: usize) -> Result<Option<String>, Stop> {
        match self.0.get_mut(at) {
            Some(Value::Text(value)) => Ok(Some(std::mem::take(value))),
            Some(Value::Null) => Ok(None),
            Some(Value::Int(_) | Value::Blob(_)) | None => Err(unexpected(at)),
        }
    }

    pub fn blob(&mut self, at: usize) -> Result<Vec<u8>, Stop> {
        match self.0.get_mut(at) {
            Some(Value::Blob(value)) => Ok(std::mem::take(value)),
            Some(Value::Null | Value::Int(_) | Value::Text(_)) | None => Err(unexpected(at)),
        }
    }

    /// A key or hash of a fixed length.
    pub fn fixed<const N: usize>(&self, at: usize) -> Result<[u8; N], Stop> {
        self.optional_fixed(at)?.ok_or_else(|| unexpected(at))
    }

    pub fn optional_fixed<const N: usize>(&self, at: usize) -> Result<Option<[u8; N]>, Stop> {
        match self.0.get(at) {
            Some(Value::Blob(value)) => <[u8; N]>::try_from(value.as_slice()).map(Some).map_err(|_| unexpected(at)),
            Some(Value::Null) => Ok(None),
            Some(Value::Int(_) | Value::Text(_)) | None => Err(unexpected(at)),
        }
    }

    pub fn session(&self, at: usize) -> Result<SessionId, Stop> {
        self.fixed(at).map(session_id)
    }
}

pub fn unexpected(at: usize) -> Stop {
    Stop::Sql(SqlFault::Refused(format!("a row holds something unexpected in column {at}")))
}

pub fn session_id(bytes: [u8; 16]) -> SessionId {
    SessionId(uuid::Uuid::from_bytes(bytes))
}

/// A number as the engines keep it; they know no greater one.
pub fn int(number: u64) -> Arg<'static> {
    Arg::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

macro_rules! id_args {
    ($($id:ident),*) => {$(
        impl<'a> From<&'a $id> for Arg<'a> {
            fn from(id: &'a $id) -> Self {
                Arg::Blob(id.0.as_bytes())
            }
        }
    )*};
}

id_args!(SessionId, TurnId, QuestionId, TokenId);

impl<'a> From<&'a TextDigest> for Arg<'a> {
    fn from(digest: &'a TextDigest) -> Self {
        Arg::Blob(&digest.0)
    }
}

impl From<Timestamp> for Arg<'_> {
    fn from(at: Timestamp) -> Self {
        Arg::Int(at.0)
    }
}

impl From<bool> for Arg<'_> {
    fn from(yes: bool) -> Self {
        Arg::Int(yes.into())
    }
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Arg::Text(text)
    }
}

impl<'a, T: Into<Arg<'a>>> From<Option<T>> for Arg<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Arg::Null, Into::into)
    }
}
