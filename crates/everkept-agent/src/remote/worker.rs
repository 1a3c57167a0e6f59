//! The relay's half of one process: opens the agent, gives it its orders, sends on what it says; or does one errand.
//!
//! Never gives an order twice, and never leaves an agent running that nobody wants.

use super::{
    HOLD, convert, errand,
    frame::{DirectoryFrame, OrderFrame, OutputFrame, SessionFrame},
    relay::Held,
};
use crate::{AgentFault, AgentFaultKind, Open, Opened, Order, Output, Prompt};
use everkept_core::Said;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{
    path::{Component, Path, PathBuf},
    pin::Pin,
};
use tokio::sync::{mpsc, oneshot};

/// Until nobody wants the process, or no server has been there for [`HOLD`]; then the agent is ended.
pub(super) async fn run(held: Held) {
    let missed = held.shared.presence.missed_for(HOLD);
    tokio::pin!(missed);
    let Some((_, first)) = held.take() else { return };
    let OrderFrame::Open { directory, session, model } = first else {
        // It reads and writes files, and is done by itself.
        let done = errand::run(&held, first).await.unwrap_or_else(|fault| OutputFrame::NotDone { fault: fault.into() });
        held.took();
        held.put(done);
        return rest(&held, missed).await;
    };
    let opening = open(&held, directory, session, model);
    tokio::pin!(opening);
    let opened = loop {
        if held.look().is_none() {
            return;
        }
        tokio::select! {
            biased;
            opened = &mut opening => break opened,
            () = held.changed() => {}
            () = &mut missed => return held.forget(),
        }
    };
    // That the order to open was heard is told with what came of it.
    held.took();
    let capabilities = held.shared.workshop.agent.abilities().into();
    match opened {
        Ok(opened) => {
            let agent_session = opened.agent_session.to_string();
            held.put(OutputFrame::Opened { agent_session: agent_session.clone(), capabilities, model_set: opened.model_set });
            Worker { held: &held, session: agent_session, models: FuturesUnordered::new() }.work(opened, missed).await;
        }
        Err(fault) => {
            held.put(OutputFrame::NotOpened { fault: fault.into(), capabilities });
            rest(&held, missed).await;
        }
    }
}

/// Until what was said last was heard, and the process is not wanted any more.
async fn rest(held: &Held, mut missed: Pin<&mut impl Future<Output = ()>>) {
    while held.look().is_some() {
        tokio::select! {
            () = held.changed() => {}
            () = &mut missed => return held.forget(),
        }
    }
}

async fn open(held: &Held, directory: DirectoryFrame, session: SessionFrame, model: Option<String>) -> Result<Opened, AgentFault> {
    let unreadable = |broken: super::Broken| fault("reading an order", &broken.to_string());
    let open = Open {
        directory: place(&held.shared.workshop.private, directory)?,
        session: session.try_into().map_err(unreadable)?,
        model: model.map(convert::model).transpose().map_err(unreadable)?,
    };
    held.shared.workshop.agent.open(open).await
}

/// A session's private folder is made when it is first needed; a directory somebody named has to be there.
pub(super) fn place(private: &Path, directory: DirectoryFrame) -> Result<PathBuf, AgentFault> {
    match directory {
        DirectoryFrame::Private(name) => {
            let plain = matches!(Path::new(&name).components().collect::<Vec<_>>()[..], [Component::Normal(only)] if only == &*name);
            if !plain {
                return Err(fault("making a directory", "its name is not plainly a name"));
            }
            let path = private.join(name);
            std::fs::create_dir_all(&path)
                .map_err(|error| fault(&format!("making the directory {}", path.display()), &error.to_string()))?;
            Ok(path)
        }
        DirectoryFrame::Path(path) => {
            let path = PathBuf::from(path);
            match path.is_absolute() && path.is_dir() {
                true => Ok(path),
                false => {
                    let message = "there is no such directory on the relay's machine";
                    Err(fault(&format!("going to the directory {}", path.display()), message))
                }
            }
        }
    }
}

fn fault(doing: &str, message: &str) -> AgentFault {
    let (doing, message) = (doing.to_owned(), message.to_owned());
    AgentFault { kind: AgentFaultKind::CannotStart, doing, message, retryable: false, may_have_happened: false }
}

struct Worker<'a> {
    held: &'a Held,
    /// The agent session to go on with.
    session: String,
    /// Models that are being set, by the numbers of their orders.
    models: FuturesUnordered<BoxFuture<'static, (u64, bool)>>,
}

impl Worker<'_> {
    async fn work(mut self, opened: Opened, mut missed: Pin<&mut impl Future<Output = ()>>) {
        let (orders, mut output) = (opened.connection.orders, opened.connection.output);
        let mut over = false;
        while let Some(look) = self.held.look() {
            tokio::select! {
                biased;
                room = orders.reserve(), if look.waiting => {
                    let taken = self.held.take();
                    match (room, taken) {
                        (Ok(room), Some((number, order))) => over |= self.obey(room, number, order),
                        // An agent that is gone hears nothing; that it is gone is said by itself.
                        (Err(_), _) | (Ok(_), None) => {}
                    }
                    self.held.took();
                }
                said = output.recv(), if look.room && !over => over = self.tell(said, &orders),
                Some((order, set)) = self.models.next(), if !self.models.is_empty() => {
                    self.held.put(OutputFrame::ModelSet { order, set });
                }
                () = self.held.changed() => {}
                () = &mut missed => self.held.forget(),
            }
        }
        drop(orders);
        // The agent ends; what it still says, nobody wants.
        while output.recv().await.is_some() {}
    }

    /// Gives the order to the agent. True when it cannot be read, which ends the process.
    fn obey(&mut self, room: mpsc::Permit<'_, Order>, number: u64, order: OrderFrame) -> bool {
        match self.order(number, order) {
            Ok(order) => {
                room.send(order);
                false
            }
            Err(broken) => {
                let fault = AgentFault { kind: AgentFaultKind::Protocol, ..fault("reading an order", &broken.to_string()) };
                self.held.put(OutputFrame::Gone { fault: fault.into() });
                true
            }
        }
    }

    fn order(&mut self, number: u64, order: OrderFrame) -> Result<Order, super::Broken> {
        Ok(match order {
            OrderFrame::Prompt { turn_id, parts, history } => Order::Prompt(Prompt {
                turn: turn_id,
                parts: parts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                history: history.into_iter().map(Into::into).collect(),
            }),
            OrderFrame::Cancel => Order::Cancel,
            OrderFrame::ApprovalResponse { request, option } => Order::Answer { request, option },
            OrderFrame::SetModel { model } => {
                let model = convert::model(model)?;
                let (done, set) = oneshot::channel();
                self.models.push(Box::pin(async move { (number, set.await.unwrap_or(false)) }));
                Order::SetModel { model, done }
            }
            OrderFrame::Open { .. } | OrderFrame::Written { .. } | OrderFrame::Lacking { .. } | OrderFrame::PutBack { .. } => {
                return Err(super::Broken::Unreadable("a process begins once".into()));
            }
        })
    }

    /// Sends on what the agent said. True when it was the last.
    fn tell(&mut self, said: Option<Output>, orders: &mpsc::Sender<Order>) -> bool {
        let frames = match said {
            Some(Output::Said { raw, said }) => {
                for said in &said {
                    if let Said::AgentSession(id) = said {
                        self.session = id.to_string();
                    }
                }
                convert::said_frames(&raw, said)
            }
            Some(Output::Done { raw, done }) => convert::done_frames(&raw, done, self.session.clone()),
            Some(Output::Gone(fault)) => {
                self.held.put(OutputFrame::Gone { fault: fault.into() });
                return true;
            }
            None => {
                self.held.put(OutputFrame::Ended);
                return true;
            }
        };
        for request in frames.into_iter().flat_map(|frame| self.held.put(frame)) {
            // A question that nobody can be shown is answered no. An agent whose orders are full, or that is gone, waits for none.
            _ = orders.try_send(Order::Answer { request, option: None });
        }
        false
    }
}
