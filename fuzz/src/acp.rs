//! What an agent writes, read by the ACP driver out of a real process.
//!
//! The agent is this program again, and so is its keeper: it answers what opens a session, and once it is prompted it says the bytes of the
//! input, in pieces, each only when the one before it has been taken out of the pipe.
//! Never: a byte that is not handed over, or anything else heard because the bytes came in other pieces.

use crate::house::directory;
use everkept_agent::{Agent, AgentFault, Open, OpenSession, Order, Output, Prompt, PromptPart};
use everkept_core::{Said, TurnId};
use everkept_drivers::{Keeper, OPEN_WITHIN, Program, acp::AcpAgent};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// What this program is called with to be the agent's keeper.
pub const KEEPER: &str = "keeper";
/// Names the file that says what an agent says.
pub const SCRIPT: &str = "EVERKEPT_FUZZ_SCRIPT";

/// What the agent answers before it is prompted: `initialize` and `session/new`.
const OPENING: [&str; 2] = [
    r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentCapabilities":{}}}"#,
    r#"{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s"}}"#,
];

static FILE: LazyLock<PathBuf> = LazyLock::new(|| directory().join("agent"));

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// The first byte says how large the pieces are, the second whether the session is open before the input is said.
pub fn run(bytes: &[u8]) {
    let [piece, opened, said @ ..] = bytes else { return };
    let opened = opened % 4 != 0;
    let whole = RUNTIME.with(|runtime| runtime.block_on(talk(opened, said.len().max(1), said)));
    let pieces = RUNTIME.with(|runtime| runtime.block_on(talk(opened, 1 + usize::from(piece % 16), said)));
    assert_eq!(pieces, whole, "the same in pieces");
    if let Ok(heard) = &whole {
        assert_eq!(String::from_utf8_lossy(&heard.raw), String::from_utf8_lossy(said), "every byte is kept");
    }
}

/// What was heard of an agent that could be opened; of one that could not, why.
#[derive(Debug, PartialEq)]
struct Heard {
    raw: Vec<u8>,
    said: Vec<Said>,
    ends: Vec<String>,
}

async fn talk(opened: bool, piece: usize, said: &[u8]) -> Result<Heard, AgentFault> {
    write_script(opened, piece, said);
    let program = std::env::current_exe().expect("this program has a path");
    let env = BTreeMap::from([(SCRIPT.to_owned(), FILE.display().to_string())]);
    let command = vec![program.display().to_string()];
    let keeper = Keeper { program, args: vec![KEEPER.to_owned()], holds: None };
    let agent = Program { name: "fuzz".into(), command, env, keeper, open_within: OPEN_WITHIN };
    let open = Open { directory: directory().to_owned(), session: OpenSession::New, model: None };
    let mut agent = AcpAgent::new(agent, BTreeMap::new()).open(open).await?;
    let prompt =
        Prompt { turn: TurnId::derive(Default::default(), "turn", 0), parts: vec![PromptPart::Text("go".into())], history: vec![] };
    // An agent that is gone already takes no orders, and says so.
    _ = agent.connection.orders.send(Order::Prompt(prompt)).await;
    let mut heard = Heard { raw: Vec::new(), said: Vec::new(), ends: Vec::new() };
    let mut opening = true;
    while let Some(output) = agent.connection.output.recv().await {
        match output {
            // What was said to open the session comes first, in one piece.
            Output::Said { raw, said } if std::mem::take(&mut opening) => {
                assert!(said.is_empty(), "nobody has asked anything");
                if !opened {
                    heard.raw.extend_from_slice(&raw);
                }
            }
            Output::Said { raw, said } => {
                heard.raw.extend_from_slice(&raw);
                heard.said.extend(said);
            }
            Output::Done { raw, done } => {
                heard.raw.extend_from_slice(&raw);
                heard.ends.push(format!("{done:?}"));
            }
            Output::Gone(fault) => heard.ends.push(format!("{fault:?}")),
        }
    }
    Ok(heard)
}

/// One line for how, then what is said.
fn write_script(opened: bool, piece: usize, said: &[u8]) {
    let mut script = format!("{} {piece}\n", u8::from(opened)).into_bytes();
    script.extend_from_slice(said);
    fs::write(&*FILE, script).expect("the script can be written");
}

/// The agent's own life.
pub fn play(script: &Path) {
    let script = fs::read(script).expect("the script is there");
    let end = script.iter().position(|byte| *byte == b'\n').expect("a script has a first line");
    let first = std::str::from_utf8(&script[..end]).expect("the first line is text");
    let (opened, piece) = first.split_once(' ').expect("the first line has two numbers");
    let piece: usize = piece.parse().expect("a size");
    let mut asked = std::io::stdin().lock().lines();
    if opened == "1" {
        for answer in OPENING {
            asked.next();
            say(format!("{answer}\n").as_bytes());
        }
    }
    asked.next();
    for piece in script[end + 1..].chunks(piece) {
        say(piece);
        while unread() > 0 {
            std::thread::yield_now();
        }
    }
}

fn say(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A driver that let go does not read on.
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);

/// Bytes that stand in the pipe.
#[expect(unsafe_code, reason = "the kernel is asked by an ioctl, which has no safe form")]
fn unread() -> i32 {
    let mut unread = 0;
    // SAFETY: FIONREAD writes one int, and the reference is to one.
    match unsafe { fionread(std::io::stdout().as_raw_fd(), &mut unread) } {
        Ok(_) => unread,
        Err(_) => 0,
    }
}
