//! The server's half of one process: orders go into the book, outputs come out of it.
//!
//! Never acknowledges what the engine has not taken, so that an engine that is held back holds the agent back.

use super::{
    HOLD,
    book::{Book, Entry},
    convert,
    frame::{OrderFrame, OutputFrame},
};
use crate::{AgentFault, AgentFaultKind, Done, Order, Output};
use bytes::Bytes;
use everkept_core::{AgentName, AgentSessionId};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

pub(super) struct Running {
    book: Arc<Book>,
    entry: Entry,
    session: AgentSessionId,
    /// Of the frame that is being passed on.
    queue: VecDeque<Output>,
    /// A frame was taken from the book and is not acknowledged.
    passing: bool,
    /// Who waits for a model to be set, by the order's number.
    models: BTreeMap<u64, oneshot::Sender<bool>>,
}

impl Running {
    pub fn new(book: Arc<Book>, entry: Entry, session: AgentSessionId) -> Self {
        Running { book, entry, session, queue: VecDeque::new(), passing: false, models: BTreeMap::new() }
    }

    /// Until the agent or those who want it are gone; then the process is ended.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>, output: mpsc::Sender<Output>) {
        let missed = self.book.presence.missed_for(HOLD);
        tokio::pin!(missed);
        loop {
            let look = self.entry.look();
            let passes = look.waiting || self.passing || !self.queue.is_empty();
            if look.lost && !passes {
                // A reader that is gone needs no last word.
                _ = output.send(Output::Gone(lost(&self.book.name))).await;
                return;
            }
            tokio::select! {
                biased;
                order = orders.recv(), if look.room => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                room = output.reserve(), if passes => {
                    let Ok(room) = room else { return };
                    if let Passed::Last = self.pass(room) {
                        return;
                    }
                }
                () = self.entry.changed() => {}
                () = &mut missed, if !look.lost => self.entry.lose(),
                () = output.closed() => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Prompt(prompt) => {
                if self.entry.order(prompt.into()).is_err() {
                    let message = "the prompt is larger than a relay's link carries".into();
                    let done = Done::Failed { code: "prompt_too_large".into(), message };
                    self.queue.push_back(Output::Done { raw: Bytes::new(), done });
                }
            }
            Order::Cancel => self.say(OrderFrame::Cancel),
            Order::Answer { request, option } => self.say(OrderFrame::ApprovalResponse { request, option }),
            Order::SetModel { model, done } => {
                if let Ok(number) = self.entry.order(OrderFrame::SetModel { model: model.to_string() }) {
                    self.models.insert(number, done);
                }
            }
            // A relay keeps its agent for a connection that comes back, not for another server.
            Order::Hold(_) => {}
        }
    }

    /// One that is too large answers a question nobody can have asked.
    fn say(&self, order: OrderFrame) {
        _ = self.entry.order(order);
    }

    /// Passes the next output on. That there is room says that the one before was taken.
    fn pass(&mut self, room: mpsc::Permit<'_, Output>) -> Passed {
        if self.queue.is_empty() {
            if std::mem::take(&mut self.passing) {
                self.entry.took();
            }
            let Some(frame) = self.entry.take() else { return Passed::On };
            self.passing = true;
            match frame {
                OutputFrame::ModelSet { order, set } => {
                    if let Some(done) = self.models.remove(&order) {
                        // Whoever asked may have stopped waiting.
                        _ = done.send(set);
                    }
                }
                OutputFrame::Ended => return Passed::Last,
                frame => match convert::outputs(frame, &mut self.session) {
                    Ok(outputs) => self.queue.extend(outputs),
                    Err(broken) => {
                        let fault = AgentFault { kind: AgentFaultKind::Protocol, message: broken.to_string(), ..lost(&self.book.name) };
                        self.queue.push_back(Output::Gone(fault));
                    }
                },
            }
        }
        let Some(output) = self.queue.pop_front() else { return Passed::On };
        let last = matches!(output, Output::Gone(_));
        room.send(output);
        if last { Passed::Last } else { Passed::On }
    }
}

enum Passed {
    On,
    Last,
}

/// A process that ran and cannot be reached any more.
pub(super) fn lost(name: &AgentName) -> AgentFault {
    AgentFault {
        kind: AgentFaultKind::Exited,
        doing: format!("running agent {name} on another machine"),
        message: format!("its relay was away for more than {} s, or came back without it", HOLD.as_secs()),
        retryable: true,
        may_have_happened: true,
    }
}
