//! What an agent is told with every session: `system_prompt`, `subagents`, `mcp_servers`, `max_turns` and `mode` of `[agents.NAME]`.
//!
//! Never: a key that the agent could not be told, or a server of which not each word goes to the agent.

use super::{Wrong, is_base_url};
use everkept_drivers::{McpServer, Setup, Subagent};
use serde::Deserialize;
use std::{collections::BTreeMap, num::NonZeroU32, ops::Range};
use toml::Spanned;

/// These keys of an agent, as they stand in the file.
pub struct FileSetup {
    pub system_prompt: Option<Spanned<String>>,
    pub subagents: BTreeMap<Spanned<String>, FileSubagent>,
    pub mcp_servers: BTreeMap<Spanned<String>, FileServer>,
    pub max_turns: Option<Spanned<NonZeroU32>>,
    pub mode: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSubagent {
    description: Spanned<String>,
    prompt: Spanned<String>,
    tools: Option<Vec<String>>,
    model: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileServer {
    command: Option<Spanned<String>>,
    args: Option<Spanned<Vec<String>>>,
    env: Option<Spanned<BTreeMap<String, String>>>,
    url: Option<Spanned<String>>,
    headers: Option<Spanned<BTreeMap<String, String>>>,
}

impl FileSetup {
    /// `not_told` names what this kind of agent has no way to be told, and `why` says so.
    pub fn check(self, not_told: &[&str], why: &str) -> Result<Setup, Wrong> {
        let refused = self.spans().into_iter().find(|(key, span)| span.is_some() && not_told.contains(key));
        if let Some((key, span)) = refused {
            return Err((span, format!("{key}: {why}")));
        }
        let system_prompt = self.system_prompt.map(|text| filled("system_prompt", text)).transpose()?;
        let mode = self.mode.map(|mode| filled("mode", mode)).transpose()?;
        let mut setup = Setup { system_prompt, max_turns: self.max_turns.map(Spanned::into_inner), mode, ..Setup::default() };
        for (name, subagent) in self.subagents {
            let FileSubagent { description, prompt, tools, model } = subagent;
            let key = named("subagents", name)?;
            let description = filled(&format!("subagents.{key}.description"), description)?;
            let prompt = filled(&format!("subagents.{key}.prompt"), prompt)?;
            setup.subagents.insert(key, Subagent { description, prompt, tools, model });
        }
        for (name, server) in self.mcp_servers {
            let span = name.span();
            let key = named("mcp_servers", name)?;
            let server = server.check().map_err(|(at, problem)| (at.or(Some(span)), format!("mcp_servers.{key}{problem}")))?;
            setup.mcp_servers.insert(key, server);
        }
        Ok(setup)
    }

    fn spans(&self) -> [(&'static str, Option<Range<usize>>); 5] {
        [
            ("system_prompt", self.system_prompt.as_ref().map(Spanned::span)),
            ("subagents", self.subagents.keys().next().map(Spanned::span)),
            ("mcp_servers", self.mcp_servers.keys().next().map(Spanned::span)),
            ("max_turns", self.max_turns.as_ref().map(Spanned::span)),
            ("mode", self.mode.as_ref().map(Spanned::span)),
        ]
    }
}

impl FileServer {
    fn check(self) -> Result<McpServer, Wrong> {
        let Self { command, args, env, url, headers } = self;
        let other = |key: &str, span: Option<Range<usize>>, than: &str| match span {
            Some(span) => Err((Some(span), format!(".{key}: a server with {than} has none"))),
            None => Ok(()),
        };
        match (command, url) {
            (Some(command), None) => {
                other("headers", headers.map(|it| it.span()), "a command")?;
                let command = filled(".command", command)?;
                let (args, env) = (args.map(Spanned::into_inner), env.map(Spanned::into_inner));
                Ok(McpServer::Process { command, args: args.unwrap_or_default(), env: env.unwrap_or_default() })
            }
            (None, Some(url)) => {
                other("args", args.map(|it| it.span()), "a url")?;
                other("env", env.map(|it| it.span()), "a url")?;
                if !is_base_url(url.get_ref()) {
                    let problem = "must be http:// or https://, a host and perhaps a path, without a user, a query or a key in it";
                    return Err((Some(url.span()), format!(".url: {problem}")));
                }
                let headers = headers.map(Spanned::into_inner).unwrap_or_default();
                Ok(McpServer::Http { url: url.into_inner(), headers })
            }
            (Some(_), Some(url)) => Err((Some(url.span()), ".url: a server with a command has none".into())),
            (None, None) => Err((None, " needs a command, to be started, or a url, to be reached".into())),
        }
    }
}

fn filled(key: &str, text: Spanned<String>) -> Result<String, Wrong> {
    match text.get_ref().trim().is_empty() {
        true => Err((Some(text.span()), format!("{key} is empty"))),
        false => Ok(text.into_inner()),
    }
}

/// Agents make names of tools of it.
fn named(key: &str, name: Spanned<String>) -> Result<String, Wrong> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    match !name.get_ref().is_empty() && name.get_ref().chars().all(good) {
        true => Ok(name.into_inner()),
        false => Err((Some(name.span()), format!("{key}: a name may have the letters a to z, digits, - and _"))),
    }
}
