//! `config.toml`: one strict structure, and errors that name the file, the line and the key.
//!
//! Never: a key that is taken and does nothing.

mod failing;
mod limits;
mod prices;
mod setup;

use anyhow::{Context, anyhow};
use everkept_core::{AgentName, Limits, ModelName, Prices};
use everkept_drivers::{OPEN_WITHIN, Setup, Speaks, model::Api};
pub use failing::Failing;
use failing::{FileFailing, FileFallback};
use limits::FileLimits;
use prices::FilePrice;
pub use prices::beside_known;
use serde::Deserialize;
use setup::{FileServer, FileSetup, FileSubagent};
use std::{collections::BTreeMap, fs, io, num::NonZeroU32, ops::Range, path::Path, time::Duration};
use toml::Spanned;

/// What a server is told by its file; the command line goes before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub default_agent: Option<AgentName>,
    pub server: Server,
    pub keeper: Keeper,
    pub trash: Trash,
    pub limits: Limits,
    pub agents: BTreeMap<AgentName, Agent>,
    pub prices: Prices,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    pub listen: Option<String>,
    pub public_url: Option<String>,
    /// The most a request's body may have.
    pub body_limit_mib: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keeper {
    /// How long an agent outlives a server that died.
    pub hold_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trash {
    /// How many days what is deleted can be restored; without a number it stays in the trash.
    pub keep_days: Option<std::num::NonZeroU16>,
}

/// One `[agents.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub kind: AgentKind,
    pub model: Option<ModelName>,
    pub failing: Failing,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AgentKind {
    Demo,
    Program { speaks: Speaks, command: Vec<String>, env: BTreeMap<String, String>, open_within: Duration, setup: Setup },
    Model { api: Api, base_url: String, api_key_env: Option<String>, max_tokens: Option<u32>, system_prompt: Option<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default_agent: Option<Spanned<String>>,
    #[serde(default)]
    server: Server,
    #[serde(default)]
    keeper: Keeper,
    #[serde(default)]
    trash: Trash,
    #[serde(default)]
    limits: FileLimits,
    #[serde(default)]
    agents: BTreeMap<Spanned<String>, FileAgent>,
    #[serde(default)]
    prices: BTreeMap<Spanned<String>, FilePrice>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAgent {
    protocol: Spanned<Protocol>,
    command: Option<Spanned<Vec<String>>>,
    env: Option<Spanned<BTreeMap<String, String>>>,
    open_within_s: Option<Spanned<NonZeroU32>>,
    model: Option<Spanned<String>>,
    base_url: Option<Spanned<String>>,
    api_key_env: Option<Spanned<String>>,
    max_tokens: Option<Spanned<NonZeroU32>>,
    system_prompt: Option<Spanned<String>>,
    #[serde(default)]
    subagents: BTreeMap<Spanned<String>, FileSubagent>,
    #[serde(default)]
    mcp_servers: BTreeMap<Spanned<String>, FileServer>,
    max_turns: Option<Spanned<NonZeroU32>>,
    mode: Option<Spanned<String>>,
    retry_prompts: Option<Spanned<u32>>,
    fallback: Option<Spanned<Vec<Spanned<FileFallback>>>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Protocol {
    Acp,
    ClaudeCode,
    Codex,
    Demo,
    Openai,
    Anthropic,
}

impl Config {
    /// No file is an empty one.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let at = |span: Range<usize>, problem: String| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            anyhow!("{}:{line}: {problem}", path.display())
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let line = text[span.start.min(text.len())..].lines().next().unwrap_or_default().trim();
            let whole = text[..span.start.min(text.len())].rsplit('\n').next().unwrap_or_default().to_owned() + line;
            at(span, format!("{} (in `{}`)", error.message(), whole.trim()))
        })?;
        let mut config = Config { server: file.server, keeper: file.keeper, trash: file.trash, ..Config::default() };
        config.limits = file.limits.check().map_err(|(span, problem)| at(span.unwrap_or(0..0), format!("limits.{problem}")))?;
        if let Some(name) = file.default_agent {
            let problem = |refusal| at(name.span(), format!("default_agent: {refusal}"));
            config.default_agent = Some(AgentName::new(name.get_ref().clone()).map_err(problem)?);
        }
        for (name, agent) in file.agents {
            let key = AgentName::new(name.get_ref().clone()).map_err(|refusal| at(name.span(), format!("agents: {refusal}")))?;
            let agent = agent.check().map_err(|(span, problem)| at(span.unwrap_or(name.span()), format!("agents.{key}.{problem}")))?;
            config.agents.insert(key, agent);
        }
        config.prices = prices::check(file.prices).map_err(|(span, problem)| at(span.unwrap_or(0..0), problem))?;
        Ok(config)
    }
}

/// Where something is wrong, and what; nowhere for what is missing.
type Wrong = (Option<Range<usize>>, String);

impl AgentKind {
    fn program(
        speaks: Speaks,
        command: Option<Spanned<Vec<String>>>,
        env: Option<Spanned<BTreeMap<String, String>>>,
        open_within_s: Option<Spanned<NonZeroU32>>,
        setup: FileSetup,
    ) -> Result<Self, Wrong> {
        let command = match (command, speaks.usual_command()) {
            (Some(command), _) if command.get_ref().first().is_none_or(String::is_empty) => {
                return Err((Some(command.span()), "command is empty; its first word is the program".into()));
            }
            (Some(command), _) => command.into_inner(),
            (None, Some(usual)) => usual.iter().map(|word| (*word).to_owned()).collect(),
            (None, None) => return Err((None, "command is missing; write it as command = [\"opencode\", \"acp\"]".into())),
        };
        let setup = setup.check(speaks.not_told(), "its protocol has no word for it; the agent's own configuration may")?;
        let env = env.map(Spanned::into_inner).unwrap_or_default();
        let open_within = open_within_s.map_or(OPEN_WITHIN, |seconds| Duration::from_secs(seconds.into_inner().get().into()));
        Ok(Self::Program { speaks, command, env, open_within, setup })
    }
}

impl FileAgent {
    fn check(self) -> Result<Agent, Wrong> {
        let model = match self.model {
            Some(model) => {
                let problem = |refusal: everkept_core::Refusal| (Some(model.span()), format!("model: {refusal}"));
                Some(ModelName::new(model.get_ref().clone()).map_err(problem)?)
            }
            None => None,
        };
        let protocol = *self.protocol.get_ref();
        let spans = [
            ("command", self.command.as_ref().map(Spanned::span)),
            ("env", self.env.as_ref().map(Spanned::span)),
            ("open_within_s", self.open_within_s.as_ref().map(Spanned::span)),
            ("base_url", self.base_url.as_ref().map(Spanned::span)),
            ("api_key_env", self.api_key_env.as_ref().map(Spanned::span)),
            ("max_tokens", self.max_tokens.as_ref().map(Spanned::span)),
        ];
        for (key, span) in spans {
            let why_not = match (protocol, key) {
                (Protocol::Demo, _) => "the demo agent is built in and has none",
                (Protocol::Acp | Protocol::ClaudeCode | Protocol::Codex, "base_url" | "api_key_env" | "max_tokens") => {
                    "an agent with a command reads its own configuration"
                }
                (Protocol::Openai | Protocol::Anthropic, "command" | "env" | "open_within_s") => {
                    "a model is reached over HTTP and has none"
                }
                _ => continue,
            };
            if span.is_some() {
                return Err((span, format!("{key}: {why_not}")));
            }
        }
        let Self { system_prompt, subagents, mcp_servers, max_turns, mode, retry_prompts, fallback, .. } = self;
        let failing = FileFailing { retry_prompts, fallback }.check()?;
        let setup = FileSetup { system_prompt, subagents, mcp_servers, max_turns, mode };
        let kind = match protocol {
            Protocol::Demo => {
                setup.check(
                    &["system_prompt", "subagents", "mcp_servers", "max_turns", "mode"],
                    "the demo agent is built in and has none",
                )?;
                AgentKind::Demo
            }
            Protocol::Acp => AgentKind::program(Speaks::Acp, self.command, self.env, self.open_within_s, setup)?,
            Protocol::ClaudeCode => AgentKind::program(Speaks::ClaudeCode, self.command, self.env, self.open_within_s, setup)?,
            Protocol::Codex => AgentKind::program(Speaks::Codex, self.command, self.env, self.open_within_s, setup)?,
            Protocol::Openai | Protocol::Anthropic => {
                let api = if let Protocol::Openai = protocol { Api::OpenAi } else { Api::Anthropic };
                let base_url = match self.base_url {
                    None => api.base_url().to_owned(),
                    Some(url) if is_base_url(url.get_ref()) => url.into_inner(),
                    Some(url) => {
                        let problem = "must be http:// or https://, a host and perhaps a path, without a user, a query or a key in it";
                        return Err((Some(url.span()), format!("base_url: {problem}")));
                    }
                };
                let setup = setup.check(&["subagents", "mcp_servers", "max_turns", "mode"], "a model has no tools and gives one answer")?;
                AgentKind::Model {
                    api,
                    base_url,
                    system_prompt: setup.system_prompt,
                    api_key_env: self.api_key_env.map(Spanned::into_inner),
                    max_tokens: self.max_tokens.map(|most| most.into_inner().get()),
                }
            }
        };
        Ok(Agent { kind, model, failing })
    }
}

fn is_base_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none() && url.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use everkept_core::Price;
    use everkept_drivers::{McpServer, Subagent};

    #[test]
    fn everything_there_is_to_say() {
        let config = read(
            r#"
            default_agent = "work"
            [server]
            listen = "127.0.0.1:0"
            public_url = "https://keep.example"
            body_limit_mib = 8
            [keeper]
            hold_ms = 0
            [trash]
            keep_days = 30
            [limits]
            silence_s = 60
            turn_s = 7200
            [agents.work]
            protocol = "acp"
            command = ["opencode", "acp"]
            env = { KEY = "v" }
            open_within_s = 5
            model = "p/m"
            [agents.toy]
            protocol = "demo"
            retry_prompts = 2
            fallback = [{ model = "p/small" }, { agent = "work" }]
            [agents.local]
            protocol = "openai"
            base_url = "http://127.0.0.1:11434/v1"
            model = "qwen"
            [agents.sonnet]
            protocol = "anthropic"
            api_key_env = "MY_KEY"
            max_tokens = 64000
            system_prompt = "Be brief."
            [agents.vendor]
            protocol = "claude-code"
            system_prompt = "Be brief."
            max_turns = 9
            [agents.vendor.subagents.reviewer]
            description = "Reviews."
            prompt = "Review."
            tools = ["Read"]
            model = "haiku"
            [agents.vendor.mcp_servers.near]
            command = "near-mcp"
            args = ["-v"]
            env = { KEY = "v" }
            [agents.other]
            protocol = "codex"
            mcp_servers.far = { url = "https://far.example/mcp", headers = { Authorization = "Bearer x" } }
            [prices."p/m"]
            input = 3
            output = 15.25
            cache_read = 0.3
            date = "2026-11-20"
            "#,
        )
        .unwrap();
        let small = everkept_core::Fallback { agent: None, model: Some(ModelName::new("p/small").unwrap()) };
        let work = everkept_core::Fallback { agent: Some(name("work")), model: None };
        let failing = Failing { retry_prompts: 2, fallback: vec![small, work] };
        let reviewer = Subagent {
            description: "Reviews.".into(),
            prompt: "Review.".into(),
            tools: Some(vec!["Read".into()]),
            model: Some("haiku".into()),
        };
        let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let near = McpServer::Process { command: "near-mcp".into(), args: vec!["-v".into()], env: pair("KEY", "v") };
        let far = McpServer::Http { url: "https://far.example/mcp".into(), headers: pair("Authorization", "Bearer x") };
        assert_eq!(
            config,
            Config {
                default_agent: Some(name("work")),
                server: Server {
                    listen: Some("127.0.0.1:0".into()),
                    public_url: Some("https://keep.example".into()),
                    body_limit_mib: Some(8),
                },
                keeper: Keeper { hold_ms: Some(0) },
                trash: Trash { keep_days: std::num::NonZeroU16::new(30) },
                limits: Limits {
                    silence: std::time::Duration::from_secs(60),
                    turn: std::time::Duration::from_secs(7_200),
                    ..Limits::default()
                },
                agents: BTreeMap::from([
                    (
                        name("work"),
                        Agent {
                            kind: AgentKind::Program {
                                speaks: Speaks::Acp,
                                command: vec!["opencode".into(), "acp".into()],
                                env: BTreeMap::from([("KEY".into(), "v".into())]),
                                open_within: Duration::from_secs(5),
                                setup: Setup::default(),
                            },
                            model: Some(ModelName::new("p/m").unwrap()),
                            failing: Failing::default(),
                        },
                    ),
                    (name("toy"), Agent { kind: AgentKind::Demo, model: None, failing }),
                    (
                        name("local"),
                        Agent {
                            kind: AgentKind::Model {
                                api: Api::OpenAi,
                                base_url: "http://127.0.0.1:11434/v1".into(),
                                api_key_env: None,
                                max_tokens: None,
                                system_prompt: None,
                            },
                            model: Some(ModelName::new("qwen").unwrap()),
                            failing: Failing::default(),
                        },
                    ),
                    (
                        name("sonnet"),
                        Agent {
                            kind: AgentKind::Model {
                                api: Api::Anthropic,
                                base_url: "https://api.anthropic.com".into(),
                                api_key_env: Some("MY_KEY".into()),
                                max_tokens: Some(64_000),
                                system_prompt: Some("Be brief.".into()),
                            },
                            model: None,
                            failing: Failing::default(),
                        },
                    ),
                    (
                        name("vendor"),
                        Agent {
                            kind: AgentKind::Program {
                                speaks: Speaks::ClaudeCode,
                                command: vec!["claude".into()],
                                env: BTreeMap::new(),
                                open_within: OPEN_WITHIN,
                                setup: Setup {
                                    system_prompt: Some("Be brief.".into()),
                                    subagents: BTreeMap::from([("reviewer".into(), reviewer)]),
                                    mcp_servers: BTreeMap::from([("near".into(), near)]),
                                    max_turns: NonZeroU32::new(9),
                                    mode: None,
                                },
                            },
                            model: None,
                            failing: Failing::default(),
                        },
                    ),
                    (
                        name("other"),
                        Agent {
                            kind: AgentKind::Program {
                                speaks: Speaks::Codex,
                                command: vec!["codex".into(), "app-server".into()],
                                env: BTreeMap::new(),
                                open_within: OPEN_WITHIN,
                                setup: Setup { mcp_servers: BTreeMap::from([("far".into(), far)]), ..Setup::default() },
                            },
                            model: None,
                            failing: Failing::default(),
                        },
                    ),
                ]),
                prices: Prices::from([(
                    ModelName::new("p/m").unwrap(),
                    Price {
                        input: 3_000_000,
                        output: 15_250_000,
                        cache_read: Some(300_000),
                        cache_write: None,
                        up_to: None,
                        date: "2026-11-20".into()
                    },
                )]),
            }
        );
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        says(
            "\nlisten = \"x\"",
            "config.toml:2: unknown field `listen`, expected one of `default_agent`, `server`, `keeper`, `trash`, `limits`, `agents`, `prices`",
        );
        says("[server]\nport = 1", "config.toml:2: unknown field `port`");
        says("[server]\n\nlisten = 7717", "(in `listen = 7717`)");
        says("[server]\nbody_limit_mib = -1", "config.toml:2: ");
        says(
            "[agents.a]\nprotocol = \"mcp\"",
            "config.toml:2: unknown variant `mcp`, expected one of `acp`, `claude-code`, `codex`, `demo`, `openai`, `anthropic`",
        );
        says("\n[agents.a]\nmodel = \"x/y\"", "missing field `protocol`");
        says("\n[agents.a]\nprotocol = \"acp\"", "config.toml:2: agents.a.command is missing");
        says("[agents.a]\nprotocol = \"acp\"\ncommand = []", "config.toml:3: agents.a.command is empty");
        says("[agents.a]\nprotocol = \"demo\"\ncommand = [\"x\"]", "config.toml:3: agents.a.command: the demo agent is built in");
        says("[agents.a]\nprotocol = \"openai\"\nenv = {}", "config.toml:3: agents.a.env: a model is reached over HTTP and has none");
        says("[agents.a]\nprotocol = \"acp\"\nbase_url = \"x\"", "config.toml:3: agents.a.base_url: an agent with a command reads its own");
        for url in ["ftp://x", "x", "http://me:key@x", "http://x/?key=1"] {
            let text = format!("[agents.a]\nprotocol = \"openai\"\nbase_url = \"{url}\"");
            says(&text, "config.toml:3: agents.a.base_url: must be http:// or https://");
        }
        says("[agents.a]\nprotocol = \"openai\"\nmax_tokens = 0", "config.toml:3: ");
        says("[agents.a]\nprotocol = \"codex\"\nopen_within_s = 0", "config.toml:3: ");
        says("[agents.a]\nprotocol = \"openai\"\nopen_within_s = 5", "config.toml:3: agents.a.open_within_s: a model is reached over HTTP");
        says("[limits]\nturn_s = 5", "config.toml:2: limits.tool_s (3600 s) must be less than turn_s (5 s)");
        says("[limits]\nsilence_s = 5\ntool_s = 20000", "config.toml:3: limits.tool_s (20000 s) must be less than turn_s (14400 s)");
        says("[limits]\nsilence_s = 0", "config.toml:2: ");
        says("[agents.a]\nprotocol = \"demo\"\nretry_prompts = 11", "config.toml:3: agents.a.retry_prompts must be at most 10");
        says("[agents.a]\nprotocol = \"demo\"\nretry_prompts = -1", "config.toml:3: ");
        says("[agents.a]\nprotocol = \"demo\"\nfallback = [\n{}]", "config.toml:4: agents.a.fallback names neither an agent nor a model");
        says("[agents.a]\nprotocol = \"demo\"\nfallback = [{ agent = \"\" }]", "config.toml:3: agents.a.fallback.agent: agent must be");
        says("[agents.a]\nprotocol = \"demo\"\nfallback = [{ models = \"x\" }]", "config.toml:3: unknown field `models`");
        says("[agents.a]\nprotocol = \"demo\"\nmodel = \"\"", "config.toml:3: agents.a.model: model must be a non-empty text");
        says("default_agent = \"\"", "config.toml:1: default_agent: agent must be a non-empty text");
        says("[server]\nlisten =", "config.toml:2: ");
        says("a = \"ü", "config.toml:1: ");
    }

    #[test]
    fn ws_18_what_an_agent_cannot_be_told_is_refused_where_it_stands() {
        let keys = [
            ("system_prompt = \"x\"", "system_prompt"),
            ("subagents.a = { description = \"d\", prompt = \"p\" }", "subagents"),
            ("mcp_servers.a = { command = \"x\" }", "mcp_servers"),
            ("max_turns = 2", "max_turns"),
            ("mode = \"plan\"", "mode"),
        ];
        let kinds: [(&str, &[&str], &str); 6] = [
            ("protocol = \"acp\"\ncommand = [\"x\"]", &["mcp_servers", "mode"], "its protocol has no word for it"),
            (
                "protocol = \"claude-code\"\n",
                &["system_prompt", "subagents", "mcp_servers", "max_turns"],
                "its protocol has no word for it; the agent's own configuration may",
            ),
            ("protocol = \"codex\"\n", &["system_prompt", "mcp_servers"], "its protocol has no word for it"),
            ("protocol = \"demo\"\n", &[], "the demo agent is built in and has none"),
            ("protocol = \"openai\"\n", &["system_prompt"], "a model has no tools and gives one answer"),
            ("protocol = \"anthropic\"\n", &["system_prompt"], "a model has no tools and gives one answer"),
        ];
        for (protocol, can, why) in kinds {
            for (line, key) in keys {
                let text = format!("[agents.a]\n{protocol}\n{line}");
                match can.contains(&key) {
                    true => assert!(read(&text).is_ok(), "{text}"),
                    false => says(&text, &format!("config.toml:4: agents.a.{key}: {why}")),
                }
            }
        }
    }

    #[test]
    fn ws_18_servers_and_subagents_are_whole_or_refused() {
        let agent = "[agents.a]\nprotocol = \"claude-code\"\n";
        let cases = [
            ("system_prompt = \" \"", "3: agents.a.system_prompt is empty"),
            ("max_turns = 0", "3: "),
            ("[agents.a.mcp_servers.b]\n", "3: agents.a.mcp_servers.b needs a command, to be started, or a url, to be reached"),
            ("mcp_servers.b = { command = \"\" }", "3: agents.a.mcp_servers.b.command is empty"),
            (
                "[agents.a.mcp_servers.b]\ncommand = \"x\"\nheaders = {}",
                "5: agents.a.mcp_servers.b.headers: a server with a command has none",
            ),
            ("[agents.a.mcp_servers.b]\nurl = \"https://x\"\nargs = []", "5: agents.a.mcp_servers.b.args: a server with a url has none"),
            ("[agents.a.mcp_servers.b]\nurl = \"https://x\"\nenv = {}", "5: agents.a.mcp_servers.b.env: a server with a url has none"),
            (
                "[agents.a.mcp_servers.b]\ncommand = \"x\"\nurl = \"https://x\"",
                "5: agents.a.mcp_servers.b.url: a server with a command has none",
            ),
            ("mcp_servers.b = { url = \"ws://x\" }", "3: agents.a.mcp_servers.b.url: must be http:// or https://"),
            ("mcp_servers.\"b.c\" = { command = \"x\" }", "3: agents.a.mcp_servers: a name may have"),
            ("mcp_servers.b = { command = \"x\", arg = [] }", "3: unknown field `arg`"),
            ("[agents.a.subagents.b]\ndescription = \"x\"\nprompt = \"\"", "5: agents.a.subagents.b.prompt is empty"),
            ("subagents.b = { description = \"x\" }", "3: missing field `prompt`"),
        ];
        for (line, expected) in cases {
            says(&format!("{agent}{line}"), &format!("config.toml:{expected}"));
        }
    }

    #[test]
    fn a_price_has_a_date_and_is_a_price() {
        let cases = [
            ("input = 1\noutput = 2", "1: missing field `date`"),
            ("input = 1\noutput = 2\ndate = \"now\"", "4: prices.\"p/m\".date: must be a day"),
            ("input = -1\noutput = 2\ndate = \"2026-11-20\"", "2: prices.\"p/m\".input: must be dollars"),
            ("input = 1\noutput = nan\ndate = \"2026-11-20\"", "3: prices.\"p/m\".output: must be dollars"),
            ("input = 1\noutput = 2\ncached = 1\ndate = \"2026-11-20\"", "4: unknown field `cached`"),
        ];
        for (lines, expected) in cases {
            says(&format!("[prices.\"p/m\"]\n{lines}"), &format!("config.toml:{expected}"));
        }
    }

    fn read(text: &str) -> anyhow::Result<Config> {
        Config::parse(text, Path::new("config.toml"))
    }

    fn says(text: &str, expected: &str) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }

    fn name(text: &str) -> AgentName {
        AgentName::new(text).unwrap()
    }
}
