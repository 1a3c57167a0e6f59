//! What is done over there without a session being opened: an agent's own record of one is read, looked for, put back.
//!
//! Each is a process of one order and one output, so that a lost link neither loses it nor does it twice.
//! Never: a relay that says it cannot do these asked to.

use super::{
    MAX_FRAME_BYTES, OPEN_WITHIN, RELAY_WITHIN,
    agent::{ProcessIds, away, directory, fault, late},
    book::{Book, Entry},
    frame::{OrderFrame, OutputFrame, PieceFrame, SoFarFrame, WholeFrame},
    relay::Held,
    running::lost,
    worker::place,
};
use crate::{AgentFault, AgentFaultKind, BoxFuture, Kept, Piece, SoFar, Transcripts, Whole};
use everkept_core::AgentSessionId;
use std::{path::PathBuf, sync::Arc};
use tokio::time::{sleep, timeout};

/// The server's half.
pub(super) struct Errands {
    pub book: Arc<Book>,
    pub private: PathBuf,
    pub ids: ProcessIds,
}

impl Errands {
    /// None where the agent over there keeps no record that anybody could read.
    fn send(&self, order: OrderFrame) -> BoxFuture<Result<Option<OutputFrame>, AgentFault>> {
        let (book, process) = (self.book.clone(), (self.ids)());
        Box::pin(async move {
            tokio::select! {
                biased;
                () = book.presence.here() => {}
                () = sleep(RELAY_WITHIN) => return Err(away(&book.name)),
            }
            if !book.abilities().transcript {
                return Ok(None);
            }
            let Ok(entry) = book.begin(process, order) else { return Err(fault(&book.name, "it is larger than a link carries")) };
            timeout(OPEN_WITHIN, done(&book, entry)).await.unwrap_or_else(|_| Err(late(&book.name))).map(Some)
        })
    }
}

async fn done(book: &Arc<Book>, entry: Entry) -> Result<OutputFrame, AgentFault> {
    loop {
        match entry.take() {
            Some(OutputFrame::NotDone { fault }) => return Err(fault.into()),
            Some(output) => return Ok(output),
            None if entry.look().lost => return Err(AgentFault { may_have_happened: false, ..lost(&book.name) }),
            None => entry.changed().await,
        }
    }
}

impl Transcripts for Errands {
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>> {
        let Kept { directory: place, session, files } = kept;
        let order = OrderFrame::Written { directory: directory(&self.private, &place), session: session.to_string(), files: so_far(files) };
        let (sent, name) = (self.send(order), self.book.name.clone());
        Box::pin(async move {
            let Some(OutputFrame::Pieces { pieces }) = sent.await? else { return Ok(Vec::new()) };
            let pieces = pieces.into_iter().map(TryInto::try_into).collect::<Result<_, super::Broken>>();
            pieces.map_err(|broken| AgentFault { kind: AgentFaultKind::Protocol, ..fault(&name, &broken.to_string()) })
        })
    }

    fn lacking(&self, kept: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let Kept { directory: place, session, files } = kept;
        let order = OrderFrame::Lacking { directory: directory(&self.private, &place), session: session.to_string(), files: so_far(files) };
        names(self.send(order))
    }

    fn put_back(&self, place: PathBuf, session: AgentSessionId, files: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let whole = |Whole { file, bytes }: Whole| WholeFrame { file, bytes: (&bytes[..]).into() };
        let files = files.into_iter().map(whole).collect();
        names(self.send(OrderFrame::PutBack { directory: directory(&self.private, &place), session: session.to_string(), files }))
    }
}

fn names(sent: BoxFuture<Result<Option<OutputFrame>, AgentFault>>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
    Box::pin(async move {
        match sent.await? {
            Some(OutputFrame::Names { files }) => Ok(files),
            Some(_) | None => Ok(Vec::new()),
        }
    })
}

fn so_far(files: Vec<SoFar>) -> Vec<SoFarFrame> {
    files.into_iter().map(|SoFar { name, bytes, last }| SoFarFrame { name, bytes, last }).collect()
}

/// The relay's half: the order that begins the process, done; none for what is no errand.
pub(super) async fn run(held: &Held, order: OrderFrame) -> Result<OutputFrame, AgentFault> {
    let here = |directory| place(&held.shared.workshop.private, directory);
    let session = |session| super::convert::agent_session(session).map_err(|broken| refused(&broken.to_string()));
    let files = |files: Vec<SoFarFrame>| files.into_iter().map(|SoFarFrame { name, bytes, last }| SoFar { name, bytes, last }).collect();
    let Some(transcripts) = held.shared.workshop.agent.transcripts() else { return Err(refused("the agent keeps no record of its own")) };
    match order {
        OrderFrame::Written { directory, session: id, files: so_far } => {
            let kept = Kept { directory: here(directory)?, session: session(id)?, files: files(so_far) };
            let pieces = transcripts.written(kept).await?;
            Ok(OutputFrame::Pieces { pieces: fitting(pieces) })
        }
        OrderFrame::Lacking { directory, session: id, files: so_far } => {
            let kept = Kept { directory: here(directory)?, session: session(id)?, files: files(so_far) };
            Ok(OutputFrame::Names { files: transcripts.lacking(kept).await? })
        }
        OrderFrame::PutBack { directory, session: id, files } => {
            let whole = |WholeFrame { file, bytes }: WholeFrame| Ok(Whole { file, bytes: bytes.try_into()? });
            let files = files.into_iter().map(whole).collect::<Result<Vec<_>, super::Broken>>();
            let files = files.map_err(|broken| refused(&broken.to_string()))?;
            Ok(OutputFrame::Names { files: transcripts.put_back(here(directory)?, session(id)?, files).await? })
        }
        OrderFrame::Open { .. }
        | OrderFrame::Prompt { .. }
        | OrderFrame::Cancel
        | OrderFrame::ApprovalResponse { .. }
        | OrderFrame::SetModel { .. } => Err(refused("a process begins with open")),
    }
}

/// As many as a frame has room for, where each byte may take six; the others come when they are asked for again.
fn fitting(pieces: Vec<Piece>) -> Vec<PieceFrame> {
    let mut room = MAX_FRAME_BYTES / 8;
    let mut fitting = Vec::new();
    for Piece { file, from, bytes, more } in pieces {
        let Some(left) = room.checked_sub(bytes.len()) else {
            fitting.last_mut().into_iter().for_each(|last: &mut PieceFrame| last.more = true);
            break;
        };
        room = left;
        fitting.push(PieceFrame { file, from, bytes: (&bytes[..]).into(), more });
    }
    fitting
}

fn refused(message: &str) -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::Refused,
        doing: "reading an order".into(),
        message: message.into(),
        retryable: false,
        may_have_happened: false,
    }
}
