//! The keeper leaves nothing behind, whatever ends it.

use crate::support::{alive, pids, xtask};
use bytes::{Bytes, BytesMut};
use everkept_drivers::keeper::{
    Hold,
    frame::{ToKeeper, ToServer},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
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
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_server_that_is_gone_ends_every_descendant() {
    let mut kept = Kept::start(AGENT, None);
    kept.line.close();
    kept.assert_all_gone();
    // Without a turn, there is nothing to hold, whatever was ordered.
    let (_root, hold) = holding(Duration::from_secs(60), 1 << 20);
    let mut kept = Kept::start(AGENT, Some(&hold));
    kept.line.say(&ToKeeper::Word { at: 6, note: "order".into(), input: Bytes::new() });
    kept.line.close();
    kept.assert_all_gone();
}

#[test]
fn each_stop_signal_ends_every_descendant() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut kept = Kept::start(AGENT, None);
        kill(kept.line.pid(), signal).unwrap();
        kept.assert_all_gone();
    }
}

#[test]
fn an_agent_that_reads_nothing_holds_up_nobody() {
    // Far more than its pipe holds, and the rest still waits when the writer is gone.
    let mut kept = Kept::start(&AGENT.replace("    cat\n", ""), None);
    kept.line.word(&vec![b'x'; 500_000]);
    kept.line.close();
    kept.assert_all_gone();
}

#[test]
fn an_agent_that_exits_takes_its_descendants_along_and_its_code_is_told() {
    let mut kept = Kept::start(&AGENT.replace("    cat\n", "    echo last; echo words >&2; exit 7\n"), None);
    assert_eq!(kept.line.output(5), b"last\n");
    assert_eq!(kept.line.next(), Some(ToServer::Errors("words\n".into())));
    assert_eq!(kept.line.next(), Some(ToServer::Exit(7)));
    assert_eq!(kept.assert_all_gone(), Some(7));
    let mut killed = Kept::start(&AGENT.replace("    cat\n", "    kill -9 $$\n"), None);
    assert_eq!(killed.assert_all_gone(), Some(128 + 9));
}

#[test]
fn bytes_pass_as_they_are() {
    let mut line = Line::start(&["cat"], None);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut writer = Line { stream: line.stream.as_ref().map(|stream| stream.try_clone().unwrap()), ..Line::default() };
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || bytes.chunks(1_000_000).for_each(|chunk| writer.word(chunk)));
    assert!(line.output(sent.len()) == sent);
    writing.join().unwrap();
}

#[test]
fn an_agent_starts_with_its_signals_as_they_should_be() {
    let mut line = Line::start(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], None);
    let Some(ToServer::Output(output)) = line.next() else { panic!("the agent says something") };
    let output = String::from_utf8(output.into()).unwrap();
    let ours = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGCHLD];
    let ours = ours.iter().fold(0, |mask, signal| mask | 1_u64 << (*signal as i32 - 1));
    assert_eq!(output.lines().count(), 2, "{output}");
    for line in output.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        assert_eq!(mask & ours, 0, "{output}");
    }
}

#[test]
fn a_command_that_is_not_there_is_told_apart() {
    for (command, code) in [("/no/such/agent", 127), ("no-such-agent-anywhere", 127), ("/etc/passwd", 126)] {
        let mut line = Line::start(&[command], None);
        let Some(ToServer::Errors(errors)) = line.next() else { panic!("it says why") };
        assert!(String::from_utf8_lossy(&errors).contains(command));
        assert_eq!(line.next(), Some(ToServer::Exit(code)));
        assert_eq!(line.wait(), Some(i32::from(code)));
    }
}

#[test]
fn r2_a_turn_outlives_its_server_and_the_next_one_hears_every_byte_and_every_note_and_speaks_on() {
    let (_root, hold) = holding(Duration::from_secs(60), 1 << 20);
    let mut kept = Kept::start(AGENT, Some(&hold));
    let at = "ready\n".len() as u64;
    kept.line.say(&ToKeeper::Begin { at, note: "turn".into(), input: "one\n".into() });
    assert_eq!(kept.line.output(4), b"one\n");
    // The server dies with this on its way, and with the answer to it unread.
    kept.line.say(&ToKeeper::Word { at: at + 4, note: "order".into(), input: "two\n".into() });
    kept.line.stream.as_mut().unwrap().write_all(&[2, 0, 0, 0, 99, 0]).unwrap();
    kept.line.close();
    for _ in 0..2 {
        kept.line.stream = Some(knock(&hold));
        let pid = kept.line.pid().as_raw();
        let found = kept.line.next();
        let Some(ToServer::Found { version: 1, base, last, notes: 2, lost: false, pid: its, .. }) = found else { panic!("{found:?}") };
        assert_eq!((its, base, last), (pid, at, at + 4));
        assert_eq!(kept.line.next(), Some(ToServer::Note { at, note: "turn".into() }));
        assert_eq!(kept.line.next(), Some(ToServer::Note { at: at + 4, note: "order".into() }));
        assert_eq!(kept.line.output(8), b"one\ntwo\n", "every byte, each time");
        kept.line.close();
    }
    kept.line.stream = Some(knock(&hold));
    kept.line.word(b"three\n");
    let found = kept.line.next();
    assert!(matches!(found, Some(ToServer::Found { .. })), "{found:?}");
    assert_eq!(kept.line.output(14), b"one\ntwo\nthree\n");
    // Once the turn is over, nothing is held.
    kept.line.say(&ToKeeper::Rest { at: at + 14 });
    kept.line.close();
    kept.assert_all_gone();
    assert_eq!(std::fs::read_dir(&hold.folder).unwrap().count(), 0, "nothing is left of it on the disk");
}

#[test]
fn r2_past_the_hold_every_descendant_is_gone() {
    let (_root, hold) = holding(Duration::from_millis(300), 1 << 20);
    let mut kept = Kept::start(AGENT, Some(&hold));
    kept.line.say(&ToKeeper::Begin { at: 6, note: "turn".into(), input: Bytes::new() });
    kept.line.word(b"heard\n");
    assert_eq!(kept.line.output(6), b"heard\n");
    let pids = kept.pids();
    let begun = Instant::now();
    kept.line.close();
    assert!(pids.iter().all(|pid| alive(*pid)));
    kept.assert_all_gone();
    assert!(begun.elapsed() >= hold.time, "it was held");
}

#[test]
fn r2_what_an_agent_said_that_ended_while_nobody_listened_is_told_with_its_code() {
    let (_root, hold) = holding(Duration::from_secs(60), 1 << 20);
    let mut kept = Kept::start(&AGENT.replace("    cat\n", "    read go; echo $go; echo why >&2; exit 3\n"), Some(&hold));
    kept.line.say(&ToKeeper::Begin { at: 6, note: "turn".into(), input: "went\n".into() });
    kept.line.close();
    let gone = Instant::now() + PATIENCE;
    while kept.pids().into_iter().any(alive) {
        assert!(Instant::now() < gone);
        std::thread::yield_now();
    }
    kept.line.stream = Some(knock(&hold));
    assert!(matches!(kept.line.next(), Some(ToServer::Found { end: 11, .. })));
    assert!(matches!(kept.line.next(), Some(ToServer::Note { .. })));
    assert_eq!(kept.line.output(5), b"went\n");
    assert_eq!(kept.line.next(), Some(ToServer::Errors("why\n".into())));
    assert_eq!(kept.line.next(), Some(ToServer::Exit(3)));
    kill(kept.line.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(kept.assert_all_gone(), Some(3));
}

#[test]
fn r2_an_agent_that_says_more_than_there_is_room_for_is_ended_and_the_next_server_is_told_why() {
    let (_root, hold) = holding(Duration::from_secs(60), 1_000);
    let mut kept = Kept::start(AGENT, Some(&hold));
    kept.line.say(&ToKeeper::Begin { at: 6, note: "turn".into(), input: "read\n".into() });
    assert_eq!(kept.line.output(5), b"read\n");
    kept.line.word(&[b'x'; 2_000]);
    kept.line.close();
    let pids = kept.pids();
    let gone = Instant::now() + PATIENCE;
    while pids.iter().any(|pid| alive(*pid)) {
        assert!(Instant::now() < gone, "it goes on");
        std::thread::yield_now();
    }
    kept.line.stream = Some(knock(&hold));
    let found = kept.line.next();
    assert!(matches!(found, Some(ToServer::Found { lost: true, notes: 1, .. })), "{found:?}");
    assert!(matches!(kept.line.next(), Some(ToServer::Note { .. })));
    assert_eq!(kept.line.next(), Some(ToServer::Lost("it said more than 1000 bytes".into())));
    kill(kept.line.pid(), Signal::SIGTERM).unwrap();
    kept.line.wait();
    // With a server there, such an agent only cannot be held any more, and goes on.
    let mut kept = Kept::start(AGENT, Some(&hold));
    kept.line.say(&ToKeeper::Begin { at: 6, note: "turn".into(), input: vec![b'x'; 2_000].into() });
    assert_eq!(kept.line.next(), Some(ToServer::Lost("it said more than 1000 bytes".into())));
    assert_eq!(kept.line.output(2_000), [b'x'; 2_000]);
    // The next turn begins anew.
    kept.line.say(&ToKeeper::Begin { at: 2_006, note: "next".into(), input: "y\n".into() });
    assert_eq!(kept.line.output(2), b"y\n");
    kept.line.close();
    kept.line.stream = Some(knock(&hold));
    let found = kept.line.next();
    assert!(matches!(found, Some(ToServer::Found { lost: false, base: 2_006, .. })), "{found:?}");
    kill(kept.line.pid(), Signal::SIGTERM).unwrap();
    kept.assert_all_gone();
}

#[test]
fn r2_a_disk_that_is_full_under_a_turn_is_told_and_no_word_of_it_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let hold = Hold { folder: root.path().to_owned(), time: Duration::from_secs(60), room: 1 << 30 };
    // Only the keeper sees this disk.
    let mount = "mount -t tmpfs -o size=64k everkept \"$0\" && exec \"$@\"";
    let mut small = Command::new("unshare");
    small.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]).arg(root.path()).arg(xtask());
    let mut line = Line::start_by(small, &["sh", "-c", "cat; sleep 600"], Some(&hold));
    let said: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    line.say(&ToKeeper::Begin { at: 0, note: "turn".into(), input: said.clone().into() });
    let (mut heard, mut lost) = (Vec::new(), None);
    while heard.len() < said.len() || lost.is_none() {
        match line.next() {
            Some(ToServer::Output(bytes)) => heard.extend_from_slice(&bytes),
            Some(ToServer::Lost(why)) => lost = Some(why),
            other => panic!("{other:?}"),
        }
    }
    assert!(heard == said, "every byte, the kept ones first");
    let full = lost.unwrap();
    assert!(full.contains("No space left"), "{full:?}");
    // A server that dies now leaves nobody behind, and the next one is told why.
    line.close();
    let inside = format!("/proc/{}/root{}", line.pid(), root.path().display());
    line.stream = Hold::knock(Path::new(&inside)).unwrap().pop();
    assert!(matches!(line.next(), Some(ToServer::Found { lost: true, notes: 1, .. })));
    assert!(matches!(line.next(), Some(ToServer::Note { .. })));
    assert_eq!(line.next(), Some(ToServer::Lost(full)));
    kill(line.pid(), Signal::SIGTERM).unwrap();
    line.wait();
}

/// In a folder of the test's own.
fn holding(time: Duration, room: u64) -> (tempfile::TempDir, Hold) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("keepers");
    Hold::make_folder(&folder).unwrap();
    (root, Hold { folder, time, room })
}

/// The one keeper that is there.
fn knock(hold: &Hold) -> UnixStream {
    let mut found = Hold::knock(&hold.folder).unwrap();
    assert_eq!(found.len(), 1);
    found.pop().unwrap()
}

/// A keeper with an agent and its daemons.
struct Kept {
    line: Line,
    folder: tempfile::TempDir,
}

impl Kept {
    fn start(agent: &str, hold: Option<&Hold>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        std::fs::write(&pids, "").unwrap();
        let mut line = Line::start(&["sh", "-c", agent, "agent", pids.to_str().unwrap()], hold);
        assert_eq!(line.output(6), b"ready\n");
        Self { line, folder }
    }

    fn assert_all_gone(&mut self) -> Option<i32> {
        let begun = Instant::now();
        let code = self.line.wait();
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

/// The server's side.
#[derive(Default)]
struct Line {
    child: Option<Child>,
    stream: Option<UnixStream>,
    incoming: BytesMut,
    /// Output that came with what was asked for.
    more: Vec<u8>,
}

impl Line {
    fn start(command: &[&str], hold: Option<&Hold>) -> Self {
        Self::start_by(Command::new(xtask()), command, hold)
    }

    /// By something that becomes the keeper's program.
    fn start_by(mut keeper: Command, command: &[&str], hold: Option<&Hold>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        keeper.arg("keeper").args(hold.into_iter().flat_map(Hold::args)).arg("--").args(command);
        let child = keeper.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn().unwrap();
        Self { child: Some(child), stream: Some(ours), ..Self::default() }
    }

    fn say(&mut self, order: &ToKeeper) {
        let mut frame = BytesMut::new();
        order.write(&mut frame);
        self.stream.as_mut().unwrap().write_all(&frame).unwrap();
    }

    fn word(&mut self, input: &[u8]) {
        self.say(&ToKeeper::Word { at: 0, note: Bytes::new(), input: Bytes::copy_from_slice(input) });
    }

    fn next(&mut self) -> Option<ToServer> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(frame) = ToServer::take(&mut self.incoming).unwrap() {
                return Some(frame);
            }
            match self.stream.as_mut().unwrap().read(&mut buffer).unwrap() {
                0 => return None,
                length => self.incoming.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// So much of the agent's output; notes are passed over.
    fn output(&mut self, length: usize) -> Vec<u8> {
        let mut output = std::mem::take(&mut self.more);
        while output.len() < length {
            match self.next() {
                Some(ToServer::Output(bytes)) => output.extend_from_slice(&bytes),
                Some(ToServer::Note { .. }) => {}
                other => panic!("{other:?} after {} of {length} bytes", output.len()),
            }
        }
        self.more = output.split_off(length);
        output
    }

    fn close(&mut self) {
        *self = Self { child: self.child.take(), ..Self::default() };
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id() as i32)
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.as_mut().unwrap().wait().unwrap().code()
    }
}
