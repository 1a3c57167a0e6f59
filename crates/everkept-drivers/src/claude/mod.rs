//! Claude Code, as the vendor ships it: `claude -p` with JSON lines over its standard input and output.
//!
//! One process serves one agent session. Its id is chosen here and the agent keeps it; a prompt's id is its turn's, and
//! the agent drops one that it has had before. Measured with 2.1.328: the command's own help names only half of it.
//! Never: another agent session than the one that was asked for, or a tool that runs because nobody was asked.

mod connection;
mod convert;
mod opening;
mod speech;
mod transcript;
mod wire;

use crate::{
    Setup,
    environment::variable_of_agent,
    process::{Process, Program, open_in_time},
    running::left_of,
    transcript::Shelved,
};
use connection::Dialogue;
use everkept_agent::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Left, Open, Opened, Transcripts};
use everkept_core::TurnId;
use opening::{Opening, Start};
use std::sync::Arc;
use transcript::Projects;

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

pub struct ClaudeAgent {
    program: Arc<Program>,
    setup: Arc<Setup>,
    shelved: Option<Arc<Shelved<Projects>>>,
}

impl ClaudeAgent {
    /// The program's command is what is called without arguments of ours, `claude` in most places.
    pub fn new(mut program: Program, setup: Setup) -> Self {
        // What a turn said is in its file by the turn's end.
        program.env.entry("CLAUDE_CODE_EAGER_FLUSH".into()).or_insert_with(|| "1".into());
        let shelf = Projects::of(|name| variable_of_agent(name, &program.env));
        let shelved = shelf.map(|shelf| Arc::new(Shelved::new(&program.name, shelf)));
        Self { program: Arc::new(program), setup: Arc::new(setup), shelved }
    }
}

impl Agent for ClaudeAgent {
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
    let opened = start_on(program, setup, Start::of(&open, &program.name)?, &open).await;
    match opened {
        // The agent writes a session down with its first prompt, so one that was let go of before that is nowhere.
        Err(fault) if fault.kind == AgentFaultKind::UnknownSession => match Start::unwritten(&open) {
            Some(start) => start_on(program, setup, start, &open).await,
            None => Err(fault),
        },
        opened => opened,
    }
}

async fn start_on(program: &Program, setup: &Setup, start: Start, open: &Open) -> Result<Opened, AgentFault> {
    let mut program = program.clone();
    program.command.extend(start.args(open.model.as_ref()));
    program.command.extend(opening::setup_args(setup));
    let process = Process::start(&program, &open.directory)?;
    Opening::new(process, &program.name).open(start, setup, open.model.is_some()).await
}
