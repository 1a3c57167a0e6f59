//! An open agent session in the protocol's words: orders become lines, what the agent says is told.
//!
//! The agent also begins turns of its own, when something it left running is done: their bytes are kept and their words
//! are nobody's answer.
//! Never: a question that outlives its prompt, two ends of one prompt, or another turn's end for ours.

use super::{
    convert,
    opening::own_name,
    speech::{self, Speech},
    wire::{self, Incoming},
};
use crate::{
    json::{self, Object, Value},
    running::{Conversation, Ends},
};
use bytes::Bytes;
use everkept_agent::{Done, Order, Output, Prompt};
use everkept_core::{AgentRaw, AgentSessionId, Json, ModelName, Said, TurnId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// The tool with which the model asks the user something.
const ASK: &str = "AskUserQuestion";

pub struct Dialogue {
    ends: Ends,
    session: AgentSessionId,
    last_id: u64,
    prompt: Option<RunningPrompt>,
    turn: Whose,
    speech: Speech,
    compacting: bool,
    setting_model: BTreeMap<String, oneshot::Sender<bool>>,
    /// What the agent session cost when the agent last said; none where it has not.
    cost: Option<u64>,
}

struct RunningPrompt {
    turn: TurnId,
    /// What the agent knows it by.
    id: String,
    /// The agent has begun a turn for it.
    begun: bool,
    cancelled: bool,
    asked: BTreeMap<String, Asking>,
}

/// A tool that waits for an answer.
struct Asking {
    /// The agent's own id of its request.
    id: String,
    request: Json,
    /// To the questions before the one that is open, where the model asks several.
    answers: BTreeMap<String, String>,
}

/// For whom the agent's running turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Whose {
    /// None runs.
    Nobodys,
    Ours,
    Its,
}

#[derive(Serialize, Deserialize)]
pub struct Standing {
    session: AgentSessionId,
    last_id: u64,
    turn: Whose,
    compacting: bool,
    cost: Option<u64>,
}

impl Conversation for Dialogue {
    const DRIVER: &'static str = "claude-code";
    type Standing = Standing;

    fn standing(&self) -> Standing {
        let session = self.session.clone();
        Standing { session, last_id: self.last_id, turn: self.turn, compacting: self.compacting, cost: self.cost }
    }

    fn stand(ends: Ends, standing: Standing) -> Self {
        let Standing { session, last_id, turn, compacting, cost } = standing;
        Self { last_id, turn, compacting, cost, ..Self::new(ends, session, false) }
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
            Incoming::Answer { id, answer } => {
                if let Some(done) = self.setting_model.remove(&id) {
                    _ = done.send(answer.is_ok());
                }
                Vec::new()
            }
            Incoming::Request { id, request } => self.asked(id, request, &text),
            Incoming::Withdrawn { id } => self.withdrawn(&id),
            Incoming::Result(result) => return self.ended(&result, line.clone()),
            Incoming::Event { kind, fields } => {
                if let Some(done) = self.receipt(&kind, &fields) {
                    return self.end(done, line.clone());
                }
                self.told(&kind, &fields, &text)
            }
            Incoming::Stray(json) => vec![convert::raw(json)],
            Incoming::Noise(text) if text.is_empty() => Vec::new(),
            Incoming::Noise(text) => vec![Said::Raw(AgentRaw::Text(text))],
        };
        let said = if self.is_heard() { said } else { Vec::new() };
        self.ends.tell(Output::Said { raw: line, said });
    }
}

impl Dialogue {
    /// `fresh` is a session that has cost nothing yet.
    pub fn new(ends: Ends, session: AgentSessionId, fresh: bool) -> Self {
        Self {
            ends,
            session,
            last_id: 0,
            prompt: None,
            turn: Whose::Nobodys,
            speech: Speech::default(),
            compacting: false,
            setting_model: BTreeMap::new(),
            cost: fresh.then_some(0),
        }
    }

    // Orders.

    fn begin(&mut self, prompt: &Prompt) {
        let id = prompt.turn.0.hyphenated().to_string();
        self.ends.post(&wire::prompt(&id, convert::content(prompt)));
        self.prompt = Some(RunningPrompt { turn: prompt.turn, id, begun: false, cancelled: false, asked: BTreeMap::new() });
    }

    /// The agent takes its questions back by itself.
    fn cancel(&mut self) {
        let Some(prompt) = self.prompt.as_mut().filter(|prompt| !prompt.cancelled) else { return };
        prompt.cancelled = true;
        prompt.asked.clear();
        self.interrupt();
    }

    fn interrupt(&mut self) {
        self.request(json!({ "subtype": "interrupt" }));
    }

    /// An answer to what is not asked any more is nobody's.
    fn answer(&mut self, request: &str, option: Option<&str>) {
        let Some(prompt) = &mut self.prompt else { return };
        let Some(mut asking) = prompt.asked.remove(request) else { return };
        let json = asking.request.clone();
        let fields = Object::parse(json.get()).unwrap_or_default();
        let questions = asking.questions(&fields);
        let chosen = questions.get(asking.answers.len()).and_then(|question| choose(*question, option?));
        let verdict = match chosen {
            Some((question, label)) => {
                asking.answers.insert(question, label);
                match questions.get(asking.answers.len()) {
                    Some(next) => {
                        let request = format!("{}#{}", asking.id, asking.answers.len());
                        let asked = Said::Asked(convert::choice(prompt.turn, &request, *next));
                        prompt.asked.insert(request, asking);
                        self.ends.tell(Output::Said { raw: Bytes::new(), said: vec![asked] });
                        return;
                    }
                    None => convert::answered(&fields, &asking.answers),
                }
            }
            None => convert::verdict(&fields, option),
        };
        self.ends.post(&wire::response(&asking.id, &verdict));
    }

    fn set_model(&mut self, model: &ModelName, done: oneshot::Sender<bool>) {
        let id = self.request(json!({ "subtype": "set_model", "model": own_name(model) }));
        self.setting_model.insert(id, done);
    }

    fn request(&mut self, request: serde_json::Value) -> String {
        self.last_id += 1;
        let id = self.last_id.to_string();
        self.ends.post(&wire::request(&id, request));
        id
    }

    // Lines.

    /// Between prompts, and in turns of its own, what the agent says belongs to no turn of ours.
    fn is_heard(&self) -> bool {
        self.prompt.is_some() && self.turn != Whose::Its
    }

    fn told(&mut self, kind: &str, fields: &Object<'_>, line: &str) -> Vec<Said> {
        self.begun(kind, fields);
        let mut said = self.speech.hear(kind, fields).unwrap_or_else(|| vec![whole(line)]);
        said.retain(|said| match said {
            Said::Compacting(now) => std::mem::replace(&mut self.compacting, *now) != *now,
            _ => true,
        });
        let announced = speech::session(kind, fields).filter(|session| *session != self.session && self.is_heard());
        if let Some(session) = announced {
            self.session = session.clone();
            said.push(Said::AgentSession(session));
        }
        said
    }

    /// Whether a turn begins with this line, and whose it is.
    fn begun(&mut self, kind: &str, fields: &Object<'_>) {
        let waits = self.prompt.as_ref().is_some_and(|prompt| !prompt.begun);
        let whose = match (kind, fields.text("subtype").as_deref()) {
            // A turn for a prompt says which; an agent that can say so is about a turn of its own else.
            ("system", Some("init")) if !waits || says_which(fields) => Whose::Its,
            ("system", Some("init")) => Whose::Ours,
            ("stream_event" | "assistant", _) if waits => Whose::Ours,
            ("stream_event" | "assistant", _) => Whose::Its,
            _ => return,
        };
        match (self.turn, whose) {
            (Whose::Nobodys, Whose::Ours) => self.begun_ours(),
            (Whose::Nobodys, Whose::Its) => self.turn = Whose::Its,
            (Whose::Nobodys | Whose::Ours | Whose::Its, _) => {}
        }
    }

    fn begun_ours(&mut self) {
        self.turn = Whose::Ours;
        self.speech = Speech::default();
        let Some(prompt) = &mut self.prompt else { return };
        prompt.begun = true;
        // There was nothing to interrupt before.
        if prompt.cancelled {
            self.interrupt();
        }
    }

    /// What the agent says about our prompt: that it has begun with it, or that it ended without a result.
    fn receipt(&mut self, kind: &str, fields: &Object<'_>) -> Option<Done> {
        let prompt = self.prompt.as_ref()?;
        let ours = |key| fields.text(key).is_some_and(|id| id == prompt.id);
        let failed = |code: &str, message: &str| Done::Failed { code: code.into(), message: message.into() };
        match (kind, fields.text("state").as_deref()) {
            ("command_lifecycle", Some("started")) if ours("command_uuid") => {
                self.begun_ours();
                None
            }
            ("command_lifecycle", Some("completed")) if ours("command_uuid") && prompt.begun => {
                Some(Done::Completed { reason: "unknown".into() })
            }
            ("command_lifecycle", Some("cancelled")) if ours("command_uuid") && prompt.cancelled => Some(Done::Cancelled),
            ("command_lifecycle", Some("cancelled")) if ours("command_uuid") => Some(failed("cancelled", "the agent dropped the prompt")),
            ("command_lifecycle", Some("completed")) if ours("command_uuid") => Some(already_taken()),
            // It repeats a prompt that it takes in the turn for it; one it has had before, outside of any.
            ("user", _) if ours("uuid") && !prompt.begun && self.turn == Whose::Nobodys => Some(already_taken()),
            _ => None,
        }
    }

    fn asked(&mut self, id: String, request: Value<'_>, line: &str) -> Vec<Said> {
        let fields = request.object();
        if fields.text("subtype").as_deref() != Some("can_use_tool") {
            self.ends.post(&wire::not_served(&id));
            return vec![whole(line)];
        }
        // Two questions under one name: whose an answer would be, nobody knows. Neither gets a yes.
        if let [Said::Withdrew { request }] = &self.withdrawn(&id)[..] {
            self.ends.post(&wire::response(&id, &convert::verdict(&fields, None)));
            return vec![Said::Withdrew { request: request.clone() }, whole(line)];
        }
        match &mut self.prompt {
            Some(prompt) if !prompt.cancelled && self.turn == Whose::Ours => {
                let asking = Asking { id: id.clone(), request: request.json(), answers: BTreeMap::new() };
                let asked = match asking.questions(&fields).first() {
                    Some(question) => convert::choice(prompt.turn, &id, *question),
                    None => convert::permission(prompt.turn, &id, request),
                };
                prompt.asked.insert(id, asking);
                vec![Said::Asked(asked)]
            }
            // Nobody can be asked for a turn that is nobody's.
            Some(_) | None => {
                self.ends.post(&wire::response(&id, &convert::verdict(&fields, None)));
                Vec::new()
            }
        }
    }

    fn withdrawn(&mut self, id: &str) -> Vec<Said> {
        let Some(prompt) = &mut self.prompt else { return Vec::new() };
        let request = prompt.asked.iter().find(|(_, asking)| asking.id == id).map(|(request, _)| request.clone());
        let withdrawn = request.filter(|request| prompt.asked.remove(request).is_some());
        withdrawn.map(|request| Said::Withdrew { request }).into_iter().collect()
    }

    /// A result ends the agent's turn, and our prompt when it is for it.
    fn ended(&mut self, result: &Object<'_>, line: Bytes) {
        let whose = std::mem::replace(&mut self.turn, Whose::Nobodys);
        let added = self.added_cost(result);
        let mut usage = convert::usage(result);
        if usage.models.is_empty() {
            usage.cost_usd_micros = added;
        }
        let Some(prompt) = self.prompt.as_ref().filter(|prompt| is_for(prompt, whose, result)) else {
            return self.ends.tell(Output::Said { raw: line, said: Vec::new() });
        };
        let cancelled = prompt.cancelled;
        let compacted = std::mem::take(&mut self.compacting).then_some(Said::Compacting(false));
        let said: Vec<Said> = self.speech.unsaid(result).into_iter().chain(compacted).chain([Said::Usage(usage)]).collect();
        // What is said comes with the bytes it was said in, by which another server knows what is kept of it.
        self.ends.tell(Output::Said { raw: line, said });
        self.end(convert::done(result, cancelled), Bytes::new());
    }

    fn end(&mut self, done: Done, raw: Bytes) {
        let Some(prompt) = self.prompt.take() else { return };
        // A question cannot outlive its prompt; an agent that still waits on one must not wait for ever.
        for asking in prompt.asked.values() {
            let fields = Object::parse(asking.request.get()).unwrap_or_default();
            self.ends.post(&wire::response(&asking.id, &convert::verdict(&fields, None)));
        }
        self.ends.tell(Output::Done { raw, done });
    }

    /// What was added to the sum, which is all that older versions tell. Where the beginning is not known, the cost is left
    /// out rather than guessed.
    fn added_cost(&mut self, result: &Object<'_>) -> Option<u64> {
        let before = std::mem::replace(&mut self.cost, convert::session_cost(result));
        self.cost?.checked_sub(before?)
    }
}

impl Asking {
    /// What the model asks the user, when that is what its tool does.
    fn questions<'a>(&self, request: &Object<'a>) -> Vec<Value<'a>> {
        let asks = request.text("tool_name").as_deref() == Some(ASK);
        if asks { request.object("input").list("questions") } else { Vec::new() }
    }
}

/// The question's words and those of the option in that place.
fn choose(question: Value<'_>, option: &str) -> Option<(String, String)> {
    let fields = question.object();
    let chosen = *fields.list("options").get(option.parse::<usize>().ok()?)?;
    Some((fields.text("question")?, chosen.object().text("label")?))
}

fn is_for(prompt: &RunningPrompt, whose: Whose, result: &Object<'_>) -> bool {
    let mut named =
        result.list("user_message_uuids").into_iter().filter_map(Value::text).chain(result.text("user_message_uuid")).peekable();
    match named.peek() {
        Some(_) => named.any(|id| id == prompt.id),
        None => whose != Whose::Its,
    }
}

fn says_which(init: &Object<'_>) -> bool {
    init.list("capabilities").into_iter().filter_map(Value::text).any(|capability| capability.starts_with("msg_lifecycle"))
}

fn already_taken() -> Done {
    Done::Failed { code: "already_taken".into(), message: "the agent has had this prompt before and did nothing".into() }
}

fn whole(line: &str) -> Said {
    convert::raw(Json::parse(line.to_owned()).expect("it was read as JSON"))
}
