//! The relay's half: runs an agent for a server that is reached over a link.
//!
//! Never ends a process because its link is lost, before [`HOLD`](super::HOLD) is over, and never begins one that it was
//! not asked for.

use super::{
    Broken, Link, MAX_FRAME_BYTES, PROTOCOL, READY_WITHIN,
    frame::{FromRelay, OrderFrame, OutputFrame, Position, SaidFrame, ToRelay, read, read_first, write},
    lane::{Inbox, Outbox},
    link::{Frames, send},
    presence::Presence,
    worker,
};
use crate::Agent;
use everkept_core::{AgentName, ModelName};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};

/// What a relay has on its machine.
pub struct Workshop {
    pub name: AgentName,
    pub agent: Arc<dyn Agent>,
    /// The model its configuration names.
    pub model: Option<ModelName>,
    /// Where sessions without a directory get theirs.
    pub private: PathBuf,
}

pub struct Relay {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

pub(super) struct Shared {
    pub workshop: Workshop,
    pub presence: Presence,
    to_send: Notify,
    processes: Mutex<BTreeMap<String, Process>>,
}

struct Process {
    orders: Inbox<OrderFrame>,
    outputs: Outbox,
    wake: Arc<Notify>,
}

/// What a process can go on with.
pub(super) struct Look {
    pub room: bool,
    pub waiting: bool,
}

impl Relay {
    pub fn new(workshop: Workshop) -> Self {
        let processes = Mutex::new(BTreeMap::new());
        let shared = Shared { workshop, presence: Presence::new(), to_send: Notify::new(), processes };
        Relay { shared: Arc::new(shared), workers: JoinSet::new() }
    }

    /// Serves one link to its end; `ready` is called once the server knows us. Processes live on when it ends.
    pub async fn run(&mut self, link: Link, ready: impl FnOnce()) -> Result<(), Broken> {
        let Link { sender, receiver } = link;
        let shared = self.shared.clone();
        let mut frames = Frames::new(receiver);
        let Some(first) = timeout(READY_WITHIN, frames.next()).await.map_err(|_| Broken::Late)?? else { return Ok(()) };
        let answer = shared.settle(read_first(&first)?)?;
        if send(&sender, &answer).await.is_err() {
            return Ok(());
        }
        let _present = Present::new(&shared);
        ready();
        let reading = async {
            while let Some(frame) = frames.next().await? {
                self.receive(read(&frame)?, frame.len())?;
            }
            Ok(())
        };
        let writing = async {
            loop {
                while let Some(frame) = shared.next() {
                    if send(&sender, &frame).await.is_err() {
                        return;
                    }
                }
                shared.to_send.notified().await;
            }
        };
        tokio::select! {
            biased;
            read = reading => read,
            () = writing => Ok(()),
        }
    }

    /// Ends every process and waits until all are gone.
    pub async fn stop(mut self) {
        self.shared.forget_all_but(&BTreeSet::new());
        while self.workers.join_next().await.is_some() {}
    }

    fn receive(&mut self, frame: ToRelay, bytes: usize) -> Result<(), Broken> {
        match frame {
            ToRelay::Initialize { .. } => Err(Broken::Unreadable("initialize comes once".into())),
            ToRelay::Order { process, number, order } => {
                let begun = (number == 1 && order.begins()).then(|| self.shared.begin(&process)).flatten();
                self.shared.accept(&process, number, order, bytes)?;
                if let Some(held) = begun {
                    // Those that have ended are let go of.
                    while self.workers.try_join_next().is_some() {}
                    self.workers.spawn(worker::run(held));
                }
                Ok(())
            }
            ToRelay::Heard { process, number } => self.shared.heard(&process, number),
            ToRelay::End { process } => {
                self.shared.forget(&process);
                Ok(())
            }
        }
    }
}

impl Shared {
    fn processes(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.processes.lock().expect("nothing panics while it holds the processes")
    }

    /// Takes the server's first frame: what it does not name is ended. The frame that answers it.
    fn settle(&self, first: ToRelay) -> Result<String, Broken> {
        let ToRelay::Initialize { agent, processes: named, .. } = first else {
            return Err(Broken::Unreadable("the first frame is not initialize".into()));
        };
        if agent != self.workshop.name.as_str() {
            return Err(Broken::OtherAgent(agent));
        }
        self.forget_all_but(&named.iter().map(|position| position.process.clone()).collect());
        let mut processes = self.processes();
        for Position { process, heard } in named {
            if let Some(held) = processes.get_mut(&process) {
                held.outputs.rewind(&process, heard)?;
                held.wake.notify_one();
            }
        }
        let position = |(process, held): (&String, &Process)| Position { process: process.clone(), heard: held.orders.taken() };
        Ok(write(&FromRelay::Ready {
            protocol: PROTOCOL,
            capabilities: self.workshop.agent.abilities().into(),
            model: self.workshop.model.as_ref().map(ToString::to_string),
            processes: processes.iter().map(position).collect(),
        }))
    }

    /// Makes room for a new process; none for one that is there.
    fn begin(self: &Arc<Self>, process: &str) -> Option<Held> {
        let mut processes = self.processes();
        if processes.contains_key(process) {
            return None;
        }
        let wake = Arc::new(Notify::new());
        processes.insert(process.to_owned(), Process { orders: Inbox::default(), outputs: Outbox::default(), wake: wake.clone() });
        Some(Held { shared: self.clone(), process: process.to_owned(), wake })
    }

    fn forget_all_but(&self, named: &BTreeSet<String>) {
        let unnamed: Vec<String> = self.processes().keys().filter(|process| !named.contains(*process)).cloned().collect();
        unnamed.iter().for_each(|process| self.forget(process));
    }

    /// Whoever works the process sees that it is gone.
    fn forget(&self, process: &str) {
        if let Some(held) = self.processes().remove(process) {
            held.wake.notify_one();
        }
    }

    /// An order to a process that is not there any more is nobody's.
    fn accept(&self, process: &str, number: u64, order: OrderFrame, bytes: usize) -> Result<(), Broken> {
        if let Some(held) = self.processes().get_mut(process) {
            held.orders.accept(process, number, order, bytes)?;
            held.wake.notify_one();
        }
        Ok(())
    }

    fn heard(&self, process: &str, number: u64) -> Result<(), Broken> {
        if let Some(held) = self.processes().get_mut(process) {
            held.outputs.heard(process, number)?;
            held.wake.notify_one();
            self.to_send.notify_one();
        }
        Ok(())
    }

    /// The next frame to send, as long as there is one.
    fn next(&self) -> Option<Arc<str>> {
        for (process, held) in self.processes().iter_mut() {
            if let Some(number) = held.orders.tell() {
                return Some(write(&FromRelay::Heard { process: process.clone(), number }).into());
            }
            if let Some(output) = held.outputs.next() {
                return Some(output);
            }
        }
        None
    }
}

/// A link is attached as long as this is held.
struct Present<'a>(&'a Presence);

impl<'a> Present<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.presence.came();
        Present(&shared.presence)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// One process, for whoever works it.
pub(super) struct Held {
    pub shared: Arc<Shared>,
    process: String,
    wake: Arc<Notify>,
}

impl Held {
    /// None once nobody wants the process any more.
    pub fn look(&self) -> Option<Look> {
        self.with(|held| Look { room: held.outputs.has_room(), waiting: !held.orders.is_empty() })
    }

    /// Until something may have changed.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The next order and its number.
    pub fn take(&self) -> Option<(u64, OrderFrame)> {
        self.with(|held| {
            let number = held.orders.taken() + 1;
            held.orders.pop().map(|order| (number, order))
        })?
    }

    /// The order that was taken last is with the agent.
    pub fn took(&self) {
        self.with(|held| held.orders.took());
        self.shared.to_send.notify_one();
    }

    /// A frame that is larger than a link carries is sent as its bytes only; the requests in it, which nobody will see.
    pub fn put(&self, output: OutputFrame) -> Vec<String> {
        let unseen = self.with(|held| {
            let number = held.outputs.number();
            let frame = |output| FromRelay::Output { process: self.process.clone(), number, output };
            let whole = frame(output);
            let mut text = write(&whole);
            let mut unseen = Vec::new();
            if text.len() >= MAX_FRAME_BYTES
                && let FromRelay::Output { output: OutputFrame::Said { raw, said }, .. } = whole
            {
                text = write(&frame(OutputFrame::Said { raw, said: Vec::new() }));
                unseen.extend(said.into_iter().filter_map(|said| match said {
                    SaidFrame::ApprovalRequest { request, .. } => Some(request),
                    _ => None,
                }));
            }
            held.outputs.push(text);
            unseen
        });
        self.shared.to_send.notify_one();
        unseen.unwrap_or_default()
    }

    pub fn forget(&self) {
        self.shared.forget(&self.process);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.shared.processes().get_mut(&self.process).map(f)
    }
}
