//! ACP agents that many people have installed, and how each is started.
//!
//! Never: a look at the machine. Whoever asks looks whether the program is there.

/// An agent to look for on `PATH`; the program is the command's first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAcp {
    pub name: &'static str,
    pub command: &'static [&'static str],
}

/// The well-known agents, the one to prefer first.
pub fn known() -> &'static [KnownAcp] {
    &[
        KnownAcp { name: "claude", command: &["claude-agent-acp"] },
        KnownAcp { name: "codex", command: &["codex-acp"] },
        KnownAcp { name: "opencode", command: &["opencode", "acp"] },
        KnownAcp { name: "gemini", command: &["gemini", "--acp"] },
    ]
}
