//! Any agent that speaks the Agent Client Protocol, version 1, over its standard input and output.
//!
//! <https://agentclientprotocol.com>. The wire types are our own and tolerant: what an agent must have said right is
//! little, and the bytes of every line are handed over as they came. One process serves one agent session, which is
//! closed by the end of it.
//! Never: a new agent session where another was asked for, or a served request that reaches into this machine.

mod connection;
mod convert;
mod opening;

use crate::{
    McpServer,
    process::{Process, Program, open_in_time},
    rpc::Writer,
    running::left_of,
};
use connection::Dialogue;
use everkept_agent::{Abilities, Agent, AgentFault, BoxFuture, Left, Open, Opened};
use everkept_core::TurnId;
use opening::Opening;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

const RPC: Writer = Writer::VERSION_2;

pub struct AcpAgent {
    program: Arc<Program>,
    servers: Arc<BTreeMap<String, McpServer>>,
    /// What its sessions work in; the agent's own choice where none is named.
    mode: Option<Arc<str>>,
    /// What it said when it last ran; hopeful before that, because only an agent that can is asked to.
    abilities: Arc<Mutex<Abilities>>,
}

impl AcpAgent {
    /// The protocol has words for servers and for nothing else that an agent could be set up with.
    pub fn new(program: Program, servers: BTreeMap<String, McpServer>) -> Self {
        let hoped = Abilities {
            resume: true,
            fork: true,
            cancel: true,
            ask_permission: true,
            set_model: true,
            report_usage: true,
            remember: true,
            transcript: false,
        };
        Self { program: Arc::new(program), servers: Arc::new(servers), mode: None, abilities: Arc::new(Mutex::new(hoped)) }
    }

    /// Every session is put into this mode before its first prompt, or is not opened.
    pub fn in_mode(self, mode: Option<String>) -> Self {
        Self { mode: mode.map(Arc::from), ..self }
    }
}

impl Agent for AcpAgent {
    fn abilities(&self) -> Abilities {
        *self.abilities.lock().expect("nothing panics while it holds the abilities")
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (program, servers, mode, abilities) = (self.program.clone(), self.servers.clone(), self.mode.clone(), self.abilities.clone());
        Box::pin(async move {
            let learn = |learned| *abilities.lock().expect("nothing panics while it holds the abilities") = learned;
            open_in_time(&program, start(&program, &servers, mode.as_deref(), open, learn)).await
        })
    }

    fn left_of(&self, turn: TurnId) -> BoxFuture<Left> {
        Box::pin(left_of::<Dialogue>(self.program.clone(), turn))
    }
}

async fn start(
    program: &Program,
    servers: &BTreeMap<String, McpServer>,
    mode: Option<&str>,
    open: Open,
    learn: impl Fn(Abilities),
) -> Result<Opened, AgentFault> {
    let process = Process::start(program, &open.directory)?;
    Opening::new(process, &program.name).open(open, servers, mode, learn).await
}
