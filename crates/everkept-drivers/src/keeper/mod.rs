//! The process between the server and an agent: hands the agent its input, and leaves no descendant of it behind.
//!
//! End of input means that the server is gone or lets go. Then, on a stop signal, and when the agent ends by itself,
//! everything the agent started is ended, however far it ran from its process group. It is one thread that waits in
//! one place, because what has to be right when a machine is falling over should be short.
//!
//! Never: a look into the bytes, or an exit before the last descendant (that may be ended) is gone.

#[cfg(target_os = "linux")]
mod descendants;

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use signal_hook::{consts, low_level::pipe};
use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{ChildStdin, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// What an agent gets to end by itself after it was asked to.
const GRACE: Duration = Duration::from_millis(300);
/// Between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What is held of the input while the agent does not read it; the rest waits in the server's pipe.
const INPUT_BUFFER: usize = 64 * 1024;

/// The command is not there; what shells say too.
pub const EXIT_NOT_FOUND: u8 = 127;
/// The command is there and cannot be run.
pub const EXIT_CANNOT_RUN: u8 = 126;

/// Runs `command` until it ends or this process's input does; the exit code is the command's own.
pub fn run(command: Vec<OsString>) -> ExitCode {
    match Keeper::start(command) {
        Ok(keeper) => keeper.keep(),
        Err(error) => {
            eprintln!("everkept keeper: {error}");
            ExitCode::from(if error.kind() == io::ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN })
        }
    }
}

struct Keeper {
    agent: Pid,
    /// None once the agent has closed it.
    agent_input: Option<ChildStdin>,
    /// Read and not yet handed on.
    pending: Vec<u8>,
    /// Becomes readable when a child ends.
    child_ended: UnixStream,
    /// Becomes readable when this process is told to stop.
    told_to_stop: UnixStream,
    /// Set once, when the agent is reaped.
    exit: Option<u8>,
}

enum Left {
    Some,
    Nothing,
}

impl Keeper {
    fn start(command: Vec<OsString>) -> io::Result<Self> {
        // Caught signals, unlike blocked ones, are back to their defaults in the agent.
        let child_ended = on(&[consts::SIGCHLD])?;
        let told_to_stop = on(&[consts::SIGTERM, consts::SIGINT, consts::SIGHUP])?;
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut words = command.into_iter();
        let program = words.next().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command was given"))?;
        let mut child = Command::new(&program)
            .args(words)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", program.display())))?;
        let agent_input = child.stdin.take().expect("its input was asked to be a pipe");
        // This end of the pipe is ours alone: the agent's own end stays as agents expect it.
        fcntl(&agent_input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let agent = Pid::from_raw(child.id().try_into().expect("a process id is a pid_t"));
        Ok(Self { agent, agent_input: Some(agent_input), pending: Vec::new(), child_ended, told_to_stop, exit: None })
    }

    fn keep(mut self) -> ExitCode {
        let wanted = self.copy_until_the_end();
        drop(self.agent_input.take());
        if self.exit.is_none() {
            _ = killpg(self.agent, Signal::SIGTERM);
            self.wait_for_descendants(GRACE);
        }
        self.end_descendants();
        ExitCode::from(wanted.unwrap_or(0))
    }

    /// The agent's exit code when it was the agent that ended.
    fn copy_until_the_end(&mut self) -> Option<u8> {
        loop {
            let ready = self.wait().ok()?;
            if ready.told_to_stop {
                return None;
            }
            if ready.child_ended {
                drain(&self.child_ended);
                self.reap();
                if self.exit.is_some() {
                    return self.exit;
                }
            }
            if ready.agent_closed {
                self.agent_input = None;
                self.pending.clear();
            } else if ready.agent_takes {
                self.hand_on();
            }
            if ready.input && self.pending.is_empty() && !self.read_input() {
                return None;
            }
            // Nobody is left to want the answer, and the agent may never take what is still pending.
            if ready.input_hung_up && !self.pending.is_empty() {
                return None;
            }
        }
    }

    fn wait(&self) -> nix::Result<Ready> {
        let (input, none) = (io::stdin(), PollFlags::empty());
        let want_input = if self.pending.is_empty() { PollFlags::POLLIN } else { none };
        let mut polled = vec![
            PollFd::new(self.told_to_stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.child_ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(input.as_fd(), want_input),
        ];
        if let Some(agent_input) = &self.agent_input {
            // Asked for nothing, it still tells that the agent has closed it.
            polled.push(PollFd::new(agent_input.as_fd(), if self.pending.is_empty() { none } else { PollFlags::POLLOUT }));
        }
        while let Err(error) = poll(&mut polled, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(error);
            }
        }
        let seen = |at: usize| polled.get(at).and_then(PollFd::revents).unwrap_or(none);
        let over = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        Ok(Ready {
            told_to_stop: !seen(0).is_empty(),
            child_ended: !seen(1).is_empty(),
            input: !seen(2).is_empty(),
            input_hung_up: seen(2).intersects(over),
            agent_closed: seen(3).intersects(over),
            agent_takes: seen(3).contains(PollFlags::POLLOUT),
        })
    }

    /// False at the end of the input.
    fn read_input(&mut self) -> bool {
        let mut buffer = vec![0; INPUT_BUFFER];
        // Not through `io::stdin()`: its buffer would hide bytes from `poll`.
        match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                buffer.truncate(length);
                self.pending = buffer;
                self.hand_on();
                true
            }
            Err(Errno::EINTR | Errno::EAGAIN) => true,
            Err(_) => false,
        }
    }

    fn hand_on(&mut self) {
        let Some(agent_input) = &mut self.agent_input else { return self.pending.clear() };
        // Else it is full, or closed: the next wait tells which.
        if let Ok(length) = agent_input.write(&self.pending) {
            self.pending.drain(..length);
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

/// What woke the keeper.
struct Ready {
    told_to_stop: bool,
    child_ended: bool,
    input: bool,
    input_hung_up: bool,
    agent_closed: bool,
    agent_takes: bool,
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
