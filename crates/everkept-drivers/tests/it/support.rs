//! What the tests of this crate share: the programs they start, and a conversation with an agent.

use bytes::Bytes;
use everkept_agent::{Agent, AgentFault, Connection, Done, Open, OpenSession, Opened, Order, Output, Prompt, PromptPart};
use everkept_core::{AgentSessionId, Said, TurnId};
use everkept_drivers::{Keeper, OPEN_WITHIN, Program, acp::AcpAgent};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Longer than anything takes on any machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The project's own tasks, which stand beside the tests: the keeper, the scripted agent, the fake model.
pub fn xtask() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let found = test.ancestors().skip(1).map(|folder| folder.join("xtask")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no xtask beside {}: run `cargo build -p xtask`", test.display()))
}

pub fn keeper() -> Keeper {
    Keeper { program: xtask(), args: vec!["keeper".into()], holds: None }
}

pub fn program(name: &str, command: &[&str], env: BTreeMap<String, String>) -> Program {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Program { name: name.into(), command, env, keeper: keeper(), open_within: OPEN_WITHIN }
}

pub fn acp(name: &str, command: &[&str], env: BTreeMap<String, String>) -> AcpAgent {
    AcpAgent::new(program(name, command, env), BTreeMap::new())
}

pub struct Talk {
    pub opened: Opened,
}

/// One prompt, from its beginning to its end.
#[derive(Debug, Default)]
pub struct Heard {
    pub raw: Vec<Bytes>,
    pub said: Vec<Said>,
    pub end: Option<Result<Done, AgentFault>>,
}

impl Talk {
    pub async fn open(agent: &dyn Agent, directory: &Path, session: OpenSession) -> Self {
        Self { opened: try_open(agent, directory, session).await.unwrap() }
    }

    pub fn session(&self) -> AgentSessionId {
        self.opened.agent_session.clone()
    }

    pub async fn prompt(&mut self, text: &str) -> Heard {
        self.begin(text).await;
        self.hear_out().await
    }

    pub async fn begin(&mut self, text: &str) {
        let turn = fresh_turn();
        self.order(Order::Prompt(Prompt { turn, parts: vec![PromptPart::Text(text.into())], history: Vec::new() })).await;
    }

    pub async fn order(&mut self, order: Order) {
        self.opened.connection.orders.send(order).await.unwrap();
    }

    /// Until it asks something, or the prompt ends.
    pub async fn prompt_until_asked(&mut self, text: &str) -> Heard {
        self.begin(text).await;
        self.hear_until_asked().await
    }

    pub async fn hear_until_asked(&mut self) -> Heard {
        self.hear_until(|said| matches!(said, Said::Asked(_))).await
    }

    pub async fn hear_out(&mut self) -> Heard {
        self.hear_until(|_| false).await
    }

    /// Until something is said that is wanted, or the prompt ends.
    pub async fn hear_until(&mut self, wanted: impl Fn(&Said) -> bool) -> Heard {
        let mut heard = Heard::default();
        loop {
            match self.next().await.expect("an end is said") {
                Output::Said { raw, said } => {
                    heard.raw.push(raw);
                    let enough = said.iter().any(&wanted);
                    heard.said.extend(said);
                    if enough {
                        return heard;
                    }
                }
                Output::Done { raw, done } => {
                    heard.raw.push(raw);
                    heard.end = Some(Ok(done));
                    return heard;
                }
                Output::Gone(fault) => {
                    heard.end = Some(Err(fault));
                    return heard;
                }
            }
        }
    }

    pub async fn next(&mut self) -> Option<Output> {
        tokio::time::timeout(PATIENCE, self.opened.connection.output.recv()).await.expect("something is said in time")
    }

    /// Lets go, and waits until the agent is gone.
    pub async fn end(self) {
        let Connection { orders, mut output } = self.opened.connection;
        drop(orders);
        let ended = async { while output.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("an agent without orders ends");
    }
}

/// An id that no prompt of this process had: an agent may take one that it has seen for a prompt sent again.
pub fn fresh_turn() -> TurnId {
    static PROMPTS: AtomicU64 = AtomicU64::new(0);
    TurnId::derive(Default::default(), "turn", PROMPTS.fetch_add(1, Ordering::Relaxed))
}

pub async fn try_open(agent: &dyn Agent, directory: &Path, session: OpenSession) -> Result<Opened, AgentFault> {
    let open = Open { directory: directory.to_owned(), session, model: None };
    tokio::time::timeout(PATIENCE, agent.open(open)).await.expect("opening ends")
}

impl Heard {
    /// What was heard after it.
    pub fn and(&mut self, later: Self) {
        self.raw.extend(later.raw);
        self.said.extend(later.said);
        self.end = later.end;
    }

    pub fn text(&self) -> String {
        let texts = self.said.iter().filter_map(|said| match said {
            Said::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// All bytes, as they came.
    pub fn bytes(&self) -> Vec<u8> {
        self.raw.concat()
    }

    pub fn done(&self) -> &Done {
        self.end.as_ref().expect("the prompt has ended").as_ref().expect("the agent is not gone")
    }

    pub fn fault(&self) -> &AgentFault {
        self.end.as_ref().expect("the prompt has ended").as_ref().expect_err("the agent is gone")
    }
}

/// Whether a process is there and is no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, after)| !after.trim_start().starts_with('Z'))
}

/// The numbers of a file, one on each line.
pub fn pids(file: &Path) -> Vec<i32> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(|line| line.trim().parse().unwrap()).collect()
}
