//! An agent's process under its keeper: lines out, bytes in, and the end of its error output for whoever must explain.
//!
//! Dropping it lets go of the keeper, which then ends everything the agent started; only what was handed over goes on.
//! Nothing waits for an agent that does not read its input or floods its error output.
//! Never: a look into the lines.

use crate::{
    environment,
    hold::Holds,
    keeper::{
        self,
        frame::{ToKeeper, ToServer},
    },
};
use bytes::{Buf, Bytes, BytesMut};
use everkept_agent::{AgentFault, AgentFaultKind, Opened};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
};

/// A line longer than this is no line of a protocol.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// To start, to initialize and to open a session, together, where nothing else is said.
pub const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// More than a keeper ever needs to end its agent, or to take what waits to be said.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How the program is called that starts agents and outlives none of them: this binary's own `keeper` command.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub program: PathBuf,
    pub args: Vec<String>,
    /// Where agents are held that outlive the server; without it none does.
    pub holds: Option<Arc<Holds>>,
}

/// How one agent is started.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub command: Vec<String>,
    /// Over the allow-listed part of the server's own environment.
    pub env: BTreeMap<String, String>,
    pub keeper: Keeper,
    /// How long it has to start and to open a session.
    pub open_within: Duration,
}

pub struct Process {
    /// What it was started as, for those who read a fault.
    command: String,
    keeper: Running,
    line: UnixStream,
    outgoing: BytesMut,
    incoming: BytesMut,
    lines: Lines,
    /// How much of its output was heard, in whole lines.
    heard: u64,
    /// How much has come.
    come: u64,
    /// It said at least one line.
    spoke: bool,
    errors: Bytes,
    exit: Option<u8>,
    /// No more frames come.
    ended: bool,
    /// Whether its keeper waits for another server at all.
    can_be_held: bool,
    /// A turn runs that another server could take over.
    held: bool,
    /// Nothing of it is this server's any more.
    left: bool,
}

/// The keeper's own process.
enum Running {
    Child(Child),
    /// One that another server started.
    Found(Pid),
}

/// What became of the process's output.
pub enum Heard {
    /// One line, its end included when it had one.
    Line(Bytes),
    End,
    LineTooLong,
}

impl Process {
    pub fn start(program: &Program, directory: &Path) -> Result<Self, AgentFault> {
        let Program { keeper, command, env, .. } = program;
        // Its arguments may hold secrets, and what went wrong is told to whoever sent the turn.
        let name = command.first().cloned().unwrap_or_default();
        let sockets = StdStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((UnixStream::from_std(ours)?, theirs))
        });
        let (line, theirs) = sockets.map_err(|error| cannot_start(&name, format!("no socket: {error}")))?;
        let child = Command::new(&keeper.program)
            .args(&keeper.args)
            .args(keeper.holds.iter().filter_map(|holds| holds.args()).flatten())
            .arg("--")
            .args(command)
            .env_clear()
            .envs(environment::of_agent(std::env::vars_os(), env))
            .current_dir(directory)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // It may outlive whoever reads ours.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is the server's to hear.
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(&name, format!("the keeper {} does not start: {error}", keeper.program.display())))?;
        let mut process = Self::on(name, Running::Child(child), line, 0);
        process.can_be_held = keeper.holds.as_ref().is_some_and(|holds| holds.args().is_some());
        Ok(process)
    }

    /// One that another server started, whose output is heard from `at` on.
    pub fn found(program: &Program, keeper: Pid, line: UnixStream, incoming: BytesMut, at: u64) -> Self {
        let name = program.command.first().cloned().unwrap_or_default();
        let mut process = Self::on(name, Running::Found(keeper), line, at);
        (process.incoming, process.can_be_held, process.held, process.spoke) = (incoming, true, true, true);
        process.take_in();
        process
    }

    fn on(command: String, keeper: Running, line: UnixStream, at: u64) -> Self {
        Self {
            command,
            keeper,
            line,
            outgoing: BytesMut::new(),
            incoming: BytesMut::new(),
            lines: Lines::default(),
            heard: at,
            come: at,
            spoke: false,
            errors: Bytes::new(),
            exit: None,
            ended: false,
            can_be_held: false,
            held: false,
            left: false,
        }
    }

    /// Queues bytes for the process's input; [`Process::hear`] writes them.
    pub fn post(&mut self, bytes: &[u8]) {
        self.note(Bytes::new(), bytes);
    }

    /// As [`Process::post`], with what another server has to know of it.
    pub fn note(&mut self, note: Bytes, input: &[u8]) {
        self.say(&ToKeeper::Word { at: self.heard, note, input: Bytes::copy_from_slice(input) });
    }

    pub fn can_be_held(&self) -> bool {
        self.can_be_held
    }

    /// As [`Process::note`], for what begins a turn: another server could take it over from here.
    pub fn begin(&mut self, note: Bytes, input: &[u8]) {
        self.held = true;
        self.say(&ToKeeper::Begin { at: self.heard, note, input: Bytes::copy_from_slice(input) });
    }

    /// The turn needs nobody to take it over any more.
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.held) {
            self.say(&ToKeeper::Rest { at: self.heard });
        }
    }

    fn say(&mut self, order: &ToKeeper) {
        if !self.ended {
            order.write(&mut self.outgoing);
        }
    }

    /// How much waits to be read by the process.
    pub fn unread(&self) -> usize {
        self.outgoing.len()
    }

    /// How much of its output was heard.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Writes what was posted and waits for the next line, when one is wanted. May be dropped at any time.
    pub async fn hear(&mut self, want_line: bool) -> Heard {
        loop {
            if want_line && let Some(heard) = self.next_line() {
                return heard;
            }
            self.exchange(want_line).await;
        }
    }

    /// The next of the lines that end before `until`; none when there are no more.
    pub async fn hear_before(&mut self, until: u64) -> Option<Heard> {
        loop {
            if let Some(heard) = self.next_line() {
                return Some(heard);
            }
            if self.come >= until {
                return None;
            }
            self.exchange(true).await;
        }
    }

    fn next_line(&mut self) -> Option<Heard> {
        let heard = match self.lines.next() {
            Some(heard) => heard,
            None if self.ended => self.lines.rest(),
            None => return None,
        };
        if let Heard::Line(line) = &heard {
            self.heard += line.len() as u64;
            self.spoke = true;
        }
        Some(heard)
    }

    /// Reads or writes something, whichever goes first.
    async fn exchange(&mut self, read: bool) {
        if self.ended && !read {
            return std::future::pending().await;
        }
        tokio::select! {
            ready = self.line.readable(), if read => match ready.and_then(|()| self.line.try_read_buf(&mut self.incoming)) {
                Ok(1..) => self.take_in(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => self.over(),
            },
            ready = self.line.writable(), if !self.outgoing.is_empty() => match ready.and_then(|()| self.line.try_write(&self.outgoing)) {
                Ok(length) => self.outgoing.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Whatever it said before is still there to be read.
                Err(_) => self.outgoing.clear(),
            },
            // The next thing posted wakes whoever waits here.
            () = std::future::pending(), if !read && self.outgoing.is_empty() => {}
        }
    }

    fn take_in(&mut self) {
        while !self.ended {
            match ToServer::take(&mut self.incoming) {
                Ok(Some(ToServer::Output(bytes))) => {
                    self.come += bytes.len() as u64;
                    self.lines.add(&bytes);
                }
                Ok(Some(ToServer::Errors(bytes))) => self.errors = bytes,
                Ok(Some(ToServer::Exit(code))) => {
                    self.exit = Some(code);
                    self.over();
                }
                Ok(Some(ToServer::Lost(why))) => {
                    if std::mem::take(&mut self.held) {
                        tracing::warn!(agent = %self.command, why, "the running turn will not outlive the server");
                    }
                }
                Ok(Some(ToServer::Found { .. } | ToServer::Note { .. })) | Err(_) => self.over(),
                Ok(None) => return,
            }
        }
    }

    fn over(&mut self) {
        self.ended = true;
        self.outgoing.clear();
    }

    /// Leaves it to the next server; false when that could not take it over.
    pub async fn hand_over(&mut self) -> bool {
        let said = async {
            while !self.outgoing.is_empty() && !self.ended {
                self.exchange(true).await;
            }
        };
        let said = tokio::time::timeout(END_WITHIN, said).await.is_ok();
        self.left = said && self.held && !self.ended;
        self.left
    }

    /// Lets go and waits until nothing of it is left.
    pub async fn end(&mut self) -> Option<i32> {
        self.let_go();
        let gone = async {
            let mut rest = [0; 16 * 1024];
            while self.line.readable().await.is_ok() {
                match self.line.try_read(&mut rest) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => break,
                }
            }
            match &mut self.keeper {
                Running::Child(child) => child.wait().await.ok().and_then(|status| status.code()),
                Running::Found(_) => None,
            }
        };
        let code = tokio::time::timeout(END_WITHIN, gone).await.unwrap_or(None);
        self.left = true;
        self.exit.map(i32::from).or(code)
    }

    fn let_go(&self) {
        let pid = match &self.keeper {
            Running::Child(child) => child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw),
            Running::Found(pid) => Some(*pid),
        };
        // One that is gone already has left nothing.
        if let Some(pid) = pid {
            _ = kill(pid, Signal::SIGTERM);
        }
    }

    /// Why it is gone, after its output has ended. Codes that say "cannot start" say so only of a process that never spoke.
    pub async fn fault(&mut self, doing: String, may_have_happened: bool) -> AgentFault {
        let code = self.end().await;
        let message = String::from_utf8_lossy(&self.errors).trim().to_owned();
        let never_started = [keeper::EXIT_NOT_FOUND, keeper::EXIT_CANNOT_RUN].map(|code| Some(i32::from(code))).contains(&code);
        if never_started && !self.spoke {
            return cannot_start(&self.command, message);
        }
        let ended = code.map_or("ended".to_owned(), |code| format!("exited with {code}"));
        let message = if message.is_empty() { ended } else { format!("{ended}; its last words: {message}") };
        AgentFault { kind: AgentFaultKind::Exited, doing, message, retryable: true, may_have_happened }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left {
            self.let_go();
        }
    }
}

/// An opening that takes too long is given up, and what was started is dropped with it.
pub async fn open_in_time(program: &Program, opening: impl Future<Output = Result<Opened, AgentFault>>) -> Result<Opened, AgentFault> {
    let Program { name, open_within, .. } = program;
    let opened = tokio::time::timeout(*open_within, opening).await;
    opened.unwrap_or_else(|_| {
        Err(AgentFault {
            kind: AgentFaultKind::TimedOut,
            doing: format!("opening a session of {name}"),
            message: format!("no session within {} s", open_within.as_secs()),
            retryable: true,
            may_have_happened: false,
        })
    })
}

fn cannot_start(command: &str, message: String) -> AgentFault {
    let doing = format!("starting {command:?}");
    AgentFault { kind: AgentFaultKind::CannotStart, doing, message, retryable: false, may_have_happened: false }
}

/// Lines of bounded length.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// So much of the buffer is known to hold no line end.
    searched: usize,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Heard> {
        if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + at + 1);
            self.searched = 0;
            return Some(Heard::Line(line.freeze()));
        }
        self.searched = self.buffer.len();
        (self.searched > MAX_LINE_BYTES).then_some(Heard::LineTooLong)
    }

    /// What came after the last line end, when anything did.
    fn rest(&mut self) -> Heard {
        self.searched = 0;
        if self.buffer.is_empty() { Heard::End } else { Heard::Line(self.buffer.split().freeze()) }
    }
}
