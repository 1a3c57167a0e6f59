//! Which agents there are: the configured ones, and one for every name that a relay token stands for.
//!
//! Never one that is gone while the name has a token, and never two of one name: a configured agent goes before.

use crate::orders::AgentCard;
use everkept_agent::remote::{ProcessIds, RemoteAgent};
use everkept_agent::{Agent, Place};
use everkept_core::{AgentName, Fallback, KnownAgent, KnownAgents, ModelName};
use everkept_store::Token;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// The kind of token that lets a relay in.
pub(crate) const RELAY: &str = "relay";

/// One configured agent.
#[derive(Clone)]
pub struct AgentEntry {
    pub agent: Arc<dyn Agent>,
    /// The model its configuration names.
    pub model: Option<ModelName>,
    /// How often a prompt it failed at is given to it again.
    pub retry_prompts: u32,
    /// Who is asked after that, in order.
    pub fallback: Vec<Fallback>,
}

impl AgentEntry {
    /// An agent that is given a prompt once, and nobody after it.
    pub fn new(agent: Arc<dyn Agent>, model: Option<ModelName>) -> Self {
        AgentEntry { agent, model, retry_prompts: 0, fallback: Vec::new() }
    }

    fn known(&self) -> KnownAgent {
        KnownAgent { model: self.model.clone(), retry_prompts: self.retry_prompts, fallback: self.fallback.clone() }
    }
}

pub(crate) struct Agents {
    default: AgentName,
    configured: BTreeMap<AgentName, AgentEntry>,
    remote: Mutex<BTreeMap<AgentName, Arc<RemoteAgent>>>,
    private_directories: PathBuf,
    processes: ProcessIds,
    /// One reading of the tokens at a time, so that an older one never comes after a newer one.
    pub settling: tokio::sync::Mutex<()>,
}

impl Agents {
    pub fn new(
        default: AgentName,
        configured: BTreeMap<AgentName, AgentEntry>,
        private_directories: PathBuf,
        processes: ProcessIds,
    ) -> Self {
        Agents { default, configured, remote: Mutex::default(), private_directories, processes, settling: tokio::sync::Mutex::default() }
    }

    /// Takes the names of relay tokens that are not revoked, and lets go of those that have none any more.
    pub fn settle(&self, tokens: &[Token]) {
        let named = |token: &Token| {
            let stands = token.kind == RELAY && token.revoked_at.is_none();
            token.name.clone().filter(|_| stands).and_then(|name| AgentName::new(name).ok())
        };
        let names: BTreeSet<AgentName> = tokens.iter().filter_map(named).filter(|name| !self.configured.contains_key(name)).collect();
        let mut remote = self.remote();
        remote.retain(|name, agent| {
            let stays = names.contains(name);
            if !stays {
                agent.retire();
            }
            stays
        });
        for name in names {
            let agent = || Arc::new(RemoteAgent::new(name.clone(), self.private_directories.clone(), self.processes.clone()));
            remote.entry(name.clone()).or_insert_with(agent);
        }
    }

    pub fn get(&self, name: &AgentName) -> Option<Arc<dyn Agent>> {
        match self.configured.get(name) {
            Some(entry) => Some(entry.agent.clone()),
            None => self.relayed(name).map(|agent| agent as Arc<dyn Agent>),
        }
    }

    pub fn relayed(&self, name: &AgentName) -> Option<Arc<RemoteAgent>> {
        self.remote().get(name).cloned()
    }

    /// As the core is told of them.
    pub fn known(&self) -> KnownAgents {
        let configured = self.configured.iter().map(|(name, entry)| (name.clone(), entry.known()));
        let remote = self.remote();
        let remote = remote.iter().map(|(name, agent)| (name.clone(), KnownAgent { model: agent.model(), ..KnownAgent::default() }));
        KnownAgents { default: self.default.clone(), agents: configured.chain(remote).collect() }
    }

    /// By their names.
    pub fn cards(&self) -> Vec<AgentCard> {
        let card = |name: &AgentName, agent: &dyn Agent, model| {
            let (remote, connected) = match agent.place() {
                Place::Here => (false, true),
                Place::Elsewhere { connected } => (true, connected),
            };
            AgentCard { name: name.clone(), is_default: *name == self.default, model, abilities: agent.abilities(), remote, connected }
        };
        let configured = self.configured.iter().map(|(name, entry)| card(name, &*entry.agent, entry.model.clone()));
        let mut cards: Vec<AgentCard> = configured.collect();
        cards.extend(self.remote().iter().map(|(name, agent)| card(name, &**agent, agent.model())));
        cards.sort_by(|one, other| one.name.cmp(&other.name));
        cards
    }

    fn remote(&self) -> MutexGuard<'_, BTreeMap<AgentName, Arc<RemoteAgent>>> {
        self.remote.lock().expect("nothing panics while it holds the agents")
    }
}
