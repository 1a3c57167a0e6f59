//! An open agent session: orders in, what the agent says out, one prompt at a time.
//!
//! It waits in one place for whichever comes first: an order, a line, room to write, or room in the output. A reader
//! that is slow holds the agent back and loses nothing; an agent that does not read holds up nobody.
//! Never: a word of a protocol.

use crate::process::{Heard, MAX_LINE_BYTES, Process};
use bytes::Bytes;
use everkept_agent::{AgentFault, AgentFaultKind, Connection, ORDER_QUEUE, OUTPUT_QUEUE, Order, Output};
use everkept_core::AgentSessionId;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// More than this unread by the agent, and its own lines wait too: it would have us hold its answers for ever.
const MAX_UNREAD: usize = 64 * 1024 * 1024;

/// A protocol with an open agent session. It never waits.
pub trait Conversation: Send + 'static {
    fn ends(&mut self) -> &mut Ends;

    fn session(&self) -> &AgentSessionId;

    /// A prompt runs: what it asked for may have been done.
    fn is_prompted(&self) -> bool;

    fn obey(&mut self, order: Order);

    /// One line of the agent's, its end included.
    fn hear(&mut self, line: Bytes);
}

/// What a conversation speaks into: the agent's input, and the ear of whoever opened it.
pub struct Ends {
    process: Process,
    /// Said and not yet taken.
    queue: VecDeque<Output>,
}

enum Next {
    Order(Option<Order>),
    Heard(Heard),
    Taken,
    NobodyListens,
}

impl Ends {
    /// `said` is what was said while the session was opened.
    pub fn new(process: Process, said: Bytes) -> Self {
        Self { process, queue: VecDeque::from([Output::Said { raw: said, said: Vec::new() }]) }
    }

    pub fn post(&mut self, line: &[u8]) {
        self.process.post(line);
    }

    pub fn tell(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    async fn next(&mut self, orders: &mut mpsc::Receiver<Order>, output: &mpsc::Sender<Output>) -> Next {
        let want_line = self.queue.is_empty() && self.process.unread() < MAX_UNREAD;
        tokio::select! {
            biased;
            order = orders.recv() => Next::Order(order),
            room = output.reserve(), if !self.queue.is_empty() => match room {
                Ok(room) => {
                    room.send(self.queue.pop_front().expect("there was something to say"));
                    Next::Taken
                }
                Err(_) => Next::NobodyListens,
            },
            heard = self.process.hear(want_line) => Next::Heard(heard),
        }
    }
}

/// Lets a conversation run until it is let go of, or its agent is gone.
pub fn begin(conversation: impl Conversation) -> Connection {
    let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
    let (output_out, output) = mpsc::channel(OUTPUT_QUEUE);
    tokio::spawn(run(conversation, orders_in, output_out));
    Connection { orders, output }
}

async fn run(mut conversation: impl Conversation, mut orders: mpsc::Receiver<Order>, output: mpsc::Sender<Output>) {
    loop {
        match conversation.ends().next(&mut orders, &output).await {
            Next::Order(Some(order)) => conversation.obey(order),
            Next::Order(None) | Next::NobodyListens => break,
            Next::Taken => {}
            Next::Heard(Heard::Line(line)) => conversation.hear(line),
            Next::Heard(Heard::End) => return gone(conversation, None, &output).await,
            Next::Heard(Heard::LineTooLong) => {
                let message = format!("a line of more than {MAX_LINE_BYTES} bytes");
                return gone(conversation, Some((AgentFaultKind::Protocol, message)), &output).await;
            }
        }
    }
    conversation.ends().process.end().await;
}

/// Whatever was said before is handed over first.
async fn gone(mut conversation: impl Conversation, because: Option<(AgentFaultKind, String)>, output: &mpsc::Sender<Output>) {
    let may_have_happened = conversation.is_prompted();
    let doing = format!("{} agent session {}", if may_have_happened { "answering in" } else { "keeping" }, conversation.session());
    let ends = conversation.ends();
    let fault = match because {
        Some((kind, message)) => {
            ends.process.end().await;
            AgentFault { kind, doing, message, retryable: true, may_have_happened }
        }
        None => ends.process.fault(doing, may_have_happened).await,
    };
    for said in std::mem::take(&mut ends.queue).into_iter().chain([Output::Gone(fault)]) {
        if output.send(said).await.is_err() {
            return;
        }
    }
}
