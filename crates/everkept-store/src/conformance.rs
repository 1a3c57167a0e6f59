//! What every store must show.
