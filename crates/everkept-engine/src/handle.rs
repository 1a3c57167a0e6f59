//! The engine as doors hold it: orders go to the one task that owns the session, reads go to the store.
//!
//! Never lets a caller tell a session it may not see from one that does not exist.

use crate::actor::{self, Mail};
use crate::hub::{BATCHES, Batch, Hint};
use crate::known_tokens::KnownTokens;
use crate::orders::*;
use crate::runtime::Runtime;
use crate::{Caller, Failure, Settings, Tail};
use bytes::Bytes;
use everkept_agent::Agent;
use everkept_core::{
    AgentName, CreateSession, Event, Fold, KnownAgent, KnownAgents, Message, MessageRecord, ModelName, ParentKind, Question, QuestionId,
    Refusal, Resource, Session, SessionId, TextDigest, Thread, Timestamp, TokenId, Turn, TurnId, TurnRecord,
};
use everkept_store::{
    EventsQuery, Page, PlaceQuery, Problem, QuestionsQuery, SessionsQuery, Store, StoreFault, StoredEvent, Token, decode,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};

/// Everything an engine is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub default_agent: AgentName,
    pub runtime: Runtime,
    pub settings: Settings,
}

/// One configured agent.
#[derive(Clone)]
pub struct AgentEntry {
    pub agent: Arc<dyn Agent>,
    /// The model its configuration names.
    pub model: Option<ModelName>,
}

/// How the engine goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Running turns end as `interrupted`, agents are ended, queued turns wait for the next start.
    Settle,
}

#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Orders that wait for one session's task. Beyond it, callers wait: each is an open request of theirs.
const MAILBOX: usize = 64;
/// Events read from the store at a time.
pub(crate) const READ_PAGE: u32 = 1_000;

pub(crate) struct Inner {
    pub store: Arc<dyn Store>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub known: KnownAgents,
    pub runtime: Runtime,
    pub settings: Settings,
    pub feed: broadcast::Sender<Hint>,
    pub permits: Arc<Semaphore>,
    /// Turns that wait for an agent process; idle ones make room.
    pub waiting: AtomicUsize,
    pub pressure: Notify,
    /// Something may have to be indexed.
    pub to_index: Arc<Notify>,
    known_tokens: KnownTokens,
    sessions: Mutex<BTreeMap<SessionId, Entry>>,
    failed: Mutex<Option<StoreFault>>,
    stopping: AtomicBool,
    latest_wall: AtomicI64,
    /// Tasks that own a session, and those who wait for them to end.
    pub tasks: AtomicUsize,
    pub task_ended: Notify,
}

struct Entry {
    hub: broadcast::Sender<Batch>,
    mail: Option<mpsc::Sender<Mail>>,
    /// What the session's task last committed or read; none without a task.
    seen: Option<Seen>,
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

impl Engine {
    /// Boots the store, then settles and goes on with whatever the last run left open.
    pub async fn start(parts: Parts) -> Result<Engine, Failure> {
        let known = parts.agents.iter().map(|(name, entry)| (name.clone(), KnownAgent { model: entry.model.clone() })).collect();
        let boot = parts.store.boot(parts.runtime.clock.wall()).await?;
        let inner = Arc::new(Inner {
            store: parts.store,
            agents: parts.agents,
            known: KnownAgents { default: parts.default_agent, agents: known },
            feed: broadcast::channel(1_024).0,
            permits: Arc::new(Semaphore::new(parts.settings.max_agents)),
            runtime: parts.runtime,
            settings: parts.settings,
            waiting: AtomicUsize::new(0),
            pressure: Notify::new(),
            to_index: Arc::new(Notify::new()),
            known_tokens: KnownTokens::default(),
            sessions: Mutex::new(BTreeMap::new()),
            failed: Mutex::new(None),
            stopping: AtomicBool::new(false),
            latest_wall: AtomicI64::new(boot.latest_wall.0),
            tasks: AtomicUsize::new(0),
            task_ended: Notify::new(),
        });
        let engine = Engine { inner };
        // Questions run out of time whether or not anything else wakes their session.
        let open = engine.inner.store.questions(QuestionsQuery { session: None, resource: None, open_only: true }).await?;
        let owed = engine.inner.store.owed().await?;
        let sessions: BTreeSet<_> = owed.iter().map(|(session, _)| *session).chain(open.iter().map(|question| question.session)).collect();
        for session in sessions {
            engine.inner.mailbox(session);
        }
        engine.inner.runtime.spawner.spawn(Box::pin(keep_indexed(Arc::downgrade(&engine.inner), engine.inner.to_index.clone())));
        Ok(engine)
    }

    /// Ends every session's task. Queued turns stay owed; a new start goes on with them.
    pub async fn stop(&self, stop: Stop) {
        match stop {
            Stop::Settle => self.inner.stopping.store(true, Ordering::SeqCst),
        }
        let mails: Vec<_> = self.inner.lock().values().filter_map(|entry| entry.mail.clone()).collect();
        for mail in mails {
            // A task that ended by itself has nothing left to settle.
            let _ = mail.send(Mail::Stop).await;
        }
        loop {
            let ended = self.inner.task_ended.notified();
            if self.inner.tasks.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }

    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Storage reported an error: nothing is acknowledged or shown any more (promise D4).
    pub fn storage_failed(&self) -> bool {
        self.inner.failure().is_some()
    }

    /// The latest wall time ever seen or persisted; expiry goes by it.
    pub fn latest_wall(&self) -> Timestamp {
        self.inner.wall()
    }

    pub fn agents(&self) -> Vec<AgentCard> {
        let default = &self.inner.known.default;
        let card = |(name, entry): (&AgentName, &AgentEntry)| AgentCard {
            name: name.clone(),
            is_default: name == default,
            model: entry.model.clone(),
            abilities: entry.agent.abilities(),
        };
        self.inner.agents.iter().map(card).collect()
    }

    pub async fn create_session(&self, caller: &Caller, new: NewSession, key: Option<Keyed>) -> Result<Answered, Failure> {
        self.create_with(caller, new, None, key).await
    }

    /// Makes a session, and in the same step its first turn when there is one: neither is without the other.
    async fn create_with(&self, caller: &Caller, new: NewSession, first: Option<NewTurn>, key: Option<Keyed>) -> Result<Answered, Failure> {
        caller.may_write()?;
        let owner = caller.owner()?;
        let new = NewSession { resource: new.resource.or_else(|| owner.cloned()), ..new };
        if owner.is_some_and(|owner| new.resource.as_ref() != Some(owner)) {
            return Err(Failure::Forbidden);
        }
        if owner.is_some() && new.directory.is_some() {
            return Err(Failure::Forbidden);
        }
        if new.thread.is_some() && new.resource.is_none() {
            return Err(Refusal::invalid("thread", "needs a resource").into());
        }
        if let Some(parent) = new.parent {
            caller.check(&self.found(parent.session).await?)?;
        }
        if let Some(kept) = self.inner.kept_answer(caller, key.as_ref()).await? {
            return Ok(kept);
        }
        let session = SessionId(self.inner.runtime.ids.uuid());
        let private = || self.inner.settings.private_directories.join(session.to_string()).to_string_lossy().into_owned();
        let create = CreateSession {
            session,
            title: new.title,
            resource: new.resource,
            thread: new.thread,
            directory: check_directory(new.directory)?.unwrap_or_else(private),
            agent: new.agent,
            model: new.model,
            agent_session: new.agent_session,
            parent: new.parent,
            metadata: new.metadata,
            known: self.inner.known.clone(),
        };
        let principal = caller.principal.clone();
        let mail = |reply| Mail::Create {
            create: Box::new(create.clone()),
            first: first.clone().map(Box::new),
            key: key.clone(),
            principal: principal.clone(),
            reply,
        };
        self.inner.send(session, mail).await
    }

    /// Performs an order on one session. What it answers is durable.
    pub async fn order(&self, caller: &Caller, session: SessionId, order: Order, key: Option<Keyed>) -> Result<Answered, Failure> {
        caller.may_write()?;
        let held = match self.inner.seen(session) {
            Some(seen) => seen,
            None => Seen::of(&self.inner.check(self.inner.store.session(session).await)?.ok_or(Refusal::SessionNotFound)?),
        };
        caller.check_owner(held.resource.as_ref())?;
        if held.trashed && !matches!(order, Order::Restore) {
            return self.kept_deletion(caller, &order, key.as_ref()).await;
        }
        if let (Order::Fork(NewFork { directory: Some(_), .. }), Some(_)) = (&order, caller.owner()?) {
            return Err(Failure::Forbidden);
        }
        if let Some(kept) = self.inner.kept_answer(caller, key.as_ref()).await? {
            return Ok(kept);
        }
        let principal = caller.principal.clone();
        let mail = |reply| Mail::Order { order: Box::new(order.clone()), key: key.clone(), principal: principal.clone(), reply };
        self.inner.send(session, mail).await
    }

    /// What is in the trash is not there, but a deletion that was answered is answered again.
    async fn kept_deletion(&self, caller: &Caller, order: &Order, key: Option<&Keyed>) -> Result<Answered, Failure> {
        let kept = if matches!(order, Order::Delete) { self.inner.kept_answer(caller, key).await? } else { None };
        kept.ok_or(Refusal::SessionNotFound.into())
    }

    pub async fn session_of_turn(&self, caller: &Caller, turn: TurnId) -> Result<SessionId, Failure> {
        Ok(self.turn(caller, turn).await?.session)
    }

    pub async fn session_of_question(&self, caller: &Caller, question: QuestionId) -> Result<SessionId, Failure> {
        Ok(self.question(caller, question).await?.session)
    }

    /// The order goes to the session of the pair, which is made from `new` on first use. However many come at once, it is one.
    pub async fn order_thread(
        &self,
        caller: &Caller,
        resource: Resource,
        thread: Thread,
        new: NewSession,
        order: Order,
        key: Option<Keyed>,
    ) -> Result<Answered, Failure> {
        let session = match self.thread(caller, &resource, &thread).await {
            Ok(session) => session.id,
            Err(Failure::Refused(Refusal::SessionNotFound)) => {
                if caller.owner()?.is_some_and(|owner| *owner != resource) {
                    return Err(Refusal::SessionNotFound.into());
                }
                if let Some(kept) = self.inner.kept_answer(caller, key.as_ref()).await? {
                    return Ok(kept);
                }
                let new = NewSession { resource: Some(resource), thread: Some(thread), ..new };
                let (first, with) = match &order {
                    Order::Submit(turn) => (Some(turn.clone()), key.clone()),
                    _ => (None, None),
                };
                let whole = first.is_some();
                match self.create_with(caller, new, first, with).await {
                    Ok(answered) if whole => return Ok(answered),
                    Ok(Answered::Fresh(Reply::Session(session))) => session.id,
                    Ok(other) => unreachable!("a session is made or refused, not {other:?}"),
                    Err(Failure::ThreadTaken(session)) => session,
                    Err(failure) => return Err(failure),
                }
            }
            Err(failure) => return Err(failure),
        };
        self.order(caller, session, order, key).await
    }

    /// Sends the pair's session to the trash, which frees the pair.
    pub async fn delete_thread(
        &self,
        caller: &Caller,
        resource: &Resource,
        thread: &Thread,
        key: Option<Keyed>,
    ) -> Result<Answered, Failure> {
        caller.may_write()?;
        match self.thread(caller, resource, thread).await {
            Ok(session) => self.order(caller, session.id, Order::Delete, key).await,
            Err(Failure::Refused(Refusal::SessionNotFound)) => self.kept_deletion(caller, &Order::Delete, key.as_ref()).await,
            Err(failure) => Err(failure),
        }
    }

    pub async fn thread(&self, caller: &Caller, resource: &Resource, thread: &Thread) -> Result<Session, Failure> {
        let found = self.inner.check(self.inner.store.session_of_thread(resource.clone(), thread.clone()).await)?;
        let session = found.ok_or(Refusal::SessionNotFound)?;
        caller.check(&session)?;
        Ok(session)
    }

    pub async fn session(&self, caller: &Caller, session: SessionId) -> Result<Session, Failure> {
        let session = self.found(session).await?;
        caller.check(&session)?;
        Ok(session)
    }

    /// Newest activity first. A search sees everything that was acknowledged before it.
    pub async fn sessions(&self, caller: &Caller, query: SessionsQuery) -> Result<Page<Session>, Failure> {
        let query = self.owned_query(caller, query).await?;
        match query {
            Some(query) => self.inner.check(self.inner.store.sessions(query).await),
            None => Ok(Page { items: Vec::new(), has_more: false }),
        }
    }

    pub async fn count_sessions(&self, caller: &Caller, query: SessionsQuery) -> Result<u64, Failure> {
        match self.owned_query(caller, query).await? {
            Some(query) => self.inner.check(self.inner.store.count_sessions(query).await),
            None => Ok(0),
        }
    }

    pub async fn children(&self, caller: &Caller, session: SessionId) -> Result<Vec<Session>, Failure> {
        self.session(caller, session).await?;
        let mut children = self.inner.check(self.inner.store.children(session).await)?;
        children.retain(|child| caller.sees(child));
        Ok(children)
    }

    pub async fn turn(&self, caller: &Caller, turn: TurnId) -> Result<Turn, Failure> {
        let record = self.inner.check(self.inner.store.turn(turn).await)?.ok_or(Refusal::TurnNotFound)?;
        match self.session(caller, record.turn.session).await {
            Ok(_) => Ok(record.turn),
            Err(Failure::Refused(Refusal::SessionNotFound)) => Err(Refusal::TurnNotFound.into()),
            Err(failure) => Err(failure),
        }
    }

    pub async fn turns(&self, caller: &Caller, query: PlaceQuery) -> Result<Page<PlacedTurn>, Failure> {
        self.session(caller, query.session).await?;
        let (limit, backward) = (query.limit, query.backward);
        let rows = self.inner.check(self.inner.store.turns(PlaceQuery { limit: limit.saturating_add(1), ..query }).await)?;
        let (rows, has_more) = trim(rows, limit, backward);
        let placed = |record: TurnRecord| PlacedTurn { place: record.queued_seq, turn: record.turn };
        Ok(Page { items: rows.into_iter().map(placed).collect(), has_more })
    }

    /// The conversation's messages: those of superseded and reverted turns are left out.
    pub async fn messages(&self, caller: &Caller, query: PlaceQuery) -> Result<Page<PlacedMessage>, Failure> {
        let session = self.session(caller, query.session).await?;
        self.visible_messages(&session, query, None).await
    }

    /// The state of a session after the event `cursor`; the events after it lead to what is.
    pub async fn snapshot(&self, caller: &Caller, session: SessionId) -> Result<Snapshot, Failure> {
        self.session(caller, session).await?;
        let view = loop {
            match self.inner.live_view(session).await {
                Some(view) => break view,
                None => match self.stored_view(session).await? {
                    Some(view) => break view,
                    None => continue,
                },
            }
        };
        let query = PlaceQuery { session, after: None, before: None, backward: true, limit: 200 };
        let page = self.visible_messages(&view.session, query, Some(view.cursor)).await?;
        Ok(Snapshot {
            session: view.session,
            messages: page.items.into_iter().map(|placed| placed.message).collect(),
            has_more: page.has_more,
            turns: view.turns,
            questions: view.questions,
            cursor: view.cursor,
        })
    }

    pub async fn events(&self, caller: &Caller, query: EventsQuery) -> Result<Vec<StoredEvent>, Failure> {
        let session = query.session.ok_or(Refusal::SessionNotFound)?;
        self.session(caller, session).await?;
        self.inner.check(self.inner.store.events(query).await)
    }

    /// Every event after `after`, once and in order, for as long as one listens.
    pub async fn tail(&self, caller: &Caller, session: SessionId, after: u64) -> Result<Tail, Failure> {
        let head = self.head(caller, session).await?;
        if after > head {
            return Err(Refusal::invalid("after", format!("is beyond the last event, {head}")).into());
        }
        let hub = self.inner.hub(session);
        Ok(Tail::new(self.inner.clone(), session, after, hub))
    }

    pub async fn head(&self, caller: &Caller, session: SessionId) -> Result<u64, Failure> {
        self.session(caller, session).await?;
        let head = self.inner.check(self.inner.store.head(session).await)?;
        Ok(head.ok_or(Refusal::SessionNotFound)?.seq)
    }

    /// Hints that sessions changed; a slow listener misses some.
    pub fn feed(&self) -> broadcast::Receiver<Hint> {
        self.inner.feed.subscribe()
    }

    pub async fn questions(&self, caller: &Caller, query: QuestionsQuery) -> Result<Vec<Question>, Failure> {
        if let Some(session) = query.session {
            self.session(caller, session).await?;
        }
        let owner = caller.owner()?.cloned();
        if owner.is_some() && query.resource.is_some() && query.resource != owner {
            return Ok(Vec::new());
        }
        let query = QuestionsQuery { resource: owner.or(query.resource), ..query };
        self.inner.check(self.inner.store.questions(query).await)
    }

    pub async fn question(&self, caller: &Caller, question: QuestionId) -> Result<Question, Failure> {
        let question = self.inner.check(self.inner.store.question(question).await)?.ok_or(Refusal::QuestionNotFound)?;
        match self.session(caller, question.session).await {
            Ok(_) => Ok(question),
            Err(Failure::Refused(Refusal::SessionNotFound)) => Err(Refusal::QuestionNotFound.into()),
            Err(failure) => Err(failure),
        }
    }

    pub async fn summary(&self, caller: &Caller, session: SessionId) -> Result<Summary, Failure> {
        let session = self.session(caller, session).await?;
        let mut summary = Summary { session: session.clone(), events: 0, messages: 0, turns: 0, kinds: Vec::new(), contexts: Vec::new() };
        let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut contexts: BTreeMap<u32, ContextSummary> = BTreeMap::new();
        let mut after = 0;
        loop {
            let query = EventsQuery { session: Some(session.id), after, limit: READ_PAGE, ..EventsQuery::default() };
            let page = self.inner.check(self.inner.store.events(query).await)?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for stored in &page {
                let event = self.inner.read(session.id, stored)?;
                *kinds.entry(stored.kind).or_default() += 1;
                let first = ContextSummary { context: event.context, turns: 0, events: 0, first_at: event.at, last_at: event.at };
                let context = contexts.entry(event.context).or_insert(first);
                context.events += 1;
                context.last_at = event.at;
                context.turns += u64::from(stored.kind == "turn.queued");
            }
        }
        summary.events = kinds.values().sum();
        summary.messages = kinds.get("message.added").copied().unwrap_or_default();
        summary.turns = kinds.get("turn.queued").copied().unwrap_or_default();
        summary.kinds = kinds.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        summary.contexts = contexts.into_values().collect();
        Ok(summary)
    }

    /// The bytes the agent sent in a turn, from byte `from` on; empty at the end.
    pub async fn raw(&self, caller: &Caller, turn: TurnId, from: u64) -> Result<Bytes, Failure> {
        let session = self.session_of_turn(caller, turn).await?;
        self.inner.check(self.inner.store.raw(session, turn, from).await)
    }

    pub async fn blob(&self, caller: &Caller, id: TextDigest) -> Result<Bytes, Failure> {
        let mut sessions = self.inner.check(self.inner.store.blob_sessions(id).await)?;
        while let Some(session) = sessions.pop() {
            let held = self.inner.check(self.inner.store.session(session).await)?;
            let Some(held) = held.filter(|held| caller.sees(held)) else { continue };
            if held.deleted_at.is_none() {
                let blob = self.inner.check(self.inner.store.blob(id).await)?;
                return blob.ok_or(Refusal::SessionNotFound.into());
            }
            // A parent in the trash stays readable to what was forked from it.
            let children = self.inner.check(self.inner.store.children(session).await)?;
            let forked = |child: &Session| child.parent.is_some_and(|parent| parent.kind == ParentKind::Fork);
            sessions.extend(children.into_iter().filter(forked).map(|child| child.id));
        }
        Err(Refusal::SessionNotFound.into())
    }

    /// Waits until the turn has ended.
    pub async fn wait_turn(&self, caller: &Caller, turn: TurnId) -> Result<Turn, Failure> {
        let session = self.session_of_turn(caller, turn).await?;
        let head = self.head(caller, session).await?;
        let mut tail = self.tail(caller, session, head).await?;
        loop {
            let held = self.turn(caller, turn).await?;
            if !held.state.is_open() {
                return Ok(held);
            }
            // What goes to the trash with the turn unbegun has no end of it.
            while !tail.next().await?.iter().any(|frame| matches!(frame.kind, "turn.ended" | "session.deleted")) {}
        }
    }

    pub async fn put_token(&self, token: Token) -> Result<(), Failure> {
        let kept = self.inner.store.put_token(token).await;
        self.inner.known_tokens.changed();
        self.inner.check(kept)
    }

    pub async fn token_by_hash(&self, hash: TextDigest) -> Result<Option<Token>, Failure> {
        if let Some(fault) = self.inner.failure() {
            return Err(fault.into());
        }
        let changes = match self.inner.known_tokens.get(&hash) {
            Ok(token) => return Ok(Some(token)),
            Err(changes) => changes,
        };
        let token = self.inner.check(self.inner.store.token(hash).await)?;
        if let Some(token) = &token {
            self.inner.known_tokens.learn(token, changes);
        }
        Ok(token)
    }

    pub async fn tokens(&self) -> Result<Vec<Token>, Failure> {
        self.inner.check(self.inner.store.tokens().await)
    }

    pub async fn revoke_token(&self, token: TokenId) -> Result<bool, Failure> {
        let at = self.inner.wall();
        let revoked = self.inner.store.revoke_token(token, at).await;
        self.inner.known_tokens.changed();
        self.inner.check(revoked)
    }

    /// A session that is there for someone: not in the trash.
    async fn found(&self, session: SessionId) -> Result<Session, Failure> {
        let found = self.inner.check(self.inner.store.session(session).await)?;
        Ok(found.filter(|session| session.deleted_at.is_none()).ok_or(Refusal::SessionNotFound)?)
    }

    /// Bound to what the caller may list; none when that is nothing.
    async fn owned_query(&self, caller: &Caller, query: SessionsQuery) -> Result<Option<SessionsQuery>, Failure> {
        let owner = caller.owner()?.cloned();
        if owner.is_some() && query.resource.is_some() && query.resource != owner {
            return Ok(None);
        }
        if query.search.is_some() {
            while !self.inner.check(self.inner.store.index().await)? {}
        }
        Ok(Some(SessionsQuery { resource: owner.or(query.resource.clone()), ..query }))
    }

    async fn visible_messages(&self, session: &Session, query: PlaceQuery, until: Option<u64>) -> Result<Page<PlacedMessage>, Failure> {
        let hidden = HiddenMessages::of(session);
        let (limit, backward) = (query.limit as usize, query.backward);
        let mut rows: Vec<MessageRecord> = Vec::new();
        let mut next = query;
        let mut has_more = false;
        // Hidden rows are skipped here and not in the store: what a fork inherits is hidden by its own lights.
        loop {
            let want = u32::try_from(limit + 1).unwrap_or(u32::MAX);
            let page = self.inner.check(self.inner.store.messages(PlaceQuery { limit: want, ..next.clone() }).await)?;
            let full = page.len() == want as usize;
            let edge = if backward { page.first() } else { page.last() }.map(|row| row.first_seq);
            let shown = page.into_iter().filter(|row| until.is_none_or(|until| row.first_seq <= until) && !hidden.hides(row));
            if backward {
                rows = shown.chain(rows).collect();
            } else {
                rows.extend(shown);
            }
            if rows.len() > limit {
                has_more = true;
                break;
            }
            match edge {
                Some(edge) if full && backward => next.before = Some(edge),
                Some(edge) if full => next.after = Some(edge),
                Some(_) | None => break,
            }
        }
        let excess = rows.len().saturating_sub(limit);
        let rows: Vec<_> = if backward { rows.split_off(excess) } else { rows.into_iter().take(limit).collect() };
        let items = self.inner.fold_messages(session.id, &rows, until).await?;
        let placed = |(row, message): (&MessageRecord, Message)| PlacedMessage { place: row.first_seq, message };
        Ok(Page { items: rows.iter().zip(items).map(placed).collect(), has_more })
    }

    /// A session nobody writes to, read from its rows; none if somebody just did.
    async fn stored_view(&self, session: SessionId) -> Result<Option<View>, Failure> {
        let store = &self.inner.store;
        let before = self.inner.check(store.head(session).await)?;
        let held = self.found(session).await?;
        let query = PlaceQuery { session, after: None, before: None, backward: true, limit: 200 };
        let turns = self.inner.check(store.turns(query).await)?;
        let query = QuestionsQuery { session: Some(session), resource: None, open_only: true };
        let questions = self.inner.check(store.questions(query).await)?;
        let after = self.inner.check(store.head(session).await)?;
        let cursor = after.map_or(0, |head| head.seq);
        let turns = turns.into_iter().map(|record| record.turn).collect();
        Ok((before == after).then_some(View { session: held, turns, questions, cursor }))
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
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
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

    pub fn hub(&self, session: SessionId) -> broadcast::Receiver<Batch> {
        let mut sessions = self.lock();
        let entry = sessions.entry(session).or_insert_with(|| Entry { hub: broadcast::channel(BATCHES).0, mail: None, seen: None });
        entry.hub.subscribe()
    }

    fn seen(&self, session: SessionId) -> Option<Seen> {
        let sessions = self.lock();
        let entry = sessions.get(&session)?;
        entry.mail.as_ref().filter(|mail| !mail.is_closed()).and(entry.seen.clone())
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
    async fn send(
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

    async fn live_view(&self, session: SessionId) -> Option<View> {
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

/// Which messages a session's hidden turns and edits take out of the conversation.
struct HiddenMessages<'a> {
    session: &'a Session,
    turns: BTreeMap<TurnId, bool>,
}

impl<'a> HiddenMessages<'a> {
    fn of(session: &'a Session) -> Self {
        HiddenMessages { session, turns: session.hidden.iter().map(|hidden| (hidden.turn, hidden.by.is_none())).collect() }
    }

    fn hides(&self, row: &MessageRecord) -> bool {
        let gone = row.turn.and_then(|turn| self.turns.get(&turn));
        let hidden = match row.role {
            everkept_core::Role::Assistant => gone.is_some(),
            everkept_core::Role::User | everkept_core::Role::System => gone == Some(&true),
        };
        hidden || self.session.replaced.contains(&row.id)
    }
}

/// Cuts the row that was read only to learn whether there are more.
fn trim<T>(mut rows: Vec<T>, limit: u32, backward: bool) -> (Vec<T>, bool) {
    let limit = limit as usize;
    let has_more = rows.len() > limit;
    if has_more && backward {
        rows = rows.split_off(rows.len() - limit);
    } else {
        rows.truncate(limit);
    }
    (rows, has_more)
}

pub(crate) fn check_directory(directory: Option<String>) -> Result<Option<String>, Failure> {
    match &directory {
        Some(path) if !std::path::Path::new(path).is_absolute() || path.len() > 4_096 || path.contains('\0') => {
            Err(Refusal::invalid("directory", "must be an absolute path of at most 4096 bytes").into())
        }
        Some(_) | None => Ok(directory),
    }
}

/// Keeps the full-text index close behind, away from the append path. Holds nothing of the engine while it waits.
async fn keep_indexed(engine: Weak<Inner>, to_index: Arc<Notify>) {
    loop {
        to_index.notified().await;
        let Some(clock) = engine.upgrade().map(|engine| engine.runtime.clock.clone()) else { return };
        clock.sleep(Duration::from_secs(1)).await;
        loop {
            let Some(engine) = engine.upgrade() else { return };
            if engine.is_stopping() || engine.failure().is_some() {
                return;
            }
            match engine.check(engine.store.index().await) {
                Ok(true) => break,
                Ok(false) => {}
                Err(failure) => {
                    // What is to be indexed stays queued: the next search or message tries again.
                    tracing::warn!(%failure, "indexing stopped");
                    break;
                }
            }
        }
    }
}

impl Drop for Inner {
    /// Lets the task that waits for something to index see that there is nobody left to index for.
    fn drop(&mut self) {
        self.to_index.notify_one();
    }
}
