//! An open agent session: orders in, what the agent says out, one prompt at a time.
//!
//! It waits in one place for whichever comes first: an order, a line, room to write, or room in the output. A reader
//! that is slow holds the agent back and loses nothing; an agent that does not read holds up nobody.
//! Never: a question that outlives its prompt, or two ends of one prompt.

use super::{
    convert::{self, Accepts},
    opening::ModelSetting,
    wire,
};
use crate::{
    json::{self, Object, Value},
    process::{Heard, MAX_LINE_BYTES, Process},
    rpc::{Incoming, RequestId, RpcError},
};
use bytes::Bytes;
use everkept_agent::{AgentFault, AgentFaultKind, Done, Order, Output, Prompt};
use everkept_core::{AgentRaw, AgentSessionId, Json, ModelName, Said, TurnId, Usage};
use serde_json::{json, value::RawValue};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::{mpsc, oneshot};

/// More than this unread by the agent, and its own lines wait too: it would have us hold its answers for ever.
const MAX_UNREAD: usize = 64 * 1024 * 1024;
/// What some agents answer a cancelled prompt with.
const REQUEST_CANCELLED: &str = "-32800";

pub struct Running {
    process: Process,
    session: AgentSessionId,
    model: ModelSetting,
    accepts: Accepts,
    last_id: RequestId,
    /// Said and not yet taken.
    queue: VecDeque<Output>,
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
}

enum Next {
    Order(Option<Order>),
    Heard(Heard),
    Taken,
    NobodyListens,
}

impl Running {
    /// `fresh` is a session that has cost nothing yet; `said` is what was said while it was opened.
    pub fn new(
        process: Process,
        session: AgentSessionId,
        model: ModelSetting,
        accepts: Accepts,
        last_id: RequestId,
        fresh: bool,
        said: Output,
    ) -> Self {
        Self {
            process,
            session,
            model,
            accepts,
            last_id,
            queue: VecDeque::from([said]),
            prompt: None,
            setting_model: BTreeMap::new(),
            cost_before: None,
            cost: fresh.then_some(0),
        }
    }

    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>, output: mpsc::Sender<Output>) {
        loop {
            match self.next(&mut orders, &output).await {
                Next::Order(Some(order)) => self.obey(order),
                Next::Order(None) | Next::NobodyListens => break,
                Next::Taken => {}
                Next::Heard(Heard::Line(line)) => self.hear(line),
                Next::Heard(Heard::End) => return self.gone(None, &output).await,
                Next::Heard(Heard::LineTooLong) => {
                    let message = format!("a line of more than {MAX_LINE_BYTES} bytes");
                    return self.gone(Some((AgentFaultKind::Protocol, message)), &output).await;
                }
            }
        }
        self.process.end().await;
    }

    async fn next(&mut self, orders: &mut mpsc::Receiver<Order>, output: &mpsc::Sender<Output>) -> Next {
        let want_line = self.queue.is_empty() && self.process.unread() < MAX_UNREAD;
        tokio::select! {
            biased;
            order = orders.recv() => Next::Order(order),
            room = output.reserve(), if !self.queue.is_empty() => match room {
                Ok(room) => {
                    room.send(self.queue.pop_front().expect("there was something to say"));
                    Next::Taken
                }
                Err(_) => Next::NobodyListens,
            },
            heard = self.process.hear(want_line) => Next::Heard(heard),
        }
    }

    // Orders.

    fn obey(&mut self, order: Order) {
        match order {
            Order::Prompt(prompt) => self.begin(&prompt),
            Order::Cancel => self.cancel(),
            Order::Answer { request, option } => self.answer(&request, option.as_deref()),
            Order::SetModel { model, done } => self.set_model(&model, done),
        }
    }

    fn begin(&mut self, prompt: &Prompt) {
        let params = json!({ "sessionId": self.session, "prompt": convert::blocks(prompt, self.accepts) });
        let id = self.request("session/prompt", params);
        self.cost_before = self.cost;
        let (turn, asked) = (prompt.turn, BTreeSet::new());
        self.prompt = Some(RunningPrompt { id, turn, cancelled: false, asked, usage: Usage::default() });
    }

    fn cancel(&mut self) {
        let Some(prompt) = &mut self.prompt else { return };
        prompt.cancelled = true;
        let asked = std::mem::take(&mut prompt.asked);
        self.process.post(&wire::notification("session/cancel", json!({ "sessionId": self.session })));
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
        self.process.post(&wire::result(id, convert::outcome(option)));
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
        self.process.post(&wire::request(self.last_id, method, params));
        self.last_id
    }

    // Lines.

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
        self.queue.push_back(Output::Said { raw: line, said });
    }

    fn asked(&mut self, id: &RawValue, method: &str, params: &Object<'_>, line: &str) -> Vec<Said> {
        if method != "session/request_permission" {
            self.process.post(&wire::method_not_found(id, method));
            return vec![whole(line)];
        }
        match &mut self.prompt {
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
                let mut said = convert::update(update);
                said.extend(self.costed(&update.object()));
                said
            }
            ("$/cancel_request", _) => self.withdrawn(params),
            _ => vec![whole(line)],
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
        let done = match answer {
            Ok(result) => {
                let result = result.object();
                let usage = Usage { cost_usd_micros: prompt.usage.cost_usd_micros, ..convert::usage(&result) };
                if usage != prompt.usage {
                    self.queue.push_back(Output::Said { raw: Bytes::new(), said: vec![Said::Usage(usage)] });
                }
                convert::done(&result)
            }
            Err(error) if prompt.cancelled || error.code == REQUEST_CANCELLED => Done::Cancelled,
            Err(error) => Done::Failed { code: error.code, message: error.message },
        };
        self.queue.push_back(Output::Done { raw, done });
    }

    /// Whatever was said before is handed over first.
    async fn gone(mut self, because: Option<(AgentFaultKind, String)>, output: &mpsc::Sender<Output>) {
        let doing = if self.prompt.is_some() { "answering in" } else { "keeping" };
        let (doing, may_have_happened) = (format!("{doing} agent session {}", self.session), self.prompt.is_some());
        let fault = match because {
            Some((kind, message)) => {
                self.process.end().await;
                AgentFault { kind, doing, message, retryable: true, may_have_happened }
            }
            None => self.process.fault(doing, may_have_happened).await,
        };
        for said in self.queue.into_iter().chain([Output::Gone(fault)]) {
            if output.send(said).await.is_err() {
                return;
            }
        }
    }
}

fn whole(line: &str) -> Said {
    convert::raw(Json::parse(line.to_owned()).expect("it was read as JSON"))
}
