//! The store on SQL: every operation is one body of statements over a small [`tx::Tx`], run by an executor per engine.
//!
//! What a store promises is written once, in `op`; only the schema, the full-text index and how a transaction is run
//! belong to an engine. Never: a rule of the store inside an executor, or an engine's own SQL inside an operation.

mod op;
mod packed;
mod sqlite;
mod tx;

pub use sqlite::{Files, Mode, SqliteStore, backup, version};
