//! The built-in agent: needs no key and no network, and shows the whole life of a turn.
//!
//! It answers `reply N to: TEXT` word by word, N being the user prompts this agent session has seen, so that a lost
//! or doubled prompt shows in the answer itself. [`Directives`] anywhere in the prompt make it do more than answer.
//!
//! Never: randomness or a wall clock. The same prompts to the same session give the same bytes.

mod answer;
mod directives;
mod memory;

pub use directives::Directives;
pub use memory::{DemoMemory, FileMemory, MemoryInRam};

use crate::{
    Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Connection, Done, ORDER_QUEUE, OUTPUT_QUEUE, Open, OpenSession, Opened, Order,
    Output, Prompt, PromptPart,
};
use answer::{Ending, Permission, Voice};
use everkept_core::{AgentSessionId, Role};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where new session ids come from.
pub type Ids = Arc<dyn Fn() -> String + Send + Sync>;

pub struct DemoAgent {
    memory: Arc<dyn DemoMemory>,
    ids: Ids,
}

impl DemoAgent {
    pub fn new(memory: Arc<dyn DemoMemory>, ids: Ids) -> Self {
        Self { memory, ids }
    }

    fn open_now(&self, open: Open) -> Result<Opened, AgentFault> {
        let agent_session = self.session(&open.session)?;
        let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
        let (output_out, output) = mpsc::channel(OUTPUT_QUEUE);
        let running = Running { session: agent_session.clone(), memory: self.memory.clone(), output: output_out };
        tokio::spawn(running.run(orders_in));
        Ok(Opened {
            agent_session,
            abilities: self.abilities(),
            model_set: open.model.map(|_| true),
            connection: Connection { orders, output },
        })
    }

    fn session(&self, wanted: &OpenSession) -> Result<AgentSessionId, AgentFault> {
        match wanted {
            OpenSession::New => self.begin(0),
            OpenSession::Resume(id) => self.seen_by(id).map(|_| id.clone()),
            OpenSession::Fork(id) => self.seen_by(id).and_then(|prompts| self.begin(prompts)),
        }
    }

    fn begin(&self, prompts: u64) -> Result<AgentSessionId, AgentFault> {
        let id = AgentSessionId::new((self.ids)()).map_err(|refusal| fault(AgentFaultKind::CannotStart, refusal.to_string()))?;
        self.memory.begin(id.as_str(), prompts).map_err(|error| forgetful(&error))?;
        Ok(id)
    }

    fn seen_by(&self, id: &AgentSessionId) -> Result<u64, AgentFault> {
        let seen = self.memory.prompts(id.as_str()).map_err(|error| forgetful(&error))?;
        seen.ok_or_else(|| fault(AgentFaultKind::UnknownSession, format!("no session {id}")))
    }
}

impl Agent for DemoAgent {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            fork: true,
            cancel: true,
            ask_permission: true,
            set_model: true,
            report_usage: true,
            remember: true,
            transcript: false,
        }
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let opened = self.open_now(open);
        Box::pin(async { opened })
    }
}

fn fault(kind: AgentFaultKind, message: String) -> AgentFault {
    AgentFault { kind, doing: "opening a demo session".into(), message, retryable: false, may_have_happened: false }
}

fn forgetful(error: &std::io::Error) -> AgentFault {
    AgentFault { retryable: true, ..fault(AgentFaultKind::CannotStart, error.to_string()) }
}

/// One open session: hears orders, and answers one prompt at a time.
struct Running {
    session: AgentSessionId,
    memory: Arc<dyn DemoMemory>,
    output: mpsc::Sender<Output>,
}

impl Running {
    async fn run(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Prompt(prompt) => match self.answer(prompt, &mut orders).await {
                    Some(Ending::Done(done)) => self.done(done).await,
                    Some(Ending::Crashed) => return self.gone().await,
                    None => return,
                },
                Order::SetModel { done, .. } => _ = done.send(true),
                // Nothing runs, so there is nothing to cancel and no question open.
                Order::Cancel | Order::Answer { .. } | Order::Hold(_) => {}
            }
        }
    }

    /// None when the orders ended. Whatever awaits inside the answer, a cancel ends it at once by dropping it.
    async fn answer(&self, prompt: Prompt, orders: &mut mpsc::Receiver<Order>) -> Option<Ending> {
        let (permission, answers) = Permission::desk();
        let speaking = self.speak(prompt, permission);
        tokio::pin!(speaking);
        loop {
            let order = tokio::select! {
                // A cancel is heard before the next word is said.
                biased;
                order = orders.recv() => order?,
                ending = &mut speaking => return Some(ending),
            };
            match order {
                Order::Cancel => return Some(Ending::Done(Done::Cancelled)),
                Order::Answer { request, option } => answers.give(request, option),
                Order::SetModel { done, .. } => _ = done.send(true),
                Order::Prompt(_) | Order::Hold(_) => {}
            }
        }
    }

    async fn speak(&self, prompt: Prompt, permission: Permission) -> Ending {
        let seen = prompt.history.iter().filter(|message| message.role == Role::User).count() as u64 + 1;
        let number = match self.memory.see(self.session.as_str(), seen) {
            Ok(number) => number,
            Err(error) => return Ending::Done(Done::Failed { code: "memory".into(), message: error.to_string() }),
        };
        Voice::new(self.output.clone(), prompt.turn, number, permission).answer(&text_of(&prompt)).await
    }

    // A reader that is gone needs no last word.

    async fn done(&self, done: Done) {
        let word = match &done {
            Done::Completed { reason } => reason,
            Done::Cancelled => "cancelled",
            Done::Failed { code, .. } => code,
        };
        let raw = answer::line(&json!({ "done": word }));
        _ = self.output.send(Output::Done { raw, done }).await;
    }

    async fn gone(&self) {
        let fault = AgentFault {
            kind: AgentFaultKind::Exited,
            doing: format!("answering in demo session {}", self.session),
            message: "crashed, as it was asked to".into(),
            retryable: true,
            may_have_happened: true,
        };
        _ = self.output.send(Output::Gone(fault)).await;
    }
}

fn text_of(prompt: &Prompt) -> String {
    let texts = prompt.parts.iter().filter_map(|part| match part {
        PromptPart::Text(text) => Some(text.as_str()),
        PromptPart::File { .. } => None,
    });
    texts.collect()
}
