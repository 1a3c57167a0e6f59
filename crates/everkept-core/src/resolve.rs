//! Which agent and model a turn runs with, and the rule that said so.

use crate::{AgentBecause, AgentName, ModelBecause, ModelName, Refusal, State, TurnEntry};
use std::collections::BTreeMap;

/// The agents that are configured as a command is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAgents {
    pub default: AgentName,
    pub agents: BTreeMap<AgentName, KnownAgent>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownAgent {
    /// The agent's own model, from its configuration.
    pub model: Option<ModelName>,
    /// How often it is given a request again that it failed at.
    pub retry_prompts: u32,
    /// Who is asked in its place once that has not helped, in order.
    pub fallback: Vec<Fallback>,
}

/// Another agent, or the same one with another model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// None: the agent itself.
    pub agent: Option<AgentName>,
    /// None: that agent's own.
    pub model: Option<ModelName>,
}

/// `input ?? session ?? default`. An input that is not configured is refused; a session's agent that is gone is stood in for.
pub fn resolve_agent(state: &State, input: Option<&AgentName>, known: &KnownAgents) -> Result<(AgentName, AgentBecause), Refusal> {
    if let Some(agent) = input {
        if !known.agents.contains_key(agent) {
            return Err(Refusal::invalid("agent", format!("{agent} is not a configured agent")));
        }
        return Ok((agent.clone(), AgentBecause::Input));
    }
    match &state.session.agent {
        Some(agent) if known.agents.contains_key(agent) => Ok((agent.clone(), AgentBecause::Session)),
        Some(_) => Ok((known.default.clone(), AgentBecause::SessionAgentGone)),
        None => Ok((known.default.clone(), AgentBecause::Default)),
    }
}

/// `input ?? session ?? agent's ?? last used`, last used being this session's with this agent.
pub fn resolve_model(
    state: &State,
    agent: &AgentName,
    input: Option<&ModelName>,
    known: &KnownAgents,
) -> (Option<ModelName>, ModelBecause) {
    if let Some(model) = input {
        return (Some(model.clone()), ModelBecause::Input);
    }
    if let Some(model) = &state.session.model {
        return (Some(model.clone()), ModelBecause::Session);
    }
    if let Some(model) = known.agents.get(agent).and_then(|agent| agent.model.as_ref()) {
        return (Some(model.clone()), ModelBecause::Agent);
    }
    // A fallback is for its one turn.
    let chosen = |entry: &&TurnEntry| entry.turn.agent == *agent && entry.turn.model_because != ModelBecause::Fallback;
    let last = state.turns.iter().rev().filter(chosen).find_map(|entry| entry.turn.model.clone());
    match last {
        Some(model) => (Some(model), ModelBecause::LastUsed),
        None => (None, ModelBecause::Unset),
    }
}
