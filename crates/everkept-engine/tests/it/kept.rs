//! An agent that writes its sessions down and loses them: they are put back, and what a copy does not hold is told again.

use crate::world::*;
use bytes::Bytes;
use everkept_agent::demo::{DemoAgent, DemoMemory};
use everkept_agent::*;
use everkept_core::*;
use everkept_engine::{AgentEntry, NewFork, NewSession, Order};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The demo agent, whose memory is one byte for each prompt in a file for each session.
#[derive(Default)]
struct Paper {
    files: Mutex<BTreeMap<String, String>>,
    unreadable: AtomicBool,
    put: Mutex<Vec<String>>,
}

impl Paper {
    fn lose(&self) {
        self.files.lock().unwrap().clear();
    }

    fn name(session: &AgentSessionId) -> String {
        format!("{session}.txt")
    }

    fn lines(&self, name: &str) -> Option<String> {
        self.files.lock().unwrap().get(name).cloned()
    }
}

impl DemoMemory for Paper {
    fn begin(&self, session: &str, prompts: u64) -> io::Result<()> {
        let lines = "prompt\n".repeat(usize::try_from(prompts).unwrap());
        self.files.lock().unwrap().insert(format!("{session}.txt"), lines);
        Ok(())
    }

    fn prompts(&self, session: &str) -> io::Result<Option<u64>> {
        Ok(self.lines(&format!("{session}.txt")).map(|lines| lines.lines().count() as u64))
    }

    fn see(&self, session: &str, more: u64) -> io::Result<u64> {
        let seen = self.prompts(session)?.ok_or(io::ErrorKind::NotFound)? + more;
        self.begin(session, seen)?;
        Ok(seen)
    }
}

struct Scribe {
    demo: DemoAgent,
    paper: Arc<Paper>,
}

impl Agent for Scribe {
    fn abilities(&self) -> Abilities {
        Abilities { transcript: true, ..self.demo.abilities() }
    }

    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        Some(Arc::new(Shelf(self.paper.clone())))
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        self.demo.open(open)
    }
}

struct Shelf(Arc<Paper>);

impl Transcripts for Shelf {
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>> {
        let file = Paper::name(&kept.session);
        let from = kept.file(&file).map_or(0, |file| file.bytes);
        let written = match self.0.unreadable.load(Ordering::SeqCst) {
            true => Err(fault()),
            false => Ok(self.0.lines(&file).and_then(|lines| {
                // A line at a time, so that it is come back for the next.
                let line = lines.get(usize::try_from(from).unwrap()..)?.lines().next()?.to_owned() + "\n";
                let more = from + (line.len() as u64) < lines.len() as u64;
                Some(Piece { file, from, bytes: Bytes::from(line), more })
            })),
        };
        Box::pin(async move { written.map(|piece| piece.into_iter().collect()) })
    }

    fn lacking(&self, kept: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let has = |file: &SoFar| self.0.lines(&file.name).is_some_and(|lines| lines.len() as u64 >= file.bytes);
        let lacking = kept.files.iter().filter(|file| !has(file)).map(|file| file.name.clone()).collect();
        Box::pin(async move { Ok(lacking) })
    }

    fn put_back(&self, _: PathBuf, _: AgentSessionId, files: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let mut put = Vec::new();
        for Whole { file, bytes } in files {
            self.0.files.lock().unwrap().insert(file.clone(), String::from_utf8(bytes.to_vec()).unwrap());
            put.push(file);
        }
        self.0.put.lock().unwrap().extend(put.clone());
        Box::pin(async move { Ok(put) })
    }
}

fn fault() -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::Refused,
        doing: "copying a session".into(),
        message: "it cannot be read".into(),
        retryable: true,
        may_have_happened: false,
    }
}

async fn world() -> (World, Arc<Paper>, SessionId) {
    let mut world = World::new().await;
    let paper = Arc::new(Paper::default());
    let count = AtomicU64::new(0);
    let ids = Arc::new(move || format!("scribe-{}", count.fetch_add(1, Ordering::SeqCst) + 1));
    let scribe = Scribe { demo: DemoAgent::new(paper.clone(), ids), paper: paper.clone() };
    world.agents.insert(name("scribe"), AgentEntry::new(Arc::new(scribe), None));
    world.crash_and_restart().await;
    let new = NewSession { agent: Some(name("scribe")), ..NewSession::default() };
    let session = world.session_with(new).await.id;
    (world, paper, session)
}

/// Asks, and waits until the agent's own record of it is kept.
async fn ask_and_keep(world: &World, session: SessionId, text: &str) -> Turn {
    let (turn, _) = world.ask(session, text).await;
    world.until(session, |event| matches!(event.body, Body::AgentSessionKept(_)) && event.turn == Some(turn.id)).await;
    turn
}

fn only<T>(events: &[Event], one: impl Fn(&Body) -> Option<T>) -> Vec<T> {
    events.iter().filter_map(|event| one(&event.body)).collect()
}

fn put_back(events: &[Event]) -> Vec<AgentSessionPutBack> {
    only(events, |body| if let Body::AgentSessionPutBack(data) = body { Some(data.clone()) } else { None })
}

fn kept(events: &[Event]) -> Vec<(u64, u64)> {
    let kept = only(events, |body| if let Body::AgentSessionKept(data) = body { Some(data.files.clone()) } else { None });
    kept.concat().iter().map(|file| (file.from, file.pieces.iter().map(|piece| piece.bytes).sum())).collect()
}

fn started(events: &[Event]) -> Vec<TurnStarted> {
    only(events, |body| if let Body::TurnStarted(data) = body { Some(data.clone()) } else { None })
}

#[tokio::test(start_paused = true)]
async fn o7_a_session_that_its_agent_lost_is_put_back_before_it_is_taken_up() {
    let (mut world, paper, session) = world().await;
    ask_and_keep(&world, session, "one").await;
    ask_and_keep(&world, session, "two").await;
    paper.lose();
    world.crash_and_restart().await;
    let turn = ask_and_keep(&world, session, "three").await;
    assert_eq!(world.answer(&turn).await, "reply 3 to: three");
    let events = world.events(session).await;
    assert_eq!(kept(&events), [(0, 7), (7, 7), (14, 7)], "each byte is kept once");
    let files = vec![FilePutBack { file: "scribe-1.txt".into(), bytes: 14 }];
    let agent_session = AgentSessionId::new("scribe-1").unwrap();
    assert_eq!(put_back(&events), [AgentSessionPutBack { agent: name("scribe"), agent_session, files }]);
    let last = started(&events).pop().unwrap();
    assert_eq!((last.agent_session_because, last.given_messages), (AgentSessionBecause::Inherited, 0));
    let kinds = world.kinds(session).await;
    let at = |kind| kinds.iter().rposition(|held| *held == kind).unwrap();
    assert!(at("agent_session.put_back") < at("turn.started"), "{kinds:?}");
    let pinned = &world.held(session).await.agent_sessions;
    assert_eq!((pinned.len(), pinned[0].first.as_str(), &pinned[0].successors), (1, "scribe-1", &vec![]));
}

#[tokio::test(start_paused = true)]
async fn o7_what_a_copy_does_not_hold_is_told_again_when_it_is_put_back() {
    let (mut world, paper, session) = world().await;
    ask_and_keep(&world, session, "one").await;
    // As when the server is killed between a turn's end and its copy.
    paper.unreadable.store(true, Ordering::SeqCst);
    let (second, _) = world.ask(session, "two").await;
    paper.lose();
    world.crash_and_restart().await;
    paper.unreadable.store(false, Ordering::SeqCst);
    let turn = ask_and_keep(&world, session, "three").await;
    assert_eq!(world.answer(&turn).await, "reply 3 to: three", "one prompt was in the copy, one went along");
    let events = world.events(session).await;
    let last = started(&events).pop().unwrap();
    let (first, last_given) = (second.request_message.unwrap(), *second.response_messages.last().unwrap());
    assert_eq!((last.given_messages, last.given), (2, vec![GivenMessages { first, last: last_given }]));
    let (turn, answer) = world.ask(session, "four").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 4 to: four"));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_missed_is_made_with_the_next_turn() {
    let (mut world, paper, session) = world().await;
    paper.unreadable.store(true, Ordering::SeqCst);
    world.ask(session, "one").await;
    world.crash_and_restart().await;
    paper.unreadable.store(false, Ordering::SeqCst);
    let (second, _) = world.ask(session, "two").await;
    let whole = |event: &Event| matches!(&event.body, Body::AgentSessionKept(data) if data.files[0].from == 7);
    assert_eq!(world.until(session, whole).await.turn, Some(second.id));
    assert_eq!(kept(&world.events(session).await), [(0, 7), (7, 7)], "in pieces, as it was read");
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_still_has_is_left_alone_and_without_a_copy_a_lost_session_is_lost() {
    let (mut world, paper, session) = world().await;
    ask_and_keep(&world, session, "one").await;
    world.crash_and_restart().await;
    ask_and_keep(&world, session, "two").await;
    assert_eq!(put_back(&world.events(session).await), []);
    assert_eq!(*paper.put.lock().unwrap(), Vec::<String>::new());

    paper.unreadable.store(true, Ordering::SeqCst);
    let new = NewSession { agent: Some(name("scribe")), ..NewSession::default() };
    let unkept = world.session_with(new).await.id;
    world.ask(unkept, "one").await;
    paper.lose();
    world.crash_and_restart().await;
    let (turn, _) = world.ask(unkept, "two").await;
    assert_eq!((turn.state, turn.reason.as_deref()), (TurnState::Failed, Some("agent_session_unknown")));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_put_back_before_it_is_forked() {
    let (mut world, paper, session) = world().await;
    ask_and_keep(&world, session, "one").await;
    paper.lose();
    world.crash_and_restart().await;
    let fork = as_session(world.order(session, Order::Fork(NewFork::default())).await.unwrap()).id;
    let (_, answer) = world.ask(fork, "two").await;
    assert_eq!(answer, "reply 2 to: two");
    let events = world.events(fork).await;
    assert_eq!(put_back(&events).len(), 1, "in the log of the fork");
    assert_eq!(started(&events).pop().unwrap().agent_session_because, AgentSessionBecause::Forked);
}
