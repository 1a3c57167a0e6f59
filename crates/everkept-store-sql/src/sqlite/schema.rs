//! The versions of the SQLite schema, and the way from each to the newest.
//!
//! Never edited once released: a new version is a new file.

use rusqlite::{Connection, TransactionBehavior};

/// What makes a schema of one version less, oldest first.
const VERSIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];
/// The version written by this program.
pub const KNOWN: u32 = VERSIONS.len() as u32;
/// Marks the file as ours: `EVKT`.
pub const APPLICATION: i32 = 0x4556_4b54;

pub fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the schema to the newest version, one transaction for each step.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_by(connection, VERSIONS)
}

fn migrate_by(connection: &mut Connection, versions: &[&str]) -> rusqlite::Result<()> {
    for (number, sql) in (1..).zip(versions) {
        if version(connection)? >= number {
            continue;
        }
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "user_version", number)?;
        step.pragma_update(None, "application_id", APPLICATION)?;
        step.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_a_migration_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_by(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        let half = ["CREATE TABLE a (x)", "CREATE TABLE b (x); INSERT INTO missing VALUES (1);"];
        assert!(migrate_by(&mut connection, &half).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(connection.prepare("SELECT x FROM b").is_err());
        migrate_by(&mut connection, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
        assert!(connection.prepare("SELECT x FROM b").is_ok());
    }
}
