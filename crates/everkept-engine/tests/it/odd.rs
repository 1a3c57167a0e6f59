//! Agents that say what nobody expects: the turn ends all the same, and every byte is kept.

use crate::world::*;
use bytes::Bytes;
use everkept_agent::{
    demo::{DemoAgent, MemoryInRam},
    *,
};
use everkept_core::*;
use everkept_engine::{AgentEntry, PlaceQuery};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Asks a question that nobody can be shown, and says how it was answered.
struct Asker(Said);

impl Agent for Asker {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            fork: false,
            cancel: true,
            ask_permission: true,
            set_model: false,
            report_usage: false,
            remember: true,
            transcript: false,
        }
    }

    fn open(&self, _: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (abilities, question) = (self.abilities(), self.0.clone());
        Box::pin(async move {
            let (orders, mut orders_in) = tokio::sync::mpsc::channel(ORDER_QUEUE);
            let (out, output) = tokio::sync::mpsc::channel(OUTPUT_QUEUE);
            tokio::spawn(async move {
                while let Some(order) = orders_in.recv().await {
                    match order {
                        Order::Prompt(_) => {
                            let raw = Bytes::from_static(b"asked\n");
                            out.send(Output::Said { raw, said: vec![question.clone()] }).await.unwrap();
                        }
                        Order::Answer { option, .. } => {
                            let text = format!("answered {option:?}");
                            let said = vec![Said::Text { message: None, text }];
                            out.send(Output::Said { raw: Bytes::from_static(b"said\n"), said }).await.unwrap();
                            let done = Done::Completed { reason: "end_turn".into() };
                            out.send(Output::Done { raw: Bytes::from_static(b"done\n"), done }).await.unwrap();
                        }
                        Order::Cancel | Order::SetModel { .. } | Order::Hold(_) => {}
                    }
                }
            });
            let agent_session = AgentSessionId::new("odd-1").unwrap();
            Ok(Opened { agent_session, abilities, model_set: None, connection: Connection { orders, output } })
        })
    }
}

/// One that no event can hold.
pub fn question() -> Said {
    let call = Json::parse("{}".into()).unwrap();
    Said::Asked(Asked {
        question: QuestionId(uuid::Uuid::nil()),
        kind: QuestionKind::Permission,
        title: "may I?".into(),
        digest: digest_of(call.get()),
        call: Payload::Json(call),
        request: "r".into(),
        options: vec![QuestionOption { id: "x".repeat(100_000), label: "yes".into(), kind: OptionKind::AllowOnce }],
        expires_at: None,
    })
}

/// One that has no answer.
fn unanswerable() -> Said {
    let Said::Asked(asked) = question() else { unreachable!("it is one") };
    Said::Asked(Asked { options: Vec::new(), ..asked })
}

#[tokio::test(start_paused = true)]
async fn a7_a_question_that_cannot_be_shown_or_answered_is_denied_and_its_bytes_are_kept() {
    for question in [question(), unanswerable()] {
        let mut world = World::new().await;
        world.agents.insert(name("odd"), AgentEntry::new(Arc::new(Asker(question)), None));
        world.crash_and_restart().await;
        let session = world.session().await;
        let began = tokio::time::Instant::now();
        let turn = world.submit(session, everkept_engine::NewTurn { agent: Some(name("odd")), ..turn_of("hello") }).await;
        let turn = world.ended(turn.id).await;
        assert_eq!((turn.state, world.answer(&turn).await.as_str()), (TurnState::Completed, "answered None"));
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "nobody was waited for");
        let raw = world.engine.raw(&admin(), turn.id, 0).await.unwrap();
        assert_eq!(raw, "asked\nsaid\ndone\n");
        let query = PlaceQuery { session, after: None, before: None, backward: false, limit: 10 };
        assert_eq!(world.engine.messages(&admin(), query).await.unwrap().items.len(), 2);
    }
}

/// Looks as if it could do everything, until it runs.
struct Hopeful {
    ran: AtomicBool,
    demo: DemoAgent,
}

impl Agent for Hopeful {
    fn abilities(&self) -> Abilities {
        let ran = self.ran.load(Ordering::SeqCst);
        Abilities { resume: !ran, fork: !ran, ..self.demo.abilities() }
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        self.ran.store(true, Ordering::SeqCst);
        if open.session != OpenSession::New {
            let (kind, doing, message) = (AgentFaultKind::Refused, "opening a session".into(), "the agent says that it cannot".into());
            return Box::pin(async move { Err(AgentFault { kind, doing, message, retryable: false, may_have_happened: false }) });
        }
        self.demo.open(open)
    }
}

impl World {
    /// As after a start of the server: what its agents can do is not known yet.
    async fn restart_with_hopeful(&mut self) {
        let count = AtomicU64::new(0);
        let ids = Arc::new(move || format!("hopeful-{}-{}", uuid::Uuid::now_v7(), count.fetch_add(1, Ordering::SeqCst)));
        let demo = DemoAgent::new(Arc::new(MemoryInRam::default()), ids);
        let agent = Arc::new(Hopeful { ran: AtomicBool::new(false), demo });
        self.agents.insert(name("hopeful"), AgentEntry::new(agent, None));
        self.crash_and_restart().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_turns_out_unable_to_resume_or_fork_is_told_the_conversation() {
    let mut world = World::new().await;
    world.restart_with_hopeful().await;
    let new = everkept_engine::NewSession { agent: Some(name("hopeful")), ..Default::default() };
    let session = world.session_with(new).await.id;
    let (_, answer) = world.ask(session, "one").await;
    assert_eq!(answer, "reply 1 to: one");
    world.restart_with_hopeful().await;
    let (turn, answer) = world.ask(session, "two").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 2 to: two"));
    let fork = everkept_engine::Order::Fork(everkept_engine::NewFork::default());
    let fork = as_session(world.order(session, fork).await.unwrap()).id;
    world.restart_with_hopeful().await;
    let (turn, answer) = world.ask(fork, "three").await;
    assert_eq!((turn.state, answer.as_str()), (TurnState::Completed, "reply 3 to: three"));
}
