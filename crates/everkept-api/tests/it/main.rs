//! What someone outside sees: shapes, bodies, errors, streams.

mod bodies;
mod client;
mod errors;
mod shapes;
mod sse;
