//! Requests of ours that open an agent session, one at a time.
//!
//! Whatever else is said meanwhile, a replay above all, is kept as bytes and is nothing of a turn.
//! Never: a question to a person; no turn runs, so nobody may be asked.

use crate::{
    json::{self, Object, Value},
    process::{Heard, MAX_LINE_BYTES, Process},
    rpc::{Incoming, RequestId, RpcError, Writer},
};
use bytes::{Bytes, BytesMut};
use everkept_agent::{AgentFault, AgentFaultKind, OpenSession};
use everkept_core::AgentSessionId;
use serde_json::{Value as Owned, value::RawValue};

/// Of what is said meanwhile, what is kept; a replay is a copy of what was kept when it was said.
pub const MAX_SAID_BYTES: usize = 64 * 1024 * 1024;

pub struct Calls<'a> {
    process: Process,
    name: &'a str,
    rpc: Writer,
    /// Says no to what the agent asks for.
    refuse: fn(&RawValue, &str) -> Vec<u8>,
    last_id: RequestId,
    /// All that was said so far.
    said: BytesMut,
}

/// The answer's own line, and where in it to read.
pub struct Answer(Bytes);

pub enum Refused {
    Fault(AgentFault),
    Error(RpcError),
}

impl<'a> Calls<'a> {
    pub fn new(process: Process, name: &'a str, rpc: Writer, refuse: fn(&RawValue, &str) -> Vec<u8>) -> Self {
        Self { process, name, rpc, refuse, last_id: 0, said: BytesMut::new() }
    }

    /// The process, the last id that was used, and all that was said.
    pub fn end(self) -> (Process, RequestId, Bytes) {
        (self.process, self.last_id, self.said.freeze())
    }

    pub fn notify(&mut self, method: &str, params: Owned) {
        self.process.post(&self.rpc.notification(method, params));
    }

    pub async fn call(&mut self, method: &str, params: Owned) -> Result<Answer, Refused> {
        self.last_id += 1;
        self.process.post(&self.rpc.request(self.last_id, method, params));
        loop {
            let line = match self.process.hear(true).await {
                Heard::Line(line) => line,
                Heard::End => return Err(Refused::Fault(self.process.fault(self.doing(method), false).await)),
                Heard::LineTooLong => {
                    let message = format!("a line of more than {MAX_LINE_BYTES} bytes");
                    return Err(Refused::Fault(self.fault(AgentFaultKind::Protocol, method, message)));
                }
            };
            if self.said.len() + line.len() <= MAX_SAID_BYTES {
                self.said.extend_from_slice(&line);
            }
            let text = json::text(&line);
            match Incoming::read(&text) {
                Incoming::Answer { id, answer } if id == self.last_id => {
                    return answer.map(|result| Answer(Bytes::copy_from_slice(result.0.get().as_bytes()))).map_err(Refused::Error);
                }
                Incoming::Request { id, method, .. } => self.process.post(&(self.refuse)(id, &method)),
                Incoming::Answer { .. } | Incoming::Notification { .. } | Incoming::Stray(_) | Incoming::Noise(_) => {}
            }
        }
    }

    /// The id that was asked for, or the one the agent gave a new session.
    pub fn session_id(&self, session: &OpenSession, method: &str, given: Option<String>) -> Result<AgentSessionId, AgentFault> {
        let given = given.map(AgentSessionId::new).transpose();
        let given = given.map_err(|refusal| self.fault(AgentFaultKind::Protocol, method, refusal.to_string()))?;
        match (session, given) {
            (OpenSession::New | OpenSession::Fork(_), None) => {
                Err(self.fault(AgentFaultKind::Protocol, method, "the agent named no session id".into()))
            }
            (OpenSession::New, Some(given)) => Ok(given),
            (OpenSession::Fork(parent), Some(given)) if given != *parent => Ok(given),
            (OpenSession::Fork(_), Some(_)) => {
                Err(self.fault(AgentFaultKind::Protocol, method, "the fork has its parent's session id".into()))
            }
            (OpenSession::Resume(asked), None) => Ok(asked.clone()),
            (OpenSession::Resume(asked), Some(given)) if given == *asked => Ok(given),
            (OpenSession::Resume(_), Some(given)) => {
                Err(self.fault(AgentFaultKind::UnknownSession, method, format!("the agent opened {given} instead")))
            }
        }
    }

    pub fn refused(&self, doing: &str, refused: Refused) -> AgentFault {
        match refused {
            Refused::Fault(fault) => fault,
            Refused::Error(error) => self.fault(AgentFaultKind::Refused, doing, format!("{} ({})", error.message, error.code)),
        }
    }

    pub fn fault(&self, kind: AgentFaultKind, doing: &str, message: String) -> AgentFault {
        AgentFault { kind, doing: self.doing(doing), message, retryable: false, may_have_happened: false }
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} with {}", self.name)
    }
}

impl Answer {
    pub fn read<T>(&self, read: impl FnOnce(&Object<'_>) -> T) -> T {
        let raw = serde_json::from_slice(&self.0).expect("it was cut out of JSON");
        read(&Value(raw).object())
    }
}
