//! The keeper leaves nothing behind, whatever ends it.

use crate::support::{alive, pids, xtask};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

/// An agent that echoes, ignores SIGTERM, and has daemons: in another session, and without living parents.
const AGENT: &str = r#"
    trap '' TERM
    setsid sh -c 'trap "" TERM; echo $$ >> "$1"; while :; do sleep 600; done' daemon "$1" &
    (setsid sh -c 'echo $$ >> "$1"; exec sleep 600' daemon "$1" &) &
    while [ "$(wc -l < "$1")" -lt 2 ]; do sleep 0.01; done
    echo $$ >> "$1"
    echo ready
    cat
    while :; do sleep 600; done
"#;
const ALL_GONE_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn end_of_input_ends_every_descendant() {
    let mut kept = Kept::start(AGENT);
    drop(kept.input.take());
    kept.assert_all_gone();
}

#[test]
fn each_stop_signal_ends_every_descendant() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut kept = Kept::start(AGENT);
        kill(Pid::from_raw(kept.child.id() as i32), signal).unwrap();
        kept.assert_all_gone();
    }
}

#[test]
fn an_agent_that_reads_nothing_holds_up_nobody() {
    // Far more than both pipes hold, and the rest still waits when the writer is gone.
    let mut kept = Kept::start(&AGENT.replace("    cat\n", ""));
    let mut input = kept.input.take().unwrap();
    let writer = std::thread::spawn(move || _ = input.write_all(&vec![b'x'; 100_000]));
    writer.join().unwrap();
    kept.assert_all_gone();
}

#[test]
fn an_agent_that_exits_takes_its_descendants_along_and_its_code_is_told() {
    let mut kept = Kept::start(&AGENT.replace("    cat\n", "    exit 7\n"));
    assert_eq!(kept.assert_all_gone(), Some(7));
    let mut killed = Kept::start(&AGENT.replace("    cat\n", "    kill -9 $$\n"));
    assert_eq!(killed.assert_all_gone(), Some(128 + 9));
}

#[test]
fn bytes_pass_as_they_are() {
    let mut child = keep(&["cat"]);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let bytes = sent.clone();
    let writer = std::thread::spawn(move || {
        input.write_all(&bytes).unwrap();
        input
    });
    let mut got = vec![0; sent.len()];
    output.read_exact(&mut got).unwrap();
    assert!(got == sent);
    drop(writer.join().unwrap());
    child.wait().unwrap();
}

#[test]
fn an_agent_starts_with_its_signals_as_they_should_be() {
    let mut child = keep(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let mut output = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut output).unwrap();
    child.wait().unwrap();
    let ours = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGCHLD];
    let ours = ours.iter().fold(0, |mask, signal| mask | 1_u64 << (*signal as i32 - 1));
    for line in output.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        assert_eq!(mask & ours, 0, "{output}");
    }
}

#[test]
fn a_command_that_is_not_there_is_told_apart() {
    for (command, code) in [("/no/such/agent", 127), ("no-such-agent-anywhere", 127), ("/etc/passwd", 126)] {
        let output = keep(&[command]).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(command));
    }
}

/// A keeper with an agent and its daemons.
struct Kept {
    child: Child,
    /// Held apart, because to wait for a child closes its input.
    input: Option<ChildStdin>,
    folder: tempfile::TempDir,
}

impl Kept {
    fn start(agent: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        std::fs::write(&pids, "").unwrap();
        let mut child = keep(&["sh", "-c", agent, "agent", pids.to_str().unwrap()]);
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self { input: child.stdin.take(), child, folder }
    }

    fn assert_all_gone(&mut self) -> Option<i32> {
        let begun = Instant::now();
        let code = self.child.wait().unwrap().code();
        let took = begun.elapsed();
        let pids = self.pids();
        assert_eq!(pids.len(), 3);
        for pid in pids {
            assert!(!alive(pid), "{pid} is left");
        }
        assert!(took < ALL_GONE_WITHIN, "it took {took:?}");
        code
    }

    fn pids(&self) -> Vec<i32> {
        pids(&Path::new(self.folder.path()).join("pids"))
    }
}

fn keep(command: &[&str]) -> Child {
    let mut keeper = Command::new(xtask());
    keeper.arg("keeper").arg("--").args(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    keeper.spawn().unwrap()
}
