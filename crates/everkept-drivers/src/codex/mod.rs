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
mod transcript;

use crate::{
    Setup,
    environment::variable_of_agent,
    process::{Process, Program, open_in_time},
    rpc::Writer,
    running::left_of,
    transcript::Shelved,
};
use connection::Dialogue;
use everkept_agent::{Abilities, Agent, AgentFault, BoxFuture, Left, Open, Opened, Transcripts};
use everkept_core::TurnId;
use opening::Opening;
use std::sync::Arc;
use transcript::Rollouts;

/// Codex leaves the version out.
const RPC: Writer = Writer::WITHOUT_VERSION;

const ABILITIES: Abilities = Abilities {
    resume: true,
    fork: true,
    cancel: true,
    ask_permission: true,
    set_model: true,
    report_usage: true,
    remember: true,
    transcript: true,
};

pub struct CodexAgent {
    program: Arc<Program>,
    setup: Arc<Setup>,
    shelved: Option<Arc<Shelved<Rollouts>>>,
}

impl CodexAgent {
    pub fn new(program: Program, setup: Setup) -> Self {
        let shelf = Rollouts::of(|name| variable_of_agent(name, &program.env));
        let shelved = shelf.map(|shelf| Arc::new(Shelved::new(&program.name, shelf)));
        Self { program: Arc::new(program), setup: Arc::new(setup), shelved }
    }
}

impl Agent for CodexAgent {
    fn abilities(&self) -> Abilities {
        Abilities { transcript: self.shelved.is_some(), ..ABILITIES }
    }

    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        self.shelved.clone().map(|shelved| shelved as Arc<dyn Transcripts>)
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
