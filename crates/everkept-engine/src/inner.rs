//! What all sessions share: the store, the agents, the runtime, and which task owns which session.
//!
//! Never two tasks for one session at a time, and nothing of a store that has failed.

use crate::actor::{self, Mail};
use crate::agents::Agents;
use crate::breakers::Breakers;
use crate::hub::{BATCHES, Batch, Hint};
use crate::known_tokens::KnownTokens;
use crate::orders::*;
use crate::runtime::Runtime;
use crate::{Caller, Failure, Settings};
use everkept_core::{Event, Fold, Message, MessageRecord, Question, Refusal, Resource, Session, SessionId, Timestamp, Turn};
use everkept_store::{EventsQuery, Problem, Store, StoreFault, StoredEvent, decode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};

/// Orders that wait for one session's task. Beyond it, callers wait: each is an open request of theirs.
const MAILBOX: usize = 64;
/// With more open sessions than these, at about 16 KiB each, one that has nothing to do stays for so long only.
const CROWD: usize = 1_000;
const CROWDED: Duration = Duration::from_secs(1);
/// Events read from the store at a time, and about how many bytes of them.
pub(crate) const READ_PAGE: u32 = 1_000;
pub(crate) const READ_BYTES: usize = 1024 * 1024;

pub(crate) struct Inner {
    pub store: Arc<dyn Store>,
    pub agents: Agents,
    pub breakers: Breakers,
    pub runtime: Runtime,
    pub settings: Settings,
    pub feed: broadcast::Sender<Hint>,
    pub permits: Arc<Semaphore>,
    /// Turns that wait for an agent process; idle ones make room.
    pub waiting: AtomicUsize,
    pub pressure: Notify,
    /// There may be something to keep up with.
    pub committed: Arc<Notify>,
    pub known_tokens: KnownTokens,
    pub sessions: Mutex<BTreeMap<SessionId, Entry>>,
    pub failed: Mutex<Option<StoreFault>>,
    pub stopping: AtomicBool,
    /// What can outlive this server is left to the next one.
    pub hands_over: AtomicBool,
    pub latest_wall: AtomicI64,
    /// Tasks that own a session, and those who wait for them to end.
    pub tasks: AtomicUsize,
    pub task_ended: Notify,
}

pub(crate) struct Entry {
    pub hub: broadcast::Sender<Batch>,
    pub mail: Option<mpsc::Sender<Mail>>,
    /// What the session's task last committed or read; none without a task.
    pub seen: Option<Seen>,
}

/// What has to be known of a session before an order is handed to its task.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub resource: Option<Resource>,
    pub trashed: bool,
}

impl Seen {
    pub fn of(session: &Session) -> Self {
        Seen { resource: session.resource.clone(), trashed: session.deleted_at.is_some() }
    }
}

/// A session's rows as they are after one certain event.
pub(crate) struct View {
    pub session: Session,
    pub turns: Vec<Turn>,
    pub questions: Vec<Question>,
    pub cursor: u64,
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.sessions.lock().expect("no task panics while it holds the registry")
    }

    pub fn failure(&self) -> Option<StoreFault> {
        self.failed.lock().expect("no task panics while it notes a fault").clone()
    }

    /// Notes a fault after which nothing may be acknowledged, and passes the answer on.
    pub fn check<T>(&self, answer: Result<T, StoreFault>) -> Result<T, Failure> {
        if let Some(fault) = self.failure() {
            return Err(fault.into());
        }
        if let Err(fault) = &answer
            && matches!(fault.problem, Problem::Failed(_))
        {
            tracing::error!(doing = fault.doing, problem = %fault.problem, "storage failed: nothing is acknowledged until a new start");
            *self.failed.lock().expect("no task panics while it notes a fault") = Some(fault.clone());
        }
        Ok(answer?)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Now, but never earlier than any time persisted before.
    pub fn wall(&self) -> Timestamp {
        let now = self.runtime.clock.wall().0;
        Timestamp(self.latest_wall.fetch_max(now, Ordering::SeqCst).max(now))
    }

    /// How long a task that has nothing to do stays. Whoever touches sessions by the million leaves few of them in memory.
    pub fn idle_session(&self) -> Duration {
        let usual = self.settings.idle_session;
        if self.tasks.load(Ordering::SeqCst) > CROWD { usual.min(CROWDED) } else { usual }
    }

    /// The session's task, begun when there is none.
    pub fn mailbox(self: &Arc<Self>, session: SessionId) -> mpsc::Sender<Mail> {
        let mut sessions = self.lock();
        let entry = sessions.entry(session).or_insert_with(|| Entry { hub: broadcast::channel(BATCHES).0, mail: None, seen: None });
        if let Some(mail) = entry.mail.as_ref().filter(|mail| !mail.is_closed()) {
            return mail.clone();
        }
        let (sender, receiver) = mpsc::channel(MAILBOX);
        entry.mail = Some(sender.clone());
        entry.seen = None;
        self.tasks.fetch_add(1, Ordering::SeqCst);
        let task = actor::run(self.clone(), session, sender.downgrade(), receiver, entry.hub.clone());
        self.runtime.spawner.spawn(Box::pin(task));
        sender
    }

    pub fn has_task(&self, session: SessionId) -> bool {
        self.lock().get(&session).is_some_and(|entry| entry.mail.as_ref().is_some_and(|mail| !mail.is_closed()))
    }

    pub fn hub(&self, session: SessionId) -> broadcast::Receiver<Batch> {
        let mut sessions = self.lock();
        let entry = sessions.entry(session).or_insert_with(|| Entry { hub: broadcast::channel(BATCHES).0, mail: None, seen: None });
        entry.hub.subscribe()
    }

    /// What its task knows of a session, or else the store.
    pub(crate) async fn held(&self, session: SessionId) -> Result<Seen, Failure> {
        let open = |entry: &Entry| entry.mail.as_ref().filter(|mail| !mail.is_closed()).and(entry.seen.clone());
        if let Some(seen) = self.lock().get(&session).and_then(open) {
            return self.check(Ok(seen));
        }
        Ok(Seen::of(&self.check(self.store.session(session).await)?.ok_or(Refusal::SessionNotFound)?))
    }

    /// Told by the session's task, and by nobody else.
    pub fn note_seen(&self, session: SessionId, seen: Option<Seen>) {
        if let Some(entry) = self.lock().get_mut(&session) {
            entry.seen = seen;
        }
    }

    /// Forgets a session that nobody writes and nobody reads.
    pub fn forget(&self, session: SessionId) {
        let mut sessions = self.lock();
        if let Some(entry) = sessions.get_mut(&session) {
            if entry.mail.as_ref().is_some_and(mpsc::Sender::is_closed) {
                entry.mail = None;
                entry.seen = None;
            }
            if entry.mail.is_none() && entry.hub.receiver_count() == 0 {
                sessions.remove(&session);
            }
        }
    }

    /// Sends mail that wants an answer; a task that just ended is begun anew. What a task broke down over is not tried
    /// again: it may have been done.
    pub(crate) async fn send(
        self: &Arc<Self>,
        session: SessionId,
        mail: impl Fn(oneshot::Sender<Result<Answered, Failure>>) -> Mail,
    ) -> Result<Answered, Failure> {
        loop {
            if let Some(fault) = self.failure() {
                return Err(fault.into());
            }
            if self.is_stopping() {
                return Err(Failure::Stopping);
            }
            let (reply, answer) = oneshot::channel();
            if self.mailbox(session).send(mail(reply)).await.is_err() {
                continue;
            }
            match answer.await {
                Ok(answer) => return answer,
                // A task that ends in good order answers its mail, or hands it on.
                Err(_) => match self.failure() {
                    Some(fault) => return Err(StoreFault { may_have_happened: true, ..fault }.into()),
                    None if self.is_stopping() => return Err(Failure::Stopping),
                    None => return Err(Failure::BrokenDown),
                },
            }
        }
    }

    pub(crate) async fn live_view(&self, session: SessionId) -> Option<View> {
        let mail = self.lock().get(&session).and_then(|entry| entry.mail.clone())?;
        let (reply, answer) = oneshot::channel();
        mail.send(Mail::View { reply }).await.ok()?;
        answer.await.ok()
    }

    pub async fn kept_answer(&self, caller: &Caller, key: Option<&Keyed>) -> Result<Option<Answered>, Failure> {
        let Some(key) = key else { return Ok(None) };
        let kept = self.check(self.store.kept_answer(caller.principal.clone(), key.key.clone(), self.wall()).await)?;
        match kept {
            None => Ok(None),
            Some(kept) if kept.digest == key.digest => Ok(Some(Answered::Kept { status: kept.status, body: kept.body })),
            Some(_) => Err(Failure::KeyReused),
        }
    }

    /// Reads an event that was checked when it was read from the store: only a damaged one cannot be understood.
    pub fn read(&self, session: SessionId, stored: &StoredEvent) -> Result<Event, Failure> {
        let corrupt = |_| StoreFault {
            problem: Problem::Corrupt { session, seq: stored.seq },
            doing: format!("reading event {} of session {session}", stored.seq),
            may_have_happened: false,
        };
        Ok(decode(&stored.bytes).map_err(corrupt)?.1)
    }

    /// The messages of `rows`, in their order, as they were after event `until`.
    pub async fn fold_messages(&self, session: SessionId, rows: &[MessageRecord], until: Option<u64>) -> Result<Vec<Message>, Failure> {
        let (Some(first), Some(last)) =
            (rows.iter().map(|row| row.first_seq).min(), rows.iter().map(|row| row.last_seq.unwrap_or(u64::MAX)).max())
        else {
            return Ok(Vec::new());
        };
        let last = until.map_or(last, |until| last.min(until));
        let wanted: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        let mut fold = Fold::default();
        let mut after = first - 1;
        while after < last {
            let query = EventsQuery {
                session: Some(session),
                after,
                until: Some(last.min(i64::MAX as u64)),
                limit: READ_PAGE,
                max_bytes: Some(READ_BYTES),
                kinds: Fold::KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
                ..EventsQuery::default()
            };
            let page = self.check(self.store.events(query).await)?;
            let Some(end) = page.last() else { break };
            after = end.seq;
            for stored in &page {
                fold.apply(&self.read(session, stored)?);
            }
        }
        let mut messages: BTreeMap<_, _> =
            fold.into_messages().into_iter().filter(|message| wanted.contains(&message.id)).map(|message| (message.id, message)).collect();
        Ok(rows.iter().filter_map(|row| messages.remove(&row.id)).collect())
    }
}

impl Drop for Inner {
    /// Lets the task that waits for something to do see that there is nobody left to do it for.
    fn drop(&mut self) {
        self.committed.notify_one();
    }
}
