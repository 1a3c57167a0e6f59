//! The memory store passes what every store must show.

use everkept_store::{MemoryStore, Store};
use std::sync::Arc;

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

everkept_store::conformance!(memory);

mod chain;
mod far_off;
mod verify;
