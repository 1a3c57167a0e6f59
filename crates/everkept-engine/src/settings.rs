//! Figures of the engine. Durations run on the monotonic clock.

use everkept_core::{Limits, Prices};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a tool, a turn and a session may take, and how long an agent may say nothing or nothing of use.
    pub limits: Limits,
    /// An unanswered question is answered no after so long.
    pub question: Duration,
    /// An agent that was told to stop and did not is ended after so long.
    pub cancel: Duration,
    /// A process with nothing to do is ended after so long.
    pub idle_agent: Duration,
    /// After the first delta, later ones wait so long for company.
    pub coalesce: Duration,
    /// Agent processes that may run at once; further turns wait.
    pub max_agents: usize,
    /// A session's task ends after so long without orders, readers or an agent.
    pub idle_session: Duration,
    /// How long what is deleted stays in the trash at least; for ever without one.
    pub keep_trash: Option<Duration>,
    /// For what agents do not say the cost of.
    pub prices: Prices,
    /// Where sessions without a directory get theirs.
    pub private_directories: std::path::PathBuf,
}

impl Settings {
    pub fn new(private_directories: std::path::PathBuf) -> Self {
        Settings {
            limits: Limits::default(),
            question: Duration::from_secs(24 * 3600),
            cancel: Duration::from_secs(5),
            idle_agent: Duration::from_secs(60),
            coalesce: Duration::from_millis(15),
            max_agents: 32,
            idle_session: Duration::from_secs(60),
            keep_trash: None,
            prices: Prices::new(),
            private_directories,
        }
    }

    pub(crate) fn keep_trash_ms(&self) -> Option<u64> {
        self.keep_trash.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX))
    }
}
