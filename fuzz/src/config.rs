//! `config.toml`, as the server reads it. The binary has no library, so its own file is compiled here.
//!
//! Never: an error without its line, or a configuration that says something else when it is written out again.

#[path = "../../crates/everkept/src/config/mod.rs"]
mod real;

use crate::house::directory;
use everkept_core::{Fallback, Limits, Price};
use everkept_drivers::{McpServer, Setup, Speaks, Subagent, model::Api};
use real::{Agent, AgentKind, Config, Failing, Keeper, Server, Trash};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::LazyLock};
use toml::{Table, Value};

static FILE: LazyLock<PathBuf> = LazyLock::new(|| directory().join("config.toml"));

pub fn run(bytes: &[u8]) {
    fs::write(&*FILE, bytes).expect("the file can be written");
    let place = format!("{}:", FILE.display());
    match Config::load(&FILE) {
        Ok(config) => {
            let again = written(&config);
            fs::write(&*FILE, &again).expect("the file can be written");
            let read = Config::load(&FILE).unwrap_or_else(|error| panic!("{error:#}\n{again}"));
            assert_eq!(read, config, "{again}");
        }
        // Bytes that are not text have no lines.
        Err(error) if std::str::from_utf8(bytes).is_err() => assert!(error.to_string().starts_with("cannot read"), "{error:#}"),
        Err(error) => {
            let said = error.to_string();
            let line = said.strip_prefix(&place).and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{said}");
        }
    }
}

/// The same configuration in TOML of another hand. A new key does not compile here until it is written as well.
fn written(config: &Config) -> String {
    let Config { default_agent, server, keeper, trash, limits, agents, prices } = config;
    let Limits { silence, progress, tool, turn, session } = limits;
    let Server { listen, public_url, body_limit_mib } = server;
    let Keeper { hold_ms } = keeper;
    let Trash { keep_days } = trash;
    let mut file = Table::new();
    put(&mut file, "default_agent", default_agent.as_ref().map(ToString::to_string));
    let mut table = Table::new();
    put(&mut table, "listen", listen.clone());
    put(&mut table, "public_url", public_url.clone());
    put(&mut table, "body_limit_mib", body_limit_mib.map(i64::from));
    put(&mut file, "server", Some(table));
    let mut table = Table::new();
    put(&mut table, "hold_ms", hold_ms.map(|hold| i64::try_from(hold).expect("no number in TOML is larger")));
    put(&mut file, "keeper", Some(table));
    let mut table = Table::new();
    put(&mut table, "keep_days", keep_days.map(|days| i64::from(days.get())));
    put(&mut file, "trash", Some(table));
    let mut table = Table::new();
    let times = [("silence_s", silence), ("progress_s", progress), ("tool_s", tool), ("turn_s", turn), ("session_s", session)];
    for (key, time) in times {
        put(&mut table, key, Some(i64::try_from(time.as_secs()).expect("no number in the file is larger")));
    }
    put(&mut file, "limits", Some(table));
    put(&mut file, "agents", Some(agents.iter().map(|(name, agent)| (name.to_string(), Value::Table(one(agent)))).collect::<Table>()));
    // Only a price that is built in ends somewhere.
    let price = |Price { input, output, cache_read, cache_write, date, up_to: _ }: &Price| {
        let dollars = |micros: u64| micros as f64 / 1e6;
        let mut table = Table::new();
        put(&mut table, "input", Some(dollars(*input)));
        put(&mut table, "output", Some(dollars(*output)));
        put(&mut table, "cache_read", cache_read.map(dollars));
        put(&mut table, "cache_write", cache_write.map(dollars));
        put(&mut table, "date", Some(date.clone()));
        Value::Table(table)
    };
    put(&mut file, "prices", Some(prices.iter().map(|(model, it)| (model.to_string(), price(it))).collect::<Table>()));
    toml::to_string(&file).expect("a table of texts and numbers can be written")
}

fn one(Agent { kind, model, failing }: &Agent) -> Table {
    let mut table = Table::new();
    let Failing { retry_prompts, fallback } = failing;
    put(&mut table, "retry_prompts", Some(i64::from(*retry_prompts)));
    let next = |Fallback { agent, model }: &Fallback| {
        let mut table = Table::new();
        put(&mut table, "agent", agent.as_ref().map(ToString::to_string));
        put(&mut table, "model", model.as_ref().map(ToString::to_string));
        Value::Table(table)
    };
    put(&mut table, "fallback", Some(fallback.iter().map(next).collect::<Vec<_>>()));
    put(&mut table, "model", model.as_ref().map(ToString::to_string));
    match kind {
        AgentKind::Demo => put(&mut table, "protocol", Some("demo")),
        AgentKind::Program { speaks, command, env, open_within, setup } => {
            let protocol = match speaks {
                Speaks::Acp => "acp",
                Speaks::ClaudeCode => "claude-code",
                Speaks::Codex => "codex",
            };
            put(&mut table, "protocol", Some(protocol));
            put(&mut table, "command", Some(command.clone()));
            put(&mut table, "env", Some(texts(env)));
            put(&mut table, "open_within_s", Some(i64::try_from(open_within.as_secs()).expect("no number in the file is larger")));
            table.extend(told(setup));
        }
        AgentKind::Model { api, base_url, api_key_env, max_tokens, system_prompt } => {
            let protocol = match api {
                Api::OpenAi => "openai",
                Api::Anthropic => "anthropic",
            };
            put(&mut table, "protocol", Some(protocol));
            put(&mut table, "base_url", Some(base_url.clone()));
            put(&mut table, "api_key_env", api_key_env.clone());
            put(&mut table, "max_tokens", max_tokens.map(i64::from));
            put(&mut table, "system_prompt", system_prompt.clone());
        }
    }
    table
}

fn told(Setup { system_prompt, subagents, mcp_servers, max_turns, mode }: &Setup) -> Table {
    let mut table = Table::new();
    put(&mut table, "mode", mode.clone());
    put(&mut table, "system_prompt", system_prompt.clone());
    put(&mut table, "max_turns", max_turns.map(|most| i64::from(most.get())));
    let subagent = |Subagent { description, prompt, tools, model }: &Subagent| {
        let mut table = Table::new();
        put(&mut table, "description", Some(description.clone()));
        put(&mut table, "prompt", Some(prompt.clone()));
        put(&mut table, "tools", tools.clone());
        put(&mut table, "model", model.clone());
        Value::Table(table)
    };
    put(&mut table, "subagents", Some(subagents.iter().map(|(name, it)| (name.clone(), subagent(it))).collect::<Table>()));
    let server = |server: &McpServer| {
        let mut table = Table::new();
        match server {
            McpServer::Process { command, args, env } => {
                put(&mut table, "command", Some(command.clone()));
                put(&mut table, "args", Some(args.clone()));
                put(&mut table, "env", Some(texts(env)));
            }
            McpServer::Http { url, headers } => {
                put(&mut table, "url", Some(url.clone()));
                put(&mut table, "headers", Some(texts(headers)));
            }
        }
        Value::Table(table)
    };
    put(&mut table, "mcp_servers", Some(mcp_servers.iter().map(|(name, it)| (name.clone(), server(it))).collect::<Table>()));
    table
}

fn texts(pairs: &BTreeMap<String, String>) -> Table {
    pairs.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect()
}

fn put(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    table.extend(value.map(|value| (key.to_owned(), value.into())));
}
