//! Which agents there are: the built-in one, those of `config.toml`, and well-known ones found on PATH.
//!
//! Never: a program started to find out whether it works; that shows when it is used.

use crate::{
    config::{Agent, AgentKind, Config},
    data::DataDir,
    dial::tls,
};
use anyhow::{Context, bail};
use everkept_agent::demo::{DemoAgent, FileMemory};
use everkept_api::TokenKind;
use everkept_core::AgentName;
use everkept_drivers::{
    Holds, Keeper, Known, OPEN_WITHIN, Program, Setup, known,
    model::{ModelAgent, ModelConfig},
};
use everkept_engine::{AgentEntry, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub const DEMO: &str = "demo";
/// To reach a model's server.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// A model may think for a while before it says anything, and no longer.
const SILENCE: Duration = Duration::from_secs(600);

/// Every agent by its name, and the one to use where none is named.
pub struct Agents {
    pub entries: BTreeMap<AgentName, AgentEntry>,
    pub default: AgentName,
}

impl Agents {
    /// `holds` is where agents are held that outlive the server.
    pub fn of(config: &Config, data: &DataDir, holds: Option<Arc<Holds>>) -> anyhow::Result<Self> {
        let keeper = Keeper {
            program: std::env::current_exe().context("cannot find this program itself, which agents run under")?,
            args: vec!["keeper".to_owned()],
            holds,
        };
        let demo = demo(data)?;
        let mut entries = BTreeMap::from([(name(DEMO), AgentEntry::new(demo.clone(), None))]);
        for (known, _) in installed() {
            let command = known.command.iter().map(|word| (*word).to_owned()).collect();
            let program =
                Program { name: known.name.to_owned(), command, env: BTreeMap::new(), keeper: keeper.clone(), open_within: OPEN_WITHIN };
            entries.insert(name(known.name), AgentEntry::new(known.speaks.agent(program, Setup::default()), None));
        }
        for (name, Agent { kind, model, failing }) in &config.agents {
            let entry = match kind {
                AgentKind::Demo => AgentEntry::new(demo.clone(), model.clone()),
                AgentKind::Program { speaks, command, env, open_within, setup } => {
                    let (name, command, env) = (name.to_string(), command.clone(), env.clone());
                    let program = Program { name, command, env, keeper: keeper.clone(), open_within: *open_within };
                    AgentEntry::new(speaks.agent(program, setup.clone()), model.clone())
                }
                AgentKind::Model { api, base_url, api_key_env, max_tokens, system_prompt } => {
                    let key = match api_key_env {
                        None => None,
                        Some(variable) => Some(std::env::var(variable).ok().filter(|key| !key.is_empty()).with_context(|| {
                            format!("{}: agents.{name}.api_key_env: {variable} is not set where the server runs", data.config().display())
                        })?),
                    };
                    let config = ModelConfig {
                        name: name.to_string(),
                        api: *api,
                        base_url: base_url.clone(),
                        key,
                        model: model.clone(),
                        max_tokens: *max_tokens,
                        system_prompt: system_prompt.clone(),
                    };
                    let agent = ModelAgent::new(config, http(base_url)?, Arc::new(|| format!("model-{}", uuid::Uuid::now_v7().simple())));
                    AgentEntry::new(Arc::new(agent), model.clone())
                }
            };
            let entry = AgentEntry { retry_prompts: failing.retry_prompts, fallback: failing.fallback.clone(), ..entry };
            entries.insert(name.clone(), entry);
        }
        let default = config.default_agent.clone().unwrap_or_else(|| name(DEMO));
        Ok(Self { entries, default })
    }

    /// Refuses a default that there is not. One that a relay runs is as good as any.
    pub fn check_default(&self, data: &DataDir, tokens: &[Token]) -> anyhow::Result<()> {
        let relayed = tokens.iter().filter(|token| token.kind == TokenKind::Relay.as_str() && token.revoked_at.is_none());
        let all: BTreeSet<&str> =
            self.entries.keys().map(AgentName::as_str).chain(relayed.filter_map(|token| token.name.as_deref())).collect();
        if !all.contains(self.default.as_str()) {
            let all: Vec<_> = all.into_iter().collect();
            bail!("{}: default_agent: there is no agent {}; there are: {}", data.config().display(), self.default, all.join(", "));
        }
        Ok(())
    }
}

/// Never led elsewhere: a key is for one server.
fn http(base_url: &str) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("everkept/", env!("CARGO_PKG_VERSION")));
    let builder = if base_url.starts_with("https:") { builder.tls_backend_preconfigured(tls(None)?) } else { builder };
    builder.build().context("cannot make a client for models")
}

fn demo(data: &DataDir) -> anyhow::Result<Arc<DemoAgent>> {
    let memory = FileMemory::open(data.demo()).with_context(|| format!("cannot use {}", data.demo().display()))?;
    Ok(Arc::new(DemoAgent::new(Arc::new(memory), Arc::new(|| format!("demo-{}", uuid::Uuid::now_v7().simple())))))
}

/// The well-known agents whose program is on PATH, and where it is; of those with one name the one to prefer.
pub fn installed() -> Vec<(&'static Known, PathBuf)> {
    let mut names = BTreeSet::new();
    let there = known().iter().filter_map(|agent| Some((agent, find_program(agent.command.first()?)?)));
    there.filter(|(agent, _)| names.insert(agent.name)).collect()
}

/// Where a program is, as the system would find it.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let runs = |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| runs(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| runs(path))
}

fn name(text: &str) -> AgentName {
    AgentName::new(text).expect("names of built-in and well-known agents are good names")
}
