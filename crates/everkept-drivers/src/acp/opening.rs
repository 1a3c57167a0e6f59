//! From a started process to an open agent session: initialize, then new, resume, load or fork, then the model.
//!
//! Never: a second way to a session when the first was refused.

use super::{
    RPC,
    connection::Dialogue,
    convert::{self, Accepts},
};
use crate::{
    McpServer,
    calls::{Calls, Refused},
    json::{Object, Value},
    process::Process,
    rpc::RpcError,
    running::{self, Ends},
};
use everkept_agent::{Abilities, AgentFault, AgentFaultKind, Open, OpenSession, Opened};
use everkept_core::{AgentSessionId, ModelName};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Owned, json, value::RawValue};
use std::{collections::BTreeMap, path::Path};

const PROTOCOL_VERSION: u64 = 1;

pub struct Opening<'a> {
    calls: Calls<'a>,
}

/// What an agent says of itself.
struct Introduced {
    accepts: Accepts,
    resume: bool,
    load: bool,
    fork: bool,
    /// Whether it reaches servers itself; those it starts every agent can have.
    http_servers: bool,
}

/// How the model of a session is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelSetting {
    /// The config option with the category "model".
    Option {
        config: String,
    },
    /// Before there were config options.
    Method,
    Nothing,
}

impl<'a> Opening<'a> {
    pub fn new(process: Process, name: &'a str) -> Self {
        Self { calls: Calls::new(process, name, RPC, refuse) }
    }

    pub async fn open(
        mut self,
        open: Open,
        servers: &BTreeMap<String, McpServer>,
        learn: impl Fn(Abilities),
    ) -> Result<Opened, AgentFault> {
        let introduced = self.initialize().await?;
        learn(introduced.abilities(true));
        let servers = self.servers(servers, &introduced)?;
        let (session, setting) = self.open_session(&open.session, &open.directory, servers, &introduced).await?;
        let abilities = introduced.abilities(setting != ModelSetting::Nothing);
        learn(abilities);
        let model_set = match &open.model {
            Some(model) => Some(self.set_model(&session, &setting, model).await?),
            None => None,
        };
        let fresh = open.session == OpenSession::New;
        let (process, last_id, said) = self.calls.end();
        let ends = Ends::new(process, said);
        let connection = running::begin(Dialogue::new(ends, session.clone(), setting, introduced.accepts, last_id, fresh));
        Ok(Opened { agent_session: session, abilities, model_set, connection })
    }

    async fn initialize(&mut self) -> Result<Introduced, AgentFault> {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "clientCapabilities": { "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false },
            "clientInfo": { "name": "everkept", "title": "Everkept", "version": env!("CARGO_PKG_VERSION") },
        });
        let answer = self.calls.call("initialize", params).await.map_err(|refused| self.calls.refused("initializing", refused))?;
        answer.read(|result| {
            let version = result.get("protocolVersion").and_then(Value::number);
            if version != Some(PROTOCOL_VERSION) {
                let spoken = version.map_or("no version at all".to_owned(), |version| format!("version {version}"));
                return Err(self.calls.fault(AgentFaultKind::Protocol, "initializing", format!("speaks {spoken} of the protocol, not 1")));
            }
            Ok(Introduced::read(&result.object("agentCapabilities")))
        })
    }

    fn servers(&self, servers: &BTreeMap<String, McpServer>, introduced: &Introduced) -> Result<Vec<Owned>, AgentFault> {
        let told = servers.iter().map(|(name, server)| match server {
            McpServer::Http { .. } if !introduced.http_servers => {
                let message = format!("the agent says that it reaches no MCP server over HTTP, and {name} is one");
                Err(self.calls.fault(AgentFaultKind::Refused, "opening a session", message))
            }
            server => Ok(self::server(name, server)),
        });
        told.collect()
    }

    async fn open_session(
        &mut self,
        session: &OpenSession,
        directory: &Path,
        servers: Vec<Owned>,
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
        let mut params = json!({ "cwd": directory, "mcpServers": servers });
        if let Some(id) = asked {
            params["sessionId"] = json!(id);
        }
        let answer = match self.calls.call(method, params).await {
            Ok(answer) => answer,
            Err(Refused::Error(error)) if asked.is_some() && means_unknown(&error) => {
                return Err(self.calls.fault(AgentFaultKind::UnknownSession, method, error.message));
            }
            Err(refused) => return Err(self.calls.refused(method, refused)),
        };
        answer.read(|result| Ok((self.calls.session_id(session, method, result.text("sessionId"))?, ModelSetting::read(result))))
    }

    async fn set_model(&mut self, session: &AgentSessionId, setting: &ModelSetting, model: &ModelName) -> Result<bool, AgentFault> {
        let Some((method, params)) = setting.request(session, model) else { return Ok(false) };
        match self.calls.call(method, params).await {
            Ok(_) => Ok(true),
            Err(Refused::Error(_)) => Ok(false),
            Err(refused) => Err(self.calls.refused(method, refused)),
        }
    }

    fn unable(&self, doing: &str) -> AgentFault {
        self.calls.fault(AgentFaultKind::Refused, doing, "the agent says that it cannot".into())
    }
}

fn server(name: &str, server: &McpServer) -> Owned {
    let pairs =
        |pairs: &BTreeMap<String, String>| pairs.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Owned>();
    match server {
        McpServer::Process { command, args, env } => json!({ "name": name, "command": command, "args": args, "env": pairs(env) }),
        McpServer::Http { url, headers } => json!({ "type": "http", "name": name, "url": url, "headers": pairs(headers) }),
    }
}

/// No turn runs, so nobody may be asked.
fn refuse(id: &RawValue, method: &str) -> Vec<u8> {
    match method {
        "session/request_permission" => RPC.result(id, convert::outcome(None)),
        _ => RPC.method_not_found(id, method),
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
            http_servers: capabilities.object("mcpCapabilities").get("http").is_some_and(Value::flag),
        }
    }

    fn abilities(&self, set_model: bool) -> Abilities {
        let resume = self.resume || self.load;
        Abilities {
            resume,
            fork: self.fork,
            cancel: true,
            ask_permission: true,
            set_model,
            report_usage: true,
            remember: true,
            transcript: false,
        }
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
