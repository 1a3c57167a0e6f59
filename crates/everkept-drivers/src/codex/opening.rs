//! From a started process to an open thread: initialize, then start, resume or fork.
//!
//! Never: a second way to a thread when the first was refused.

use super::{ABILITIES, RPC, connection::Dialogue, convert};
use crate::{
    McpServer, Setup,
    calls::{Calls, Refused},
    process::Process,
    rpc::RpcError,
    running::{self, Ends},
};
use everkept_agent::{AgentFault, AgentFaultKind, Open, OpenSession, Opened};
use everkept_core::{AgentSessionId, ModelName};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub struct Opening<'a> {
    calls: Calls<'a>,
}

impl<'a> Opening<'a> {
    pub fn new(process: Process, name: &'a str) -> Self {
        Self { calls: Calls::new(process, name, RPC, |id, method| RPC.method_not_found(id, method)) }
    }

    pub async fn open(mut self, open: Open, setup: &Setup) -> Result<Opened, AgentFault> {
        self.initialize().await?;
        let (session, model) = self.open_thread(&open, setup).await?;
        let model_set = open.model.as_ref().map(|asked| model.as_deref() == Some(asked.as_str()));
        // A name that is none of ours is not known.
        let used_model = model.and_then(|model| ModelName::new(model).ok());
        let taken = match &open.session {
            OpenSession::New => {
                self.keep(&session).await?;
                None
            }
            OpenSession::Resume(id) => self.last_taken(id).await?,
            OpenSession::Fork(_) => None,
        };
        let (process, last_id, said) = self.calls.end();
        let connection = running::begin(Dialogue::new(Ends::new(process, said), session.clone(), used_model, taken, last_id));
        Ok(Opened { agent_session: session, abilities: ABILITIES, model_set, connection })
    }

    async fn initialize(&mut self) -> Result<(), AgentFault> {
        let params = json!({ "clientInfo": { "name": "everkept", "title": "Everkept", "version": env!("CARGO_PKG_VERSION") } });
        self.calls.call("initialize", params).await.map_err(|refused| self.calls.refused("initializing", refused))?;
        self.calls.notify("initialized", json!({}));
        Ok(())
    }

    /// The thread, and the model it will use.
    async fn open_thread(&mut self, open: &Open, setup: &Setup) -> Result<(AgentSessionId, Option<String>), AgentFault> {
        let (method, asked) = match &open.session {
            OpenSession::New => ("thread/start", None),
            OpenSession::Resume(id) => ("thread/resume", Some(id)),
            OpenSession::Fork(id) => ("thread/fork", Some(id)),
        };
        let mut params = json!({ "cwd": open.directory });
        if let Some(id) = asked {
            params["threadId"] = json!(id);
            // What was said is kept already, and can be long.
            params["excludeTurns"] = json!(true);
        }
        if let Some(model) = &open.model {
            params["model"] = json!(model);
        }
        if let Some(prompt) = &setup.system_prompt {
            params["developerInstructions"] = json!(prompt);
        }
        if !setup.mcp_servers.is_empty() {
            // Key by key, so that those of its own configuration stay.
            let servers: BTreeMap<_, _> = setup.mcp_servers.iter().map(|(name, it)| (format!("mcp_servers.{name}"), server(it))).collect();
            params["config"] = json!(servers);
        }
        let answer = match self.calls.call(method, params).await {
            Ok(answer) => answer,
            Err(Refused::Error(error)) if asked.is_some() => return Err(self.not_opened(method, error)),
            Err(refused) => return Err(self.calls.refused(method, refused)),
        };
        answer.read(|result| {
            let id = result.object("thread").text("id");
            Ok((self.calls.session_id(&open.session, method, id)?, result.text("model")))
        })
    }

    /// Its codes are all the same, so that only its words tell what it means.
    fn not_opened(&self, method: &str, error: RpcError) -> AgentFault {
        let says = |words: &str| error.message.contains(words);
        if says("no rollout found") || says("invalid session id") || says("thread not found") {
            return self.calls.fault(AgentFaultKind::UnknownSession, method, error.message);
        }
        // Another process has the thread open, and may soon be gone.
        let retryable = says("already has an active writer");
        AgentFault { retryable, ..self.calls.refused(method, Refused::Error(error)) }
    }

    /// Codex writes a new thread down with its first turn; until then nobody could resume it. A name makes it do so at once.
    async fn keep(&mut self, thread: &AgentSessionId) -> Result<(), AgentFault> {
        let method = "thread/name/set";
        let params = json!({ "threadId": thread, "name": "everkept" });
        self.calls.call(method, params).await.map(drop).map_err(|refused| self.calls.refused(method, refused))
    }

    /// Which of our turns the thread took last, should it have been cut off before anybody heard of it.
    async fn last_taken(&mut self, thread: &AgentSessionId) -> Result<Option<String>, AgentFault> {
        let method = "thread/turns/list";
        let params = json!({ "threadId": thread, "limit": 1, "sortDirection": "desc", "itemsView": "full" });
        let answer = self.calls.call(method, params).await.map_err(|refused| self.calls.refused(method, refused))?;
        Ok(answer.read(convert::last_taken))
    }
}

fn server(server: &McpServer) -> Value {
    match server {
        McpServer::Process { command, args, env } => json!({ "command": command, "args": args, "env": env }),
        McpServer::Http { url, headers } => json!({ "url": url, "http_headers": headers }),
    }
}
