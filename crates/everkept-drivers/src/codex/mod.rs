//! Codex by its own server: `codex app-server` over its standard input and output.
//!
//! One process serves one thread, which is the agent session. In which sandbox tools work and what they must ask for is
//! for Codex's own configuration to say; what it asks becomes a question. The wire types are our own and tolerant, as
//! those of the other drivers are.
//! Never: a new thread where another was asked for, or a turn that the thread has taken already.

mod connection;
mod convert;
mod opening;
mod question;

use crate::{
    Setup,
    process::{Process, Program, open_in_time},
    rpc::Writer,
    running::left_of,
};
use connection::Dialogue;
use everkept_agent::{Abilities, Agent, AgentFault, BoxFuture, Left, Open, Opened};
use everkept_core::TurnId;
use opening::Opening;
use std::sync::Arc;

/// Codex leaves the version out.
const RPC: Writer = Writer::WITHOUT_VERSION;

const ABILITIES: Abilities =
    Abilities { resume: true, fork: true, cancel: true, ask_permission: true, set_model: true, report_usage: true, remember: true };

pub struct CodexAgent {
    program: Arc<Program>,
    setup: Arc<Setup>,
}

impl CodexAgent {
    pub fn new(program: Program, setup: Setup) -> Self {
        Self { program: Arc::new(program), setup: Arc::new(setup) }
    }
}

impl Agent for CodexAgent {
    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (program, setup) = (self.program.clone(), self.setup.clone());
        Box::pin(async move { open_in_time(&program, start(&program, &setup, open)).await })
    }

    fn left_of(&self, turn: TurnId) -> BoxFuture<Left> {
        Box::pin(left_of::<Dialogue>(self.program.clone(), turn))
    }
}

async fn start(program: &Program, setup: &Setup, open: Open) -> Result<Opened, AgentFault> {
    let process = Process::start(program, &open.directory)?;
    Opening::new(process, &program.name).open(open, setup).await
}
