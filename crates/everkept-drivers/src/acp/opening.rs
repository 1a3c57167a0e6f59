//! From a started process to an open agent session: initialize, then new, resume, load or fork, then the model.
//!
//! One request at a time; whatever else is said meanwhile, a replay above all, is kept as bytes and is nothing of a turn.
//! Never: a second way to a session when the first was refused.

use super::{
    connection::Running,
    convert::{self, Accepts},
    wire,
};
use crate::{
    json::{self, Object, Value},
    process::{Heard, MAX_LINE_BYTES, Process},
    rpc::{Incoming, RequestId, RpcError},
};
use bytes::{Bytes, BytesMut};
use everkept_agent::{Abilities, AgentFault, AgentFaultKind, Connection, ORDER_QUEUE, OUTPUT_QUEUE, Open, OpenSession, Opened, Output};
use everkept_core::{AgentSessionId, ModelName};
use serde_json::{Value as Owned, json};
use std::path::Path;
use tokio::sync::mpsc;

const PROTOCOL_VERSION: u64 = 1;
/// Of a replay, what is kept; it is a copy of what was kept when it was said.
const MAX_REPLAY_BYTES: usize = 64 * 1024 * 1024;

pub struct Opening<'a> {
    process: Process,
    name: &'a str,
    last_id: RequestId,
    /// All that was said so far.
    said: BytesMut,
}

/// What an agent says of itself.
struct Introduced {
    accepts: Accepts,
    resume: bool,
    load: bool,
    fork: bool,
}

/// How the model of a session is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSetting {
    /// The config option with the category "model".
    Option {
        config: String,
    },
    /// Before there were config options.
    Method,
    Nothing,
}

/// The answer's own line, and where in it to read.
struct Answer(Bytes);

enum Refused {
    Fault(AgentFault),
    Error(RpcError),
}

impl<'a> Opening<'a> {
    pub fn new(process: Process, name: &'a str) -> Self {
        Self { process, name, last_id: 0, said: BytesMut::new() }
    }

    pub async fn open(mut self, open: Open, learn: impl Fn(Abilities)) -> Result<Opened, AgentFault> {
        let introduced = self.initialize().await?;
        learn(introduced.abilities(true));
        let (session, setting) = self.open_session(&open.session, &open.directory, &introduced).await?;
        let abilities = introduced.abilities(setting != ModelSetting::Nothing);
        learn(abilities);
        let model_set = match &open.model {
            Some(model) => Some(self.set_model(&session, &setting, model).await?),
            None => None,
        };
        let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
        let (output_out, output) = mpsc::channel(OUTPUT_QUEUE);
        let fresh = open.session == OpenSession::New;
        let said = Output::Said { raw: self.said.freeze(), said: Vec::new() };
        let running = Running::new(self.process, session.clone(), setting, introduced.accepts, self.last_id, fresh, said);
        tokio::spawn(running.run(orders_in, output_out));
        Ok(Opened { agent_session: session, abilities, model_set, connection: Connection { orders, output } })
    }

    async fn initialize(&mut self) -> Result<Introduced, AgentFault> {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "clientCapabilities": { "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false },
            "clientInfo": { "name": "everkept", "title": "Everkept", "version": env!("CARGO_PKG_VERSION") },
        });
        let answer = self.call("initialize", params).await.map_err(|refused| self.refused("initializing", refused))?;
        answer.read(|result| {
            let version = result.get("protocolVersion").and_then(Value::number);
            if version != Some(PROTOCOL_VERSION) {
                let spoken = version.map_or("no version at all".to_owned(), |version| format!("version {version}"));
                return Err(self.fault(AgentFaultKind::Protocol, "initializing", format!("speaks {spoken} of the protocol, not 1")));
            }
            Ok(Introduced::read(&result.object("agentCapabilities")))
        })
    }

    async fn open_session(
        &mut self,
        session: &OpenSession,
        directory: &Path,
        introduced: &Introduced,
    ) -> Result<(AgentSessionId, ModelSetting), AgentFault> {
        let (method, asked) = match session {
            OpenSession::New => ("session/new", None),
            OpenSession::Resume(id) if introduced.resume => ("session/resume", Some(id)),
            OpenSession::Resume(id) if introduced.load => ("session/load", Some(id)),
            OpenSession::Fork(id) if introduced.fork => ("session/fork", Some(id)),
            OpenSession::Resume(_) => return Err(self.unable("resuming a session")),
            OpenSession::Fork(_) => return Err(self.unable("forking a session")),
        };
        let mut params = json!({ "cwd": directory, "mcpServers": [] });
        if let Some(id) = asked {
            params["sessionId"] = json!(id);
        }
        let answer = match self.call(method, params).await {
            Ok(answer) => answer,
            Err(Refused::Error(error)) if asked.is_some() && means_unknown(&error) => {
                return Err(self.fault(AgentFaultKind::UnknownSession, method, error.message));
            }
            Err(refused) => return Err(self.refused(method, refused)),
        };
        answer.read(|result| Ok((self.session_id(session, method, result)?, ModelSetting::read(result))))
    }

    /// The id that was asked for, or the one the agent gave a new session.
    fn session_id(&self, session: &OpenSession, method: &str, result: &Object<'_>) -> Result<AgentSessionId, AgentFault> {
        let given = result.text("sessionId").map(AgentSessionId::new).transpose();
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

    async fn set_model(&mut self, session: &AgentSessionId, setting: &ModelSetting, model: &ModelName) -> Result<bool, AgentFault> {
        let Some((method, params)) = setting.request(session, model) else { return Ok(false) };
        match self.call(method, params).await {
            Ok(_) => Ok(true),
            Err(Refused::Error(_)) => Ok(false),
            Err(refused) => Err(self.refused(method, refused)),
        }
    }

    async fn call(&mut self, method: &str, params: Owned) -> Result<Answer, Refused> {
        self.last_id += 1;
        self.process.post(&wire::request(self.last_id, method, params));
        loop {
            let line = match self.process.hear(true).await {
                Heard::Line(line) => line,
                Heard::End => return Err(Refused::Fault(self.process.fault(self.doing(method), false).await)),
                Heard::LineTooLong => {
                    let message = format!("a line of more than {MAX_LINE_BYTES} bytes");
                    return Err(Refused::Fault(self.fault(AgentFaultKind::Protocol, method, message)));
                }
            };
            if self.said.len() + line.len() <= MAX_REPLAY_BYTES {
                self.said.extend_from_slice(&line);
            }
            let text = json::text(&line);
            match Incoming::read(&text) {
                Incoming::Answer { id, answer } if id == self.last_id => {
                    return answer.map(|result| Answer(Bytes::copy_from_slice(result.0.get().as_bytes()))).map_err(Refused::Error);
                }
                // No turn runs, so nobody may be asked.
                Incoming::Request { id, method, .. } if method == "session/request_permission" => {
                    self.process.post(&wire::result(id, convert::outcome(None)));
                }
                Incoming::Request { id, method, .. } => self.process.post(&wire::method_not_found(id, &method)),
                Incoming::Answer { .. } | Incoming::Notification { .. } | Incoming::Stray(_) | Incoming::Noise(_) => {}
            }
        }
    }

    fn unable(&self, doing: &str) -> AgentFault {
        self.fault(AgentFaultKind::Refused, doing, "the agent says that it cannot".into())
    }

    fn refused(&self, doing: &str, refused: Refused) -> AgentFault {
        match refused {
            Refused::Fault(fault) => fault,
            Refused::Error(error) => self.fault(AgentFaultKind::Refused, doing, format!("{} ({})", error.message, error.code)),
        }
    }

    fn fault(&self, kind: AgentFaultKind, doing: &str, message: String) -> AgentFault {
        AgentFault { kind, doing: self.doing(doing), message, retryable: false, may_have_happened: false }
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} with {}", self.name)
    }
}

/// The codes that agents are seen to use for a session they do not have.
fn means_unknown(error: &RpcError) -> bool {
    matches!(error.code.as_str(), "-32002" | "-32602" | "-32603")
}

impl Introduced {
    fn read(capabilities: &Object<'_>) -> Self {
        let session = capabilities.object("sessionCapabilities");
        Self {
            accepts: Accepts::from(&capabilities.object("promptCapabilities")),
            resume: session.get("resume").is_some(),
            load: capabilities.get("loadSession").is_some_and(Value::flag),
            fork: session.get("fork").is_some(),
        }
    }

    fn abilities(&self, set_model: bool) -> Abilities {
        let resume = self.resume || self.load;
        Abilities { resume, fork: self.fork, cancel: true, ask_permission: true, set_model, report_usage: true, remember: true }
    }
}

impl ModelSetting {
    /// From the answer that opened the session.
    fn read(result: &Object<'_>) -> Self {
        let options = result.list("configOptions").into_iter().map(Value::object);
        let mut models = options.filter(|option| option.text("category").as_deref() == Some("model"));
        match models.find_map(|option| option.text("id")) {
            Some(config) => Self::Option { config },
            None if result.get("models").is_some() => Self::Method,
            None => Self::Nothing,
        }
    }

    pub fn request(&self, session: &AgentSessionId, model: &ModelName) -> Option<(&'static str, Owned)> {
        match self {
            Self::Option { config } => {
                Some(("session/set_config_option", json!({ "sessionId": session, "configId": config, "value": model })))
            }
            Self::Method => Some(("session/set_model", json!({ "sessionId": session, "modelId": model }))),
            Self::Nothing => None,
        }
    }
}

impl Answer {
    fn read<T>(&self, read: impl FnOnce(&Object<'_>) -> T) -> T {
        let raw = serde_json::from_slice(&self.0).expect("it was cut out of JSON");
        read(&Value(raw).object())
    }
}
