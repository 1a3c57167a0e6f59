//! From a command line to an open agent session: the agent starts on the right session, and says that it did.
//!
//! It says nothing by itself, so it is asked to initialize; a session it does not have shows there, before any prompt.
//! Never: a second way to a session when the first was refused.

use super::{
    ABILITIES,
    connection::Dialogue,
    convert,
    wire::{self, Incoming},
};
use crate::{
    json,
    process::{Heard, MAX_LINE_BYTES, Process},
    running::{self, Ends},
};
use bytes::BytesMut;
use everkept_agent::{AgentFault, AgentFaultKind, Open, OpenSession, Opened};
use everkept_core::{AgentSessionId, ModelName};
use serde_json::json;
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
const INITIALIZE: &str = "initialize";

/// The session to start on, with the id it will have.
pub struct Start {
    session: AgentSessionId,
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
        let begin = || AgentSessionId::new(Uuid::now_v7().to_string()).expect("a UUID is a good id");
        match &open.session {
            OpenSession::New => Ok(Self { session: begin() }),
            OpenSession::Resume(id) | OpenSession::Fork(id) if Uuid::try_parse(id.as_str()).is_err() => {
                Err(fault(AgentFaultKind::UnknownSession, name, format!("{id} is no id of a session")))
            }
            OpenSession::Resume(id) => Ok(Self { session: id.clone() }),
            OpenSession::Fork(_) => Ok(Self { session: begin() }),
        }
    }

    /// Joined to their values, so that no id or model is ever read as an argument of its own.
    pub fn args(&self, open: &Open) -> Vec<String> {
        let mut args: Vec<String> = ARGS.iter().map(|arg| (*arg).to_owned()).collect();
        match &open.session {
            OpenSession::New => args.push(format!("--session-id={}", self.session)),
            OpenSession::Resume(id) => args.push(format!("--resume={id}")),
            OpenSession::Fork(id) => {
                args.extend([format!("--resume={id}"), "--fork-session".into(), format!("--session-id={}", self.session)]);
            }
        }
        args.extend(open.model.as_ref().map(|model| format!("--model={}", own_name(model))));
        args
    }
}

/// The agent's own name of a model, which has no provider before it.
pub fn own_name(model: &ModelName) -> &str {
    model.as_str().strip_prefix("anthropic/").unwrap_or(model.as_str())
}

impl<'a> Opening<'a> {
    pub fn new(process: Process, name: &'a str) -> Self {
        Self { process, name, said: BytesMut::new() }
    }

    pub async fn open(mut self, open: Open, start: Start) -> Result<Opened, AgentFault> {
        self.initialize().await?;
        let ends = Ends::new(self.process, self.said.freeze());
        let dialogue = Dialogue::new(ends, start.session.clone(), open.session == OpenSession::New);
        Ok(Opened {
            agent_session: start.session,
            abilities: ABILITIES,
            // It was started with it; whether there is such a model shows when it is used.
            model_set: open.model.map(|_| true),
            connection: running::begin(dialogue),
        })
    }

    async fn initialize(&mut self) -> Result<(), AgentFault> {
        self.process.post(&wire::request(INITIALIZE, json!({ "subtype": "initialize" })));
        loop {
            let line = match self.process.hear(true).await {
                Heard::Line(line) => line,
                Heard::End => return Err(self.process.fault(doing(self.name), false).await),
                Heard::LineTooLong => {
                    return Err(fault(AgentFaultKind::Protocol, self.name, format!("a line of more than {MAX_LINE_BYTES} bytes")));
                }
            };
            self.said.extend_from_slice(&line);
            match Incoming::read(&json::text(&line)) {
                Incoming::Answer { id, answer: Ok(()) } if id == INITIALIZE => return Ok(()),
                Incoming::Answer { id, answer: Err(message) } if id == INITIALIZE => {
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
