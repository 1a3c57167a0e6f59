//! The server on a store in memory: what `cargo xtask bench fanout` measures the real one against.
//!
//! Never keeps anything: what was said is gone with the process.

use everkept_agent::demo::{DemoAgent, MemoryInRam};
use everkept_core::AgentName;
use everkept_engine::{AgentEntry, Engine, Parts, Settings, TokioRuntime};
use everkept_server::{BODY_LIMIT, CONNECTIONS, ServerConfig, create_token, serve};
use everkept_store::MemoryStore;
use std::{
    collections::BTreeMap,
    error::Error,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Takes a folder, writes `admin.token` into it and prints where it listens, as `everkept serve` does.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    let count = AtomicU64::new(0);
    let ids = Arc::new(move || format!("demo-{}", count.fetch_add(1, Ordering::Relaxed) + 1));
    let agent = Arc::new(DemoAgent::new(Arc::new(MemoryInRam::default()), ids));
    let demo = AgentName::new("demo")?;
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        agents: BTreeMap::from([(demo.clone(), AgentEntry::new(agent, None))]),
        default_agent: demo,
        runtime: TokioRuntime::runtime(),
        settings: Settings::new(folder.join("work")),
    };
    let engine = Engine::start(parts).await?;
    let (_, secret) = create_token(&engine, "admin", None, None).await?;
    std::fs::write(folder.join("admin.token"), secret)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on http://{}", listener.local_addr()?);
    let (_running, shutdown) = tokio::sync::watch::channel(false);
    let config = ServerConfig { engine, listener, public_url: None, tls: None, body_limit: BODY_LIMIT, connections: CONNECTIONS, shutdown };
    Ok(serve(config).await?)
}
