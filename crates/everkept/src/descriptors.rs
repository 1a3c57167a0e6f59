//! How many files and sockets this process may have open, and how many of them clients get.
//!
//! Never all of them: the database and the agents' processes are not starved by those who knock.

use everkept_server::CONNECTIONS;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// For the database, the log, and the pipes of as many agents as may run.
const KEPT_BACK: u64 = 320;
/// Clients get so many in any case.
const FEWEST: u64 = 16;

/// Raises the limit as far as it is of use and allowed; how many connections there may be.
pub fn connections() -> anyhow::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = CONNECTIONS as u64 + KEPT_BACK;
    let limit = soft.max(wanted.min(hard));
    if limit > soft {
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
    }
    let connections = of(limit);
    if connections < CONNECTIONS {
        tracing::warn!(connections, "this process may open {limit} files: fewer clients are served at once");
    }
    Ok(connections)
}

fn of(limit: u64) -> usize {
    let clients = limit.saturating_sub(KEPT_BACK).max(FEWEST);
    usize::try_from(clients).unwrap_or(CONNECTIONS).min(CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left_over() {
        assert_eq!([0, 20, 336, 337, 1_024, 4_416, u64::MAX].map(of), [16, 16, 16, 17, 704, 4_096, 4_096]);
    }
}
