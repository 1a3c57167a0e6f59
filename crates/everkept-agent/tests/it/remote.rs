//! The demo agent behind a link passes the suite as it does in front of one, also when the link is cut at any moment.

use crate::demo::{agent, hear, open, order, prompt, script, session, text, turn};
use everkept_agent::{
    Abilities, Agent, AgentFaultKind, BoxFuture, Done, Open, OpenSession, Order, Output, Place, conformance,
    demo::MemoryInRam,
    remote::{Broken, HOLD, Link, RELAY_WITHIN, Relay, RemoteAgent, Workshop},
};
use everkept_core::{AgentName, Said, Usage, digest_of};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

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
        match timeout(2 * HOLD, talk.connection.output.recv()).await.expect("it is given up").unwrap() {
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
    let heard = timeout(HOLD / 2, hear(&mut talk)).await.expect("gone at once, and not after the hold");
    assert_eq!(heard.done, None);
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
async fn ag_18_the_frames_are_these_and_only_what_was_taken_is_acknowledged() {
    let remote = remote();
    let mut far = Far::attach(&remote).await;
    assert_eq!(far.hear().await, json!({ "initialize": { "protocol": 1, "agent": "worker", "processes": [] } }));
    let can = json!({ "resume": true, "fork": false, "cancel": true, "ask_permission": true, "set_model": false, "report_usage": true, "remember": true });
    far.say(json!({ "ready": { "protocol": 1, "capabilities": can, "model": "p/m", "processes": [] } })).await;
    let opening = tokio::spawn(remote.open(new()));
    let open = json!({ "open": { "directory": { "path": "/" }, "session": "new", "model": null } });
    assert_eq!(far.hear().await, json!({ "order": { "process": "process-0", "number": 1, "order": open } }));
    assert_eq!((remote.abilities().fork, remote.model().unwrap().as_str()), (false, "p/m"));
    let output = |number: u64, output: Value| json!({ "output": { "process": "process-0", "number": number, "output": output } });
    let heard = |number: u64| json!({ "heard": { "process": "process-0", "number": number } });
    far.say(output(1, json!({ "opened": { "agent_session": "s1", "capabilities": can, "model_set": null } }))).await;
    let mut talk = opening.await.unwrap().unwrap();
    assert_eq!((talk.agent_session.as_str(), talk.abilities.fork), ("s1", false));
    assert_eq!(far.hear().await, heard(1));

    talk.connection.orders.send(order("hello", Vec::new())).await.unwrap();
    let prompt = json!({ "prompt": { "turn_id": turn(), "parts": [{ "text": { "text": "hello" } }], "history": [] } });
    assert_eq!(far.hear().await, json!({ "order": { "process": "process-0", "number": 2, "order": prompt } }));
    let asked = json!({ "request": "7", "kind": "permission", "title": "run", "call": { "a":  1.0 }, "options": [] });
    let said = json!([{ "message": { "message": null, "text": "well" } }, { "approval_request": asked }]);
    far.say(output(2, json!({ "said": { "raw": { "base64": "//4=" }, "said": said } }))).await;
    let usage = json!({ "input_tokens": 3 });
    let complete =
        json!({ "raw": { "text": "end" }, "outcome": { "completed": { "reason": "stop" } }, "usage": usage, "resume_token": "s2" });
    far.say(output(3, json!({ "turn_complete": complete }))).await;
    far.quiet().await;
    let Some(Output::Said { raw, said }) = talk.connection.output.recv().await else { panic!("not said") };
    assert_eq!((raw.as_ref(), &said[0]), (&b"\xff\xfe"[..], &Said::Text { message: None, text: "well".into() }));
    assert!(matches!(&said[1], Said::Asked(asked) if asked.digest == digest_of(r#"{"a":1.0}"#)), "{said:?}");
    assert_eq!(far.hear().await, heard(2), "once it was taken");
    far.quiet().await;
    talk.connection.orders.send(Order::Answer { request: "7".into(), option: None }).await.unwrap();
    let response = json!({ "approval_response": { "request": "7", "option": null } });
    assert_eq!(far.hear().await, json!({ "order": { "process": "process-0", "number": 3, "order": response } }));
    let Some(Output::Said { said, .. }) = talk.connection.output.recv().await else { panic!("not said") };
    assert_eq!(said, [Said::Usage(Usage { input_tokens: Some(3), ..Usage::default() }), Said::AgentSession(session("s2"))]);
    assert!(matches!(talk.connection.output.recv().await, Some(Output::Done { done: Done::Completed { .. }, .. })));
    assert_eq!(far.hear().await, heard(3));

    // Over the next link everything that was not heard comes again, and what has come is not let in twice.
    let mut far = far.again(&remote).await;
    let known = json!([{ "process": "process-0", "heard": 3 }]);
    assert_eq!(far.hear().await, json!({ "initialize": { "protocol": 1, "agent": "worker", "processes": known } }));
    let known = json!([{ "process": "process-0", "heard": 2 }]);
    far.say(json!({ "ready": { "protocol": 1, "capabilities": can, "model": null, "processes": known } })).await;
    assert_eq!(far.hear().await, json!({ "order": { "process": "process-0", "number": 3, "order": response } }));
    let words = |text: &str| json!({ "said": { "raw": { "text": "" }, "said": [{ "message": { "message": null, "text": text } }] } });
    far.say(output(3, words("again"))).await;
    far.say(output(4, words("new"))).await;
    let Some(Output::Said { said, .. }) = talk.connection.output.recv().await else { panic!("not said") };
    assert_eq!(said, [Said::Text { message: None, text: "new".into() }]);
    drop(talk);
    while let frame = far.hear().await
        && frame != json!({ "end": { "process": "process-0" } })
    {
        assert_eq!(frame, heard(4));
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_no_link_carries_fails_and_the_session_goes_on() {
    let remote = remote();
    let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    let mut talk = open(&(remote as Arc<dyn Agent>), OpenSession::New).await;
    let failed = timeout(HOLD, prompt(&mut talk, &"x".repeat(65 * 1024 * 1024))).await.expect("it is said");
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

pub fn remote() -> Arc<RemoteAgent> {
    let last = AtomicU64::new(0);
    let ids = Arc::new(move || format!("process-{}", last.fetch_add(1, SeqCst)));
    Arc::new(RemoteAgent::new(AgentName::new("worker").unwrap(), PRIVATE.into(), ids))
}

fn workshop(agent: Arc<dyn Agent>) -> Workshop {
    Workshop { name: AgentName::new("worker").unwrap(), agent, model: None, private: "/".into() }
}

pub fn relay(agent: Arc<dyn Agent>) -> Relay {
    Relay::new(workshop(agent))
}

fn new() -> Open {
    Open { directory: "/".into(), session: OpenSession::New, model: None }
}

/// When a link is cut: never, or after fewer than so many pieces, as the seed says; then there is a new one.
pub enum Cuts {
    Never,
    Seeded { seed: u64, pieces: u64, cut: Arc<AtomicUsize> },
}

pub struct Carried {
    stop: mpsc::Sender<()>,
    task: JoinHandle<Relay>,
}

impl Carried {
    pub fn abort(self) {
        self.task.abort();
    }

    /// Cuts the link for good; what was in it is lost.
    async fn lose(self) -> Relay {
        drop(self.stop);
        self.task.await.unwrap()
    }
}

pub fn carry(remote: &Arc<RemoteAgent>, mut relay: Relay, cuts: Cuts) -> Carried {
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

/// A relay that says exactly what it is told to.
struct Far {
    link: Link,
    claimed: JoinHandle<Result<(), Broken>>,
}

impl Far {
    async fn attach(remote: &Arc<RemoteAgent>) -> Far {
        let (near, link) = Link::pair();
        let claimed = tokio::spawn(remote.claim().unwrap().run(near));
        Far { link, claimed }
    }

    async fn again(self, remote: &Arc<RemoteAgent>) -> Far {
        drop(self.link);
        self.claimed.await.unwrap().unwrap();
        Self::attach(remote).await
    }

    async fn say(&self, frame: Value) {
        self.link.sender.send(format!("{frame}\n")).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let frame = self.link.receiver.recv().await.expect("a frame");
        serde_json::from_str(&frame).unwrap()
    }

    /// Nothing is said for a good while.
    async fn quiet(&mut self) {
        let said = timeout(Duration::from_secs(5), self.link.receiver.recv()).await;
        assert!(said.is_err(), "{said:?}");
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
