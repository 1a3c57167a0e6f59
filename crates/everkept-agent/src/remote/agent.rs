//! The server's half: an agent that runs wherever its relay is.
//!
//! Never two links at a time, and never a prompt given again to a process that may have had it.

use super::{
    Broken, HOLD, Link, OPEN_WITHIN, READY_WITHIN, RELAY_WITHIN,
    book::{Book, Entry},
    convert,
    errand::Errands,
    frame::{DirectoryFrame, FromRelay, OrderFrame, OutputFrame, read, read_first},
    link::{Frames, send},
    running::{Running, lost},
};
use crate::{Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Connection, ORDER_QUEUE, Open, Opened, Place, Transcripts};
use everkept_core::{AgentName, ModelName};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Where names of processes come from; none was ever given before, not even by an earlier server.
pub type ProcessIds = Arc<dyn Fn() -> String + Send + Sync>;

pub struct RemoteAgent {
    book: Arc<Book>,
    /// Where sessions have folders of their own; over there they have others.
    private: PathBuf,
    ids: ProcessIds,
}

impl RemoteAgent {
    pub fn new(name: AgentName, private: PathBuf, ids: ProcessIds) -> Self {
        // Only an agent that can is asked to; what this one can do is known when its relay comes.
        let hoped = Abilities {
            resume: true,
            fork: true,
            cancel: true,
            ask_permission: true,
            set_model: true,
            report_usage: true,
            remember: true,
            transcript: true,
        };
        Self { book: Arc::new(Book::new(name, hoped)), private, ids }
    }

    /// The one place for a link; none while somebody has it.
    pub fn claim(&self) -> Option<Claim> {
        self.book.claim().then(|| Claim(self.book.clone()))
    }

    /// The model of its configuration over there, as far as it is known.
    pub fn model(&self) -> Option<ModelName> {
        self.book.model()
    }

    /// Nobody may bring its processes back: they are gone now.
    pub fn retire(&self) {
        self.book.lose_all();
    }
}

pub(super) fn directory(own: &Path, directory: &Path) -> DirectoryFrame {
    let private = directory.strip_prefix(own).ok().and_then(Path::to_str);
    match private.filter(|name| !name.is_empty() && !name.contains('/')) {
        Some(name) => DirectoryFrame::Private(name.to_owned()),
        None => DirectoryFrame::Path(directory.to_string_lossy().into_owned()),
    }
}

impl Agent for RemoteAgent {
    fn abilities(&self) -> Abilities {
        self.book.abilities()
    }

    fn place(&self) -> Place {
        Place::Elsewhere { connected: self.book.presence.is_here() }
    }

    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        let (book, private, ids) = (self.book.clone(), self.private.clone(), self.ids.clone());
        Some(Arc::new(Errands { book, private, ids }))
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        let (book, process) = (self.book.clone(), (self.ids)());
        let order = OrderFrame::Open {
            directory: directory(&self.private, &open.directory),
            session: open.session.into(),
            model: open.model.map(|model| model.to_string()),
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                () = book.presence.here() => {}
                () = sleep(RELAY_WITHIN) => return Err(away(&book.name)),
            }
            let Ok(entry) = book.begin(process, order) else { return Err(fault(&book.name, "its name is larger than a link carries")) };
            timeout(OPEN_WITHIN, opened(&book, entry)).await.unwrap_or_else(|_| Err(late(&book.name)))
        })
    }
}

/// Waits for the first output. Dropping the entry on the way ends what was begun.
async fn opened(book: &Arc<Book>, entry: Entry) -> Result<Opened, AgentFault> {
    let missed = book.presence.missed_for(HOLD);
    tokio::pin!(missed);
    let first = loop {
        if let Some(first) = entry.take() {
            break first;
        }
        if entry.look().lost {
            return Err(AgentFault { may_have_happened: false, ..lost(&book.name) });
        }
        tokio::select! {
            () = entry.changed() => {}
            () = &mut missed => return Err(away(&book.name)),
        }
    };
    let unreadable = |broken: Broken| AgentFault { kind: AgentFaultKind::Protocol, ..fault(&book.name, &broken.to_string()) };
    match first {
        OutputFrame::Opened { agent_session, capabilities, model_set } => {
            let agent_session = convert::agent_session(agent_session).map_err(unreadable)?;
            book.learn(capabilities.into());
            entry.took();
            let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
            // With one place, what was sent has been taken when there is room again; only then is it acknowledged.
            let (output_out, output) = mpsc::channel(1);
            tokio::spawn(Running::new(book.clone(), entry, agent_session.clone()).run(orders_in, output_out));
            Ok(Opened { agent_session, abilities: capabilities.into(), model_set, connection: Connection { orders, output } })
        }
        OutputFrame::NotOpened { fault, capabilities } => {
            book.learn(capabilities.into());
            Err(fault.into())
        }
        _ => Err(unreadable(Broken::Unreadable("a process begins with opened".into()))),
    }
}

pub(super) fn fault(name: &AgentName, message: &str) -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::CannotStart,
        doing: format!("starting agent {name} on another machine"),
        message: message.into(),
        retryable: false,
        may_have_happened: false,
    }
}

pub(super) fn away(name: &AgentName) -> AgentFault {
    let message = format!("no relay for it has been connected for {} s; it is started there with `everkept relay`", RELAY_WITHIN.as_secs());
    fault(name, &message)
}

pub(super) fn late(name: &AgentName) -> AgentFault {
    AgentFault { kind: AgentFaultKind::TimedOut, ..fault(name, &format!("no session within {} s", OPEN_WITHIN.as_secs())) }
}

/// The place of the one link. Dropping it frees the place, and the time for a new link begins to run.
pub struct Claim(Arc<Book>);

impl Claim {
    /// Serves the link to its end.
    pub async fn run(self, link: Link) -> Result<(), Broken> {
        let book = &self.0;
        let mut frames = Frames::new(link.receiver);
        if send(&link.sender, &book.initialize()).await.is_err() {
            return Ok(());
        }
        let Some(first) = timeout(READY_WITHIN, frames.next()).await.map_err(|_| Broken::Late)?? else { return Ok(()) };
        book.settle(read_first(&first)?)?;
        book.presence.came();
        let reading = async {
            while let Some(frame) = frames.next().await? {
                book.receive(read::<FromRelay>(&frame)?, frame.len())?;
            }
            Ok(())
        };
        let writing = async {
            loop {
                while let Some(frame) = book.next() {
                    if send(&link.sender, &frame).await.is_err() {
                        return;
                    }
                }
                book.to_send.notified().await;
            }
        };
        tokio::select! {
            biased;
            read = reading => read,
            () = writing => Ok(()),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.release();
    }
}
