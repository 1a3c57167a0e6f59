//! An open agent session: orders in, what the agent says out, one prompt at a time.
//!
//! It waits in one place for whichever comes first: an order, a line, room to write, or room in the output. A reader
//! that is slow holds the agent back and loses nothing; an agent that does not read holds up nobody. What begins a turn
//! and every order in it are noted with the keeper, so that another server can go through the turn once more, with the
//! same lines and the same orders at the same places, and goes on where this one was.
//! Never: a word of a protocol, or one for the agent that its keeper was given already.

use crate::{
    hold::{Began, Found, Noted},
    process::{Heard, MAX_LINE_BYTES, Process, Program},
};
use bytes::{Bytes, BytesMut};
use everkept_agent::{AgentFault, AgentFaultKind, Connection, Held, Hold, Left, ORDER_QUEUE, OUTPUT_QUEUE, Order, Output, Prompt};
use everkept_core::{AgentSessionId, TurnId};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::mpsc;

/// More than this unread by the agent, and its own lines wait too: it would have us hold its answers for ever.
const MAX_UNREAD: usize = 64 * 1024 * 1024;

/// A protocol with an open agent session. It never waits.
pub trait Conversation: Send + 'static {
    /// What a turn is noted under: only the same driver takes it over.
    const DRIVER: &'static str;

    /// All that it knows between prompts, as far as the next one depends on it.
    type Standing: Serialize + DeserializeOwned + Send;

    fn standing(&self) -> Self::Standing;

    fn stand(ends: Ends, standing: Self::Standing) -> Self;

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
    /// Posted and not yet given to the keeper.
    posted: BytesMut,
    /// Said and not yet taken.
    queue: VecDeque<Output>,
    /// How many bytes were told since the session was opened.
    told: u64,
    /// Those of them that came between prompts, since the last one.
    between: Vec<Bytes>,
    prompted: bool,
    /// What whoever listens had kept and taken before the prompt that comes, when the turn is to be held.
    ear: Option<Ear>,
    /// So many bytes were kept by an earlier server, and are not told again.
    skip: u64,
}

#[derive(Clone, Copy)]
struct Ear {
    kept: u64,
    taken: u64,
}

/// What is gone through once more.
struct Again {
    orders: VecDeque<(u64, Noted)>,
    /// So much of the output was there.
    end: u64,
    /// What was answered to lines before this place reached the keeper.
    last: u64,
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
        let mut ends = Self::on(process);
        ends.tell(Output::Said { raw: said, said: Vec::new() });
        ends
    }

    fn on(process: Process) -> Self {
        let (posted, queue, between) = (BytesMut::new(), VecDeque::new(), Vec::new());
        Self { process, posted, queue, told: 0, between, prompted: false, ear: None, skip: 0 }
    }

    pub fn post(&mut self, line: &[u8]) {
        self.posted.extend_from_slice(line);
    }

    pub fn tell(&mut self, output: Output) {
        match &output {
            Output::Said { raw, .. } => {
                if self.skip > 0 {
                    return self.pass_over(raw.len() as u64);
                }
                self.told += raw.len() as u64;
                if !self.prompted {
                    self.between.push(raw.clone());
                }
            }
            // Had it been kept, nobody would go on with the turn.
            Output::Done { raw, .. } => {
                self.told += raw.len() as u64;
                self.prompted = false;
            }
            Output::Gone(_) => {}
        }
        self.queue.push_back(output);
    }

    /// What was kept was kept output by output; if it was not, there is no end to it, which is found out.
    fn pass_over(&mut self, length: u64) {
        self.skip = self.skip.checked_sub(length).unwrap_or(u64::MAX);
    }

    /// What was told since the last prompt and had not been taken.
    fn untaken(&self, ear: Ear) -> Vec<u8> {
        let mut told = self.between.concat();
        let untaken = usize::try_from(self.told.saturating_sub(ear.taken)).unwrap_or(usize::MAX);
        told.split_off(told.len().saturating_sub(untaken))
    }

    /// Gives what was posted to the keeper.
    fn send(&mut self) {
        if !self.posted.is_empty() {
            self.process.post(&self.posted.split());
        }
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
    start(conversation, None)
}

/// What an earlier server left of the turn.
pub async fn left_of<C: Conversation>(program: Arc<Program>, turn: TurnId) -> Left {
    let Some(holds) = &program.keeper.holds else { return Left::Nothing };
    let Some(mut found) = holds.take(turn).await else { return Left::Nothing };
    if let Some(why) = found.lost.take() {
        return Left::Lost(why);
    }
    if found.began.driver != C::DRIVER {
        return Left::Lost(format!("{} is spoken with it, not {}", found.began.driver, C::DRIVER));
    }
    match serde_json::from_str(found.began.standing.get()) {
        Ok(standing) => Left::Running(Held { go_on: Box::new(move |kept| go_on::<C>(&program, found, standing, kept)) }),
        Err(error) => Left::Lost(error.to_string()),
    }
}

/// Goes through the turn once more: the prompt first, of which every byte reached the keeper.
fn go_on<C: Conversation>(program: &Program, mut found: Found, standing: C::Standing, kept: u64) -> Connection {
    let (line, incoming) = found.take_line().expect("nobody else has taken it");
    let process = Process::found(program, found.keeper, line, incoming, found.base);
    let mut ends = Ends::on(process);
    ends.prompted = true;
    ends.skip = kept.saturating_sub(found.began.kept);
    ends.tell(Output::Said { raw: std::mem::take(&mut found.before), said: Vec::new() });
    let mut conversation = C::stand(ends, standing);
    conversation.obey(Order::Prompt(Prompt { turn: found.began.turn, parts: Vec::new(), history: Vec::new() }));
    conversation.ends().posted.clear();
    let again = Again { orders: std::mem::take(&mut found.orders).into(), end: found.end, last: found.last };
    start(conversation, Some(again))
}

fn start(conversation: impl Conversation, again: Option<Again>) -> Connection {
    let (orders, orders_in) = mpsc::channel(ORDER_QUEUE);
    let (output_out, output) = mpsc::channel(OUTPUT_QUEUE);
    tokio::spawn(run(conversation, again, orders_in, output_out));
    Connection { orders, output }
}

async fn run(mut conversation: impl Conversation, again: Option<Again>, mut orders: mpsc::Receiver<Order>, output: mpsc::Sender<Output>) {
    if let Some(again) = again {
        match go_through(&mut conversation, again, &output).await {
            Ok(()) => {}
            Err(because) => return gone(conversation, because, &output).await,
        }
    }
    loop {
        match conversation.ends().next(&mut orders, &output).await {
            Next::Order(Some(Order::Hold(Hold::HandOver { done }))) => {
                if conversation.ends().process.hand_over().await {
                    // Nobody may be left to hear it.
                    _ = done.send(());
                    return;
                }
            }
            Next::Order(Some(order)) => obey(&mut conversation, order),
            Next::Order(None) | Next::NobodyListens => break,
            Next::Taken => {}
            Next::Heard(Heard::Line(line)) => {
                conversation.hear(line);
                conversation.ends().send();
            }
            Next::Heard(Heard::End) => return gone(conversation, None, &output).await,
            Next::Heard(Heard::LineTooLong) => return gone(conversation, Some(too_long()), &output).await,
        }
    }
    conversation.ends().process.end().await;
}

fn obey(conversation: &mut impl Conversation, order: Order) {
    let noted = match &order {
        Order::Hold(hold) => return conversation.ends().hold(hold),
        Order::Prompt(prompt) => return prompt_noted(conversation, prompt.turn, order),
        Order::Cancel => Noted::Cancel,
        Order::Answer { request, option } => Noted::Answer { request: request.clone(), option: option.clone() },
        Order::SetModel { model, .. } => Noted::SetModel { model: model.clone() },
    };
    conversation.obey(order);
    let ends = conversation.ends();
    ends.process.note(noted.write(), &ends.posted.split());
}

/// The note and the prompt go to the keeper as one: none is there without the other.
fn prompt_noted<C: Conversation>(conversation: &mut C, turn: TurnId, order: Order) {
    let standing = serde_json::value::to_raw_value(&conversation.standing()).expect("it has string keys only");
    conversation.obey(order);
    let prompted = conversation.is_prompted();
    let ends = conversation.ends();
    let posted = ends.posted.split();
    match ends.ear.take() {
        Some(ear) if ends.process.can_be_held() && !posted.is_empty() => {
            let began = Began { turn, driver: C::DRIVER.to_owned(), kept: ear.kept, standing };
            let note = began.write(&ends.untaken(ear));
            ends.process.begin(note, &posted);
        }
        Some(_) | None => ends.process.post(&posted),
    }
    ends.between.clear();
    ends.prompted = prompted;
}

/// Everything that was there when this server came, and the orders at the places where they were obeyed. What was said
/// to the agent then is not said again.
async fn go_through(
    conversation: &mut impl Conversation,
    mut again: Again,
    output: &mpsc::Sender<Output>,
) -> Result<(), Option<(AgentFaultKind, String)>> {
    loop {
        let ends = conversation.ends();
        while let Some(said) = ends.queue.pop_front() {
            // Whoever stops listening lets go, which the next wait sees.
            _ = output.send(said).await;
        }
        let heard = ends.process.heard();
        if let Some((_, noted)) = again.orders.pop_front_if(|(at, _)| *at <= heard) {
            conversation.obey(noted.into());
            conversation.ends().posted.clear();
            continue;
        }
        match ends.process.hear_before(again.end).await {
            Some(Heard::Line(line)) => {
                conversation.hear(line);
                let ends = conversation.ends();
                if ends.process.heard() <= again.last {
                    ends.posted.clear();
                }
                ends.send();
            }
            Some(Heard::End) => return Err(None),
            Some(Heard::LineTooLong) => return Err(Some(too_long())),
            None if again.orders.is_empty() && ends.skip == 0 => return Ok(()),
            None => return Err(Some((AgentFaultKind::Protocol, "what its keeper has of the turn is not what was kept of it".into()))),
        }
    }
}

impl Ends {
    fn hold(&mut self, hold: &Hold) {
        match hold {
            Hold::Turn { kept, taken } => self.ear = Some(Ear { kept: *kept, taken: *taken }),
            Hold::Over => self.process.rest(),
            // It has been answered by then.
            Hold::HandOver { .. } => {}
        }
    }
}

impl From<Noted> for Order {
    fn from(noted: Noted) -> Self {
        match noted {
            Noted::Cancel => Self::Cancel,
            Noted::Answer { request, option } => Self::Answer { request, option },
            // Whoever asked is gone.
            Noted::SetModel { model } => Self::SetModel { model, done: tokio::sync::oneshot::channel().0 },
        }
    }
}

fn too_long() -> (AgentFaultKind, String) {
    (AgentFaultKind::Protocol, format!("a line of more than {MAX_LINE_BYTES} bytes"))
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
