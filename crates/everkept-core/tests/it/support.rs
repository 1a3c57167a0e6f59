//! A session without a store: commands are decided and applied, and the log is kept to look at.

use everkept_core::*;
use uuid::Uuid;

pub struct World {
    pub state: State,
    pub log: Vec<Event>,
}

impl World {
    /// A session that has just been made.
    pub fn new() -> Self {
        let mut world = World { state: State::new(session(1)), log: Vec::new() };
        world.run(create());
        world
    }

    /// Carries out what must not be refused.
    #[track_caller]
    pub fn run(&mut self, command: Command) -> Vec<Event> {
        let events = match decide(&self.state, command, NOW) {
            Ok(events) => events,
            Err(refusal) => panic!("refused: {refusal}"),
        };
        for event in &events {
            self.state.apply(event);
        }
        self.log.extend(events.clone());
        events
    }

    #[track_caller]
    pub fn run_all(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            self.run(command);
        }
    }

    /// Turn `n` asks `text` and is answered in full.
    #[track_caller]
    pub fn ask(&mut self, n: u64, text: &str, answer: &str) {
        self.run_all([submit(n, text), begin(n), say(n, answer), end(n, TurnEnd::Completed)]);
    }

    /// Turn `n` asks `text` and comes to `how` after a part of its answer.
    #[track_caller]
    pub fn ask_in_vain(&mut self, n: u64, text: &str, partial: &str, how: TurnEnd) {
        self.run_all([submit(n, text), begin(n), say(n, partial), end(n, how)]);
    }

    pub fn turn(&self, n: u64) -> &Turn {
        &self.state.turn(turn(n)).expect("a turn of the test").turn
    }

    pub fn hidden(&self) -> Vec<(TurnId, Option<TurnId>)> {
        self.state.session.hidden.iter().map(|hidden| (hidden.turn, hidden.by)).collect()
    }

    /// What every message says that a reader is shown, in order: the rule of the engine, in short.
    pub fn shown(&self) -> Vec<String> {
        let session = &self.state.session;
        let mut fold = Fold::default();
        self.log.iter().for_each(|event| fold.apply(event));
        let hides = |message: &Message| {
            let gone = session.hidden.iter().find(|hidden| Some(hidden.turn) == message.turn);
            let by_turn = gone.is_some_and(|hidden| message.role == Role::Assistant || hidden.by.is_none());
            by_turn || session.replaced.contains(&message.id)
        };
        fold.into_messages().iter().filter(|message| !hides(message)).map(Message::text).collect()
    }
}

/// Given `world`, when `command`, then exactly these events, or this refusal; in either case the state is left alone.
#[track_caller]
pub fn check(world: &World, command: Command, expected: Result<Vec<(Option<TurnId>, Body)>, Refusal>) {
    let before = format!("{:?}", world.state);
    let decided = decide(&world.state, command, NOW);
    assert_eq!(before, format!("{:?}", world.state), "deciding changes nothing");
    let decided = decided.map(|events| {
        let one = |event: Event| {
            assert_eq!((event.session, event.at), (world.state.session.id, NOW));
            (event.turn, event.body)
        };
        events.into_iter().map(one).collect::<Vec<_>>()
    });
    assert_eq!(decided, expected);
}

pub fn refused(field: &'static str, problem: &str) -> Result<Vec<(Option<TurnId>, Body)>, Refusal> {
    Err(Refusal::invalid(field, problem))
}

pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

pub fn id(kind: u64, n: u64) -> Uuid {
    Uuid::from_u64_pair(kind, n)
}

pub fn session(n: u64) -> SessionId {
    SessionId(id(1, n))
}

pub fn turn(n: u64) -> TurnId {
    TurnId(id(2, n))
}

pub fn message(n: u64) -> MessageId {
    MessageId(id(3, n))
}

pub fn question(n: u64) -> QuestionId {
    QuestionId(id(4, n))
}

pub fn agent(name: &str) -> AgentName {
    AgentName::new(name).expect("a good name")
}

pub fn model(name: &str) -> ModelName {
    ModelName::new(name).expect("a good name")
}

pub fn agent_session(name: &str) -> AgentSessionId {
    AgentSessionId::new(name).expect("a good name")
}

pub fn json(text: &str) -> Json {
    Json::parse(text.into()).expect("JSON")
}

/// `demo` is the default and has no model of its own; `coder` has one.
pub fn known() -> KnownAgents {
    let coder = KnownAgent { model: Some(model("maker/coder")), ..KnownAgent::default() };
    KnownAgents { default: agent("demo"), agents: [(agent("demo"), KnownAgent::default()), (agent("coder"), coder)].into() }
}

pub fn created() -> CreateSession {
    CreateSession {
        session: session(1),
        title: Some("a test".into()),
        resource: None,
        thread: None,
        directory: "/work".into(),
        agent: None,
        model: None,
        agent_session: None,
        parent: None,
        metadata: None,
        known: known(),
    }
}

pub fn create() -> Command {
    Command::CreateSession(created())
}

pub fn text(text: &str) -> Vec<NewPart> {
    vec![NewPart::Text(text.into())]
}

pub fn submitted(n: u64, said: &str) -> SubmitTurn {
    SubmitTurn {
        turn: turn(n),
        earlier: Vec::new(),
        message: message(n),
        parts: text(said),
        agent: None,
        model: None,
        agent_session: None,
        if_busy: IfBusy::Queue,
        known: known(),
    }
}

pub fn submit(n: u64, said: &str) -> Command {
    Command::SubmitTurn(submitted(n, said))
}

pub fn record(n: u64, role: Role, said: &str) -> Command {
    Command::RecordMessages { messages: vec![NewMessage { id: message(n), role, parts: text(said) }] }
}

pub fn began(n: u64, agent_session_id: &str, because: AgentSessionBecause) -> Command {
    let agent_session = agent_session(agent_session_id);
    Command::BeginTurn(BeginTurn { turn: turn(n), agent_session, because, given: Unseen::default(), model_set: None })
}

pub fn begin(n: u64) -> Command {
    began(n, "demo-1", AgentSessionBecause::Detected)
}

pub fn hear(n: u64, said: impl IntoIterator<Item = Said>) -> Command {
    Command::HearAgent { turn: turn(n), said: said.into_iter().collect() }
}

pub fn said(text: &str) -> Said {
    Said::Text { message: None, text: text.into() }
}

pub fn say(n: u64, text: &str) -> Command {
    hear(n, [said(text)])
}

pub fn end(n: u64, end: TurnEnd) -> Command {
    Command::EndTurn(EndTurn { turn: turn(n), end, reason: "end_turn".into(), error: None })
}

/// `demo` retries a prompt once, then asks another model, then `coder`; `coder` has no such rules.
pub fn persistent() -> KnownAgents {
    let mut known = known();
    let demo = known.agents.get_mut(&agent("demo")).expect("it is there");
    demo.retry_prompts = 1;
    let gone = Fallback { agent: Some(agent("gone")), model: None };
    let cheap = Fallback { agent: None, model: Some(model("maker/cheap")) };
    let coder = Fallback { agent: Some(agent("coder")), model: None };
    demo.fallback = vec![cheap, gone, coder];
    known
}

pub fn failure(code: &str) -> TurnError {
    TurnError { code: code.into(), message: "it did not work".into(), may_have_happened: false }
}

/// Turn `n` could not be opened; `by` would follow.
pub fn not_opened(n: u64, by: u64, again: bool) -> FailTurn {
    let failure = TurnFailure::Opening { error: failure("agent_start_failed"), again, not_before: None };
    FailTurn { turn: turn(n), failure, by: turn(by), known: known() }
}

/// Turn `n` failed in the agent's own words; `by` would follow.
pub fn failed(n: u64, by: u64) -> FailTurn {
    let failure = TurnFailure::Prompt { end: FailedEnd::Failed, reason: "agent_error".into(), error: failure("overloaded") };
    FailTurn { turn: turn(n), failure, by: turn(by), known: known() }
}

pub fn retry_letter(n: u64, by: u64, with: Option<(u64, &str)>) -> Command {
    let request = with.map(|(with, said)| (message(with), text(said)));
    Command::RetryLetter { again: again(n, by), request }
}

pub fn settle(n: u64) -> Command {
    Command::SettleTurn { reason: REASON_SERVER_CRASHED, message: "the server stopped".into(), question: question(n), expires_at: None }
}

pub fn again(n: u64, by: u64) -> AgainTurn {
    AgainTurn { turn: turn(n), by: turn(by), agent: None, model: None, known: known() }
}

pub fn retry(n: u64, by: u64) -> Command {
    Command::RetryTurn(again(n, by))
}

pub fn redo(n: u64, by: u64) -> Command {
    Command::RedoTurn(again(n, by))
}

pub fn go_on(n: u64, by: u64) -> Command {
    Command::ContinueTurn(again(n, by))
}

pub fn edited(n: u64) -> EditTurn {
    EditTurn { turn: turn(n), request: None, agent: None, model: None, known: known() }
}

pub fn edit(n: u64, with: u64, said: &str) -> Command {
    Command::EditTurn(EditTurn { request: Some((message(with), text(said))), ..edited(n) })
}

pub fn answer(n: u64, option: &str, by: u64) -> Command {
    Command::AnswerQuestion(AnswerQuestion { question: question(n), option: option.into(), note: None, turn: turn(by), known: known() })
}

pub fn asked(n: u64) -> Asked {
    let option = |id: &str, kind| QuestionOption { id: id.into(), label: id.to_uppercase(), kind };
    Asked {
        question: question(n),
        kind: QuestionKind::Permission,
        title: "run ls?".into(),
        call: Payload::Json(json(r#"{"cmd":"ls"}"#)),
        digest: digest_of(r#"{"cmd":"ls"}"#),
        request: format!("request-{n}"),
        options: vec![
            option("once", OptionKind::AllowOnce),
            option("always", OptionKind::AllowAlways),
            option("no", OptionKind::RejectOnce),
        ],
        expires_at: Some(Timestamp(NOW.0 + 1)),
    }
}

pub fn forking(at: Option<Cut>) -> Fork {
    Fork { child: session(2), at, title: None, thread: None, take_thread: false, agent: None, directory: None, known: known() }
}

/// The child as a replay of the parent's log up to the cut leads to it.
pub fn child(parent: &World, at: Option<Cut>) -> World {
    let forked = fork(&parent.state, forking(at), NOW).expect("a fork that is allowed");
    let cut = usize::try_from(forked.cut).expect("a small log");
    let mut log = parent.log[..cut].to_vec();
    log.extend(forked.child_events);
    World { state: replay(&log), log }
}

pub fn replay(log: &[Event]) -> State {
    let mut state = State::new(log[0].session);
    log.iter().for_each(|event| state.apply(event));
    state
}

/// How a conversation is sent again: who said what.
pub fn aligned(world: &World, conversation: &[(Role, &str)]) -> Aligned {
    let sent: Vec<_> = conversation.iter().map(|(role, text)| SentMessage { role: *role, digest: digest_of(text) }).collect();
    align(&world.state, &sent)
}

/// How many cases a property is tried on; a failure shows its input, and nothing is written beside the source.
pub fn config() -> proptest::test_runner::Config {
    let cases = std::env::var("EVERKEPT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    let rng_seed = proptest::test_runner::RngSeed::Fixed(0x0EBE_4EB7);
    proptest::test_runner::Config { cases, failure_persistence: None, rng_seed, ..Default::default() }
}
