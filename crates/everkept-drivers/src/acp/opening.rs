//! From a started process to an open agent session: initialize, then new, resume, load or fork, then model and mode.
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

/// Never more than we speak: agents that know a later version answer a higher offer with that.
const PROTOCOL_VERSION: u64 = 1;
/// What the protocol has for a session that is not there.
const NOT_FOUND: &str = "-32002";
/// Of an agent's list of sessions, how many pages are read.
const MAX_PAGES: usize = 100;

pub struct Opening<'a> {
    calls: Calls<'a>,
}

/// What an agent says of itself.
struct Introduced {
    accepts: Accepts,
    resume: bool,
    load: bool,
    fork: bool,
    list: bool,
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

/// How the mode of a session is set.
enum ModeSetting {
    /// The config option with the category "mode".
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
        mode: Option<&str>,
        learn: impl Fn(Abilities),
    ) -> Result<Opened, AgentFault> {
        let introduced = self.initialize().await?;
        learn(introduced.abilities(true));
        let servers = self.servers(servers, &introduced)?;
        let (session, setting, modes) = self.open_session(&open.session, &open.directory, servers, &introduced).await?;
        let abilities = introduced.abilities(setting != ModelSetting::Nothing);
        learn(abilities);
        let model_set = match &open.model {
            Some(model) => Some(self.set_model(&session, &setting, model).await?),
            None => None,
        };
        if let Some(mode) = mode {
            self.set_mode(&session, &modes, mode).await?;
        }
        let fresh = open.session == OpenSession::New;
        let (process, last_id, said) = self.calls.end();
        let ends = Ends::new(process, said);
        let connection = running::begin(Dialogue::new(ends, session.clone(), setting, introduced.accepts, last_id, fresh));
        Ok(Opened { agent_session: session, abilities, model_set, connection })
    }

    async fn initialize(&mut self) -> Result<Introduced, AgentFault> {
        let params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            // Notices are for people; some agents put them into the answer of whoever does not take them apart.
            "clientCapabilities": {
                "fs": { "readTextFile": false, "writeTextFile": false },
                "terminal": false,
                "session": { "notices": {} },
            },
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
    ) -> Result<(AgentSessionId, ModelSetting, ModeSetting), AgentFault> {
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
            Err(Refused::Error(error)) => {
                let unknown = match asked {
                    Some(id) => self.is_unknown(id, &error, directory, introduced).await?,
                    None => false,
                };
                return match unknown {
                    true => Err(self.calls.fault(AgentFaultKind::UnknownSession, method, error.message)),
                    false => Err(self.calls.refused(method, Refused::Error(error))),
                };
            }
            Err(refused) => return Err(self.calls.refused(method, refused)),
        };
        answer.read(|result| {
            let id = self.calls.session_id(session, method, result.text("sessionId"))?;
            Ok((id, ModelSetting::read(result), ModeSetting::read(result)))
        })
    }

    /// Whether an error says that there is no such session. Agents have many codes for it, and use them for other things
    /// as well: one that can list its sessions is asked.
    async fn is_unknown(
        &mut self,
        id: &AgentSessionId,
        error: &RpcError,
        directory: &Path,
        introduced: &Introduced,
    ) -> Result<bool, AgentFault> {
        match error.code.as_str() {
            NOT_FOUND => Ok(true),
            "-32602" | "-32603" if introduced.list => Ok(!self.lists(id, directory).await?),
            "-32602" | "-32603" => Ok(true),
            _ => Ok(false),
        }
    }

    async fn lists(&mut self, id: &AgentSessionId, directory: &Path) -> Result<bool, AgentFault> {
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params = json!({ "cwd": directory });
            if let Some(cursor) = cursor {
                params["cursor"] = json!(cursor);
            }
            let answer = match self.calls.call("session/list", params).await {
                Ok(answer) => answer,
                // It said that it could; what it has is not known.
                Err(Refused::Error(_)) => return Ok(false),
                Err(refused) => return Err(self.calls.refused("session/list", refused)),
            };
            let (found, next) = answer.read(|result| {
                let mut sessions = result.list("sessions").into_iter().map(Value::object);
                let found = sessions.any(|session| session.text("sessionId").as_deref() == Some(id.as_str()));
                (found, result.text("nextCursor"))
            });
            match (found, next) {
                (true, _) => return Ok(true),
                (false, Some(next)) => cursor = Some(next),
                (false, None) => return Ok(false),
            }
        }
        Ok(false)
    }

    async fn set_model(&mut self, session: &AgentSessionId, setting: &ModelSetting, model: &ModelName) -> Result<bool, AgentFault> {
        let Some((method, params)) = setting.request(session, model) else { return Ok(false) };
        match self.calls.call(method, params).await {
            Ok(_) => Ok(true),
            Err(Refused::Error(_)) => Ok(false),
            Err(refused) => Err(self.calls.refused(method, refused)),
        }
    }

    /// An agent that works in another mode than it should may do what it should not.
    async fn set_mode(&mut self, session: &AgentSessionId, setting: &ModeSetting, mode: &str) -> Result<(), AgentFault> {
        let doing = format!("setting mode {mode}");
        let (method, params) = match setting {
            ModeSetting::Option { config } => {
                ("session/set_config_option", json!({ "sessionId": session, "configId": config, "value": mode }))
            }
            ModeSetting::Method => ("session/set_mode", json!({ "sessionId": session, "modeId": mode })),
            ModeSetting::Nothing => return Err(self.unable(&doing)),
        };
        match self.calls.call(method, params).await {
            Ok(_) => Ok(()),
            Err(refused) => Err(self.calls.refused(&doing, refused)),
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

impl Introduced {
    fn read(capabilities: &Object<'_>) -> Self {
        let session = capabilities.object("sessionCapabilities");
        Self {
            accepts: Accepts::from(&capabilities.object("promptCapabilities")),
            resume: session.get("resume").is_some(),
            load: capabilities.get("loadSession").is_some_and(Value::flag),
            fork: session.get("fork").is_some(),
            list: session.get("list").is_some(),
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
        match config_option(result, "model") {
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

impl ModeSetting {
    fn read(result: &Object<'_>) -> Self {
        match config_option(result, "mode") {
            Some(config) => Self::Option { config },
            None if result.get("modes").is_some() => Self::Method,
            None => Self::Nothing,
        }
    }
}

/// The id of the first option of a category.
fn config_option(result: &Object<'_>, category: &str) -> Option<String> {
    let options = result.list("configOptions").into_iter().map(Value::object);
    let mut of_category = options.filter(|option| option.text("category").as_deref() == Some(category));
    of_category.find_map(|option| option.text("id"))
}
