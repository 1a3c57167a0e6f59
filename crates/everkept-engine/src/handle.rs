//! The engine as doors hold it: orders go to the one task that owns the session, reads go to the store.
//!
//! Never lets a caller tell a session it may not see from one that does not exist.

use crate::actor::Mail;
use crate::agents::{Agents, RELAY};
use crate::breakers::Breakers;
use crate::failpoint::{Failpoint, no_space};
use crate::inner::Inner;
use crate::known_tokens::KnownTokens;
use crate::orders::*;
use crate::runtime::{Runtime, ToItsEnd};
use crate::sweep::sweep;
use crate::upkeep::upkeep;
use crate::{Access, AgentEntry, Caller, Failure, Settings};
use everkept_agent::remote::{ProcessIds, RemoteAgent};
use everkept_core::{AgentName, CreateSession, QuestionId, Refusal, Resource, SessionId, TextDigest, Thread, Timestamp, TokenId, TurnId};
use everkept_store::{QuestionsQuery, Store, StoreFault, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore, broadcast};

/// Everything an engine is made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub default_agent: AgentName,
    pub runtime: Runtime,
    pub settings: Settings,
}

/// How the engine goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Running turns end as `interrupted`, agents are ended, queued turns wait for the next start.
    Settle,
    /// Running turns are left to the next start where their agents outlive the server, and settled where not.
    HandOver,
}

#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl Engine {
    /// Boots the store, then settles and goes on with whatever the last run left open.
    pub async fn start(parts: Parts) -> Result<Engine, Failure> {
        let boot = parts.store.boot(parts.runtime.clock.wall()).await?;
        if parts.runtime.reach(Failpoint::Booted, None).await.is_err() {
            return Err(no_space("reading what is owed").into());
        }
        let ids = parts.runtime.ids.clone();
        let processes: ProcessIds = Arc::new(move || ids.uuid().simple().to_string());
        let breakers = parts.store.breakers().await?;
        let breakers = Breakers::new(breakers, parts.runtime.clock.clone(), boot.latest_wall);
        let inner = Arc::new(Inner {
            breakers,
            store: parts.store,
            agents: Agents::new(parts.default_agent, parts.agents, parts.settings.private_directories.clone(), processes),
            feed: broadcast::channel(1_024).0,
            permits: Arc::new(Semaphore::new(parts.settings.max_agents)),
            runtime: parts.runtime,
            settings: parts.settings,
            waiting: AtomicUsize::new(0),
            pressure: Notify::new(),
            committed: Arc::new(Notify::new()),
            known_tokens: KnownTokens::default(),
            sessions: Mutex::new(BTreeMap::new()),
            failed: Mutex::new(None),
            stopping: AtomicBool::new(false),
            hands_over: AtomicBool::new(false),
            latest_wall: AtomicI64::new(boot.latest_wall.0),
            tasks: AtomicUsize::new(0),
            task_ended: Notify::new(),
        });
        let engine = Engine { inner };
        engine.settle_agents().await?;
        // Questions run out of time whether or not anything else wakes their session.
        let open = engine.inner.store.questions(QuestionsQuery { session: None, resource: None, open_only: true }).await?;
        let owed = engine.inner.store.owed().await?;
        let sessions: BTreeSet<_> = owed.iter().map(|(session, _)| *session).chain(open.iter().map(|question| question.session)).collect();
        for session in sessions {
            engine.inner.mailbox(session);
        }
        engine.inner.runtime.spawner.spawn(Box::pin(upkeep(Arc::downgrade(&engine.inner), engine.inner.committed.clone())));
        engine.inner.runtime.spawner.spawn(Box::pin(sweep(Arc::downgrade(&engine.inner))));
        Ok(engine)
    }

    /// Ends every session's task. Queued turns stay owed; a new start goes on with them.
    pub async fn stop(&self, stop: Stop) {
        self.inner.hands_over.store(stop == Stop::HandOver, Ordering::SeqCst);
        self.inner.stopping.store(true, Ordering::SeqCst);
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
        self.inner.agents.cards()
    }

    /// The agent that the caller's relay runs; for anybody else there is none.
    pub fn relayed(&self, caller: &Caller) -> Option<Arc<RemoteAgent>> {
        match &caller.access {
            Access::Relay(name) => self.inner.agents.relayed(name),
            Access::All | Access::Resource(_) | Access::Recall(_) => None,
        }
    }

    /// Brings the agents of other machines in line with the tokens there are.
    async fn settle_agents(&self) -> Result<(), Failure> {
        let _one_at_a_time = self.inner.agents.settling.lock().await;
        self.inner.agents.settle(&self.tokens().await?);
        Ok(())
    }

    pub async fn create_session(&self, caller: &Caller, new: NewSession, key: Option<Keyed>) -> Result<Answered, Failure> {
        self.create_with(caller, new, None, key).await
    }

    /// Makes a session and its first turn: neither is without the other.
    pub async fn create_session_with_turn(
        &self,
        caller: &Caller,
        new: NewSession,
        first: NewTurn,
        key: Option<Keyed>,
    ) -> Result<Answered, Failure> {
        self.create_with(caller, new, Some(first), key).await
    }

    /// Makes a session, and in the same step its first turn when there is one.
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
            known: self.inner.agents.known(),
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
        let held = self.inner.held(session).await?;
        caller.check_owner(held.resource.as_ref())?;
        // What is in the trash is not there but for these two: it comes back, or a deletion is heard once more.
        if held.trashed && !matches!(order, Order::Restore | Order::Delete) {
            return Err(Refusal::SessionNotFound.into());
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
            // The pair is free; a deletion that was answered is answered again.
            Err(Failure::Refused(Refusal::SessionNotFound)) => {
                self.inner.kept_answer(caller, key.as_ref()).await?.ok_or(Refusal::SessionNotFound.into())
            }
            Err(failure) => Err(failure),
        }
    }

    pub async fn put_token(&self, token: Token) -> Result<(), Failure> {
        let relays = token.kind == RELAY;
        let store = self.inner.store.clone();
        self.change_tokens(relays, async move { store.put_token(token).await }).await
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
        let store = self.inner.store.clone();
        self.change_tokens(true, async move { store.revoke_token(token, at).await }).await
    }

    /// Goes to its end whether or not anybody still waits for it: nothing that is remembered of tokens outlives a change.
    async fn change_tokens<T: Send + 'static>(
        &self,
        relays: bool,
        change: impl Future<Output = Result<T, StoreFault>> + Send + 'static,
    ) -> Result<T, Failure> {
        let engine = self.clone();
        let change = async move {
            let changed = change.await;
            engine.inner.runtime.pass(Failpoint::TokenChanged, None).await;
            engine.inner.known_tokens.changed();
            let changed = engine.inner.check(changed)?;
            if relays {
                engine.settle_agents().await?;
            }
            Ok(changed)
        };
        ToItsEnd { rest: Some(Box::pin(change)), spawner: self.inner.runtime.spawner.clone() }.await
    }
}

pub(crate) fn check_directory(directory: Option<String>) -> Result<Option<String>, Failure> {
    match &directory {
        Some(path) if !std::path::Path::new(path).is_absolute() || path.len() > 4_096 || path.contains('\0') => {
            Err(Refusal::invalid("directory", "must be an absolute path of at most 4096 bytes").into())
        }
        Some(_) | None => Ok(directory),
    }
}
