//! What every agent has to do, run by every agent; what one cannot do it says in its abilities, and is not asked.
//!
//! A check that fails panics with the promise that was broken. The agent under test answers a prompt with
//! `reply N to: ...`, N being the prompts its session has seen: that is how a lost or doubled one shows.
//! Never: a look behind the trait.

use crate::{
    Abilities, Agent, AgentFault, AgentFaultKind, Connection, Done, Open, OpenSession, Opened, Order, Output, Prompt, PromptPart,
    digest_of_call,
};
use everkept_core::{AgentSessionId, Asked, ModelName, OptionKind, Said, ToolStatus, TurnId};
use std::{
    mem::{Discriminant, discriminant},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// What to say to one agent, so that it does what a check is about. What it cannot be brought to do is none.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Exists, and is the same for all its sessions.
    pub directory: PathBuf,
    /// Is answered with `reply N to: ...`.
    pub plain: String,
    /// Uses a tool.
    pub tool: Option<String>,
    /// Asks for permission.
    pub ask: Option<String>,
    /// Says something and goes on until cancelled.
    pub long: Option<String>,
    /// Fails.
    pub fail: Option<String>,
    /// Is gone in the middle of its answer.
    pub crash: Option<String>,
    /// A model it takes.
    pub model: Option<ModelName>,
    /// An id that none of its sessions has.
    pub unknown_session: String,
}

/// Longer than any answer takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
const CANCEL_WITHIN: Duration = Duration::from_secs(2);

pub async fn run(agent: Arc<dyn Agent>, script: &Script) {
    whole(agent.clone(), script).await;
    cut_short(agent, script).await;
}

/// All but what has prompts cut short at every place.
pub async fn whole(agent: Arc<dyn Agent>, script: &Script) {
    let suite = Suite { agent, script };
    let (abilities, first) = suite.a_new_session_answers_and_counts().await;
    suite.another_new_session_has_another_id(&first).await;
    suite.a_tool_is_begun_and_ended().await;
    suite.a_failed_prompt_is_done_and_the_session_goes_on().await;
    suite.dropped_orders_end_the_agent().await;
    suite.an_agent_that_crashes_says_so_last().await;
    if abilities.resume {
        suite.a_resumed_session_keeps_its_id_and_its_context(&first).await;
    }
    if abilities.resume && abilities.remember {
        suite.an_unknown_session_is_never_replaced().await;
    }
    if abilities.resume && abilities.fork && abilities.remember {
        suite.a_fork_has_its_own_id_and_leaves_its_parent_alone(&first).await;
    }
    if abilities.cancel {
        suite.a_cancel_ends_the_prompt_and_not_the_session().await;
    }
    if abilities.ask_permission {
        suite.a_refused_permission_is_a_no().await;
        suite.a_given_permission_is_a_yes().await;
        suite.a_cancel_takes_an_open_question_along(abilities).await;
    }
    if abilities.set_model {
        suite.a_model_can_be_set().await;
    }
}

/// What was cut short, above all a tool call without its result, never makes the prompts after it fail.
pub async fn cut_short(agent: Arc<dyn Agent>, script: &Script) {
    let suite = Suite { agent, script };
    suite.a_cancel_after_any_kind_of_event_leaves_a_session_that_answers().await;
}

struct Suite<'a> {
    agent: Arc<dyn Agent>,
    script: &'a Script,
}

impl Suite<'_> {
    async fn a_new_session_answers_and_counts(&self) -> (Abilities, AgentSessionId) {
        let mut talk = self.open(OpenSession::New).await;
        assert_eq!(talk.model_set, None, "a model was set that nobody asked for");
        let first = talk.plain().await;
        assert_eq!(first.count(), Some(1), "the first prompt of a session is its first");
        assert!(first.texts() > 1, "an answer streams: {:?}", first.said);
        assert_eq!(talk.plain().await.count(), Some(2), "the second prompt sees the first");
        let abilities = talk.abilities;
        (abilities, talk.end().await)
    }

    async fn another_new_session_has_another_id(&self, first: &AgentSessionId) {
        let second = self.open(OpenSession::New).await.end().await;
        assert_ne!(*first, second, "a new session has an id of its own");
    }

    async fn a_resumed_session_keeps_its_id_and_its_context(&self, id: &AgentSessionId) {
        let mut talk = self.open(OpenSession::Resume(id.clone())).await;
        assert_eq!(talk.session, *id, "a resumed session keeps its id");
        let seen = if talk.abilities.remember { 2 } else { 0 };
        assert_eq!(talk.plain().await.count(), Some(seen + 1), "a resumed session has seen what it saw before, if it remembers");
        talk.end().await;
    }

    async fn an_unknown_session_is_never_replaced(&self) {
        let unknown = AgentSessionId::new(self.script.unknown_session.clone()).expect("the script has a good id");
        let fault = self.try_open(OpenSession::Resume(unknown)).await.expect_err("an unknown session was opened");
        assert!(matches!(fault.kind, AgentFaultKind::UnknownSession | AgentFaultKind::Refused), "{fault:?}");
    }

    async fn a_fork_has_its_own_id_and_leaves_its_parent_alone(&self, parent: &AgentSessionId) {
        let mut fork = self.open(OpenSession::Fork(parent.clone())).await;
        assert_ne!(fork.session, *parent, "a fork has an id of its own");
        assert_eq!(fork.plain().await.count(), Some(4), "a fork has seen what its parent saw");
        fork.end().await;
        let mut talk = self.open(OpenSession::Resume(parent.clone())).await;
        assert_eq!(talk.plain().await.count(), Some(4), "a parent has not seen what its fork saw");
        talk.end().await;
    }

    async fn a_tool_is_begun_and_ended(&self) {
        let Some(prompt) = &self.script.tool else { return };
        let mut talk = self.open(OpenSession::New).await;
        let turn = talk.prompt_allowing(prompt).await;
        assert!(turn.completed(), "{:?}", turn.done);
        let began = turn.said.iter().find_map(|said| match said {
            Said::ToolStarted { call, .. } => Some(call.clone()),
            _ => None,
        });
        let began = began.expect("a used tool is begun");
        let ended = turn
            .said
            .iter()
            .any(|said| matches!(said, Said::ToolUpdated { call, status: Some(ToolStatus::Completed), .. } if *call == began));
        assert!(ended, "a tool that was begun is ended: {:?}", turn.said);
        talk.end().await;
    }

    async fn a_failed_prompt_is_done_and_the_session_goes_on(&self) {
        let Some(prompt) = &self.script.fail else { return };
        let mut talk = self.open(OpenSession::New).await;
        let turn = talk.prompt(prompt).await;
        assert!(matches!(turn.done, Done::Failed { .. }), "{:?}", turn.done);
        assert!(talk.plain().await.completed(), "a session outlives a failed prompt");
        talk.end().await;
    }

    async fn a_cancel_ends_the_prompt_and_not_the_session(&self) {
        let Some(prompt) = &self.script.long else { return };
        let mut talk = self.open(OpenSession::New).await;
        // Nothing runs yet, so this one is harmless.
        talk.order(Order::Cancel).await;
        assert!(talk.plain().await.completed(), "a cancel while nothing runs is harmless");
        talk.begin(prompt).await;
        talk.until(|said| matches!(said, Said::Text { .. })).await;
        talk.order(Order::Cancel).await;
        let turn = timeout(CANCEL_WITHIN, talk.hear_out()).await.expect("a cancel ends the prompt within 2 s");
        assert_eq!(turn.done, Done::Cancelled);
        assert!(talk.plain().await.completed(), "a session outlives a cancelled prompt");
        talk.end().await;
    }

    async fn a_cancel_after_any_kind_of_event_leaves_a_session_that_answers(&self) {
        let Script { plain, tool, ask, long, .. } = self.script;
        for prompt in [Some(plain), tool.as_ref(), ask.as_ref(), long.as_ref()].into_iter().flatten() {
            let mut talk = self.open(OpenSession::New).await;
            if !talk.abilities.cancel {
                return drop(talk.end().await);
            }
            let (mut cut, mut seen) = (Vec::new(), 0);
            loop {
                talk.begin(prompt).await;
                let Some(kind) = talk.until_other_than(&cut).await else { break };
                cut.push(kind);
                talk.order(Order::Cancel).await;
                let turn = talk.hear_out().await;
                assert!(turn.completed() || turn.done == Done::Cancelled, "cut after {cut:?}: {:?}", turn.done);
                let count = talk.plain().await.count().expect("a plain prompt is counted");
                assert!(count > seen, "cut after {cut:?}: {count} prompts were seen, and {seen} before");
                seen = count;
                if Some(prompt) == long.as_ref() {
                    break;
                }
            }
            talk.end().await;
        }
    }

    async fn a_refused_permission_is_a_no(&self) {
        let Some(prompt) = &self.script.ask else { return };
        let mut talk = self.open(OpenSession::New).await;
        let asked = talk.begin_asked(prompt).await;
        assert!(!asked.options.is_empty(), "a question has options");
        if let everkept_core::Payload::Json(call) = &asked.call {
            assert_eq!(asked.digest, digest_of_call(call), "the digest is of the very call");
        }
        talk.order(Order::Answer { request: asked.request, option: pick(&asked.options, OptionKind::RejectOnce) }).await;
        let turn = talk.hear_out().await;
        let used = turn.said.iter().any(|said| matches!(said, Said::ToolUpdated { status: Some(ToolStatus::Completed), .. }));
        assert!(!used, "a refused tool is not used: {:?}", turn.said);
        talk.end().await;
    }

    async fn a_given_permission_is_a_yes(&self) {
        let Some(prompt) = &self.script.ask else { return };
        let mut talk = self.open(OpenSession::New).await;
        let asked = talk.begin_asked(prompt).await;
        // An answer to what nobody asked changes nothing.
        talk.order(Order::Answer { request: "\"nobody\"".into(), option: pick(&asked.options, OptionKind::RejectOnce) }).await;
        talk.order(Order::Answer { request: asked.request, option: pick(&asked.options, OptionKind::AllowOnce) }).await;
        let turn = talk.hear_out().await;
        let used = turn.said.iter().any(|said| matches!(said, Said::ToolUpdated { status: Some(ToolStatus::Completed), .. }));
        assert!(turn.completed() && used, "an allowed tool is used: {:?}", turn.said);
        talk.end().await;
    }

    async fn a_cancel_takes_an_open_question_along(&self, abilities: Abilities) {
        let (Some(prompt), true) = (&self.script.ask, abilities.cancel) else { return };
        let mut talk = self.open(OpenSession::New).await;
        talk.begin_asked(prompt).await;
        talk.order(Order::Cancel).await;
        let turn = timeout(CANCEL_WITHIN, talk.hear_out()).await.expect("a cancel ends a prompt that asks");
        assert_eq!(turn.done, Done::Cancelled);
        talk.end().await;
    }

    async fn a_model_can_be_set(&self) {
        let Some(model) = &self.script.model else { return };
        let open = Open { model: Some(model.clone()), ..self.wanted(OpenSession::New) };
        let opened = timeout(PATIENCE, self.agent.open(open)).await.expect("opening ends").expect("a session with a model opens");
        assert_eq!(opened.model_set, Some(true), "the model asked for was set");
        let mut talk = Talk::of(opened);
        let (done, set) = oneshot::channel();
        talk.order(Order::SetModel { model: model.clone(), done }).await;
        assert!(set.await.expect("setting a model is answered"), "the model was set while nothing ran");
        assert!(talk.plain_of(&self.script.plain).await.completed());
        talk.end().await;
    }

    async fn dropped_orders_end_the_agent(&self) {
        let Some(prompt) = &self.script.long else { return };
        let mut talk = self.open(OpenSession::New).await;
        talk.begin(prompt).await;
        talk.until(|said| matches!(said, Said::Text { .. })).await;
        talk.end().await;
    }

    async fn an_agent_that_crashes_says_so_last(&self) {
        let Some(prompt) = &self.script.crash else { return };
        let mut talk = self.open(OpenSession::New).await;
        talk.begin(prompt).await;
        loop {
            match talk.next().await.expect("a crash is said before the end") {
                Output::Said { .. } => {}
                Output::Done { done, .. } => panic!("a crash is no end of a prompt: {done:?}"),
                Output::Gone(fault) => break assert!(fault.kind == AgentFaultKind::Exited && fault.may_have_happened, "{fault:?}"),
            }
        }
        assert!(talk.next().await.is_none(), "nothing is said after the end");
    }

    async fn open(&self, session: OpenSession) -> Talk {
        let opened = self.try_open(session.clone()).await;
        let talk = Talk::of(opened.unwrap_or_else(|fault| panic!("{session:?} was not opened: {fault}")));
        Talk { plain: self.script.plain.clone(), ..talk }
    }

    async fn try_open(&self, session: OpenSession) -> Result<Opened, AgentFault> {
        timeout(PATIENCE, self.agent.open(self.wanted(session))).await.expect("opening ends")
    }

    fn wanted(&self, session: OpenSession) -> Open {
        Open { directory: self.script.directory.clone(), session, model: None }
    }
}

/// What sort of thing was said, and how far a tool had come.
type Kind = (Discriminant<Said>, Option<ToolStatus>);

fn kind(said: &Said) -> Kind {
    let status = match said {
        Said::ToolUpdated { status, .. } => *status,
        _ => None,
    };
    (discriminant(said), status)
}

/// Agents choose their own option ids; kinds are what they share.
fn pick(options: &[everkept_core::QuestionOption], kind: OptionKind) -> Option<String> {
    let option = options.iter().find(|option| option.kind == kind);
    Some(option.unwrap_or_else(|| panic!("no {kind:?} in {options:?}")).id.clone())
}

/// An id that no prompt of this process had: an agent may take one that it has seen for a prompt sent again.
fn fresh_turn() -> TurnId {
    static PROMPTS: AtomicU64 = AtomicU64::new(0);
    TurnId::derive(Default::default(), "turn", PROMPTS.fetch_add(1, Ordering::Relaxed))
}

/// A conversation with one opened agent session.
struct Talk {
    session: AgentSessionId,
    abilities: Abilities,
    model_set: Option<bool>,
    connection: Connection,
    plain: String,
    /// Said since the running prompt began.
    said: Vec<Said>,
}

/// One prompt, from its beginning to its end.
struct Turn {
    said: Vec<Said>,
    done: Done,
}

impl Talk {
    fn of(opened: Opened) -> Self {
        let Opened { agent_session, abilities, model_set, connection } = opened;
        Self { session: agent_session, abilities, model_set, connection, plain: String::new(), said: Vec::new() }
    }

    async fn plain(&mut self) -> Turn {
        self.plain_of(&self.plain.clone()).await
    }

    async fn plain_of(&mut self, prompt: &str) -> Turn {
        let turn = self.prompt(prompt).await;
        assert!(turn.completed(), "a plain prompt completes: {:?}", turn.done);
        turn
    }

    async fn prompt(&mut self, prompt: &str) -> Turn {
        self.begin(prompt).await;
        self.hear_out().await
    }

    /// Says yes to whatever is asked.
    async fn prompt_allowing(&mut self, prompt: &str) -> Turn {
        self.begin(prompt).await;
        loop {
            match self.hear().await {
                Ok(done) => return Turn { said: std::mem::take(&mut self.said), done },
                Err(fresh) => {
                    for said in self.said.clone().into_iter().skip(fresh) {
                        if let Said::Asked(asked) = said {
                            let option = pick(&asked.options, OptionKind::AllowOnce);
                            self.order(Order::Answer { request: asked.request, option }).await;
                        }
                    }
                }
            }
        }
    }

    async fn begin(&mut self, prompt: &str) {
        self.said.clear();
        let parts = vec![PromptPart::Text(prompt.to_owned())];
        self.order(Order::Prompt(Prompt { turn: fresh_turn(), parts, history: Vec::new() })).await;
    }

    async fn begin_asked(&mut self, prompt: &str) -> Asked {
        self.begin(prompt).await;
        match self.until(|said| matches!(said, Said::Asked(_))).await {
            Said::Asked(asked) => asked,
            said => panic!("not a question: {said:?}"),
        }
    }

    async fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Said {
        loop {
            if let Some(said) = self.said.iter().find(|said| wanted(said)) {
                return said.clone();
            }
            if let Ok(done) = self.hear().await {
                panic!("{done:?} came before what was waited for: {:?}", self.said);
            }
        }
    }

    /// The first kind of what is said that is not among `kinds`; none when the prompt ends before. Says yes to what is asked.
    async fn until_other_than(&mut self, kinds: &[Kind]) -> Option<Kind> {
        let mut heard = 0;
        loop {
            for said in self.said.clone().into_iter().skip(heard) {
                let kind = kind(&said);
                if !kinds.contains(&kind) {
                    return Some(kind);
                }
                if let Said::Asked(asked) = said {
                    let option = pick(&asked.options, OptionKind::AllowOnce);
                    self.order(Order::Answer { request: asked.request, option }).await;
                }
            }
            heard = self.said.len();
            if self.hear().await.is_ok() {
                return None;
            }
        }
    }

    async fn hear_out(&mut self) -> Turn {
        loop {
            if let Ok(done) = self.hear().await {
                return Turn { said: std::mem::take(&mut self.said), done };
            }
        }
    }

    /// How the prompt ended, or from where on something new was said.
    async fn hear(&mut self) -> Result<Done, usize> {
        let heard = self.said.len();
        match self.next().await.expect("an agent that ends by itself says so") {
            Output::Said { said, .. } => {
                self.said.extend(said);
                Err(heard)
            }
            Output::Done { done, .. } => Ok(done),
            Output::Gone(fault) => panic!("the agent is gone: {fault}"),
        }
    }

    async fn order(&self, order: Order) {
        self.connection.orders.send(order).await.expect("an open agent takes orders");
    }

    async fn next(&mut self) -> Option<Output> {
        timeout(PATIENCE, self.connection.output.recv()).await.expect("an agent says something in time")
    }

    /// Lets go of the agent and sees it end, without another word about a prompt that was already done.
    async fn end(self) -> AgentSessionId {
        let Connection { orders, mut output } = self.connection;
        drop(orders);
        let ended = async {
            while let Some(said) = output.recv().await {
                assert!(!matches!(said, Output::Gone(_)), "an agent that ends by order is not gone: {said:?}");
            }
        };
        timeout(PATIENCE, ended).await.expect("an agent without orders ends");
        self.session
    }
}

impl Turn {
    fn completed(&self) -> bool {
        matches!(self.done, Done::Completed { .. })
    }

    fn texts(&self) -> usize {
        self.said.iter().filter(|said| matches!(said, Said::Text { .. })).count()
    }

    /// The N of `reply N to:`.
    fn count(&self) -> Option<u64> {
        let texts = self.said.iter().filter_map(|said| match said {
            Said::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let answer: String = texts.collect();
        let (_, after) = answer.split_once("reply ")?;
        after.split_once(" to:")?.0.parse().ok()
    }
}
