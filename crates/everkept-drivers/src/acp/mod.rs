//! Any agent that speaks the Agent Client Protocol, version 1, over its standard input and output.
//!
//! <https://agentclientprotocol.com>. The wire types are our own and tolerant: what an agent must have said right is
//! little, and the bytes of every line are handed over as they came. One process serves one agent session.
//! Never: a new agent session where another was asked for, or a served request that reaches into this machine.

mod connection;
mod convert;
mod opening;
mod wire;

pub use crate::process::Keeper;

use crate::process::Process;
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Open, Opened};
use opening::Opening;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// To start, to initialize and to open a session, together.
pub const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// How one agent is started.
#[derive(Debug, Clone)]
pub struct AcpConfig {
    pub name: String,
    pub command: Vec<String>,
    /// Over the allow-listed part of the server's own environment.
    pub env: BTreeMap<String, String>,
    pub keeper: Keeper,
}

pub struct AcpAgent {
    config: Arc<AcpConfig>,
    /// What it said when it last ran; hopeful before that, because only an agent that can is asked to.
    abilities: Arc<Mutex<Abilities>>,
}

impl AcpAgent {
    pub fn new(config: AcpConfig) -> Self {
        let hoped = Abilities { resume: true, fork: true, cancel: true, ask_permission: true, set_model: true, report_usage: true };
        Self { config: Arc::new(config), abilities: Arc::new(Mutex::new(hoped)) }
    }
}

impl Agent for AcpAgent {
    fn abilities(&self) -> Abilities {
        *self.abilities.lock().expect("nothing panics while it holds the abilities")
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (config, abilities) = (self.config.clone(), self.abilities.clone());
        Box::pin(async move {
            let learn = |learned| *abilities.lock().expect("nothing panics while it holds the abilities") = learned;
            let opened = tokio::time::timeout(OPEN_WITHIN, start(&config, open, learn)).await;
            opened.unwrap_or_else(|_| Err(timed_out(&config)))
        })
    }
}

async fn start(config: &AcpConfig, open: Open, learn: impl Fn(Abilities)) -> Result<Opened, AgentFault> {
    let process = Process::start(&config.keeper, &config.command, &config.env, &open.directory)?;
    Opening::new(process, &config.name).open(open, learn).await
}

fn timed_out(config: &AcpConfig) -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::TimedOut,
        doing: format!("opening a session of {}", config.name),
        message: format!("no session within {} s", OPEN_WITHIN.as_secs()),
        retryable: true,
        may_have_happened: false,
    }
}
