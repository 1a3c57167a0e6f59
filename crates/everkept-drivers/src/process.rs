//! An agent's process under its keeper: lines out, bytes in, and the end of its error output for whoever must explain.
//!
//! Dropping it lets go of the keeper, which then ends everything the agent started. Nothing waits for an agent that
//! does not read its input or floods its error output.
//! Never: a look into the lines.

use crate::{environment, keeper};
use bytes::{Buf, Bytes, BytesMut};
use everkept_agent::{AgentFault, AgentFaultKind, Opened};
use std::{
    collections::{BTreeMap, VecDeque},
    future, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

/// A line longer than this is no line of a protocol.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// Of an agent's error output, what is kept.
const STDERR_TAIL: usize = 8 * 1024;
/// To start, to initialize and to open a session, together.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// More than a keeper ever needs to end its agent.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How the program is called that starts agents and outlives none of them: this binary's own `keeper` command.
#[derive(Debug, Clone)]
pub struct Keeper {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// How one agent is started.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub command: Vec<String>,
    /// Over the allow-listed part of the server's own environment.
    pub env: BTreeMap<String, String>,
    pub keeper: Keeper,
}

pub struct Process {
    /// What it was started as, for those who read a fault.
    command: String,
    child: Child,
    /// None once it is closed.
    input: Option<ChildStdin>,
    outgoing: BytesMut,
    lines: Lines<ChildStdout>,
    /// It said at least one line.
    spoke: bool,
    stderr: StderrTail,
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
        let mut child = Command::new(&keeper.program)
            .args(&keeper.args)
            .arg("--")
            .args(command)
            .env_clear()
            .envs(environment::of_agent(std::env::vars_os(), env))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is the server's to hear.
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(&name, format!("the keeper {} does not start: {error}", keeper.program.display())))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().expect("its output was asked to be a pipe");
        let stderr = StderrTail::drain(child.stderr.take().expect("its error output was asked to be a pipe"));
        Ok(Self { command: name, child, input, outgoing: BytesMut::new(), lines: Lines::new(stdout), spoke: false, stderr })
    }

    /// Queues bytes for the process's input; [`Process::hear`] writes them.
    pub fn post(&mut self, bytes: &[u8]) {
        if self.input.is_some() {
            self.outgoing.extend_from_slice(bytes);
        }
    }

    /// How much waits to be read by the process.
    pub fn unread(&self) -> usize {
        self.outgoing.len()
    }

    /// Writes what was posted and waits for the next line, when one is wanted. May be dropped at any time.
    pub async fn hear(&mut self, want_line: bool) -> Heard {
        loop {
            let wrote = tokio::select! {
                heard = self.lines.next(), if want_line => {
                    self.spoke |= matches!(heard, Heard::Line(_));
                    return heard;
                }
                wrote = write(&mut self.input, &self.outgoing) => wrote,
            };
            match wrote {
                Ok(length) => self.outgoing.advance(length),
                // Whether it is gone or only closed its input, the output will tell.
                Err(_) => self.close_input(),
            }
        }
    }

    fn close_input(&mut self) {
        self.input = None;
        self.outgoing.clear();
    }

    /// Lets go and waits until nothing of it is left.
    pub async fn end(&mut self) -> Option<ExitStatus> {
        self.close_input();
        let gone = async {
            while let Heard::Line(_) = self.lines.next().await {}
            self.child.wait().await.ok()
        };
        tokio::time::timeout(END_WITHIN, gone).await.unwrap_or(None)
    }

    /// Why it is gone, after its output has ended. Codes that say "cannot start" say so only of a process that never spoke.
    pub async fn fault(&mut self, doing: String, may_have_happened: bool) -> AgentFault {
        let code = self.end().await.and_then(|status| status.code());
        let message = self.stderr.last_words().await;
        let never_started = [keeper::EXIT_NOT_FOUND, keeper::EXIT_CANNOT_RUN].map(|code| Some(i32::from(code))).contains(&code);
        if never_started && !self.spoke {
            return cannot_start(&self.command, message);
        }
        let ended = code.map_or("ended".to_owned(), |code| format!("exited with {code}"));
        let message = if message.is_empty() { ended } else { format!("{ended}; its last words: {message}") };
        AgentFault { kind: AgentFaultKind::Exited, doing, message, retryable: true, may_have_happened }
    }
}

/// An opening that takes too long is given up, and what was started is dropped with it.
pub async fn open_in_time(name: &str, opening: impl Future<Output = Result<Opened, AgentFault>>) -> Result<Opened, AgentFault> {
    let opened = tokio::time::timeout(OPEN_WITHIN, opening).await;
    opened.unwrap_or_else(|_| {
        Err(AgentFault {
            kind: AgentFaultKind::TimedOut,
            doing: format!("opening a session of {name}"),
            message: format!("no session within {} s", OPEN_WITHIN.as_secs()),
            retryable: true,
            may_have_happened: false,
        })
    })
}

fn cannot_start(command: &str, message: String) -> AgentFault {
    let doing = format!("starting {command:?}");
    AgentFault { kind: AgentFaultKind::CannotStart, doing, message, retryable: false, may_have_happened: false }
}

async fn write(input: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<usize> {
    match input {
        Some(input) if !bytes.is_empty() => input.write(bytes).await,
        _ => future::pending().await,
    }
}

/// Lines of bounded length. A next line that is not waited for is not lost.
struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// So much of the buffer is known to hold no line end.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0 }
    }

    async fn next(&mut self) -> Heard {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                return Heard::Line(line.freeze());
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE_BYTES {
                return Heard::LineTooLong;
            }
            self.buffer.reserve(16 * 1024);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return self.rest(),
            }
        }
    }

    /// What came after the last line end, when anything did.
    fn rest(&mut self) -> Heard {
        self.searched = 0;
        if self.buffer.is_empty() { Heard::End } else { Heard::Line(self.buffer.split().freeze()) }
    }
}

/// Reads error output as fast as it comes and keeps the end of it.
struct StderrTail {
    tail: Arc<Mutex<VecDeque<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl StderrTail {
    fn drain(mut stderr: ChildStderr) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(STDERR_TAIL)));
        let kept = tail.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
                let mut kept = kept.lock().expect("nothing panics while it holds the tail");
                let new = &buffer[..length];
                let new = &new[new.len().saturating_sub(STDERR_TAIL)..];
                let too_many = (kept.len() + new.len()).saturating_sub(STDERR_TAIL);
                kept.drain(..too_many);
                kept.extend(new);
            }
        });
        Self { tail, task }
    }

    /// The tail as text, once the process is gone and all of it is read.
    async fn last_words(&mut self) -> String {
        _ = tokio::time::timeout(END_WITHIN, &mut self.task).await;
        let mut tail = self.tail.lock().expect("nothing panics while it holds the tail");
        String::from_utf8_lossy(tail.make_contiguous()).trim().to_owned()
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        self.task.abort();
    }
}
