//! The demo agent, seen from outside.

mod demo;
