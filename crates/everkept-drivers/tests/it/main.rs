//! The drivers, seen from outside: bytes in and events out, and whole agents under a real keeper.

mod acp;
mod keeper;
mod scripted;
mod support;
