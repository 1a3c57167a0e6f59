//! The one task that owns a session: it decides, commits, applies, shows and acts, in this order.
//!
//! Never acts on what is not committed, and never keeps a state that a failed commit may have made untrue.

mod acts;
mod commit;
mod heard;
mod hold;
mod keep;
mod serve;
mod timers;

use crate::Failure;
use crate::agent_host::{Host, Plan};
use crate::failpoint::{Failpoint, Injected, no_space};
use crate::hub::Batch;
use crate::inner::{Inner, READ_BYTES, READ_PAGE, Seen, View};
use crate::orders::{Answered, Keyed, NewTurn, Order};
use bytes::{Bytes, BytesMut};
use everkept_agent::{AgentFault, Output};
use everkept_core::{
    BlobRef, CreateSession, Effect, EndTurn, FailTurn, PutBackAgentSession, QuestionId, Refusal, Said, SessionId, State, TurnId, owed,
};
use everkept_store::{EventsQuery, Problem, StoreFault};
use futures::future::AbortHandle;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub(crate) enum Mail {
    Create {
        create: Box<CreateSession>,
        /// The turn that is made in the same step.
        first: Option<Box<NewTurn>>,
        key: Option<Keyed>,
        principal: String,
        reply: oneshot::Sender<Result<Answered, Failure>>,
    },
    Order {
        order: Box<Order>,
        key: Option<Keyed>,
        principal: String,
        reply: oneshot::Sender<Result<Answered, Failure>>,
    },
    View {
        reply: oneshot::Sender<View>,
    },
    Opened {
        planned: TurnId,
        result: Box<Result<Host, AgentFault>>,
        put_back: Option<PutBackAgentSession>,
    },
    Copied(keep::Copied),
    Stop,
}

pub(crate) struct Actor {
    inner: Arc<Inner>,
    id: SessionId,
    myself: mpsc::WeakSender<Mail>,
    hub: broadcast::Sender<Batch>,
    /// None after a commit failed: the log is read again before anything is decided.
    state: Option<State>,
    /// None until the log is ours.
    fence: Option<u64>,
    host: Option<Host>,
    opening: Option<Opening>,
    /// What an agent was given back and the log does not say yet.
    put_back: Option<PutBackAgentSession>,
    /// How many copies of what agents wrote are being made.
    copying: usize,
    /// What the agent said that is not committed yet.
    heard: Heard,
    timers: timers::Timers,
    /// Tells when a breaker may let through what it held up.
    freed: Option<watch::Receiver<u64>>,
    /// False as long as what the last server left open is not settled for want of space.
    woken: bool,
    stopping: bool,
}

struct Opening {
    /// The turn that is to begin with it, which may be another than it was planned for.
    turn: TurnId,
    plan: Plan,
    abort: AbortHandle,
}

#[derive(Default)]
struct Heard {
    said: Vec<Said>,
    raw: BytesMut,
    blobs: Vec<(BlobRef, Bytes)>,
    /// Requests of the agent's that nobody can be asked.
    denied: Vec<String>,
    /// How the turn ended, once it has.
    end: Option<Outcome>,
    /// The agent is gone; the turn is to be settled.
    gone: Option<String>,
}

enum Outcome {
    Turn(EndTurn),
    /// It came to nothing; something may follow.
    Failed(Box<FailTurn>),
}

impl Outcome {
    fn turn(&self) -> TurnId {
        match self {
            Outcome::Turn(end) => end.turn,
            Outcome::Failed(fail) => fail.turn,
        }
    }
}

/// What woke the task.
enum Woken {
    Mail(Option<Mail>),
    Output(Option<Output>),
    Alarm,
    Pressure,
    Freed,
}

pub(crate) async fn run(
    inner: Arc<Inner>,
    id: SessionId,
    myself: mpsc::WeakSender<Mail>,
    mut mail: mpsc::Receiver<Mail>,
    hub: broadcast::Sender<Batch>,
) {
    let _ended = Ended(inner.clone(), id);
    let mut actor = Actor {
        inner: inner.clone(),
        id,
        myself,
        hub,
        state: None,
        fence: None,
        host: None,
        opening: None,
        put_back: None,
        copying: 0,
        heard: Heard::default(),
        timers: timers::Timers::default(),
        freed: None,
        woken: false,
        stopping: false,
    };
    // What is done now and then has its place only while it is done: an idle task is mostly its state.
    Box::pin(actor.wake()).await;
    loop {
        // A task that was begun while the server already stopped is sent no word of it.
        if inner.is_stopping() && !actor.stopping {
            actor.stop().await;
        }
        if inner.failure().is_some() || actor.stopping {
            break;
        }
        let woken = actor.wait(&mut mail).await;
        match woken {
            Woken::Mail(Some(letter)) => Box::pin(actor.receive(letter)).await,
            Woken::Mail(None) => break,
            Woken::Output(output) => Box::pin(actor.hear(output)).await,
            Woken::Pressure => actor.make_room(),
            Woken::Freed => Box::pin(actor.set_free()).await,
            Woken::Alarm => {
                Box::pin(actor.ring()).await;
                if actor.may_leave() {
                    leave(&mut mail, &actor).await;
                    break;
                }
            }
        }
    }
    mail.close();
    // An empty batch tells readers that nothing more comes.
    if inner.failure().is_some() || inner.is_stopping() {
        let _ = actor.hub.send(Vec::new().into());
    }
}

/// Stops taking mail; what came in the meantime goes to the task that is begun in this one's place.
async fn leave(mail: &mut mpsc::Receiver<Mail>, actor: &Actor) {
    actor.pass(Failpoint::Leave).await;
    mail.close();
    actor.pass(Failpoint::HandOn).await;
    while let Some(letter) = mail.recv().await {
        // Only a server that stops takes none; whoever waits for the answer sees that.
        let _ = actor.inner.mailbox(actor.id).send(letter).await;
    }
}

struct Ended(Arc<Inner>, SessionId);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.forget(self.1);
        self.0.tasks.fetch_sub(1, Ordering::SeqCst);
        self.0.task_ended.notify_waiters();
    }
}

impl Actor {
    async fn wait(&mut self, mail: &mut mpsc::Receiver<Mail>) -> Woken {
        self.keep_watch();
        let alarm = self.inner.runtime.clock.sleep(self.until_alarm());
        let idle = self.host.is_some() && self.is_idle();
        let held_back = self.is_held_back();
        let inner = self.inner.clone();
        let pressure = async move {
            if !idle {
                std::future::pending::<()>().await;
            }
            let pressed = inner.pressure.notified();
            // Somebody may wait since before this task had nothing to do.
            if inner.waiting.load(Ordering::SeqCst) == 0 {
                pressed.await;
            }
        };
        let host = self.host.as_mut().filter(|_| !held_back);
        let output = async move {
            match host {
                Some(host) => host.connection.output.recv().await,
                None => std::future::pending().await,
            }
        };
        let freed = self.freed.as_mut();
        let freed = async move {
            match freed {
                // The engine that would close it is held by this task.
                Some(freed) => _ = freed.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            letter = mail.recv() => Woken::Mail(letter),
            output = output => Woken::Output(output),
            () = alarm => Woken::Alarm,
            () = pressure => Woken::Pressure,
            () = freed => Woken::Freed,
        }
    }

    async fn receive(&mut self, letter: Mail) {
        match letter {
            Mail::Create { create, first, key, principal, reply } => {
                let answer = self.create(*create, first.map(|first| *first), key, principal).await;
                self.pass(Failpoint::Answer).await;
                // Whoever asked may have gone; the session is there all the same.
                let _ = reply.send(answer);
            }
            Mail::Order { order, key, principal, reply } => {
                let answer = self.order(*order, key, principal).await;
                self.pass(Failpoint::Answer).await;
                let _ = reply.send(answer);
            }
            Mail::View { reply } => {
                if let Ok(view) = self.view().await {
                    let _ = reply.send(view);
                }
            }
            Mail::Opened { planned, result, put_back } => self.opened(planned, *result, put_back).await,
            Mail::Copied(copied) => self.copied(copied).await,
            Mail::Stop => self.stop().await,
        }
    }

    async fn reach(&self, place: Failpoint) -> Result<(), Injected> {
        self.inner.runtime.reach(place, Some(self.id)).await
    }

    async fn pass(&self, place: Failpoint) {
        self.inner.runtime.pass(place, Some(self.id)).await;
    }

    /// Takes the session over and goes on with it; again later when there is no space to.
    async fn wake(&mut self) {
        let woken = self.take_over().await;
        self.woken = !matches!(woken, Err(Failure::Store(StoreFault { problem: Problem::Full, .. })));
        if let Err(failure) = woken {
            tracing::warn!(session = %self.id, %failure, "the session could not be opened");
            self.go_on_later();
        }
    }

    /// Goes on with what outlived the last server, settles what nobody runs any more, and does what is owed.
    async fn take_over(&mut self) -> Result<(), Failure> {
        if !self.load().await? {
            return Ok(());
        }
        if self.reach(Failpoint::Taken).await.is_err() {
            return Err(no_space("settling the session").into());
        }
        self.hear_on().await?;
        self.pass(Failpoint::Settled).await;
        let due = owed(self.state()?);
        for effect in due {
            self.perform(effect).await;
        }
        self.say_no_again().await;
        self.arm_questions();
        Ok(())
    }

    /// Makes sure that state is what the log says; false when there is no log yet.
    async fn load(&mut self) -> Result<bool, Failure> {
        if self.state.is_some() {
            return Ok(true);
        }
        let store = self.inner.store.clone();
        let head = match self.fence {
            None => self.inner.check(store.take(self.id).await)?,
            Some(_) => self.inner.check(store.head(self.id).await)?,
        };
        let Some(head) = head else { return Ok(false) };
        self.fence = Some(head.fence);
        let state = replay(&self.inner, self.id, head.seq).await?;
        self.inner.note_seen(self.id, Some(Seen::of(&state.session)));
        self.state = Some(state);
        Ok(true)
    }

    fn state(&self) -> Result<&State, Failure> {
        Ok(self.state.as_ref().ok_or(Refusal::SessionNotFound)?)
    }

    async fn view(&mut self) -> Result<View, Failure> {
        self.load().await?;
        let state = self.state()?;
        let from = state.turns.len().saturating_sub(200);
        let open = |question: &&everkept_core::Question| question.state == everkept_core::QuestionState::Open;
        Ok(View {
            session: state.session.clone(),
            turns: state.turns[from..].iter().map(|entry| entry.turn.clone()).collect(),
            questions: state.questions.iter().filter(open).cloned().collect(),
            cursor: state.head,
        })
    }

    /// Ends everything in order: what runs is handed over, or settled and the agent is let go.
    async fn stop(&mut self) {
        self.stopping = true;
        let reached = self.reach(Failpoint::Stop).await;
        if let Some(opening) = self.opening.take() {
            opening.abort.abort();
        }
        self.flush().await;
        let handed_over = self.inner.hands_over.load(Ordering::SeqCst) && self.hand_over().await;
        self.host = None;
        let settled = match reached {
            Ok(()) if handed_over => Ok(()),
            Ok(()) => self.settle(everkept_core::REASON_SERVER_STOPPED, "the server was stopped while the turn ran").await,
            Err(Injected) => Err(no_space("settling the session").into()),
        };
        if let Err(failure) = settled {
            tracing::warn!(session = %self.id, %failure, "the running turn is settled at the next start");
        }
    }

    fn make_room(&mut self) {
        if self.is_idle() && self.inner.waiting.load(Ordering::SeqCst) > 0 {
            self.host = None;
        }
    }

    /// Nothing runs, nothing is being opened, nothing is to be begun. What waits in a trashed session is not.
    fn is_idle(&self) -> bool {
        self.state.as_ref().is_some_and(|state| owed(state).is_empty()) && self.opening.is_none()
    }

    /// Nothing is left that only this task could do.
    fn could_leave(&self) -> bool {
        let quiet = self.woken
            && self.host.is_none()
            && self.opening.is_none()
            && self.heard.is_empty()
            && self.timers.questions.is_empty()
            && self.copying == 0;
        quiet && self.state.as_ref().is_none_or(|state| owed(state).is_empty())
    }

    fn may_leave(&self) -> bool {
        self.could_leave() && self.timers.is_idle_for(self.inner.runtime.clock.monotonic(), self.inner.idle_session())
    }
}

impl Heard {
    fn is_empty(&self) -> bool {
        self.said.is_empty() && self.end.is_none() && self.gone.is_none()
    }
}

/// The state after the log's first `until` events.
pub(crate) async fn replay(inner: &Inner, id: SessionId, until: u64) -> Result<State, Failure> {
    let mut state = State::new(id);
    while state.head < until {
        let query = EventsQuery {
            session: Some(id),
            after: state.head,
            until: Some(until),
            limit: READ_PAGE,
            max_bytes: Some(READ_BYTES),
            ..EventsQuery::default()
        };
        let page = inner.check(inner.store.events(query).await)?;
        assert!(!page.is_empty(), "a log holds every event up to its head, but {id} ends at {} of {until}", state.head);
        for stored in &page {
            let event = inner.read(id, stored)?;
            state.apply(&event);
            assert_eq!(state.head, stored.seq, "the numbers of {id} rise by one");
        }
    }
    Ok(state)
}

/// A question of the session and how long it may stay open.
type QuestionAlarms = BTreeMap<QuestionId, Duration>;

/// The first effect of a kind that still stands, for checks.
fn is_due(state: &State, effect: Effect) -> bool {
    owed(state).contains(&effect)
}
