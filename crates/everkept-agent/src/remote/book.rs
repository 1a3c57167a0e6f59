//! What the server's half knows: the processes it has asked for, and what is under way to and from each.
//!
//! Everything is here between two awaits: who changes it and who sends it are told apart, so that a link may come and go
//! at any moment. Never: a process that nobody holds.

use super::{
    Broken, MAX_FRAME_BYTES, PROTOCOL, convert,
    frame::{FromRelay, OrderFrame, OutputFrame, Position, ToRelay, write},
    lane::{Inbox, Outbox},
    presence::Presence,
};
use crate::Abilities;
use everkept_core::{AgentName, ModelName};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::Notify;

pub(super) struct Book {
    pub name: AgentName,
    pub presence: Presence,
    /// Something may be there to be sent.
    pub to_send: Notify,
    pages: Mutex<Pages>,
}

struct Pages {
    /// A link is attached, or about to be.
    claimed: bool,
    abilities: Abilities,
    model: Option<ModelName>,
    processes: BTreeMap<String, Page>,
    /// Processes that the relay has to be told to end.
    ended: Vec<String>,
}

struct Page {
    orders: Outbox,
    outputs: Inbox<OutputFrame>,
    /// While it is being opened, it may be begun anew by another relay: nothing was prompted.
    opened: bool,
    /// It does not run any more.
    lost: bool,
    wake: Arc<Notify>,
}

/// What a process can go on with.
pub(super) struct Look {
    pub room: bool,
    pub waiting: bool,
    pub lost: bool,
}

/// An order is larger than a link carries.
pub(super) struct TooLarge;

impl Book {
    pub fn new(name: AgentName, hoped: Abilities) -> Self {
        let pages = Pages { claimed: false, abilities: hoped, model: None, processes: BTreeMap::new(), ended: Vec::new() };
        Book { name, presence: Presence::new(), to_send: Notify::new(), pages: Mutex::new(pages) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("nothing panics while it holds the book")
    }

    /// Whether the caller has the one place for a link now.
    pub fn claim(&self) -> bool {
        !std::mem::replace(&mut self.pages().claimed, true)
    }

    pub fn release(&self) {
        self.presence.left();
        self.pages().claimed = false;
    }

    pub fn abilities(&self) -> Abilities {
        self.pages().abilities
    }

    pub fn learn(&self, abilities: Abilities) {
        self.pages().abilities = abilities;
    }

    pub fn model(&self) -> Option<ModelName> {
        self.pages().model.clone()
    }

    // One process.

    pub fn begin(self: &Arc<Self>, process: String, open: OrderFrame) -> Result<Entry, TooLarge> {
        let wake = Arc::new(Notify::new());
        let page = Page { orders: Outbox::default(), outputs: Inbox::default(), opened: false, lost: false, wake: wake.clone() };
        self.pages().processes.insert(process.clone(), page);
        let entry = Entry { book: self.clone(), process, wake };
        entry.order(open)?;
        Ok(entry)
    }

    /// None of the processes runs any more.
    pub fn lose_all(&self) {
        for page in self.pages().processes.values_mut() {
            page.lost = true;
            page.wake.notify_one();
        }
    }

    // The link.

    /// The first frame of a link.
    pub fn initialize(&self) -> String {
        let mut pages = self.pages();
        // What is not named is ended by that.
        pages.ended.clear();
        let position = |(process, page): (&String, &Page)| Position { process: process.clone(), heard: page.outputs.taken() };
        let processes = pages.processes.iter().map(position).collect();
        write(&ToRelay::Initialize { protocol: PROTOCOL, agent: self.name.to_string(), processes })
    }

    /// The relay's first frame: what it knows is gone on with, what it does not know is gone.
    pub fn settle(&self, frame: FromRelay) -> Result<(), Broken> {
        let FromRelay::Ready { capabilities, model, processes, .. } = frame else {
            return Err(Broken::Unreadable("the first frame is not ready".into()));
        };
        let model = model.map(convert::model).transpose()?;
        let mut pages = self.pages();
        pages.abilities = capabilities.into();
        pages.model = model;
        let heard: BTreeMap<String, u64> = processes.into_iter().map(|position| (position.process, position.heard)).collect();
        for (process, page) in &mut pages.processes {
            match heard.get(process) {
                Some(heard) => page.orders.rewind(process, *heard)?,
                None if !page.opened => {
                    page.outputs = Inbox::default();
                    page.orders.rewind(process, 0)?;
                }
                None => page.lost = true,
            }
            page.wake.notify_one();
        }
        Ok(())
    }

    pub fn receive(&self, frame: FromRelay, bytes: usize) -> Result<(), Broken> {
        let mut pages = self.pages();
        match frame {
            FromRelay::Ready { .. } => return Err(Broken::Unreadable("ready comes once".into())),
            FromRelay::Output { process, number, output } => {
                // One that was ended while this was under way is nobody's, and the relay is told so.
                if let Some(page) = pages.processes.get_mut(&process) {
                    page.outputs.accept(&process, number, output, bytes)?;
                    page.wake.notify_one();
                }
            }
            FromRelay::Heard { process, number } => {
                // While a process is being opened all of its orders are kept, to begin it anew.
                if let Some(page) = pages.processes.get_mut(&process).filter(|page| page.opened) {
                    page.orders.heard(&process, number)?;
                    page.wake.notify_one();
                    self.to_send.notify_one();
                }
            }
        }
        Ok(())
    }

    /// The next frame to send, as long as there is one.
    pub fn next(&self) -> Option<Arc<str>> {
        let mut pages = self.pages();
        if let Some(process) = pages.ended.pop() {
            return Some(write(&ToRelay::End { process }).into());
        }
        for (process, page) in &mut pages.processes {
            if let Some(number) = page.outputs.tell() {
                return Some(write(&ToRelay::Heard { process: process.clone(), number }).into());
            }
            if let Some(order) = page.orders.next() {
                return Some(order);
            }
        }
        None
    }
}

/// One process, for whoever works it. Dropping it ends the process.
pub(super) struct Entry {
    book: Arc<Book>,
    process: String,
    wake: Arc<Notify>,
}

impl Entry {
    pub fn look(&self) -> Look {
        self.with(|page| Look { room: page.orders.has_room(), waiting: !page.outputs.is_empty(), lost: page.lost })
    }

    /// Until something may have changed.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The order's number.
    pub fn order(&self, order: OrderFrame) -> Result<u64, TooLarge> {
        let number = self.with(|page| {
            let number = page.orders.number();
            let text = write(&ToRelay::Order { process: self.process.clone(), number, order });
            if text.len() >= MAX_FRAME_BYTES {
                return Err(TooLarge);
            }
            page.orders.push(text);
            Ok(number)
        })?;
        self.book.to_send.notify_one();
        Ok(number)
    }

    /// The next output. With the first of them the process is open, or will never be.
    pub fn take(&self) -> Option<OutputFrame> {
        self.with(|page| {
            let output = page.outputs.pop();
            page.opened |= output.is_some();
            output
        })
    }

    /// What was taken last is passed on for good.
    pub fn took(&self) {
        self.with(|page| page.outputs.took());
        self.book.to_send.notify_one();
    }

    pub fn lose(&self) {
        self.with(|page| page.lost = true);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Page) -> T) -> T {
        f(self.book.pages().processes.get_mut(&self.process).expect("a process is in the book as long as its entry is held"))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut pages = self.book.pages();
        pages.processes.remove(&self.process);
        pages.ended.push(std::mem::take(&mut self.process));
        drop(pages);
        self.book.to_send.notify_one();
    }
}
