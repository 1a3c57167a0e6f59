//! The agents that outlived the server before this one: found by their keepers' doors, and taken over turn by turn.
//!
//! Never: one turn's agent handed out twice, or an agent left running that nobody wants.

use crate::keeper::{
    Hold,
    frame::{ToServer, VERSION},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use everkept_core::{ModelName, TurnId};
use futures::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::unix::net::UnixStream as StdStream,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::UnixStream, sync::OnceCell};

/// More than a keeper needs to see that its server is gone, and to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What is kept of what an agent says in a turn; one that says more is not held.
const ROOM: u64 = 256 * 1024 * 1024;

#[derive(Debug)]
pub struct Holds {
    hold: Hold,
    found: OnceCell<Mutex<BTreeMap<TurnId, Found>>>,
}

/// A turn that another server began, as it noted it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Began {
    pub turn: TurnId,
    /// Which protocol is spoken.
    pub driver: String,
    /// So many bytes were kept of the turn before its prompt.
    pub kept: u64,
    /// What the driver knew before the prompt.
    pub standing: Box<RawValue>,
}

/// An order that was obeyed during a turn.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    Cancel,
    Answer { request: String, option: Option<String> },
    SetModel { model: ModelName },
}

/// A keeper that waits.
#[derive(Debug)]
pub struct Found {
    pub keeper: Pid,
    /// None once it is taken.
    line: Option<(UnixStream, BytesMut)>,
    pub began: Began,
    /// What was said before the prompt and not yet kept by then.
    pub before: Bytes,
    /// By how much of the output had been heard.
    pub orders: Vec<(u64, Noted)>,
    pub base: u64,
    pub end: u64,
    /// What was answered to the agent up to here reached its keeper.
    pub last: u64,
    /// Why it cannot be gone on with.
    pub lost: Option<String>,
}

impl Holds {
    /// Agents outlive a server that dies by `time`, and can be found in `folder`.
    pub fn new(folder: PathBuf, time: Duration) -> io::Result<Self> {
        Self::with_room(folder, time, ROOM)
    }

    /// As [`Holds::new`], for agents that may say less.
    pub fn with_room(folder: PathBuf, time: Duration, room: u64) -> io::Result<Self> {
        Hold::make_folder(&folder)?;
        Ok(Self { hold: Hold { folder, time, room }, found: OnceCell::new() })
    }

    /// What a keeper is told of it, if it is to hold anything.
    pub fn args(&self) -> Option<[OsString; 4]> {
        (!self.hold.time.is_zero()).then(|| self.hold.args())
    }

    /// Whose turn it is, if anybody still has its agent.
    pub async fn take(&self, turn: TurnId) -> Option<Found> {
        self.found().await.lock().expect("nothing panics while it holds what was found").remove(&turn)
    }

    /// Ends every agent of a turn that nothing runs any more; and after the time of a hold whatever nobody took.
    pub async fn settle(&self, running: &BTreeSet<TurnId>) {
        let found = self.found().await;
        found.lock().expect("nothing panics while it holds what was found").retain(|turn, _| running.contains(turn));
        tokio::time::sleep(self.hold.time).await;
        found.lock().expect("nothing panics while it holds what was found").clear();
    }

    /// Looks once: whatever is started later is this server's own.
    async fn found(&self) -> &Mutex<BTreeMap<TurnId, Found>> {
        let find = async || {
            let doors = Hold::knock(&self.hold.folder).unwrap_or_else(|error| {
                tracing::warn!(folder = %self.hold.folder.display(), %error, "held agents cannot be looked for");
                Vec::new()
            });
            let answers = join_all(doors.into_iter().map(async |door| tokio::time::timeout(ANSWER_WITHIN, Found::read(door)).await)).await;
            let found = answers.into_iter().filter_map(|answer| match answer {
                Ok(Ok(found)) => Some((found.began.turn, found)),
                // It had no turn to hold, and ended when it saw that its server had.
                Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => None,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a held agent could not be understood");
                    None
                }
                // Its keeper waits on for its time.
                Err(_) => None,
            });
            Mutex::new(found.collect())
        };
        self.found.get_or_init(find).await
    }
}

impl Found {
    async fn read(door: StdStream) -> io::Result<Self> {
        door.set_nonblocking(true)?;
        let mut line = (UnixStream::from_std(door)?, BytesMut::new());
        let found = next(&mut line).await?;
        let ToServer::Found { pid, .. } = &found else { return Err(strange()) };
        let keeper = Pid::from_raw(*pid);
        let read = Self::read_on(found, line).await;
        if read.is_err() {
            let_go(keeper);
        }
        read
    }

    async fn read_on(found: ToServer, mut line: (UnixStream, BytesMut)) -> io::Result<Self> {
        let ToServer::Found { version, pid, base, end, last, notes, lost } = found else { return Err(strange()) };
        if version != VERSION {
            return Err(io::Error::other(format!("its keeper speaks version {version}")));
        }
        let mut noted = Vec::new();
        for _ in 0..notes {
            let ToServer::Note { at, note } = next(&mut line).await? else { return Err(strange()) };
            noted.push((at, note));
        }
        let lost = match lost {
            true => match next(&mut line).await? {
                ToServer::Lost(why) => Some(why),
                _ => return Err(strange()),
            },
            false => None,
        };
        let mut noted = noted.into_iter();
        let (_, first) = noted.next().ok_or_else(strange)?;
        let (began, before) = Began::read(first)?;
        let orders = noted.map(|(at, note)| Ok((at, serde_json::from_slice(&note)?))).collect::<io::Result<_>>()?;
        Ok(Self { keeper: Pid::from_raw(pid), line: Some(line), began, before, orders, base, end, last, lost })
    }

    /// From here on it is whose this is.
    pub fn take_line(&mut self) -> Option<(UnixStream, BytesMut)> {
        self.line.take()
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        if self.line.is_some() {
            let_go(self.keeper);
        }
    }
}

impl Began {
    /// With what was said before the prompt.
    pub fn write(&self, before: &[u8]) -> Bytes {
        let json = serde_json::to_vec(self).expect("it has string keys only");
        let mut note = BytesMut::new();
        note.put_u64(json.len() as u64);
        note.extend_from_slice(&json);
        note.extend_from_slice(before);
        note.freeze()
    }

    fn read(mut note: Bytes) -> io::Result<(Self, Bytes)> {
        let length = note.try_get_u64().ok().and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= note.len());
        let json = note.split_to(length.ok_or_else(strange)?);
        Ok((serde_json::from_slice(&json)?, note))
    }
}

impl Noted {
    pub fn write(&self) -> Bytes {
        serde_json::to_vec(self).expect("it has string keys only").into()
    }
}

async fn next((line, incoming): &mut (UnixStream, BytesMut)) -> io::Result<ToServer> {
    loop {
        if let Some(frame) = ToServer::take(incoming)? {
            return Ok(frame);
        }
        if line.read_buf(incoming).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its keeper says what it should not")
}

/// One that is gone already has left nothing.
fn let_go(keeper: Pid) {
    _ = kill(keeper, Signal::SIGTERM);
}
