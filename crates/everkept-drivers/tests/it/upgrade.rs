//! A turn that another version of the program left to a keeper.
//!
//! What that keeper says at its door is kept byte by byte, from the day its version was current. Never made anew by the
//! program that is tested: it must read what was written then, or let the agent go by its version.

use crate::support::{Heard, Talk, program, xtask};
use everkept_agent::{Abilities, Agent, Done, Left, Opened};
use everkept_core::{AgentSessionId, TurnId};
use everkept_drivers::{Holds, Setup, acp::AcpAgent, claude::ClaudeAgent, codex::CodexAgent};
use std::{
    collections::BTreeMap,
    io::Write,
    net::Shutdown,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command},
    sync::Arc,
    thread,
    time::Duration,
};

/// Of the frame that comes first: kind and length, then the keeper's version and its process.
const VERSION_AT: usize = 5;
const PID_AT: usize = 6;

#[tokio::test]
async fn r2_a_turn_that_a_keeper_of_version_1_holds_is_gone_on_with_by_every_driver() {
    let acp = include_bytes!("../fixtures/held-1-acp.bin").as_slice();
    let claude = include_bytes!("../fixtures/held-1-claude-code.bin").as_slice();
    let codex = include_bytes!("../fixtures/held-1-codex.bin").as_slice();
    for (driver, said) in [("acp", acp), ("claude-code", claude), ("codex", codex)] {
        let keeper = OldKeeper::open(said);
        let heard = keeper.go_on(driver).await.expect("the turn is held");
        assert!(matches!(heard.done(), Done::Completed { .. }), "{driver}: {heard:?}");
        assert_eq!(heard.text(), "reply 2 to: one two three four", "{driver}: every word, once");
    }
}

#[tokio::test]
async fn r2_a_turn_that_a_keeper_of_another_version_holds_is_let_go() {
    let mut said = include_bytes!("../fixtures/held-1-acp.bin").to_vec();
    said[VERSION_AT] += 1;
    let mut keeper = OldKeeper::open(&said);
    assert!(keeper.go_on("acp").await.is_none());
    // And nobody else is to have its agent.
    assert!(!keeper.process.wait().unwrap().success());
}

/// Says what one said, as soon as somebody knocks.
struct OldKeeper {
    folder: tempfile::TempDir,
    process: Child,
}

impl OldKeeper {
    fn open(said: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Command::new("sleep").arg("600").spawn().unwrap();
        let mut said = said.to_vec();
        said[PID_AT..PID_AT + 4].copy_from_slice(&process.id().to_be_bytes());
        let door = UnixListener::bind(folder.path().join("1.socket")).unwrap();
        thread::spawn(move || {
            let (mut server, _) = door.accept().unwrap();
            server.write_all(&said).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            _ = std::io::copy(&mut server, &mut std::io::sink());
        });
        Self { folder, process }
    }

    async fn go_on(&self, driver: &str) -> Option<Heard> {
        match agent(driver, self.folder.path(), self.folder.path()).left_of(turn()).await {
            Left::Running(held) => {
                let agent_session = AgentSessionId::new("held").unwrap();
                let connection = (held.go_on)(0);
                let mut talk = Talk { opened: Opened { agent_session, abilities: abilities(), model_set: None, connection } };
                let heard = talk.hear_out().await;
                talk.end().await;
                Some(heard)
            }
            Left::Nothing | Left::Lost(_) => None,
        }
    }
}

impl Drop for OldKeeper {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn turn() -> TurnId {
    TurnId::derive(Default::default(), "held", 0)
}

fn abilities() -> Abilities {
    Abilities {
        resume: true,
        fork: true,
        cancel: true,
        ask_permission: true,
        set_model: true,
        report_usage: true,
        remember: true,
        transcript: false,
    }
}

fn agent(driver: &str, doors: &Path, folder: &Path) -> Box<dyn Agent> {
    let scripted = match driver {
        "acp" => "scripted-agent",
        "claude-code" => "scripted-claude",
        _ => "scripted-codex",
    };
    let holds = Holds::new(doors.to_owned(), Duration::from_secs(60)).unwrap();
    let env = BTreeMap::from([("SCRIPTED_DIR".into(), folder.to_str().unwrap().into())]);
    let mut program = program(driver, &[xtask().to_str().unwrap(), scripted], env);
    program.keeper.holds = Some(Arc::new(holds));
    match driver {
        "acp" => Box::new(AcpAgent::new(program, BTreeMap::new())),
        "claude-code" => Box::new(ClaudeAgent::new(program, Setup::default())),
        _ => Box::new(CodexAgent::new(program, Setup::default())),
    }
}
