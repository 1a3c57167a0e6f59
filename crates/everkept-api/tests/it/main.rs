//! What someone outside sees: shapes, bodies, errors, streams.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod additive;
mod bodies;
mod client;
mod errors;
mod shapes;
mod sse;
