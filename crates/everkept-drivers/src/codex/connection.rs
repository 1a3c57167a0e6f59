//! An open thread in Codex's words: orders become requests, what Codex says is told.
//!
//! Codex folds a prompt that comes while a turn runs into that turn and may lose it: there is never more than one.
//! Never: a question that outlives its prompt, or two ends of one prompt.

use super::{
    RPC, convert,
    question::{self, Choices},
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

pub struct Dialogue {
    ends: Ends,
    session: AgentSessionId,
    /// To begin the next turn with; Codex then keeps it for the thread.
    model: Option<ModelName>,
    /// What the thread uses, as far as it is known.
    used_model: Option<ModelName>,
    /// The turn of ours that the thread took last.
    taken: Option<String>,
    last_id: RequestId,
    prompt: Option<RunningPrompt>,
}

struct RunningPrompt {
    /// What began it.
    request: RequestId,
    turn: TurnId,
    /// Codex's own name for the turn, once it said it.
    id: Option<String>,
    cancelled: bool,
    /// The questions it waits on, by Codex's ids as JSON.
    asked: BTreeMap<String, Choices>,
    /// The tool calls that were begun, by their ids: some are asked about by nothing but their id.
    calls: BTreeMap<String, Json>,
    /// The items whose text came in pieces.
    streamed: BTreeSet<String>,
    /// What the thread had used before the prompt.
    used_before: Option<convert::Tokens>,
    /// What it had used when Codex last said.
    used: Option<convert::Tokens>,
}

#[derive(Serialize, Deserialize)]
pub struct Standing {
    session: AgentSessionId,
    model: Option<ModelName>,
    used_model: Option<ModelName>,
    taken: Option<String>,
    last_id: RequestId,
}

impl Conversation for Dialogue {
    const DRIVER: &'static str = "codex";
    type Standing = Standing;

    fn standing(&self) -> Standing {
        Standing {
            session: self.session.clone(),
            model: self.model.clone(),
            used_model: self.used_model.clone(),
            taken: self.taken.clone(),
            last_id: self.last_id,
        }
    }

    fn stand(ends: Ends, standing: Standing) -> Self {
        let Standing { session, model, used_model, taken, last_id } = standing;
        Self { model, ..Self::new(ends, session, used_model, taken, last_id) }
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
            Order::SetModel { model, done } => {
                self.model = Some(model);
                // Any name is taken; whether the provider has it shows when it is used.
                _ = done.send(true);
            }
            Order::Hold(_) => {}
        }
    }

    fn hear(&mut self, line: Bytes) {
        let text = json::text(&line);
        let said = match Incoming::read(&text) {
            Incoming::Answer { id, answer } if self.prompt.as_ref().is_some_and(|prompt| prompt.request == id) => match answer {
                Ok(result) => {
                    self.begun(&result.object().object("turn"));
                    Vec::new()
                }
                Err(error) => return self.refused(error, line.clone()),
            },
            // An interrupt of what had just ended is refused, and that is all there is to say.
            Incoming::Answer { id, .. } if id <= self.last_id => Vec::new(),
            Incoming::Answer { .. } => vec![whole(&text)],
            Incoming::Request { id, method, .. } => self.asked(id, &method, &text),
            Incoming::Notification { method, params } if method == "turn/completed" && self.is_ours(&params) => {
                return self.end(&params.object("turn"), line.clone());
            }
            Incoming::Notification { method, params } => self.told(&method, &params, &text),
            Incoming::Stray(json) => vec![convert::raw(json)],
            Incoming::Noise(text) if text.is_empty() => Vec::new(),
            Incoming::Noise(text) => vec![Said::Raw(AgentRaw::Text(text))],
        };
        // Between prompts, what is said belongs to no turn.
        let said = if self.prompt.is_some() { said } else { Vec::new() };
        self.ends.tell(Output::Said { raw: line, said });
    }
}

impl Dialogue {
    pub fn new(ends: Ends, session: AgentSessionId, used_model: Option<ModelName>, taken: Option<String>, last_id: RequestId) -> Self {
        Self { ends, session, model: None, used_model, taken, last_id, prompt: None }
    }

    // Orders.

    fn begin(&mut self, prompt: &Prompt) {
        let turn = prompt.turn.to_string();
        if self.taken.as_ref() == Some(&turn) {
            let message = format!("agent session {} has taken {turn} already", self.session);
            let done = Done::Failed { code: "already_taken".into(), message };
            return self.ends.tell(Output::Done { raw: Bytes::new(), done });
        }
        let mut params = json!({ "threadId": self.session, "input": convert::input(prompt), "clientUserMessageId": turn });
        if let Some(model) = self.model.take() {
            params["model"] = json!(model);
            self.used_model = Some(model);
        }
        self.taken = Some(turn);
        self.prompt = Some(RunningPrompt {
            request: self.request("turn/start", params),
            turn: prompt.turn,
            id: None,
            cancelled: false,
            asked: BTreeMap::new(),
            calls: BTreeMap::new(),
            streamed: BTreeSet::new(),
            used_before: None,
            used: None,
        });
    }

    fn cancel(&mut self) {
        let Some(prompt) = &mut self.prompt else { return };
        if !std::mem::replace(&mut prompt.cancelled, true) {
            self.interrupt();
        }
    }

    /// As soon as Codex has said what the turn is called.
    fn interrupt(&mut self) {
        let Some(prompt) = &mut self.prompt else { return };
        let Some(id) = prompt.id.clone() else { return };
        let asked = std::mem::take(&mut prompt.asked);
        self.request("turn/interrupt", json!({ "threadId": self.session, "turnId": id }));
        for (request, choices) in asked {
            self.settle(&request, &choices, None);
        }
    }

    /// An answer to what is not asked any more is nobody's.
    fn answer(&mut self, request: &str, option: Option<&str>) {
        if let Some(choices) = self.prompt.as_mut().and_then(|prompt| prompt.asked.remove(request)) {
            self.settle(request, &choices, option);
        }
    }

    fn settle(&mut self, request: &str, choices: &Choices, option: Option<&str>) {
        let id: &RawValue = serde_json::from_str(request).expect("the id was read from JSON");
        self.ends.post(&RPC.result(id, choices.answer(option)));
    }

    fn request(&mut self, method: &str, params: serde_json::Value) -> RequestId {
        self.last_id += 1;
        self.ends.post(&RPC.request(self.last_id, method, params));
        self.last_id
    }

    // Lines.

    /// Said twice, as an answer and to everybody, in either order.
    fn begun(&mut self, turn: &Object<'_>) {
        let Some(prompt) = &mut self.prompt else { return };
        if prompt.id.is_none() {
            prompt.id = turn.text("id");
            if prompt.cancelled {
                self.interrupt();
            }
        }
    }

    fn asked(&mut self, id: &RawValue, method: &str, line: &str) -> Vec<Said> {
        let (turn, calls) = self.prompt.as_ref().map(|prompt| (prompt.turn, &prompt.calls)).unzip();
        let request = Object::parse(line).unwrap_or_default();
        let read = request.get("params").and_then(|params| {
            let item = params.object().text("itemId").and_then(|item| calls?.get(&item).cloned());
            question::read(turn.unwrap_or(TurnId(Default::default())), id.get(), method, params, item)
        });
        let Some((asked, choices)) = read else {
            self.ends.post(&RPC.method_not_found(id, method));
            return vec![whole(line)];
        };
        match &mut self.prompt {
            // Two questions under one name: whose an answer would be, nobody knows. Neither gets a yes.
            Some(prompt) if prompt.asked.contains_key(id.get()) => {
                prompt.asked.remove(id.get());
                self.settle(id.get(), &choices, None);
                vec![Said::Withdrew { request: id.get().to_owned() }, whole(line)]
            }
            Some(prompt) if !prompt.cancelled => {
                prompt.asked.insert(id.get().to_owned(), choices);
                vec![Said::Asked(asked)]
            }
            Some(_) | None => {
                self.settle(id.get(), &choices, None);
                Vec::new()
            }
        }
    }

    fn told(&mut self, method: &str, params: &Object<'_>, line: &str) -> Vec<Said> {
        let thread = params.text("threadId");
        if thread.is_some_and(|thread| thread != self.session.as_str()) {
            // A thread that this one began; what comes of it is told by this one.
            return Vec::new();
        }
        match method {
            "turn/started" => {
                self.begun(&params.object("turn"));
                Vec::new()
            }
            "item/started" => self.item_begun(params),
            "item/completed" => self.item_ended(params),
            "thread/tokenUsage/updated" => self.used(params).unwrap_or_default(),
            "serverRequest/resolved" => self.withdrawn(params),
            "turn/plan/updated" => vec![convert::plan(params)],
            _ => match convert::delta(method, params) {
                Some((item, said)) => {
                    if let Some(prompt) = &mut self.prompt {
                        prompt.streamed.insert(item);
                    }
                    vec![said]
                }
                None if convert::is_chatter(method) => Vec::new(),
                None => vec![whole(line)],
            },
        }
    }

    fn item_begun(&mut self, params: &Object<'_>) -> Vec<Said> {
        let Some(item) = params.get("item") else { return Vec::new() };
        if let (Some(prompt), Some(id)) = (&mut self.prompt, item.object().text("id")) {
            prompt.calls.insert(id, item.json());
        }
        convert::item_begun(item)
    }

    fn item_ended(&mut self, params: &Object<'_>) -> Vec<Said> {
        let Some(item) = params.get("item") else { return Vec::new() };
        let id = item.object().text("id").unwrap_or_default();
        let streamed = self.prompt.as_mut().is_some_and(|prompt| {
            prompt.calls.remove(&id);
            prompt.streamed.remove(&id)
        });
        convert::item_ended(item, streamed)
    }

    /// Codex tells what its thread used in all, and what the last request to the model did.
    fn used(&mut self, params: &Object<'_>) -> Option<Vec<Said>> {
        let prompt = self.prompt.as_mut().filter(|prompt| prompt.id.is_some() && prompt.id == params.text("turnId"))?;
        let usage = params.object("tokenUsage");
        let total = convert::Tokens::from(&usage.object("total"));
        let before = *prompt.used_before.get_or_insert_with(|| total.less(&convert::Tokens::from(&usage.object("last"))));
        let last = total.less(&prompt.used.replace(total).unwrap_or(before));
        let of_message = (last != convert::Tokens::default()).then(|| Said::MessageUsage { message: None, usage: last.into() });
        let usage = Usage::from(total.less(&before));
        let models = self.used_model.clone().map(|model| (model, usage.clone())).into_iter().collect();
        let of_turn = Said::Usage(Usage { request: prompt.id.clone(), models, ..usage });
        Some(of_message.into_iter().chain([of_turn]).collect())
    }

    /// Of a question that was answered, it is no news.
    fn withdrawn(&mut self, params: &Object<'_>) -> Vec<Said> {
        let request = params.get("requestId").map(|id: Value<'_>| id.0.get().to_owned()).unwrap_or_default();
        let asked = self.prompt.as_mut().and_then(|prompt| prompt.asked.remove(&request));
        asked.map(|_| Said::Withdrew { request }).into_iter().collect()
    }

    fn is_ours(&self, params: &Object<'_>) -> bool {
        let id = self.prompt.as_ref().and_then(|prompt| prompt.id.as_deref());
        id.is_some() && params.object("turn").text("id").as_deref() == id
    }

    fn refused(&mut self, error: RpcError, raw: Bytes) {
        let Some(prompt) = self.prompt.take() else { return };
        // It was not taken, so it may come again.
        self.taken = None;
        let done = if prompt.cancelled { Done::Cancelled } else { Done::Failed { code: error.code, message: error.message } };
        self.ends.tell(Output::Done { raw, done });
    }

    fn end(&mut self, turn: &Object<'_>, raw: Bytes) {
        let Some(prompt) = self.prompt.take() else { return };
        // A question cannot outlive its prompt; an agent that still waits on one must not wait for ever.
        for (request, choices) in &prompt.asked {
            self.settle(request, choices, None);
        }
        self.ends.tell(Output::Done { raw, done: convert::done(turn, prompt.cancelled) });
    }
}

fn whole(line: &str) -> Said {
    convert::raw(Json::parse(line.to_owned()).expect("it was read as JSON"))
}
