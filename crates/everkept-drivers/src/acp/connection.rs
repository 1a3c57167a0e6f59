//! An open agent session in the protocol's words: orders become requests, what the agent says is told.
//!
//! Never: a question that outlives its prompt, or two ends of one prompt.

use super::{
    RPC,
    convert::{self, Accepts, Health},
    opening::ModelSetting,
};
use crate::{
    json::{self, Object, Value},
    rpc::{Incoming, RequestId, RpcError},
    running::{Conversation, Ends},
};
use bytes::Bytes;
use everkept_agent::{Done, Order, Output, Prompt};
use everkept_core::{AgentRaw, AgentSessionId, Json, ModelName, Said, TurnId, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

/// What some agents answer a cancelled prompt with.
const REQUEST_CANCELLED: &str = "-32800";

/// Why a prompt failed that an agent ended like any other.
const SYSTEM_ERROR: &str = "system_error";

pub struct Dialogue {
    ends: Ends,
    session: AgentSessionId,
    model: ModelSetting,
    accepts: Accepts,
    last_id: RequestId,
    prompt: Option<RunningPrompt>,
    setting_model: BTreeMap<RequestId, oneshot::Sender<bool>>,
    /// What the agent session cost before the running prompt; none where the agent has not said.
    cost_before: Option<u64>,
    /// What it cost when the agent last said.
    cost: Option<u64>,
}

struct RunningPrompt {
    id: RequestId,
    turn: TurnId,
    cancelled: bool,
    /// The agent's ids of the questions it waits on, as JSON.
    asked: BTreeSet<String>,
    usage: Usage,
    /// The agent said that it failed, and in these words.
    failed: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub struct Standing {
    session: AgentSessionId,
    model: ModelSetting,
    accepts: Accepts,
    last_id: RequestId,
    cost: Option<u64>,
}

impl Conversation for Dialogue {
    const DRIVER: &'static str = "acp";
    type Standing = Standing;

    fn standing(&self) -> Standing {
        let (session, model) = (self.session.clone(), self.model.clone());
        Standing { session, model, accepts: self.accepts, last_id: self.last_id, cost: self.cost }
    }

    fn stand(ends: Ends, standing: Standing) -> Self {
        let Standing { session, model, accepts, last_id, cost } = standing;
        let dialogue = Self::new(ends, session, model, accepts, last_id, false);
        Self { cost, ..dialogue }
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    fn session(&self) -> &AgentSessionId {
        &self.session
    }

    fn is_prompted(&self) -> bool {
        self.prompt.is_some()
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Prompt(prompt) => self.begin(&prompt),
            Order::Cancel => self.cancel(),
            Order::Answer { request, option } => self.answer(&request, option.as_deref()),
            Order::SetModel { model, done } => self.set_model(&model, done),
            Order::Hold(_) => {}
        }
    }

    fn hear(&mut self, line: Bytes) {
        let text = json::text(&line);
        let said = match Incoming::read(&text) {
            Incoming::Answer { id, answer } if self.prompt.as_ref().is_some_and(|prompt| prompt.id == id) => {
                return self.end(answer, line.clone());
            }
            Incoming::Answer { id, answer } => match self.setting_model.remove(&id) {
                Some(done) => {
                    _ = done.send(answer.is_ok());
                    Vec::new()
                }
                None => vec![whole(&text)],
            },
            Incoming::Request { id, method, params } => self.asked(id, &method, &params, &text),
            Incoming::Notification { method, params } => self.told(&method, &params, &text),
            Incoming::Stray(json) => vec![convert::raw(json)],
            Incoming::Noise(text) if text.is_empty() => Vec::new(),
            Incoming::Noise(text) => vec![Said::Raw(AgentRaw::Text(text))],
        };
        // Between prompts, what is said belongs to no turn: late replays, lists of commands.
        let said = if self.prompt.is_some() { said } else { Vec::new() };
        self.ends.tell(Output::Said { raw: line, said });
    }
}

impl Dialogue {
    /// `fresh` is a session that has cost nothing yet.
    pub fn new(ends: Ends, session: AgentSessionId, model: ModelSetting, accepts: Accepts, last_id: RequestId, fresh: bool) -> Self {
        Self {
            ends,
            session,
            model,
            accepts,
            last_id,
            prompt: None,
            setting_model: BTreeMap::new(),
            cost_before: None,
            cost: fresh.then_some(0),
        }
    }

    // Orders.

    fn begin(&mut self, prompt: &Prompt) {
        let params = json!({ "sessionId": self.session, "prompt": convert::blocks(prompt, self.accepts) });
        let id = self.request("session/prompt", params);
        self.cost_before = self.cost;
        let (turn, asked) = (prompt.turn, BTreeSet::new());
        self.prompt = Some(RunningPrompt { id, turn, cancelled: false, asked, usage: Usage::default(), failed: None });
    }

    fn cancel(&mut self) {
        let Some(prompt) = self.prompt.as_mut().filter(|prompt| !prompt.cancelled) else { return };
        prompt.cancelled = true;
        let asked = std::mem::take(&mut prompt.asked);
        self.ends.post(&RPC.notification("session/cancel", json!({ "sessionId": self.session })));
        for request in asked {
            self.settle(&request, None);
        }
    }

    /// An answer to what is not asked any more is nobody's.
    fn answer(&mut self, request: &str, option: Option<&str>) {
        if self.prompt.as_mut().is_some_and(|prompt| prompt.asked.remove(request)) {
            self.settle(request, option);
        }
    }

    fn settle(&mut self, request: &str, option: Option<&str>) {
        let id: &RawValue = serde_json::from_str(request).expect("the id was read from JSON");
        self.ends.post(&RPC.result(id, convert::outcome(option)));
    }

    fn set_model(&mut self, model: &ModelName, done: oneshot::Sender<bool>) {
        match self.model.request(&self.session, model) {
            Some((method, params)) => {
                let id = self.request(method, params);
                self.setting_model.insert(id, done);
            }
            None => _ = done.send(false),
        }
    }

    fn request(&mut self, method: &str, params: serde_json::Value) -> RequestId {
        self.last_id += 1;
        self.ends.post(&RPC.request(self.last_id, method, params));
        self.last_id
    }

    // Lines.

    fn asked(&mut self, id: &RawValue, method: &str, params: &Object<'_>, line: &str) -> Vec<Said> {
        if method != "session/request_permission" {
            self.ends.post(&RPC.method_not_found(id, method));
            return vec![whole(line)];
        }
        match &mut self.prompt {
            // Two questions under one name: whose an answer would be, nobody knows. Neither gets a yes.
            Some(prompt) if prompt.asked.contains(id.get()) => {
                prompt.asked.remove(id.get());
                self.settle(id.get(), None);
                vec![Said::Withdrew { request: id.get().to_owned() }, whole(line)]
            }
            Some(prompt) if !prompt.cancelled => {
                prompt.asked.insert(id.get().to_owned());
                vec![Said::Asked(convert::permission(prompt.turn, id.get(), params))]
            }
            Some(_) | None => {
                self.settle(id.get(), None);
                Vec::new()
            }
        }
    }

    fn told(&mut self, method: &str, params: &Object<'_>, line: &str) -> Vec<Said> {
        let ours = params.text("sessionId").as_deref() == Some(self.session.as_str());
        match (method, params.get("update")) {
            ("session/update", Some(update)) if ours => {
                let fields = update.object();
                if self.failed(&fields) {
                    return Vec::new();
                }
                let mut said = convert::update(update);
                said.extend(self.costed(&fields));
                said
            }
            ("$/cancel_request", _) => self.withdrawn(params),
            _ => vec![whole(line)],
        }
    }

    /// Whether the update tells how the prompt failed, and nothing of an answer.
    fn failed(&mut self, update: &Object<'_>) -> bool {
        let Some(prompt) = &mut self.prompt else { return false };
        match convert::health(update) {
            Some(Health::Failed) => prompt.failed = Some(String::new()),
            // It tries again.
            Some(Health::Well) => prompt.failed = None,
            None => {}
        }
        match (&mut prompt.failed, convert::unsigned_text(update)) {
            (Some(words), Some(text)) => {
                words.push_str(&text);
                true
            }
            (Some(_) | None, _) => false,
        }
    }

    fn withdrawn(&mut self, params: &Object<'_>) -> Vec<Said> {
        let request = params.get("requestId").map(|id| id.0.get().to_owned()).unwrap_or_default();
        let asked = self.prompt.as_mut().is_some_and(|prompt| prompt.asked.remove(&request));
        if !asked {
            return Vec::new();
        }
        self.settle(&request, None);
        vec![Said::Withdrew { request }]
    }

    /// An agent tells what its session cost in all; the turn cost what was added. Where the beginning is not known,
    /// because the session is older than this process, the cost is left out rather than guessed.
    fn costed(&mut self, update: &Object<'_>) -> Option<Said> {
        let cost = convert::session_cost(update)?;
        self.cost = Some(cost);
        let prompt = self.prompt.as_mut()?;
        prompt.usage.cost_usd_micros = Some(cost.checked_sub(self.cost_before?)?);
        Some(Said::Usage(prompt.usage.clone()))
    }

    fn end(&mut self, answer: Result<Value<'_>, RpcError>, raw: Bytes) {
        let Some(prompt) = self.prompt.take() else { return };
        // A question cannot outlive its prompt; an agent that still waits on one must not wait for ever.
        for request in &prompt.asked {
            self.settle(request, None);
        }
        let mut said = Vec::new();
        let done = match answer {
            Ok(result) => {
                let result = result.object();
                let usage = Usage { cost_usd_micros: prompt.usage.cost_usd_micros, ..convert::usage(&result) };
                if usage != prompt.usage {
                    said.push(Said::Usage(usage));
                }
                match (convert::done(&result), prompt.failed) {
                    (Done::Completed { .. }, Some(words)) => {
                        Done::Failed { code: SYSTEM_ERROR.to_owned(), message: words.trim().to_owned() }
                    }
                    (done, _) => done,
                }
            }
            Err(error) if prompt.cancelled || error.code == REQUEST_CANCELLED => Done::Cancelled,
            Err(error) => Done::Failed { code: error.code, message: error.message },
        };
        // What is said comes with the bytes it was said in, by which another server knows what is kept of it.
        self.ends.tell(Output::Said { raw, said });
        self.ends.tell(Output::Done { raw: Bytes::new(), done });
    }
}

fn whole(line: &str) -> Said {
    convert::raw(Json::parse(line.to_owned()).expect("it was read as JSON"))
}
