//! Transcripts: what an agent once wrote, said again to the driver of its protocol, and what was made of it.
//!
//! Never: a byte that the agent did not write.

use crate::support::{Heard, Talk, program};
use everkept_agent::{Agent, OpenSession};
use everkept_core::{Payload, Said};
use everkept_drivers::{Program, Setup, acp::AcpAgent, claude::ClaudeAgent, codex::CodexAgent};
use serde_json::Value;
use std::{collections::BTreeMap, fs};

/// What follows is said after the next thing the agent is sent.
pub const WAIT: &str = "--wait--";

/// How a transcript is cut and said again.
pub struct Protocol {
    driver: fn(Program) -> Box<dyn Agent>,
    /// After this line the agent waited to be sent something.
    waits: fn(&Value) -> bool,
    /// What it waits for, as a pattern of the shell's.
    hears: &'static str,
}

/// An answer to a prompt comes at its end.
pub const ACP: Protocol = Protocol {
    driver: |program| Box::new(AcpAgent::new(program, BTreeMap::new())),
    waits: |line| line["id"].is_u64() && line.get("method").is_none(),
    hears: r#"*'"method":"'*"#,
};

/// It waits after what ends a turn, and after what it asks; it also repeats what it was answered.
pub const CLAUDE: Protocol = Protocol {
    driver: |program| Box::new(ClaudeAgent::new(program, Setup::default())),
    waits: |line| line["type"] == "result" || line["type"] == "control_request" || line["response"]["request_id"] == "initialize",
    hears: "*",
};

/// An answer to a prompt comes at its beginning.
pub const CODEX: Protocol = Protocol {
    driver: |program| Box::new(CodexAgent::new(program, Setup::default())),
    waits: |line| line["method"] == "turn/completed" || line["id"].is_u64() && line["result"]["turn"].is_null(),
    hears: r#"*'"id":'*"#,
};

/// An agent that says, at each thing it is sent, what another one said then.
pub struct Transcript {
    pub folder: tempfile::TempDir,
    pieces: Vec<String>,
    protocol: &'static Protocol,
}

impl Transcript {
    pub fn lines(protocol: &'static Protocol, lines: &[&str]) -> Self {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        Self::of(text.as_bytes(), protocol)
    }

    /// Cut where the agent waited then, and where it is to wait.
    pub fn of(bytes: &[u8], protocol: &'static Protocol) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut pieces = vec![Vec::new()];
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.trim_ascii() == WAIT.as_bytes() {
                pieces.push(Vec::new());
                continue;
            }
            pieces.last_mut().unwrap().extend_from_slice(line);
            let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            if (protocol.waits)(&value) {
                pieces.push(Vec::new());
            }
        }
        let write = |(number, piece)| {
            let file = folder.path().join(format!("piece-{number}"));
            fs::write(&file, piece).unwrap();
            file.to_str().unwrap().to_owned()
        };
        let pieces = pieces.into_iter().enumerate().map(write).collect();
        Self { folder, pieces, protocol }
    }

    pub fn agent(&self) -> Box<dyn Agent> {
        const SAY: &str = r#"
            sent=$1; shift
            while read -r line; do
                printf '%s\n' "$line" >> "$sent"
                case "$line" in HEARS) cat "$1"; shift; [ $# -gt 0 ] || set -- /dev/null;; esac
            done
        "#;
        let (say, sent) = (SAY.replace("HEARS", self.protocol.hears), self.folder.path().join("sent"));
        let mut command = vec!["sh", "-c", &say, "agent", sent.to_str().unwrap()];
        command.extend(self.pieces.iter().map(String::as_str));
        (self.protocol.driver)(program("transcript", &command, BTreeMap::new()))
    }

    pub async fn open(&self, session: OpenSession) -> Talk {
        Talk::open(&*self.agent(), self.folder.path(), session).await
    }

    /// What the agent was sent.
    pub fn sent(&self) -> Vec<String> {
        fs::read_to_string(self.folder.path().join("sent")).unwrap().lines().map(str::to_owned).collect()
    }
}

/// One line for each thing told; texts of one message are one.
pub fn told(heard: &Heard) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for said in &heard.said {
        let (head, text) = head_and_text(said);
        match told.last_mut() {
            Some(last) if !text.is_empty() && last.starts_with(&head) => last.push_str(&text),
            _ => told.push(head + &text),
        }
    }
    told.push(heard.end.as_ref().map_or_else(String::new, |end| end.as_ref().map_or_else(ToString::to_string, |done| format!("{done:?}"))));
    told
}

fn head_and_text(said: &Said) -> (String, String) {
    let name = |message: &Option<String>| message.clone().unwrap_or_default();
    let json = |word: &str, payload: &Option<Payload>| match payload {
        Some(Payload::Json(json)) => format!("{word}{}", json.get()),
        Some(Payload::Blob(_)) | None => String::new(),
    };
    let title = |title: &Option<String>| title.as_ref().map_or_else(String::new, |title| format!(" {title:?}"));
    let head = match said {
        Said::Text { message, text } => return (format!("text {}: ", name(message)), text.clone()),
        Said::Reasoning { message, text } => return (format!("reasoning {}: ", name(message)), text.clone()),
        Said::ToolStarted { call, name, title: named, status, input } => {
            format!("tool {call} {name} {status:?}{}{}", title(named), json(" ", input))
        }
        Said::ToolUpdated { call, status, title: named, input, output } => {
            let status = status.map_or_else(String::new, |status| format!(" {status:?}"));
            format!("tool {call}{status}{}{}{}", title(named), json(" in ", input), json(" out ", output))
        }
        Said::Plan { entries } => json("plan ", &Some(entries.clone())),
        Said::Usage(usage) => format!("usage {} in, {} out", usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0)),
        Said::MessageUsage { message, usage } => {
            format!("used {}: {} in, {} out", name(message), usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0))
        }
        Said::Asked(asked) => {
            let options: Vec<_> = asked.options.iter().map(|option| format!("{}/{:?}", option.id, option.kind)).collect();
            format!("asked {} {:?} {}", asked.request, asked.title, options.join(" "))
        }
        Said::Withdrew { request } => format!("withdrew {request}"),
        other => format!("{other:?}"),
    };
    (head, String::new())
}
