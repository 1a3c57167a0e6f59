//! A server's inside on a memory store, with a crash at hand: every task is cut off where it stands.

use bytes::Bytes;
use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_agent::{Agent, OpenSession};
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{MemoryStore, Store};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct World {
    pub store: Arc<dyn Store>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub settings: Settings,
    pub engine: Engine,
    runtime: Runtime,
    /// What every agent was asked to open, in order.
    pub opened: Arc<Mutex<Vec<OpenSession>>>,
    tasks: Arc<Tasks>,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Tasks(Mutex<Vec<tokio::task::AbortHandle>>);

impl Spawner for Tasks {
    fn spawn(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        self.0.lock().unwrap().push(tokio::spawn(task).abort_handle());
    }
}

pub fn admin() -> Caller {
    Caller { access: Access::All, principal: "tok_admin".into() }
}

pub fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

pub fn model(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

impl World {
    pub async fn new() -> World {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> World {
        Self::on(Arc::new(MemoryStore::new()), TokioRuntime::runtime(), change).await
    }

    pub async fn on(store: Arc<dyn Store>, runtime: Runtime, change: impl FnOnce(&mut Settings)) -> World {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(directory.path().into());
        change(&mut settings);
        let opened = Arc::new(Mutex::new(Vec::new()));
        let mut agents = BTreeMap::new();
        for (agent, model) in [("demo", None), ("other", Some("other/big"))] {
            let count = AtomicU64::new(0);
            let ids = Arc::new(move || format!("{agent}-{}", count.fetch_add(1, Ordering::SeqCst) + 1));
            let demo = DemoAgent::new(Arc::new(MemoryInRam::default()), ids);
            let watched = Watched { agent: Arc::new(demo), opened: opened.clone() };
            agents.insert(name(agent), AgentEntry::new(Arc::new(watched), model.map(self::model)));
        }
        let tasks = Arc::new(Tasks::default());
        let engine = start(&store, &agents, &settings, &tasks, &runtime).await;
        World { store, runtime, agents, settings, engine, opened, tasks, _directory: directory }
    }

    /// Everything stops at once, as at a kill -9; then the server starts again on what was kept.
    pub async fn crash_and_restart(&mut self) {
        for task in self.tasks.0.lock().unwrap().drain(..) {
            task.abort();
        }
        self.engine = start(&self.store, &self.agents, &self.settings, &self.tasks, &self.runtime).await;
    }

    /// Tasks of the engine that have not ended.
    pub fn running(&self) -> usize {
        self.tasks.0.lock().unwrap().iter().filter(|task| !task.is_finished()).count()
    }

    pub async fn session(&self) -> SessionId {
        self.session_with(NewSession::default()).await.id
    }

    pub async fn session_with(&self, new: NewSession) -> Session {
        match self.engine.create_session(&admin(), new, None).await.unwrap() {
            Answered::Fresh(Reply::Session(session)) => session,
            other => panic!("{other:?}"),
        }
    }

    pub async fn order(&self, session: SessionId, order: Order) -> Result<Reply, Failure> {
        match self.engine.order(&admin(), session, order, None).await? {
            Answered::Fresh(reply) => Ok(reply),
            kept => panic!("{kept:?}"),
        }
    }

    pub async fn send(&self, session: SessionId, text: &str) -> Turn {
        self.submit(session, turn_of(text)).await
    }

    pub async fn submit(&self, session: SessionId, new: NewTurn) -> Turn {
        turn(self.order(session, Order::Submit(new)).await.unwrap())
    }

    pub async fn ended(&self, turn: TurnId) -> Turn {
        let caller = admin();
        let wait = self.engine.wait_turn(&caller, turn);
        tokio::time::timeout(Duration::from_secs(48 * 3_600), wait).await.expect("the turn ends").unwrap()
    }

    /// Sends, waits, and gives the answer's text.
    pub async fn ask(&self, session: SessionId, text: &str) -> (Turn, String) {
        let turn = self.send(session, text).await;
        let turn = self.ended(turn.id).await;
        let answer = self.answer(&turn).await;
        (turn, answer)
    }

    pub async fn answer(&self, turn: &Turn) -> String {
        let messages = self.messages(turn.session).await;
        messages.iter().filter(|message| turn.response_messages.contains(&message.id)).map(Message::text).collect()
    }

    pub async fn messages(&self, session: SessionId) -> Vec<Message> {
        let query = PlaceQuery { session, after: None, before: None, backward: false, limit: 1_000 };
        self.engine.messages(&admin(), query).await.unwrap().items.into_iter().map(|placed| placed.message).collect()
    }

    /// Role and text of every message.
    pub async fn said(&self, session: SessionId) -> Vec<(Role, String)> {
        self.messages(session).await.iter().map(|message| (message.role, message.text())).collect()
    }

    pub async fn events(&self, session: SessionId) -> Vec<Event> {
        let query = EventsQuery { session: Some(session), limit: 100_000, ..EventsQuery::default() };
        let events = self.engine.events(&admin(), query).await.unwrap();
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "numbers rise by one from 1");
        events.iter().map(|event| everkept_store::decode(&event.bytes).unwrap().1).collect()
    }

    pub async fn kinds(&self, session: SessionId) -> Vec<&'static str> {
        self.events(session).await.iter().map(|event| event.body.kind()).collect()
    }

    /// Waits until the session has an event that `is` accepts.
    pub async fn until(&self, session: SessionId, is: impl Fn(&Event) -> bool) -> Event {
        let mut tail = self.engine.tail(&admin(), session, 0).await.unwrap();
        let find = async {
            loop {
                for frame in tail.next().await.unwrap() {
                    let event = everkept_store::decode(&frame.json).unwrap().1;
                    if is(&event) {
                        return event;
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(48 * 3_600), find).await.expect("the event comes")
    }

    pub async fn held(&self, session: SessionId) -> Session {
        self.engine.session(&admin(), session).await.unwrap()
    }

    pub fn opened(&self) -> Vec<OpenSession> {
        self.opened.lock().unwrap().clone()
    }
}

pub fn turn_of(text: &str) -> NewTurn {
    NewTurn {
        intake: Intake::Input(vec![PartIn::Text(text.into())]),
        agent: None,
        model: None,
        agent_session: None,
        if_busy: IfBusy::Queue,
    }
}

pub fn history(messages: &[(Role, &str)], if_edited: IfEdited) -> NewTurn {
    NewTurn { intake: Intake::History { messages: messages_in(messages), if_edited }, ..turn_of("") }
}

pub fn messages_in(messages: &[(Role, &str)]) -> Vec<MessageIn> {
    messages.iter().map(|(role, text)| MessageIn { role: *role, parts: vec![PartIn::Text((*text).into())] }).collect()
}

pub fn turn(reply: Reply) -> Turn {
    match reply {
        Reply::Turn(turn) => turn,
        other => panic!("{other:?}"),
    }
}

pub fn as_session(reply: Reply) -> Session {
    match reply {
        Reply::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

pub fn keyed(key: &str, body: &str) -> Keyed {
    fn render(reply: &Reply) -> (u16, Vec<u8>) {
        (202, format!("{reply:?}").into_bytes())
    }
    Keyed { key: key.into(), digest: digest_of(body), render }
}

pub fn kept(answered: Answered) -> (u16, Bytes) {
    match answered {
        Answered::Kept { status, body } => (status, body),
        fresh => panic!("{fresh:?}"),
    }
}

async fn start(
    store: &Arc<dyn Store>,
    agents: &BTreeMap<AgentName, AgentEntry>,
    settings: &Settings,
    tasks: &Arc<Tasks>,
    runtime: &Runtime,
) -> Engine {
    let runtime = Runtime { spawner: tasks.clone(), ..runtime.clone() };
    let parts = Parts { store: store.clone(), agents: agents.clone(), default_agent: name("demo"), runtime, settings: settings.clone() };
    Engine::start(parts).await.unwrap()
}

/// Notes what is opened, and opens it.
struct Watched {
    agent: Arc<dyn Agent>,
    opened: Arc<Mutex<Vec<OpenSession>>>,
}

impl Agent for Watched {
    fn abilities(&self) -> everkept_agent::Abilities {
        self.agent.abilities()
    }

    fn transcripts(&self) -> Option<Arc<dyn everkept_agent::Transcripts>> {
        self.agent.transcripts()
    }

    fn open(&self, open: everkept_agent::Open) -> everkept_agent::BoxFuture<Result<everkept_agent::Opened, everkept_agent::AgentFault>> {
        self.opened.lock().unwrap().push(open.session.clone());
        self.agent.open(open)
    }
}
