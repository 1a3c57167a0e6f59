//! What every `Agent` must show.
