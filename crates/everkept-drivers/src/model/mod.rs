//! Models behind an HTTP API: OpenAI's chat completions, which many servers speak, and Anthropic's messages.
//!
//! <https://platform.openai.com/docs/api-reference/chat>, <https://docs.anthropic.com/en/api/messages-streaming>. A model keeps
//! nothing of a conversation: each prompt takes all of it along, from the history it comes with and from what was said
//! since. Its agent session is a name that is made once and kept.
//! Never: a tool, a prompt sent a second time, or a stream that was cut off taken for an answer.

mod anthropic;
mod connection;
mod dialect;
mod openai;
mod transcript;

use connection::Talk;
use dialect::Dialect;
use everkept_agent::{
    Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Connection, ORDER_QUEUE, OUTPUT_QUEUE, Open, OpenSession, Opened,
};
use everkept_core::{AgentSessionId, ModelName};
use std::sync::Arc;
use tokio::sync::mpsc;
use transcript::Transcript;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST {base_url}/chat/completions`.
    OpenAi,
    /// `POST {base_url}/v1/messages`.
    Anthropic,
}

impl Api {
    /// The vendor's own server.
    pub fn base_url(self) -> &'static str {
        match self {
            Api::OpenAi => "https://api.openai.com/v1",
            Api::Anthropic => "https://api.anthropic.com",
        }
    }
}

/// Not to be printed: it holds a key.
#[derive(Clone)]
pub struct ModelConfig {
    pub name: String,
    pub api: Api,
    pub base_url: String,
    /// Without one none is sent; many local servers want none.
    pub key: Option<String>,
    /// For turns that name none.
    pub model: Option<ModelName>,
    /// The most an answer may have. Anthropic's API has to be told; OpenAI's is told when it is set.
    pub max_tokens: Option<u32>,
    /// Said before all else.
    pub system_prompt: Option<String>,
}

/// Makes an id that no other agent session has.
pub type NewId = Arc<dyn Fn() -> String + Send + Sync>;

pub struct ModelAgent {
    config: Arc<ModelConfig>,
    http: reqwest::Client,
    new_id: NewId,
}

impl ModelAgent {
    /// `http` says how servers are reached: certificates, and how long to wait.
    pub fn new(config: ModelConfig, http: reqwest::Client, new_id: NewId) -> Self {
        Self { config: Arc::new(config), http, new_id }
    }
}

impl Agent for ModelAgent {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            fork: true,
            cancel: true,
            ask_permission: false,
            set_model: true,
            report_usage: true,
            remember: false,
            transcript: false,
        }
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let opened = self.opened(open);
        Box::pin(async move { opened })
    }
}

impl ModelAgent {
    fn opened(&self, open: Open) -> Result<Opened, AgentFault> {
        let fault = |message: String| AgentFault {
            kind: AgentFaultKind::Refused,
            doing: format!("opening {}", self.config.name),
            message,
            retryable: false,
            may_have_happened: false,
        };
        let agent_session = match open.session {
            OpenSession::Resume(id) => id,
            OpenSession::New | OpenSession::Fork(_) => {
                AgentSessionId::new((self.new_id)()).map_err(|refusal| fault(refusal.to_string()))?
            }
        };
        let model_set = open.model.is_some().then_some(true);
        let Some(model) = open.model.or_else(|| self.config.model.clone()) else {
            return Err(fault("no model is named: set `model` for it in config.toml, or name one with the turn".into()));
        };
        let (orders, taken) = mpsc::channel(ORDER_QUEUE);
        let (said, output) = mpsc::channel(OUTPUT_QUEUE);
        let talk = Talk {
            http: self.http.clone(),
            dialect: Dialect::new(self.config.clone()),
            model,
            transcript: Transcript::begin(self.config.system_prompt.as_deref()),
            orders: taken,
            output: said,
        };
        tokio::spawn(talk.run());
        Ok(Opened { agent_session, abilities: self.abilities(), model_set, connection: Connection { orders, output } })
    }
}
