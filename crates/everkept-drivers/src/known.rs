//! The kinds of agents there are, and those that many people have installed.
//!
//! Never: a look at the machine. Whoever asks looks whether the program is there.

use crate::{Program, Setup, acp::AcpAgent, claude::ClaudeAgent, codex::CodexAgent};
use everkept_agent::Agent;
use std::sync::Arc;

/// What a program speaks over its standard input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Acp,
    ClaudeCode,
    Codex,
}

impl Speaks {
    pub fn agent(self, program: Program, setup: Setup) -> Arc<dyn Agent> {
        match self {
            Self::Acp => Arc::new(AcpAgent::new(program, setup.mcp_servers).in_mode(setup.mode)),
            Self::ClaudeCode => Arc::new(ClaudeAgent::new(program, setup)),
            Self::Codex => Arc::new(CodexAgent::new(program, setup)),
        }
    }

    /// Of a [`Setup`], what such an agent has no way to be told.
    pub fn not_told(self) -> &'static [&'static str] {
        match self {
            Self::Acp => &["system_prompt", "subagents", "max_turns"],
            Self::ClaudeCode => &["mode"],
            Self::Codex => &["subagents", "max_turns", "mode"],
        }
    }

    /// How it is called where nothing else is said; an agent of any vendor has no such name.
    pub fn usual_command(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Acp => None,
            Self::ClaudeCode => Some(&["claude"]),
            Self::Codex => Some(&["codex", "app-server"]),
        }
    }
}

/// An agent to look for on `PATH`; the program is the command's first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub name: &'static str,
    pub speaks: Speaks,
    pub command: &'static [&'static str],
}

/// The well-known agents. Of two with one name the first that is there is meant: a vendor's own program before an adapter.
pub fn known() -> &'static [Known] {
    use Speaks::{Acp, ClaudeCode, Codex};
    &[
        Known { name: "claude", speaks: ClaudeCode, command: &["claude"] },
        Known { name: "claude", speaks: Acp, command: &["claude-agent-acp"] },
        Known { name: "codex", speaks: Codex, command: &["codex", "app-server"] },
        Known { name: "codex", speaks: Acp, command: &["codex-acp"] },
        Known { name: "opencode", speaks: Acp, command: &["opencode", "acp"] },
        Known { name: "gemini", speaks: Acp, command: &["gemini", "--acp"] },
    ]
}
