//! The process between the server and an agent: hands the bytes through, and leaves no descendant of the agent behind.
//!
//! Its standard input is a socket to the server. When that ends while a turn runs, the server has died, and the agent is
//! held: what it says goes on into a spool, and for a bounded time the next server is waited for at a door. Without a
//! turn, past the hold, on a stop signal (which is how a server lets go), and when the agent ends by itself, everything
//! the agent started is ended, however far it ran from its process group. It is one thread that waits in one place,
//! because what has to be right when a machine is falling over should be short.
//!
//! Never: a look into the agent's bytes, or an exit before the last descendant (that may be ended) is gone.

#[cfg(target_os = "linux")]
mod descendants;
pub mod frame;
mod hold;
mod line;
mod polled;
mod record;
mod spool;

pub use hold::Hold;

use bytes::{Buf, BytesMut};
use frame::{ToKeeper, ToServer, VERSION};
use hold::Door;
use line::Line;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFlags, PollTimeout},
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use polled::Polled;
use record::{Record, Tail};
use signal_hook::{consts, low_level::pipe};
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// What an agent gets to end by itself after it was asked to.
const GRACE: Duration = Duration::from_millis(300);
/// Between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What is read at once, and what may wait for the server before no more is read.
const BUFFER: usize = 64 * 1024;

/// The command is not there; what shells say too.
pub const EXIT_NOT_FOUND: u8 = 127;
/// The command is there and cannot be run.
pub const EXIT_CANNOT_RUN: u8 = 126;

/// Runs a command, `[--hold ...] -- COMMAND`, until it ends or is wanted by nobody; the exit code is the command's own.
pub fn run(mut words: Vec<OsString>) -> ExitCode {
    let hold = Hold::read(&mut words);
    let command = words.into_iter().skip_while(|word| word == "--").collect();
    match Keeper::start(command, hold) {
        Ok(keeper) => keeper.keep(),
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN };
            not_started(&error, code);
            ExitCode::from(code)
        }
    }
}

/// Whoever reads it finds the reason among the agent's errors.
fn not_started(error: &io::Error, code: u8) {
    let mut told = BytesMut::new();
    ToServer::Errors(error.to_string().into()).write(&mut told);
    ToServer::Exit(code).write(&mut told);
    // A server that is gone already does not ask.
    _ = line::to_server().and_then(|mut line| line.write_all(&told));
}

struct Keeper {
    agent: Pid,
    /// None once the agent has closed it.
    agent_input: Option<ChildStdin>,
    agent_output: Option<ChildStdout>,
    agent_errors: Option<ChildStderr>,
    /// For the agent, and not yet taken.
    pending: BytesMut,
    /// None while the agent is held.
    line: Option<Line>,
    /// None where nothing is held.
    held_by: Option<(Hold, Door)>,
    record: Record,
    errors: Tail,
    /// When the next server has not come in time.
    until: Option<Instant>,
    /// When an agent that closed its output has had its time to end.
    ends_by: Option<Instant>,
    /// Becomes readable when a child ends.
    child_ended: UnixStream,
    /// Becomes readable when this process is told to stop.
    told_to_stop: UnixStream,
    /// Set once, when the agent is reaped.
    exit: Option<u8>,
    told_exit: bool,
}

enum Left {
    Some,
    Nothing,
}

/// Whether there is a reason to go on.
enum Next {
    GoOn,
    End,
}

impl Keeper {
    fn start(command: Vec<OsString>, hold: Option<Hold>) -> io::Result<Self> {
        // Caught signals, unlike blocked ones, are back to their defaults in the agent.
        let child_ended = on(&[consts::SIGCHLD])?;
        let told_to_stop = on(&[consts::SIGTERM, consts::SIGINT, consts::SIGHUP])?;
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true)?;
        let line = Line::new(line::to_server()?)?;
        let mut child = spawn(command)?;
        let agent_input = child.stdin.take().inspect(never_wait);
        let agent_output = child.stdout.take().inspect(never_wait);
        let agent_errors = child.stderr.take().inspect(never_wait);
        let (held_by, record) = match hold.map(|hold| hold.door().map(|door| (hold, door))) {
            Some(Ok((hold, door))) => {
                let record = Record::new(Some(&hold));
                (Some((hold, door)), record)
            }
            Some(Err(error)) => (None, Record::lost(format!("no server could find it: {error}"))),
            None => (None, Record::new(None)),
        };
        Ok(Self {
            agent: Pid::from_raw(child.id().try_into().expect("a process id is a pid_t")),
            agent_input,
            agent_output,
            agent_errors,
            pending: BytesMut::new(),
            line: Some(line),
            held_by,
            record,
            errors: Tail::default(),
            until: None,
            ends_by: None,
            child_ended,
            told_to_stop,
            exit: None,
            told_exit: false,
        })
    }

    fn keep(mut self) -> ExitCode {
        while let Next::GoOn = self.step() {}
        let wanted = self.exit;
        self.end_agent();
        ExitCode::from(wanted.unwrap_or(0))
    }

    fn step(&mut self) -> Next {
        let Ok(ready) = self.wait() else { return Next::End };
        if ready.told_to_stop || self.until.is_some_and(|until| Instant::now() >= until) {
            return Next::End;
        }
        if self.ends_by.is_some_and(|by| self.exit.is_none() && Instant::now() >= by) {
            // It can say nothing any more, and nobody would ever hear how its turn ends.
            self.end_agent();
        }
        if ready.child_ended {
            drain(&self.child_ended);
            self.reap();
            if self.exit.is_some() {
                // What it has said by now is all that is heard of it.
                self.end_agent();
            }
        }
        if ready.agent_closed {
            self.agent_input = None;
            self.pending.clear();
        } else if ready.agent_takes {
            self.hand_on();
        }
        if ready.errors {
            _ = self.read_errors();
        }
        if ready.output {
            self.read_output();
        }
        if ready.knock {
            self.take_over();
        }
        self.tell();
        match self.talk(&ready) {
            Next::GoOn if self.is_done() => Next::End,
            next => next,
        }
    }

    /// The agent is gone, that is told, and no server can want it again.
    fn is_done(&self) -> bool {
        let told = self.line.as_ref().is_some_and(|line| line.outgoing.is_empty()) && self.told_exit;
        told && !self.record.is_held()
    }

    fn wait(&self) -> nix::Result<Ready> {
        let none = PollFlags::empty();
        let mut polled = Polled::default();
        let stop = polled.add(Some(self.told_to_stop.as_fd()), PollFlags::POLLIN);
        let child = polled.add(Some(self.child_ended.as_fd()), PollFlags::POLLIN);
        // Asked for nothing, it still tells that the agent has closed it.
        let input = polled.add(self.agent_input.as_ref().map(AsFd::as_fd), if self.pending.is_empty() { none } else { PollFlags::POLLOUT });
        let output = self.agent_output.as_ref().filter(|_| self.wants_output());
        let output = polled.add(output.map(AsFd::as_fd), PollFlags::POLLIN);
        let errors = polled.add(self.agent_errors.as_ref().map(AsFd::as_fd), PollFlags::POLLIN);
        let mut wanted = if self.pending.is_empty() { PollFlags::POLLIN } else { none };
        if self.line.as_ref().is_some_and(|line| !line.outgoing.is_empty()) {
            wanted |= PollFlags::POLLOUT;
        }
        let line = polled.add(self.line.as_ref().map(|line| line.stream.as_fd()), wanted);
        let door = self.held_by.as_ref().filter(|_| self.line.is_none());
        let door = polled.add(door.map(|(_, door)| door.listener.as_fd()), PollFlags::POLLIN);
        polled.wait(self.timeout())?;
        let over = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        Ok(Ready {
            told_to_stop: !polled.seen(stop).is_empty(),
            child_ended: !polled.seen(child).is_empty(),
            agent_closed: polled.seen(input).intersects(over),
            agent_takes: polled.seen(input).contains(PollFlags::POLLOUT),
            output: !polled.seen(output).is_empty() || self.reads_the_rest(),
            errors: !polled.seen(errors).is_empty(),
            line: !polled.seen(line).is_empty(),
            line_hung_up: polled.seen(line).intersects(over),
            knock: !polled.seen(door).is_empty(),
        })
    }

    fn timeout(&self) -> PollTimeout {
        if self.reads_the_rest() {
            return PollTimeout::ZERO;
        }
        let ends_by = self.ends_by.filter(|_| self.exit.is_none());
        let left = self.until.into_iter().chain(ends_by).min().map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up, so that the time is over when it wakes.
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX))
    }

    /// The agent waits with what it says until the server has taken what it said before.
    fn wants_output(&self) -> bool {
        match &self.line {
            Some(line) => line.outgoing.len() < BUFFER && self.record.is_sent(),
            None => true,
        }
    }

    fn reads_the_rest(&self) -> bool {
        self.exit.is_some() && self.agent_output.is_some() && self.wants_output()
    }

    fn read_output(&mut self) {
        let Some(output) = &mut self.agent_output else { return };
        let mut buffer = vec![0; BUFFER];
        let length = match output.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            // Of an agent that is gone, that is all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.exit.is_none() => return,
            Err(_) => 0,
        };
        if length == 0 {
            self.agent_output = None;
            // Most close it by ending, and have a code to end with.
            self.ends_by = Some(Instant::now() + GRACE);
            return;
        }
        buffer.truncate(length);
        let lost = self.record.append(&buffer);
        match &mut self.line {
            Some(line) => {
                if let Some(why) = lost {
                    line.say(&ToServer::Lost(why));
                }
                if self.record.is_lost() {
                    self.record.sent(length);
                    line.say(&ToServer::Output(buffer.into()));
                }
            }
            // Nobody will ever hear it; what is left to do is to say why.
            None if lost.is_some() => self.end_agent(),
            None => {}
        }
    }

    /// False when there is nothing more, now or for ever.
    fn read_errors(&mut self) -> bool {
        let Some(errors) = &mut self.agent_errors else { return false };
        let mut buffer = [0; 4 * 1024];
        match errors.read(&mut buffer) {
            Ok(length @ 1..) => {
                self.errors.add(&buffer[..length]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.agent_errors = None,
        }
        false
    }

    /// Says what waits to be said, as far as there is room.
    fn tell(&mut self) {
        let Some(line) = &mut self.line else { return };
        while line.outgoing.len() < BUFFER {
            match self.record.next(BUFFER) {
                Ok(Some(bytes)) => line.say(&ToServer::Output(bytes)),
                Ok(None) => break,
                // What is missing cannot be gone on without.
                Err(_) => {
                    self.agent_output = None;
                    self.ends_by = Some(Instant::now());
                    break;
                }
            }
        }
        if let (Some(code), None, true, false) = (self.exit, &self.agent_output, self.record.is_sent(), self.told_exit) {
            while self.read_errors() {}
            let Some(line) = &mut self.line else { return };
            line.say(&ToServer::Errors(self.errors.bytes()));
            line.say(&ToServer::Exit(code));
            self.told_exit = true;
        }
    }

    fn talk(&mut self, ready: &Ready) -> Next {
        let Some(line) = &mut self.line else { return Next::GoOn };
        line.write();
        if !ready.line {
            return Next::GoOn;
        }
        // Of a server that is gone, all that it still said counts, taken or not.
        let mut open = true;
        while open && (ready.line_hung_up || self.pending.is_empty()) {
            let Some(line) = &mut self.line else { return Next::GoOn };
            match line.read() {
                Ok(Some(0)) => open = false,
                Ok(Some(_)) => {}
                Ok(None) => return Next::GoOn,
                Err(_) => open = false,
            }
            if self.obey().is_err() {
                return Next::End;
            }
        }
        if open { Next::GoOn } else { self.hold() }
    }

    fn obey(&mut self) -> io::Result<()> {
        while let Some(line) = &mut self.line
            && let Some(order) = ToKeeper::take(&mut line.incoming)?
        {
            let (lost, input) = match order {
                ToKeeper::Begin { at, note, input } => (self.record.begin(self.held_by.as_ref().map(|(hold, _)| hold), at, note), input),
                ToKeeper::Word { at, note, input } => {
                    self.record.word(at, note);
                    (None, input)
                }
                ToKeeper::Rest { at } => {
                    self.record.rest(at);
                    continue;
                }
            };
            if let (Some(why), Some(line)) = (lost, &mut self.line) {
                line.say(&ToServer::Lost(why));
            }
            if self.agent_input.is_some() {
                self.pending.extend_from_slice(&input);
                self.hand_on();
            } else if !input.is_empty() && self.exit.is_none() {
                // It will never hear this, and so never answer.
                self.end_agent();
            }
        }
        Ok(())
    }

    /// The server is gone without a word.
    fn hold(&mut self) -> Next {
        self.line = None;
        let Some((hold, _)) = self.held_by.as_ref().filter(|_| self.record.is_held()) else { return Next::End };
        self.until = Some(Instant::now() + hold.time);
        if self.record.is_lost() {
            self.end_agent();
        }
        Next::GoOn
    }

    fn take_over(&mut self) {
        let Some((_, door)) = &self.held_by else { return };
        // One that knocked and left may come again.
        let Ok(mut line) = door.listener.accept().and_then(|(stream, _)| Line::new(stream)) else { return };
        let found = self.record.found();
        line.say(&ToServer::Found {
            version: VERSION,
            pid: Pid::this().as_raw(),
            base: found.base,
            end: found.end,
            last: found.last,
            notes: u32::try_from(self.record.notes().len()).unwrap_or(u32::MAX),
            lost: self.record.is_lost(),
        });
        for (at, note) in self.record.notes() {
            line.say(&ToServer::Note { at: *at, note: note.clone() });
        }
        if let Some(why) = self.record.why_lost() {
            line.say(&ToServer::Lost(why.to_owned()));
        }
        self.line = Some(line);
        self.until = None;
        self.told_exit = false;
    }

    fn hand_on(&mut self) {
        let Some(agent_input) = &mut self.agent_input else { return self.pending.clear() };
        // Else it is full, or closed: the next wait tells which.
        if let Ok(length) = agent_input.write(&self.pending) {
            self.pending.advance(length);
        }
    }

    fn reap(&mut self) -> Left {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Left::Some,
                Ok(status) => self.note(status),
                Err(Errno::EINTR) => {}
                Err(_) => return Left::Nothing,
            }
        }
    }

    fn note(&mut self, status: WaitStatus) {
        let code = match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => return,
        };
        if status.pid() == Some(self.agent) {
            self.exit = Some(u8::try_from(code).unwrap_or(u8::MAX));
        }
    }

    /// The agent and everything it started.
    fn end_agent(&mut self) {
        self.agent_input = None;
        self.pending.clear();
        if self.exit.is_none() {
            _ = killpg(self.agent, Signal::SIGTERM);
            self.wait_for_descendants(GRACE);
        }
        self.end_descendants();
    }

    fn wait_for_descendants(&mut self, at_most: Duration) {
        let until = Instant::now() + at_most;
        while let Left::Some = self.reap() {
            if Instant::now() >= until {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Until none is left, because a descendant may start another while it is looked for.
    fn end_descendants(&mut self) {
        while let Left::Some = self.reap() {
            if !self.kill_descendants() {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// False when there is none that this process may end.
    #[cfg(target_os = "linux")]
    fn kill_descendants(&self) -> bool {
        let killed = descendants::of(Pid::this()).into_iter().filter(|pid| kill(*pid, Signal::SIGKILL).is_ok());
        killed.count() > 0
    }

    /// Without subreapers there is the agent and its process group.
    #[cfg(not(target_os = "linux"))]
    fn kill_descendants(&self) -> bool {
        _ = kill(self.agent, Signal::SIGKILL);
        killpg(self.agent, Signal::SIGKILL).is_ok()
    }
}

fn spawn(command: Vec<OsString>) -> io::Result<Child> {
    let mut words = command.into_iter();
    let program = words.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command was given"))?;
    let mut command = Command::new(&program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))
}

/// What woke the keeper.
struct Ready {
    told_to_stop: bool,
    child_ended: bool,
    agent_closed: bool,
    agent_takes: bool,
    output: bool,
    errors: bool,
    line: bool,
    line_hung_up: bool,
    knock: bool,
}

/// This end of the pipe is ours alone: the agent's own end stays as agents expect it.
fn never_wait(pipe: &impl AsFd) {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a pipe of ours takes flags");
}

/// Becomes readable when one of these signals comes.
fn on(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for signal in signals {
        pipe::register(*signal, write.try_clone()?)?;
    }
    Ok(read)
}

fn drain(mut stream: &UnixStream) {
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}
