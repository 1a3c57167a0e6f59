//! Claude Code, as the vendor ships it: `claude -p` with JSON lines over its standard input and output.
//!
//! One process serves one agent session. Its id is chosen here and the agent keeps it; a prompt's id is its turn's, and
//! the agent drops one that it has had before. Measured with 2.1.328: the command's own help names only half of it.
//! Never: another agent session than the one that was asked for, or a tool that runs because nobody was asked.

mod connection;
mod convert;
mod opening;
mod speech;
mod wire;

use crate::process::{Process, Program, open_in_time};
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Open, Opened};
use opening::{Opening, Start};
use std::sync::Arc;

const ABILITIES: Abilities =
    Abilities { resume: true, fork: true, cancel: true, ask_permission: true, set_model: true, report_usage: true, remember: true };

pub struct ClaudeAgent {
    program: Arc<Program>,
}

impl ClaudeAgent {
    /// The program's command is what is called without arguments of ours, `claude` in most places.
    pub fn new(program: Program) -> Self {
        Self { program: Arc::new(program) }
    }
}

impl Agent for ClaudeAgent {
    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let program = self.program.clone();
        Box::pin(async move { open_in_time(&program.name, start(&program, open)).await })
    }
}

async fn start(program: &Program, open: Open) -> Result<Opened, AgentFault> {
    let opened = start_on(program, Start::of(&open, &program.name)?, &open).await;
    match opened {
        // The agent writes a session down with its first prompt, so one that was let go of before that is nowhere.
        Err(fault) if fault.kind == AgentFaultKind::UnknownSession => match Start::unwritten(&open) {
            Some(start) => start_on(program, start, &open).await,
            None => Err(fault),
        },
        opened => opened,
    }
}

async fn start_on(program: &Program, start: Start, open: &Open) -> Result<Opened, AgentFault> {
    let mut program = program.clone();
    program.command.extend(start.args(open.model.as_ref()));
    let process = Process::start(&program, &open.directory)?;
    Opening::new(process, &program.name).open(start, open.model.is_some()).await
}
