//! Nobody's appends wait for another's: promise L2, in the disk's time.
//!
//! The disk syncs one commit after the other, each for as long, and each takes along all that waits when it begins.

use crate::server::engine;
use everkept_core::{AgentName, IfBusy, Resource, Role, SessionId};
use everkept_engine::{Access, Answered, Caller, Engine, Intake, MessageIn, NewSession, NewTurn, Order, PartIn, Reply};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const SYNC: Duration = Duration::from_millis(10);
const APPENDS: usize = 100;

/// When the sync that runs ends, and the one after it.
#[derive(Clone, Copy)]
struct Disk {
    runs_until: Instant,
    next_until: Option<Instant>,
}

impl Disk {
    /// When what comes now is on disk.
    fn synced(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.runs_until {
            self.runs_until = self.next_until.take().unwrap_or(now);
        }
        if now >= self.runs_until {
            self.runs_until = now + SYNC;
            return self.runs_until;
        }
        *self.next_until.get_or_insert(self.runs_until + SYNC)
    }
}

fn caller(owner: &str) -> Caller {
    Caller { access: Access::Resource(Resource::new(owner).unwrap()), principal: owner.into() }
}

async fn session(engine: &Engine, owner: &Caller) -> SessionId {
    match engine.create_session(owner, NewSession::default(), None).await.unwrap() {
        Answered::Fresh(Reply::Session(session)) => session.id,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Vec<MessageIn> {
    vec![MessageIn { role: Role::User, parts: vec![PartIn::Text(text.into())] }]
}

async fn append(engine: &Engine, owner: &Caller, session: SessionId, said: &str) {
    engine.order(owner, session, Order::Record { messages: text(said), history: false }, None).await.unwrap();
}

/// The 99th of a hundred appends of one who appends now and then.
async fn p99(engine: &Engine, owner: &Caller, session: SessionId) -> Duration {
    let mut took = Vec::new();
    for number in 0..APPENDS {
        // At no time that the disk would like best.
        tokio::time::sleep(Duration::from_micros(7_001 + 1_313 * (number as u64 % 11))).await;
        let begun = Instant::now();
        append(engine, owner, session, "hello").await;
        took.push(begun.elapsed());
    }
    took.sort();
    took[APPENDS * 99 / 100 - 1]
}

#[tokio::test(start_paused = true)]
async fn l2_no_session_owner_or_agent_makes_anothers_appends_take_twice_as_long() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _, store) = engine(directory.path()).await;
    let disk = Arc::new(Mutex::new(Disk { runs_until: Instant::now(), next_until: None }));
    store.pace_commits(Arc::new(move || {
        let synced = disk.lock().unwrap().synced();
        Box::pin(tokio::time::sleep_until(synced))
    }));
    let (ann, bob) = (caller("ann"), caller("bob"));
    let quiet = session(&engine, &ann).await;
    let alone = p99(&engine, &ann, quiet).await;
    // One session that is written to by sixty at once, and then sixty of one owner's.
    for sessions in [1, 60] {
        let mut floods = Vec::new();
        let loud = futures::future::join_all((0..sessions).map(|_| session(&engine, &bob))).await;
        for writer in 0..60 {
            let (engine, bob, session) = (engine.clone(), bob.clone(), loud[writer % loud.len()]);
            floods.push(tokio::spawn(async move {
                loop {
                    append(&engine, &bob, session, &"x".repeat(1_000)).await;
                }
            }));
        }
        let beside = p99(&engine, &ann, quiet).await;
        println!("p99 of an append alone {alone:?}, beside sixty writers of {sessions} sessions {beside:?}");
        floods.iter().for_each(tokio::task::JoinHandle::abort);
        assert!(beside <= 2 * alone, "{sessions}: {beside:?}");
    }
    // An agent that talks without end in as many sessions as it may.
    for _ in 0..40 {
        let loud = session(&engine, &bob).await;
        let intake = Intake::Messages(text("!long !slow:1 talk"));
        let agent = Some(AgentName::new("other").unwrap());
        let turn = NewTurn { intake, agent, model: None, agent_session: None, if_busy: IfBusy::Queue };
        engine.order(&bob, loud, Order::Submit(turn), None).await.unwrap();
    }
    let beside = p99(&engine, &ann, quiet).await;
    println!("beside an agent that talks in 40 sessions {beside:?}");
    assert!(beside <= 2 * alone, "{beside:?}");
}
