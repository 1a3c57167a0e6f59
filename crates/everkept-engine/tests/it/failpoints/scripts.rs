//! What is played while a gate stands somewhere: the scripts of the power cuts, and what they leave out.
//!
//! Never: a check. What has to hold holds after each of them.

use crate::power::scenarios;
use crate::power::server::{Request, Scripted, Server, What};
use crate::world::{model, name, turn_of};
use bytes::Bytes;
use everkept_agent::*;
use everkept_core::*;
use everkept_engine::{NewTurn, Order};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `checkpoint` and `backup` are about the disk alone.
pub const NAMES: &[&str] = &[
    "create", "turn", "stream", "queue", "cancel", "fork", "clear", "revert", "question", "thread", "packing", "trash", "purge", "boot",
    "tokens", "again", "record", "give_up", "models", "odd", "idle", "killed", "stopped",
];

pub async fn play(script: &str, server: &Server) -> Scripted {
    match script {
        "models" => models(server).await,
        "odd" => odd(server).await,
        "idle" => idle(server).await,
        "killed" => killed(server).await,
        "stopped" => stopped(server).await,
        other => scenarios::play(other, server).await,
    }
}

/// An open agent is told another model.
async fn models(server: &Server) -> Scripted {
    server.start().await?;
    let session = server.create("one").await?;
    server.talk(session, "as you are").await?;
    for which in ["demo/small", "demo/big"] {
        let turn = server.submit_new(session, which, NewTurn { model: Some(model(which)), ..turn_of(which) }).await?;
        server.ended(turn).await?;
    }
    Ok(())
}

/// An agent whose question cannot be kept, and one that does not hear a cancel.
async fn odd(server: &Server) -> Scripted {
    server.start().await?;
    let session = server.create("one").await?;
    let to_odd = |text| NewTurn { agent: Some(name("odd")), ..turn_of(text) };
    let asks = server.submit_new(session, "ask me", to_odd("ask me")).await?;
    server.ended(asks).await?;
    let hangs = server.submit_new(session, "hang", to_odd("hang")).await?;
    server.until(session, "turn.started").await?;
    server.order("cancel", session, Order::Cancel { turn: hangs }).await?;
    server.ended(hangs).await?;
    Ok(())
}

/// Long enough for agent and task to go, and to come again.
async fn idle(server: &Server) -> Scripted {
    server.start().await?;
    let session = server.create("one").await?;
    for text in ["at first", "much later"] {
        server.talk(session, text).await?;
        tokio::time::sleep(Duration::from_secs(200)).await;
    }
    Ok(())
}

/// One turn runs and one waits.
async fn busy(server: &Server) -> Scripted<[TurnId; 2]> {
    server.start().await?;
    let session = server.create("one").await?;
    let runs = server.submit(session, "!slow:50 a b c d e f g").await?;
    let waits = server.submit(session, "waits for the next start").await?;
    tokio::time::sleep(Duration::from_millis(120)).await;
    Ok([runs, waits])
}

async fn killed(server: &Server) -> Scripted {
    let turns = busy(server).await?;
    server.kill().await;
    come_back(server, turns).await
}

async fn stopped(server: &Server) -> Scripted {
    let turns = busy(server).await?;
    server.stop().await;
    come_back(server, turns).await
}

async fn come_back(server: &Server, turns: [TurnId; 2]) -> Scripted {
    server.start().await?;
    for turn in turns {
        server.ended(turn).await?;
    }
    Ok(())
}

pub use scenarios::whole;

/// A request of the trial's own, beside the script.
pub fn beside(key: &str, session: SessionId, order: Order) -> Request {
    Request { key: key.into(), what: What::Order(session, order) }
}

pub fn agents() -> BTreeMap<AgentName, Arc<dyn Agent>> {
    BTreeMap::from([(name("odd"), Arc::new(Odd) as Arc<dyn Agent>)])
}

/// Asks what no event can hold, or says nothing at all. It writes its session down with the first turn.
struct Odd;

impl Transcripts for Odd {
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>> {
        let piece = Piece { file: kept.session.to_string(), from: 0, bytes: Bytes::from_static(b"asked\n"), more: false };
        Box::pin(async move { Ok(Vec::from_iter(kept.files.is_empty().then_some(piece))) })
    }

    fn lacking(&self, _: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn put_back(&self, _: PathBuf, _: AgentSessionId, _: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Agent for Odd {
    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            fork: false,
            cancel: true,
            ask_permission: true,
            set_model: false,
            report_usage: false,
            remember: true,
            transcript: true,
        }
    }

    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        Some(Arc::new(Odd))
    }

    fn open(&self, _: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let abilities = self.abilities();
        Box::pin(async move {
            let (orders, mut given) = tokio::sync::mpsc::channel(ORDER_QUEUE);
            let (say, output) = tokio::sync::mpsc::channel(OUTPUT_QUEUE);
            tokio::spawn(async move {
                while let Some(order) = given.recv().await {
                    let word = match order {
                        everkept_agent::Order::Prompt(prompt) if hangs(&prompt) => continue,
                        everkept_agent::Order::Prompt(_) => {
                            Output::Said { raw: Bytes::from_static(b"asked\n"), said: vec![crate::odd::question()] }
                        }
                        everkept_agent::Order::Answer { .. } => {
                            Output::Done { raw: Bytes::from_static(b"done\n"), done: Done::Completed { reason: "end_turn".into() } }
                        }
                        everkept_agent::Order::Cancel | everkept_agent::Order::SetModel { .. } | everkept_agent::Order::Hold(_) => continue,
                    };
                    if say.send(word).await.is_err() {
                        return;
                    }
                }
            });
            let agent_session = AgentSessionId::new("odd-1").unwrap();
            Ok(Opened { agent_session, abilities, model_set: None, connection: Connection { orders, output } })
        })
    }
}

fn hangs(prompt: &Prompt) -> bool {
    prompt.parts.iter().any(|part| matches!(part, PromptPart::Text(text) if text == "hang"))
}
