//! Drives sessions of a store through the core, as an engine would: decide, apply, commit with the rows.
//!
//! Never makes an id or a time of its own that another run would not make again.

use super::ok;
use crate::{Commit, CommitFault, EventsQuery, LogWrite, Store, StoredEvent, encode};
use everkept_core::{
    AgentName, AgentSessionBecause, AgentSessionId, BeginTurn, BlobRef, Command, CreateSession, Cut, EndTurn, Event, Fork, IfBusy,
    KnownAgent, KnownAgents, MessageId, NewPart, QuestionId, Refusal, Resource, Said, SessionId, State, SubmitTurn, Thread, Timestamp,
    TurnEnd, TurnId, Unseen, decide, digest_of, fork, records,
};
use std::collections::BTreeMap;

pub struct Hand<'a> {
    pub store: &'a dyn Store,
    pub states: BTreeMap<SessionId, State>,
    pub fences: BTreeMap<SessionId, u64>,
    pub now: Timestamp,
    made: u128,
}

/// The n-th id of its kind, whatever kind is asked for.
pub fn id<T: std::str::FromStr>(prefix: &str, n: u128) -> T {
    format!("{prefix}{n:032x}").parse().ok().expect("a prefix and 32 hex digits are an id")
}

pub fn session_id(n: u128) -> SessionId {
    id(SessionId::PREFIX, n)
}

pub fn agent(name: &str) -> AgentName {
    AgentName::new(name).expect("the names used here are allowed")
}

pub fn resource(name: &str) -> Resource {
    Resource::new(name).expect("the names used here are allowed")
}

pub fn thread(name: &str) -> Thread {
    Thread::new(name).expect("the names used here are allowed")
}

pub fn known() -> KnownAgents {
    let agents = ["demo", "other"].map(|name| (agent(name), KnownAgent::default()));
    KnownAgents { default: agent("demo"), agents: agents.into_iter().collect() }
}

impl<'a> Hand<'a> {
    pub fn new(store: &'a dyn Store) -> Self {
        Hand { store, states: BTreeMap::new(), fences: BTreeMap::new(), now: Timestamp(1_700_000_000_000_000), made: 0 }
    }

    pub fn fresh<T: std::str::FromStr>(&mut self, prefix: &str) -> T {
        self.made += 1;
        id(prefix, self.made)
    }

    pub fn later(&mut self, micros: i64) {
        self.now = Timestamp(self.now.0 + micros);
    }

    pub fn state(&self, session: SessionId) -> &State {
        &self.states[&session]
    }

    /// What `events` would write to the session, and its state after them.
    pub fn write(&self, session: SessionId, events: Vec<Event>) -> (LogWrite, State) {
        let mut state = self.states.get(&session).cloned().unwrap_or_else(|| State::new(session));
        let expected_head = state.head;
        for event in &events {
            state.apply(event);
        }
        let records = records(&state, &events);
        let fence = self.fences.get(&session).copied().unwrap_or(1);
        (LogWrite { session, expected_head, fence, fork_of: None, events, records }, state)
    }

    pub fn commit_of(&self, writes: Vec<LogWrite>) -> Commit {
        Commit { writes, wall: self.now, ..Commit::default() }
    }

    pub fn decide(&self, session: SessionId, command: Command) -> Result<Vec<Event>, Refusal> {
        let unborn;
        let state = match self.states.get(&session) {
            Some(state) => state,
            None => {
                unborn = State::new(session);
                &unborn
            }
        };
        decide(state, command, self.now)
    }

    /// Commits what the command leads to; a refusal is the caller's to expect.
    pub async fn order(&mut self, session: SessionId, command: Command) -> Result<Vec<StoredEvent>, Refusal> {
        let events = self.decide(session, command)?;
        Ok(self.append(session, events).await)
    }

    pub async fn act(&mut self, session: SessionId, command: Command) -> Vec<StoredEvent> {
        match self.order(session, command).await {
            Ok(stored) => stored,
            Err(refusal) => panic!("the commands used here are allowed: {refusal}"),
        }
    }

    pub async fn append(&mut self, session: SessionId, events: Vec<Event>) -> Vec<StoredEvent> {
        if events.is_empty() {
            return Vec::new();
        }
        let (write, state) = self.write(session, events);
        let first = write.expected_head + 1;
        let expected: Vec<Vec<u8>> = (first..).zip(&write.events).map(|(seq, event)| encode(event, seq)).collect();
        let mut stored = ok(self.store.commit(self.commit_of(vec![write]))).await;
        self.states.insert(session, state);
        let stored = stored.pop().unwrap_or_default();
        assert_eq!(stored.iter().map(|event| event.bytes.to_vec()).collect::<Vec<_>>(), expected, "the answer is the encoded events");
        stored
    }

    pub async fn create(&mut self, title: Option<&str>) -> SessionId {
        self.create_for(title, None, None).await
    }

    pub async fn create_for(&mut self, title: Option<&str>, owner: Option<&str>, name: Option<&str>) -> SessionId {
        let session = self.fresh(SessionId::PREFIX);
        let command = Self::creation(session, title, owner, name);
        self.act(session, command).await;
        session
    }

    pub fn creation(session: SessionId, title: Option<&str>, owner: Option<&str>, name: Option<&str>) -> Command {
        Command::CreateSession(CreateSession {
            session,
            title: title.map(Into::into),
            resource: owner.map(resource),
            thread: name.map(thread),
            directory: "/work".into(),
            agent: None,
            model: None,
            agent_session: None,
            parent: None,
            metadata: None,
            known: known(),
        })
    }

    pub async fn submit(&mut self, session: SessionId, text: &str) -> TurnId {
        let turn = self.fresh(TurnId::PREFIX);
        let message = self.fresh(MessageId::PREFIX);
        let command = Self::submission(turn, message, text);
        self.act(session, command).await;
        turn
    }

    pub fn submission(turn: TurnId, message: MessageId, text: &str) -> Command {
        Command::SubmitTurn(SubmitTurn {
            turn,
            earlier: Vec::new(),
            message,
            parts: vec![NewPart::Text(text.into())],
            agent: None,
            model: None,
            agent_session: None,
            if_busy: IfBusy::Queue,
            known: known(),
        })
    }

    pub async fn begin(&mut self, session: SessionId, turn: TurnId) {
        let agent_session = AgentSessionId::new(format!("agent-of-{session}")).expect("the names used here are allowed");
        let because = AgentSessionBecause::Detected;
        self.act(session, Command::BeginTurn(BeginTurn { turn, agent_session, because, given: Unseen::default(), model_set: None })).await;
    }

    pub async fn say(&mut self, session: SessionId, turn: TurnId, text: &str) {
        let said = vec![Said::Text { message: None, text: text.into() }];
        self.act(session, Command::HearAgent { turn, said }).await;
    }

    pub async fn end(&mut self, session: SessionId, turn: TurnId) {
        let command = EndTurn { turn, end: TurnEnd::Completed, reason: "end_turn".into(), error: None };
        self.act(session, Command::EndTurn(command)).await;
    }

    /// A whole turn: asked, and answered word by word.
    pub async fn talk(&mut self, session: SessionId, text: &str, answer: &[&str]) -> TurnId {
        let turn = self.submit(session, text).await;
        self.begin(session, turn).await;
        for piece in answer {
            self.later(15_000);
            self.say(session, turn, piece).await;
        }
        self.end(session, turn).await;
        turn
    }

    pub async fn fork(&mut self, parent: SessionId, at: Option<Cut>) -> SessionId {
        match self.try_fork(parent, at, None).await {
            Ok(child) => child,
            Err(refusal) => panic!("the forks made here are allowed: {refusal}"),
        }
    }

    /// A fork that takes its parent's thread along when one is named.
    pub async fn try_fork(&mut self, parent: SessionId, at: Option<Cut>, takes: Option<Thread>) -> Result<SessionId, Refusal> {
        let child = self.fresh(SessionId::PREFIX);
        let take_thread = takes.is_some();
        let command = Fork { child, at, title: None, thread: takes, take_thread, agent: None, directory: None, known: known() };
        let forked = fork(self.state(parent), command, self.now)?;
        let mut state = State::new(child);
        for event in self.replay(parent, forked.cut).await {
            state.apply(&event);
        }
        for event in &forked.child_events {
            state.apply(event);
        }
        let child_write = LogWrite {
            session: child,
            expected_head: forked.cut,
            fence: 1,
            fork_of: Some((parent, forked.cut)),
            records: records(&state, &forked.child_events),
            events: forked.child_events,
        };
        let mut writes = vec![child_write];
        if !forked.parent_events.is_empty() {
            let (write, after) = self.write(parent, forked.parent_events);
            writes.push(write);
            self.states.insert(parent, after);
        }
        ok(self.store.commit(self.commit_of(writes))).await;
        self.states.insert(child, state);
        Ok(child)
    }

    /// The events of a session up to and including `until`, as the core takes them.
    pub async fn replay(&self, session: SessionId, until: u64) -> Vec<Event> {
        let query = EventsQuery { session: Some(session), until: Some(until), limit: u32::MAX, ..EventsQuery::default() };
        let stored = ok(self.store.events(query)).await;
        let decoded = stored.iter().map(|event| crate::decode(&event.bytes).map(|(_, event)| event));
        decoded.collect::<Result<_, _>>().expect("a store returns events that can be read")
    }

    /// A commit that a rule of the store refuses.
    pub async fn refused(&self, commit: Commit) -> CommitFault {
        match self.store.commit(commit).await {
            Err(fault) => fault,
            Ok(stored) => panic!("a store must refuse this and answered {stored:?}"),
        }
    }

    pub fn question(&mut self) -> QuestionId {
        self.fresh(QuestionId::PREFIX)
    }
}

/// Fails on the first event that differs, and shows that one only.
pub fn assert_same(found: &[StoredEvent], expected: &[StoredEvent]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

/// All events of a session.
pub async fn log(store: &dyn Store, session: SessionId) -> Vec<StoredEvent> {
    ok(store.events(EventsQuery { session: Some(session), limit: u32::MAX, ..EventsQuery::default() })).await
}

pub fn blob_of(bytes: &[u8]) -> BlobRef {
    BlobRef { id: digest_of(bytes), bytes: bytes.len() as u64 }
}
