//! The two ways to write a request and to read an answer, behind one face.
//!
//! Never: a byte sent or read here.

use super::{Api, ModelConfig, anthropic, openai, transcript::Told};
use everkept_agent::Done;
use everkept_api::client::Sse;
use everkept_core::{AgentRaw, Json, ModelName, Said};
use serde_json::Value;
use std::sync::Arc;

pub struct Dialect {
    config: Arc<ModelConfig>,
}

/// What one event of a stream comes to.
#[derive(Debug, Default)]
pub struct Read {
    pub said: Vec<Said>,
    /// The answer is complete, or the server gave it up.
    pub done: Option<Done>,
}

/// Reads one answer, event by event.
pub enum Reader {
    OpenAi(openai::Answer),
    Anthropic(anthropic::Answer),
}

impl Dialect {
    pub fn new(config: Arc<ModelConfig>) -> Self {
        Self { config }
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether a file of the type can be given as one.
    pub fn takes(&self) -> fn(&str) -> bool {
        match self.config.api {
            Api::OpenAi => openai::takes,
            Api::Anthropic => anthropic::takes,
        }
    }

    pub fn request(&self, http: &reqwest::Client, model: &ModelName, messages: &[Told]) -> reqwest::RequestBuilder {
        let base = self.config.base_url.trim_end_matches('/');
        let key = self.config.key.as_deref();
        let (request, body) = match self.config.api {
            Api::OpenAi => {
                let request = http.post(format!("{base}/chat/completions"));
                let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
                (request, openai::body(model, self.config.max_tokens, messages))
            }
            Api::Anthropic => {
                let request = http.post(format!("{base}/v1/messages")).header("anthropic-version", anthropic::VERSION);
                let request = key.into_iter().fold(request, |request, key| request.header("x-api-key", key));
                (request, anthropic::body(model, self.config.max_tokens, messages))
            }
        };
        request.header("accept", "text/event-stream").json(&body)
    }

    pub fn reader(&self) -> Reader {
        match self.config.api {
            Api::OpenAi => Reader::OpenAi(openai::Answer::default()),
            Api::Anthropic => Reader::Anthropic(anthropic::Answer::default()),
        }
    }
}

impl Reader {
    pub fn read(&mut self, event: &Sse) -> Read {
        match self {
            Reader::OpenAi(answer) => answer.read(event),
            Reader::Anthropic(answer) => answer.read(event),
        }
    }

    /// The stream is over: how the answer ended, if it did.
    pub fn end(self) -> Option<Done> {
        match self {
            Reader::OpenAi(answer) => answer.end(),
            Reader::Anthropic(_) => None,
        }
    }
}

/// What we have no word for.
pub fn raw(data: &str) -> Said {
    Said::Raw(AgentRaw::Json(Json::parse(data.to_owned()).unwrap_or_else(|_| Json::of(&data))))
}

/// The error in an answer of either API: `{"error": {"type" or "code", "message"}}`.
pub fn failed(body: &Value, otherwise: &str) -> Done {
    let error = &body["error"];
    let text = |key: &str| error[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let code = text("code").or_else(|| text("type")).unwrap_or_else(|| otherwise.to_owned());
    let message = text("message").or_else(|| error.as_str().map(str::to_owned));
    Done::Failed { code, message: message.unwrap_or_else(|| otherwise.to_owned()) }
}
