//! What every store must show, with a writer and readers.

use crate::Directories;
use everkept_store_sql::Mode;

everkept_store::conformance!(Directories::new(Mode::Threads { readers: 2 }));
