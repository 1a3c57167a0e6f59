//! Runs operations on a SQLite connection: every statement answers inside the call.
//!
//! Never: a statement compiled anew for every call, or an argument bound by anything but its number.

use super::{fault::sql_fault, search};
use crate::{
    op::Stop,
    tx::{Arg, Columns, Row, SqlFault, Tx, Value, unexpected},
};
use futures::FutureExt;
use rusqlite::{
    CachedStatement, Connection, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use std::{ops::ControlFlow, path::Path};

/// One connection inside a transaction that somebody else begins and ends.
pub struct SqliteTx<'a> {
    connection: &'a Connection,
    /// Where the database is, to see whether there is space when it cannot write.
    directory: &'a Path,
}

impl<'a> SqliteTx<'a> {
    pub fn new(connection: &'a Connection, directory: &'a Path) -> Self {
        SqliteTx { connection, directory }
    }

    fn fault(&self, error: &rusqlite::Error) -> SqlFault {
        sql_fault(error, self.directory)
    }

    fn prepare(&self, sql: &str, args: &[Arg<'_>]) -> Result<CachedStatement<'a>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        for index in 1..=statement.parameter_count() {
            // To SQLite `$3` is a name; the number in it says which argument is meant.
            let number = statement.parameter_name(index).and_then(|name| name[1..].parse::<usize>().ok());
            let arg = number.and_then(|number| args.get(number - 1)).expect("statements name the arguments they are given");
            statement.raw_bind_parameter(index, arg)?;
        }
        Ok(statement)
    }

    fn exec_now(&self, sql: &str, args: &[Arg<'_>]) -> Result<u64, SqlFault> {
        let mut statement = self.prepare(sql, args).map_err(|error| self.fault(&error))?;
        statement.raw_execute().map(|changed| changed as u64).map_err(|error| self.fault(&error))
    }

    fn each_now(
        &self,
        sql: &str,
        args: &[Arg<'_>],
        mut take: impl FnMut(&dyn Columns) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        let fault = |error: rusqlite::Error| Stop::Sql(self.fault(&error));
        let mut statement = self.prepare(sql, args).map_err(fault)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(fault)? {
            if take(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn rows_now(&self, sql: &str, args: &[Arg<'_>]) -> Result<Vec<Row>, SqlFault> {
        let read = || {
            let mut statement = self.prepare(sql, args)?;
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(Row((0..columns).map(|at| row.get_ref(at).map(value)).collect::<Result<_, _>>()?));
            }
            Ok(found)
        };
        read().map_err(|error| self.fault(&error))
    }
}

impl Tx for SqliteTx<'_> {
    fn exec(&mut self, sql: &str, args: &[Arg<'_>]) -> impl Future<Output = Result<u64, SqlFault>> {
        std::future::ready(self.exec_now(sql, args))
    }

    fn rows(&mut self, sql: &str, args: &[Arg<'_>]) -> impl Future<Output = Result<Vec<Row>, SqlFault>> {
        std::future::ready(self.rows_now(sql, args))
    }

    fn each(
        &mut self,
        sql: &str,
        args: &[Arg<'_>],
        take: impl FnMut(&dyn Columns) -> Result<ControlFlow<()>, Stop>,
    ) -> impl Future<Output = Result<(), Stop>> {
        std::future::ready(self.each_now(sql, args, take))
    }

    fn search_condition(number: usize) -> String {
        search::condition(number)
    }

    fn search_argument(search: &str) -> Option<String> {
        search::argument(search)
    }
}

/// What an operation answers on SQLite, where nothing is ever waited for.
pub fn answer<R>(operation: impl Future<Output = Result<R, Stop>>) -> Result<R, Stop> {
    operation.now_or_never().expect("every statement of SQLite answers inside the call")
}

impl Columns for rusqlite::Row<'_> {
    fn int(&self, at: usize) -> Result<i64, Stop> {
        self.get_ref(at).ok().and_then(|value| value.as_i64().ok()).ok_or_else(|| unexpected(at))
    }

    fn text(&self, at: usize) -> Result<&str, Stop> {
        self.get_ref(at).ok().and_then(|value| value.as_str().ok()).ok_or_else(|| unexpected(at))
    }

    fn blob(&self, at: usize) -> Result<&[u8], Stop> {
        self.get_ref(at).ok().and_then(|value| value.as_blob().ok()).ok_or_else(|| unexpected(at))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        // No column is a REAL; were one damaged into it, reading the row fails as it should.
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}

impl ToSql for Arg<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Arg::Null => ValueRef::Null,
            Arg::Int(value) => ValueRef::Integer(*value),
            Arg::Text(text) => ValueRef::Text(text.as_bytes()),
            Arg::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
