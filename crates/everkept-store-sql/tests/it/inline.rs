//! What every store must show, on the caller's own thread.

use crate::Directories;
use everkept_store_sql::Mode;

everkept_store::conformance!(Directories::new(Mode::Inline));
