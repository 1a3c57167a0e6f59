//! Alignment of a conversation that is sent with the one that is kept, beside the obvious model of it.
//!
//! Never: a message stored twice or lost, and never a word about a conversation that is not kept.

use everkept_core::*;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_767_225_600_000_000);
const TEXTS: [&str; 4] = ["a", "b", "ä", ""];

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let mut kept = Kept::new();
    let Ok(()) = play(&mut kept, &mut input) else { return };
    let orders = kept.held();

    for held in &orders {
        let all: Vec<_> = held.iter().map(|held| (held.role, held.text.clone())).collect();
        let again = kept.align(&all);
        let answered = matches!(again, Aligned::Answered { .. } | Aligned::Kept);
        assert!(answered, "what is kept has nothing new in it: {again:?}");
        for extra in 1..=2 {
            let mut longer = all.clone();
            longer.extend((0..extra).map(|n| (Role::User, format!("new {n}"))));
            assert_eq!(kept.align(&longer), Aligned::New { from: all.len() }, "just the end is new");
        }
    }
    let Ok(order) = input.choose(&orders) else { return };
    let Ok(sent) = resend(order, &mut input) else { return };
    check(&kept, &orders, &sent);
}

fn check(kept: &Kept, orders: &[Vec<Held>; 2], sent: &[(Role, String)]) {
    let said = format!("held {orders:?}, sent {sent:?}");
    let compared: Vec<_> = sent.iter().filter(|(role, _)| *role != Role::System).cloned().collect();
    let expected = orders.iter().map(|held| verdict(held, &compared, 0)).max().expect("two orders");
    match kept.align(sent) {
        Aligned::New { from } => {
            let systems = sent[..from].iter().filter(|(role, _)| *role == Role::System).count();
            assert_eq!(expected, Verdict::New(from - systems), "{said}");
        }
        Aligned::Answered { turn } => {
            assert_eq!(expected, Verdict::Kept, "{said}");
            assert!(kept.state.turn(turn).is_some());
        }
        Aligned::Kept => assert_eq!(expected, Verdict::Kept, "{said}"),
        Aligned::Diverged { at, held, cut } => {
            assert_eq!(expected, Verdict::Diverged, "{said}");
            assert!(at <= sent.len());
            assert!(held.is_none_or(|held| kept.state.message(held).is_some()));
            if cut == 0 {
                assert_eq!(at, 0, "all of it is said again: {said}");
                return;
            }
            let fork = kept.fork(cut);
            assert_eq!(fork.align(sent), Aligned::New { from: after_systems(sent, at) }, "nothing lost, nothing twice: {said}");
        }
    }
}

/// Instructions right before the first new message are new with it.
fn after_systems(sent: &[(Role, String)], at: usize) -> usize {
    (0..at).rev().take_while(|n| sent[*n].0 == Role::System).last().unwrap_or(at)
}

/// The later, the more of what was sent is held.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Diverged,
    New(usize),
    Kept,
}

/// Tries every way to leave out what may be left out.
fn verdict(held: &[Held], sent: &[(Role, String)], at: usize) -> Verdict {
    let Some(((role, text), rest)) = sent.split_first() else { return Verdict::Kept };
    let Some((first, held_rest)) = held.split_first() else { return Verdict::New(at) };
    let taken = if *role == first.role && *text == first.text { verdict(held_rest, rest, at + 1) } else { Verdict::Diverged };
    match taken {
        Verdict::Diverged if first.optional => verdict(held_rest, sent, at),
        taken => taken,
    }
}

/// One message as the model holds it, and whether it may be left out.
#[derive(Debug, Clone)]
struct Held {
    role: Role,
    text: String,
    optional: bool,
    /// Since which step it is there: the order in which messages are listed.
    since: u64,
}

/// A place in the conversation: an exchange, or a message that was recorded.
struct Place {
    turn: Option<u64>,
    held: Vec<Held>,
}

struct Kept {
    state: State,
    log: Vec<Event>,
    places: Vec<Place>,
    made: u64,
}

impl Kept {
    fn new() -> Self {
        let mut kept = Kept { state: State::new(session(1)), log: Vec::new(), places: Vec::new(), made: 0 };
        kept.run(Command::CreateSession(CreateSession {
            session: session(1),
            title: None,
            resource: None,
            thread: None,
            directory: "/work".into(),
            agent: None,
            model: None,
            agent_session: None,
            parent: None,
            metadata: None,
            known: known(),
        }));
        kept
    }

    fn run(&mut self, command: Command) {
        let events = decide(&self.state, command, NOW).unwrap_or_else(|refusal| panic!("refused: {refusal}"));
        events.iter().for_each(|event| self.state.apply(event));
        self.log.extend(events);
    }

    /// As a conversation, and as a list of messages.
    fn held(&self) -> [Vec<Held>; 2] {
        let all = self.places.iter().flat_map(|place| place.held.clone());
        let as_conversation: Vec<_> = all.filter(|held| held.role != Role::System).collect();
        let mut as_listed = as_conversation.clone();
        as_listed.sort_by_key(|held| held.since);
        [as_conversation, as_listed]
    }

    fn align(&self, sent: &[(Role, String)]) -> Aligned {
        let sent: Vec<_> = sent.iter().map(|(role, text)| SentMessage { role: *role, digest: digest_of(text) }).collect();
        align(&self.state, &sent)
    }

    /// The fork that has all up to event `cut`.
    fn fork(&self, cut: u64) -> Kept {
        let child = Fork {
            child: session(2),
            at: Some(Cut::Seq(cut)),
            title: None,
            thread: None,
            take_thread: false,
            agent: None,
            directory: None,
            known: known(),
        };
        let forked = fork(&self.state, child, NOW).unwrap_or_else(|refusal| panic!("refused: {refusal}"));
        let mut log = self.log[..usize::try_from(forked.cut).expect("a small log")].to_vec();
        log.extend(forked.child_events);
        let mut state = State::new(log[0].session);
        log.iter().for_each(|event| state.apply(event));
        Kept { state, log, places: Vec::new(), made: self.made }
    }

    fn answer(&mut self, n: u64, answers: &[&str], end: TurnEnd) {
        let agent_session = AgentSessionId::new("s").expect("a name");
        let because = AgentSessionBecause::Detected;
        self.run(Command::BeginTurn(BeginTurn { turn: turn(n), agent_session, because, given: Unseen::default(), model_set: None }));
        for (at, text) in answers.iter().enumerate() {
            let said = Said::Text { message: Some(at.to_string()), text: (*text).into() };
            self.run(Command::HearAgent { turn: turn(n), said: vec![said] });
        }
        self.run(Command::EndTurn(EndTurn { turn: turn(n), end, reason: "end".into(), error: None }));
    }
}

fn play(kept: &mut Kept, input: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..input.int_in_range(0..=9)? {
        kept.made += 1;
        let n = kept.made;
        let turns: Vec<usize> = (0..kept.places.len()).filter(|at| kept.places[*at].turn.is_some()).collect();
        match input.int_in_range(0..=9)? {
            0 if !turns.is_empty() => {
                let at = *input.choose(&turns)?;
                again(kept, at, n);
            }
            1 if !turns.is_empty() => {
                let at = *input.choose(&turns)?;
                kept.run(Command::Revert { turn: kept.places[at].turn.map(turn) });
                kept.places.truncate(at);
            }
            2 => {
                let role = *input.choose(&[Role::User, Role::Assistant, Role::System])?;
                let text = *input.choose(&TEXTS[..3])?;
                let message = NewMessage { id: message(n), role, parts: vec![NewPart::Text(text.into())] };
                kept.run(Command::RecordMessages { messages: vec![message] });
                kept.places.push(Place { turn: None, held: vec![Held { role, text: text.into(), optional: false, since: n }] });
            }
            3 => {
                kept.run(Command::ClearContext);
                kept.places.clear();
            }
            _ => ask(kept, n, input)?,
        }
    }
    Ok(())
}

fn ask(kept: &mut Kept, n: u64, input: &mut Unstructured<'_>) -> Result<()> {
    let text = *input.choose(&TEXTS[..3])?;
    let mut answers = Vec::new();
    for _ in 0..input.int_in_range(0..=2)? {
        answers.push(*input.choose(&TEXTS)?);
    }
    let end = *input.choose(&[TurnEnd::Completed, TurnEnd::Completed, TurnEnd::Failed, TurnEnd::Interrupted])?;
    kept.run(Command::SubmitTurn(SubmitTurn {
        turn: turn(n),
        earlier: Vec::new(),
        message: message(n),
        parts: vec![NewPart::Text(text.into())],
        agent: None,
        model: None,
        agent_session: None,
        if_busy: IfBusy::Queue,
        known: known(),
    }));
    kept.answer(n, &answers, end);
    kept.places.push(Place { turn: Some(n), held: exchange((text.into(), n), (answers.concat(), n), end) });
    Ok(())
}

/// The turn at a place is done again, and answered with `z`.
fn again(kept: &mut Kept, at: usize, n: u64) {
    let old = kept.places[at].turn.expect("it was chosen among turns");
    let order = AgainTurn { turn: turn(old), by: turn(n), agent: None, model: None, known: known() };
    let completed = kept.state.turn(turn(old)).is_some_and(|entry| entry.turn.state == TurnState::Completed);
    kept.run(if completed { Command::RedoTurn(order) } else { Command::RetryTurn(order) });
    kept.answer(n, &["z"], TurnEnd::Completed);
    let Held { text, since, .. } = kept.places[at].held[0].clone();
    kept.places[at] = Place { turn: Some(n), held: exchange((text, since), ("z".into(), n), TurnEnd::Completed) };
}

fn exchange((text, asked): (String, u64), (answer, answered): (String, u64), end: TurnEnd) -> Vec<Held> {
    let optional = end != TurnEnd::Completed || answer.is_empty();
    let request = Held { role: Role::User, text, optional: false, since: asked };
    let since = if answer.is_empty() { asked } else { answered };
    vec![request, Held { role: Role::Assistant, text: answer, optional, since }]
}

/// What is held, edited in up to three places.
fn resend(held: &[Held], input: &mut Unstructured<'_>) -> Result<Vec<(Role, String)>> {
    let mut sent: Vec<_> = held.iter().map(|held| (held.role, held.text.clone())).collect();
    for _ in 0..input.int_in_range(0..=3)? {
        let at = input.int_in_range(0..=sent.len())?;
        let role = *input.choose(&[Role::User, Role::Assistant, Role::System])?;
        let text = (*input.choose(&TEXTS)?).to_owned();
        match input.int_in_range(0..=4)? {
            0 => sent.truncate(at),
            1 => sent.insert(at, (role, text)),
            2 if at < sent.len() => _ = sent.remove(at),
            3 if at < sent.len() => sent[at].1 = text,
            _ => sent.push((Role::User, text)),
        }
    }
    Ok(sent)
}

fn known() -> KnownAgents {
    let demo = AgentName::new("demo").expect("a name");
    KnownAgents { default: demo.clone(), agents: [(demo, KnownAgent::default())].into() }
}

fn session(n: u64) -> SessionId {
    SessionId(Uuid::from_u64_pair(1, n))
}

fn turn(n: u64) -> TurnId {
    TurnId(Uuid::from_u64_pair(2, n))
}

fn message(n: u64) -> MessageId {
    MessageId(Uuid::from_u64_pair(3, n))
}
