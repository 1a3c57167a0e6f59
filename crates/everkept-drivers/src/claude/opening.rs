//! From a command line to an open agent session: the agent starts on the right session, and says that it did.
//!
//! It says nothing by itself, so it is asked to initialize; a session it does not have shows there, before any prompt.
//! Never: a prompt, or a session of another id than it says.

use super::{
    ABILITIES,
    connection::Dialogue,
    convert,
    wire::{self, Incoming},
};
use crate::{
    McpServer, Setup, Subagent,
    calls::MAX_SAID_BYTES,
    json,
    process::{Heard, MAX_LINE_BYTES, Process},
    running::{self, Ends},
};
use bytes::BytesMut;
use everkept_agent::{Abilities, AgentFault, AgentFaultKind, Open, OpenSession, Opened};
use everkept_core::{AgentSessionId, ModelName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

const ARGS: &[&str] = &[
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    // Says when it took a prompt, also one that it will not run.
    "--replay-user-messages",
    "--permission-prompt-tool=stdio",
];
/// Of the UUIDs that are chosen here.
const OUR_VERSION: usize = 7;
const INITIALIZE: &str = "initialize";
const SET_SERVERS: &str = "set-servers";

/// The session to start on.
pub struct Start {
    /// The id it will have.
    session: AgentSessionId,
    from: From,
}

enum From {
    Nothing,
    /// Nothing, although something was said under this id or its parent's.
    Unwritten,
    Itself,
    Fork(AgentSessionId),
}

pub struct Opening<'a> {
    process: Process,
    name: &'a str,
    /// All that was said so far.
    said: BytesMut,
}

impl Start {
    /// Chooses the id of a session that is to begin. What is no id of this agent's is not handed to it: it would look
    /// for a session of that title.
    pub fn of(open: &Open, name: &str) -> Result<Self, AgentFault> {
        match &open.session {
            OpenSession::New => Ok(Self { session: fresh(), from: From::Nothing }),
            OpenSession::Resume(id) | OpenSession::Fork(id) if Uuid::try_parse(id.as_str()).is_err() => {
                Err(fault(AgentFaultKind::UnknownSession, name, format!("{id} is no id of a session")))
            }
            OpenSession::Resume(id) => Ok(Self { session: id.clone(), from: From::Itself }),
            OpenSession::Fork(id) => Ok(Self { session: fresh(), from: From::Fork(id.clone()) }),
        }
    }

    /// For a session that the agent does not have, when its id was chosen here. The agent's own are of another version;
    /// one of those that is gone is not ours to begin.
    pub fn unwritten(open: &Open) -> Option<Self> {
        let (OpenSession::Resume(id) | OpenSession::Fork(id)) = &open.session else { return None };
        let ours = Uuid::try_parse(id.as_str()).is_ok_and(|id| id.get_version_num() == OUR_VERSION);
        let session = if let OpenSession::Fork(_) = &open.session { fresh() } else { id.clone() };
        ours.then_some(Self { session, from: From::Unwritten })
    }

    /// Joined to their values, so that no id or model is ever read as an argument of its own.
    pub fn args(&self, model: Option<&ModelName>) -> Vec<String> {
        let mut args: Vec<String> = ARGS.iter().map(|arg| (*arg).to_owned()).collect();
        let session = format!("--session-id={}", self.session);
        match &self.from {
            From::Nothing | From::Unwritten => args.push(session),
            From::Itself => args.push(format!("--resume={}", self.session)),
            From::Fork(parent) => args.extend([format!("--resume={parent}"), "--fork-session".into(), session]),
        }
        args.extend(model.map(|model| format!("--model={}", own_name(model))));
        args
    }
}

fn fresh() -> AgentSessionId {
    AgentSessionId::new(Uuid::now_v7().to_string()).expect("a UUID is a good id")
}

/// The agent's own name of a model, which has no provider before it.
pub fn own_name(model: &ModelName) -> &str {
    model.as_str().strip_prefix("anthropic/").unwrap_or(model.as_str())
}

/// What it is set up with by its command line. It writes down what a session's first prompt was led by and would use that
/// for ever, whatever it is told later; it is told not to.
pub fn setup_args(setup: &Setup) -> Vec<String> {
    let mut args = Vec::new();
    if let Some(prompt) = &setup.system_prompt {
        args.extend([format!("--append-system-prompt={prompt}"), "--system-prompt-snapshot=off".into()]);
    }
    if !setup.subagents.is_empty() {
        let subagents: BTreeMap<_, _> = setup.subagents.iter().map(|(name, subagent)| (name, described(subagent))).collect();
        args.push(format!("--agents={}", json!(subagents)));
    }
    args.extend(setup.max_turns.map(|most| format!("--max-turns={most}")));
    args
}

fn described(subagent: &Subagent) -> Value {
    let Subagent { description, prompt, tools, model } = subagent;
    let mut described = json!({ "description": description, "prompt": prompt });
    if let Some(tools) = tools {
        described["tools"] = json!(tools);
    }
    if let Some(model) = model {
        described["model"] = json!(model);
    }
    described
}

fn server(server: &McpServer) -> Value {
    match server {
        McpServer::Process { command, args, env } => json!({ "type": "stdio", "command": command, "args": args, "env": env }),
        McpServer::Http { url, headers } => json!({ "type": "http", "url": url, "headers": headers }),
    }
}

impl<'a> Opening<'a> {
    pub fn new(process: Process, name: &'a str) -> Self {
        Self { process, name, said: BytesMut::new() }
    }

    /// `model` is whether one was named.
    pub async fn open(mut self, start: Start, setup: &Setup, model: bool) -> Result<Opened, AgentFault> {
        self.ask(INITIALIZE, json!({ "subtype": "initialize" })).await?;
        if !setup.mcp_servers.is_empty() {
            let servers: BTreeMap<_, _> = setup.mcp_servers.iter().map(|(name, it)| (name, server(it))).collect();
            // Answered once they are there, or are known not to be; the next prompt has their tools.
            self.ask(SET_SERVERS, json!({ "subtype": "mcp_set_servers", "servers": servers })).await?;
        }
        let ends = Ends::new(self.process, self.said.freeze());
        let dialogue = Dialogue::new(ends, start.session.clone(), matches!(start.from, From::Nothing | From::Unwritten));
        Ok(Opened {
            agent_session: start.session,
            abilities: Abilities { remember: !matches!(start.from, From::Unwritten), ..ABILITIES },
            // It was started with it; whether there is such a model shows when it is used.
            model_set: model.then_some(true),
            connection: running::begin(dialogue),
        })
    }

    async fn ask(&mut self, asked: &str, request: Value) -> Result<(), AgentFault> {
        self.process.post(&wire::request(asked, request));
        loop {
            let line = match self.process.hear(true).await {
                Heard::Line(line) => line,
                Heard::End => return Err(self.process.fault(doing(self.name), false).await),
                Heard::LineTooLong => {
                    return Err(fault(AgentFaultKind::Protocol, self.name, format!("a line of more than {MAX_LINE_BYTES} bytes")));
                }
            };
            if self.said.len() + line.len() <= MAX_SAID_BYTES {
                self.said.extend_from_slice(&line);
            }
            match Incoming::read(&json::text(&line)) {
                Incoming::Answer { id, answer: Ok(()) } if id == asked => return Ok(()),
                Incoming::Answer { id, answer: Err(message) } if id == asked => {
                    return Err(fault(AgentFaultKind::Refused, self.name, message));
                }
                // No turn runs, so nobody may be asked.
                Incoming::Request { id, .. } => self.process.post(&wire::not_served(&id)),
                // It ends without having begun.
                Incoming::Result(result) => {
                    let message = convert::failure(&result).1;
                    let unknown = message.starts_with("No conversation found");
                    let kind = if unknown { AgentFaultKind::UnknownSession } else { AgentFaultKind::Refused };
                    return Err(fault(kind, self.name, message));
                }
                Incoming::Answer { .. } | Incoming::Withdrawn { .. } | Incoming::Event { .. } | Incoming::Stray(_) | Incoming::Noise(_) => {
                }
            }
        }
    }
}

fn fault(kind: AgentFaultKind, name: &str, message: String) -> AgentFault {
    AgentFault { kind, doing: doing(name), message, retryable: false, may_have_happened: false }
}

fn doing(name: &str) -> String {
    format!("opening a session of {name}")
}
