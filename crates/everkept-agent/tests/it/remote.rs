//! The demo agent behind a link passes the suite as it does in front of one, also when the link is cut at any moment.

use crate::demo::{agent, hear, open, order, prompt, script, text};
use everkept_agent::{
    Abilities, Agent, AgentFaultKind, BoxFuture, Done, Open, OpenSession, Output, Place, conformance,
    demo::MemoryInRam,
    remote::{Broken, HOLD, Link, RELAY_WITHIN, Relay, RemoteAgent, Workshop},
};
use everkept_core::AgentName;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

#[tokio::test(start_paused = true)]
async fn ag_18_the_demo_agent_behind_a_link_is_an_agent() {
    let remote = remote();
    let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    conformance::run(remote, &script()).await;
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn ag_18_tu_07_o5_it_is_one_whenever_its_link_is_cut() {
    let mut cuts = 0;
    for seed in 0..100 {
        let remote = remote();
        let cut = Arc::new(AtomicUsize::new(0));
        let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Seeded { seed, pieces: 12, cut: cut.clone() });
        conformance::run(remote, &script()).await;
        carried.abort();
        cuts += cut.load(SeqCst);
    }
    assert!(cuts > 5_000, "only {cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_comes_once_and_whole_over_many_links() {
    let local: Arc<dyn Agent> = agent(MemoryInRam::default());
    let said = "!think !tool:3 !big:3000 every word once";
    let expected = prompt(&mut open(&local, OpenSession::New).await, said).await;
    for seed in 0..5 {
        let remote = remote();
        let cut = Arc::new(AtomicUsize::new(0));
        let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Seeded { seed, pieces: 60, cut: cut.clone() });
        let remote: Arc<dyn Agent> = remote;
        let heard = prompt(&mut open(&remote, OpenSession::New).await, said).await;
        assert_eq!(heard.said, expected.said);
        assert!(heard.raw.concat() == expected.raw.concat(), "byte for byte");
        assert!(cut.load(SeqCst) > 20, "{cut:?}");
        carried.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn ag_17_one_link_at_a_time() {
    let remote = remote();
    let first = remote.claim().unwrap();
    assert!(remote.claim().is_none());
    drop(first);
    assert!(remote.claim().is_some());
}

#[tokio::test(start_paused = true)]
async fn without_a_relay_a_start_waits_and_then_fails_by_name() {
    let remote = remote();
    assert_eq!(remote.place(), Place::Elsewhere { connected: false });
    let waiting: Arc<dyn Agent> = remote.clone();
    let (opened, ()) = tokio::join!(open(&waiting, OpenSession::New), async {
        sleep(RELAY_WITHIN / 2).await;
        std::mem::forget(carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never));
    });
    assert_eq!(remote.place(), Place::Elsewhere { connected: true });
    drop(opened);
    let away = self::remote().open(new()).await.unwrap_err();
    assert_eq!((away.kind, away.retryable, away.may_have_happened), (AgentFaultKind::CannotStart, false, false));
    assert!(away.to_string().contains("worker"), "{away}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_stays_away_takes_its_processes_along_on_both_sides() {
    let (remote, watched) = (remote(), Watched::new());
    let carried = carry(&remote, relay(watched.clone()), Cuts::Never);
    let mut talk = open(&(remote.clone() as Arc<dyn Agent>), OpenSession::New).await;
    talk.connection.orders.send(order("!long", Vec::new())).await.unwrap();
    talk.connection.output.recv().await.unwrap();
    let relay = carried.lose().await;
    let fault = loop {
        match talk.connection.output.recv().await.unwrap() {
            Output::Said { .. } => {}
            Output::Gone(fault) => break fault,
            Output::Done { done, .. } => panic!("{done:?}"),
        }
    };
    assert!(fault.may_have_happened && fault.to_string().contains("worker"), "{fault}");
    assert!(talk.connection.output.recv().await.is_none());
    sleep(HOLD).await;
    assert_eq!(watched.running(), 0, "the agent was ended over there");
    // The next conversation finds the relay again.
    let again = carry(&remote, relay, Cuts::Never);
    let next = open(&(remote as Arc<dyn Agent>), OpenSession::Resume(talk.agent_session)).await;
    assert_eq!(text(&prompt(&mut { next }, "again").await), "reply 2 to: again");
    again.abort();
}

#[tokio::test(start_paused = true)]
async fn a_new_server_that_knows_no_process_ends_those_that_run() {
    let watched = Watched::new();
    let old = remote();
    let carried = carry(&old, relay(watched.clone()), Cuts::Never);
    let mut talk = open(&(old.clone() as Arc<dyn Agent>), OpenSession::New).await;
    talk.connection.orders.send(order("!long", Vec::new())).await.unwrap();
    talk.connection.output.recv().await.unwrap();
    let relay = carried.lose().await;
    assert_eq!(watched.running(), 1);
    let new = remote();
    let carried = carry(&new, relay, Cuts::Never);
    let new: Arc<dyn Agent> = new;
    let mut next = open(&new, OpenSession::Resume(talk.agent_session)).await;
    assert_eq!(watched.running(), 1, "the new one alone");
    assert_eq!(text(&prompt(&mut next, "again").await), "reply 2 to: again");
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_died_is_not_asked_again_for_what_it_may_have_done() {
    let remote = remote();
    let first = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    let mut talk = open(&(remote.clone() as Arc<dyn Agent>), OpenSession::New).await;
    talk.connection.orders.send(order("!long", Vec::new())).await.unwrap();
    talk.connection.output.recv().await.unwrap();
    drop(first.lose().await);
    let second = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    let heard = hear(&mut talk).await;
    assert_eq!(heard.done, None, "gone at once, and not after the hold");
    assert!(talk.connection.output.recv().await.is_none());
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_while_it_opens_is_not_left_running() {
    let (remote, watched) = (remote(), Watched::new());
    watched.slow.store(1_000, SeqCst);
    let carried = carry(&remote, relay(watched.clone()), Cuts::Never);
    let opening = tokio::spawn(remote.open(new()));
    sleep(Duration::from_millis(500)).await;
    opening.abort();
    sleep(Duration::from_secs(2)).await;
    assert_eq!((watched.opened(), watched.running()), (0, 0));
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_held_back_holds_the_agent_back() {
    let (remote, watched) = (remote(), Watched::new());
    let carried = carry(&remote, relay(watched.clone()), Cuts::Never);
    let mut talk = open(&(remote as Arc<dyn Agent>), OpenSession::New).await;
    talk.connection.orders.send(order("!big:20000", Vec::new())).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let said = watched.said();
    assert!(said < 2_000, "20 MB wait with the agent, but for the window: {said}");
    assert_eq!(text(&hear(&mut talk).await).len(), "reply 1 to: ".len() + 20_000 * 1_024);
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_no_link_carries_fails_and_the_session_goes_on() {
    let remote = remote();
    let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    let mut talk = open(&(remote as Arc<dyn Agent>), OpenSession::New).await;
    let failed = prompt(&mut talk, &"x".repeat(65 * 1024 * 1024)).await;
    assert!(matches!(failed.done, Some(Done::Failed { code, .. }) if code == "prompt_too_large"));
    assert_eq!(text(&prompt(&mut talk, "small").await), "reply 1 to: small");
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn directories_are_those_of_the_relays_machine() {
    let there = tempfile::tempdir().unwrap();
    let (remote, watched) = (remote(), Watched::new());
    let workshop = Workshop { private: there.path().join("own"), ..workshop(watched.clone()) };
    let carried = carry(&remote, Relay::new(workshop), Cuts::Never);
    let open = |directory: PathBuf| remote.open(Open { directory, ..new() });
    open(Path::new(PRIVATE).join("ses_1")).await.unwrap();
    open(there.path().to_owned()).await.unwrap();
    assert_eq!(watched.directories(), [there.path().join("own/ses_1"), there.path().to_owned()]);
    assert!(there.path().join("own/ses_1").is_dir());
    let fault = open("/nowhere/at/all".into()).await.unwrap_err();
    assert!(fault.to_string().contains("/nowhere/at/all"), "{fault}");
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn ends_that_do_not_belong_together_say_so() {
    let say = async |first: &str| {
        let (ours, theirs) = Link::pair();
        let mut relay = relay(agent(MemoryInRam::default()));
        ours.sender.send(format!("{first}\n")).await.unwrap();
        relay.run(theirs, || panic!("not ready")).await.unwrap_err()
    };
    assert_eq!(say(r#"{"initialize":{"protocol":2,"speed":"high"}}"#).await, Broken::Version(2));
    let other = r#"{"initialize":{"protocol":1,"agent":"other","processes":[]}}"#;
    assert_eq!(say(other).await, Broken::OtherAgent("other".into()));
    let unknown = r#"{"initialize":{"protocol":1,"agent":"worker","processes":[],"more":1}}"#;
    assert!(matches!(say(unknown).await, Broken::Unreadable(_)));
    let (_held, theirs) = Link::pair();
    assert_eq!(relay(agent(MemoryInRam::default())).run(theirs, || ()).await, Err(Broken::Late));
    let answer = async |text: &str| {
        let (ours, theirs) = Link::pair();
        ours.sender.send(format!("{text}\n")).await.unwrap();
        remote().claim().unwrap().run(theirs).await.unwrap_err()
    };
    assert_eq!(answer(r#"{"ready":{"protocol":7}}"#).await, Broken::Version(7));
    assert!(matches!(answer(r#"{"heard":{"process":"p","number":1}}"#).await, Broken::Unreadable(_)));
}

const PRIVATE: &str = "/private";

fn remote() -> Arc<RemoteAgent> {
    let last = AtomicU64::new(0);
    let ids = Arc::new(move || format!("process-{}", last.fetch_add(1, SeqCst)));
    Arc::new(RemoteAgent::new(AgentName::new("worker").unwrap(), PRIVATE.into(), ids))
}

fn workshop(agent: Arc<dyn Agent>) -> Workshop {
    Workshop { name: AgentName::new("worker").unwrap(), agent, model: None, private: "/".into() }
}

fn relay(agent: Arc<dyn Agent>) -> Relay {
    Relay::new(workshop(agent))
}

fn new() -> Open {
    Open { directory: "/".into(), session: OpenSession::New, model: None }
}

/// When a link is cut: never, or after fewer than so many pieces, as the seed says; then there is a new one.
enum Cuts {
    Never,
    Seeded { seed: u64, pieces: u64, cut: Arc<AtomicUsize> },
}

struct Carried {
    stop: mpsc::Sender<()>,
    task: JoinHandle<Relay>,
}

impl Carried {
    fn abort(self) {
        self.task.abort();
    }

    /// Cuts the link for good; what was in it is lost.
    async fn lose(self) -> Relay {
        drop(self.stop);
        self.task.await.unwrap()
    }
}

fn carry(remote: &Arc<RemoteAgent>, mut relay: Relay, cuts: Cuts) -> Carried {
    let remote = remote.clone();
    let (stop, mut stopped) = mpsc::channel(1);
    let task = tokio::spawn(async move {
        let mut chance = Chance(if let Cuts::Seeded { seed, .. } = cuts { seed } else { 0 });
        loop {
            let claim = remote.claim().expect("the last link is over");
            let ((near, out), (back, far)) = (Link::pair(), Link::pair());
            let pieces = if let Cuts::Seeded { pieces, .. } = cuts { chance.below(pieces) } else { u64::MAX };
            tokio::select! {
                biased;
                ended = claim.run(near) => panic!("the server's half ended: {ended:?}"),
                ended = relay.run(far, || ()) => panic!("the relay's half ended: {ended:?}"),
                () = pass(out, back, pieces) => {}
                _ = stopped.recv() => return relay,
            }
            if let Cuts::Seeded { cut, .. } = &cuts {
                cut.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(chance.below(3))).await;
            }
        }
    });
    Carried { stop, task }
}

/// Carries so many pieces in both directions together.
async fn pass(mut one: Link, mut other: Link, pieces: u64) {
    for _ in 0..pieces {
        tokio::select! {
            Some(piece) = one.receiver.recv() => other.sender.send(piece).await.unwrap(),
            Some(piece) = other.receiver.recv() => one.sender.send(piece).await.unwrap(),
        }
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Counts what runs of the demo agent and what it says.
struct Watched {
    agent: Arc<dyn Agent>,
    /// Milliseconds that opening takes.
    slow: AtomicU64,
    opened: AtomicUsize,
    running: Arc<AtomicUsize>,
    said: Arc<AtomicUsize>,
    directories: Mutex<Vec<PathBuf>>,
}

impl Watched {
    fn new() -> Arc<Watched> {
        Arc::new(Watched {
            agent: agent(MemoryInRam::default()),
            slow: AtomicU64::new(0),
            opened: AtomicUsize::new(0),
            running: Arc::default(),
            said: Arc::default(),
            directories: Mutex::default(),
        })
    }

    fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }

    fn said(&self) -> usize {
        self.said.load(SeqCst)
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.directories.lock().unwrap().clone()
    }
}

impl Agent for Watched {
    fn abilities(&self) -> Abilities {
        self.agent.abilities()
    }

    fn open(&self, open: Open) -> BoxFuture<Result<everkept_agent::Opened, everkept_agent::AgentFault>> {
        self.directories.lock().unwrap().push(open.directory.clone());
        let (slow, agent) = (Duration::from_millis(self.slow.load(SeqCst)), self.agent.clone());
        let (running, said) = (self.running.clone(), self.said.clone());
        if slow.is_zero() {
            self.opened.fetch_add(1, SeqCst);
        }
        Box::pin(async move {
            sleep(slow).await;
            let mut opened = agent.open(open).await?;
            running.fetch_add(1, SeqCst);
            let (out, output) = mpsc::channel(1);
            let mut inner = std::mem::replace(&mut opened.connection.output, output);
            tokio::spawn(async move {
                while let Some(heard) = inner.recv().await {
                    said.fetch_add(1, SeqCst);
                    if out.send(heard).await.is_err() {
                        break;
                    }
                }
                running.fetch_sub(1, SeqCst);
            });
            Ok(opened)
        })
    }
}
