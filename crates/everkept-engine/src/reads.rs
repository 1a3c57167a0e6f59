//! What doors read: rows and events as they were committed, each only for who may see its session.
//!
//! Never an answer of a store that has failed, and never a message that the conversation has left behind.

use crate::Engine;
use crate::hub::Hint;
use crate::inner::{READ_BYTES, READ_PAGE, View};
use crate::orders::*;
use crate::{Caller, Failure, Tail};
use bytes::Bytes;
use everkept_core::{
    Body, Breaker, Message, MessageRecord, ParentKind, Part, Question, QuestionId, Refusal, Resource, Session, SessionId, TextDigest,
    Thread, Turn, TurnId, TurnRecord, TurnState,
};
use everkept_store::{
    EventsQuery, LettersQuery, Lines, Page, PlaceQuery, QuestionsQuery, SessionsQuery, StoredEvent, UsageQuery, UsageSum,
};
use std::collections::BTreeMap;
use tokio::sync::broadcast;

impl Engine {
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

    /// Whether the caller may see the session; the store is asked only when no task of ours has it open.
    async fn visible(&self, caller: &Caller, session: SessionId) -> Result<(), Failure> {
        let held = self.inner.held(session).await?;
        caller.check_owner(held.resource.as_ref())?;
        if held.trashed { Err(Refusal::SessionNotFound.into()) } else { Ok(()) }
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
        self.visible(caller, session).await?;
        let mut children = self.inner.check(self.inner.store.children(session).await)?;
        children.retain(|child| caller.sees(child));
        Ok(children)
    }

    pub async fn turn(&self, caller: &Caller, turn: TurnId) -> Result<Turn, Failure> {
        let record = self.inner.check(self.inner.store.turn(turn).await)?.ok_or(Refusal::TurnNotFound)?;
        match self.visible(caller, record.turn.session).await {
            Ok(()) => Ok(record.turn),
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
        self.visible(caller, session).await?;
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
        self.visible(caller, session).await?;
        self.inner.check(self.inner.store.events(query).await)
    }

    /// The same events, as text with a line for each.
    pub async fn lines(&self, caller: &Caller, query: EventsQuery) -> Result<Lines, Failure> {
        let session = query.session.ok_or(Refusal::SessionNotFound)?;
        self.visible(caller, session).await?;
        self.inner.check(self.inner.store.lines(query).await)
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
        self.visible(caller, session).await?;
        let head = self.inner.check(self.inner.store.head(session).await)?;
        Ok(head.ok_or(Refusal::SessionNotFound)?.seq)
    }

    /// Hints that sessions changed; a slow listener misses some.
    pub fn feed(&self) -> broadcast::Receiver<Hint> {
        self.inner.feed.subscribe()
    }

    pub async fn questions(&self, caller: &Caller, query: QuestionsQuery) -> Result<Vec<Question>, Failure> {
        if let Some(session) = query.session {
            self.visible(caller, session).await?;
        }
        let owner = caller.owner()?.cloned();
        if owner.is_some() && query.resource.is_some() && query.resource != owner {
            return Ok(Vec::new());
        }
        let query = QuestionsQuery { resource: owner.or(query.resource), ..query };
        self.inner.check(self.inner.store.questions(query).await)
    }

    /// Newest first, of the sessions that the caller may see.
    pub async fn dead_letters(&self, caller: &Caller, query: LettersQuery) -> Result<Page<DeadLetter>, Failure> {
        if let Some(session) = query.session {
            self.visible(caller, session).await?;
        }
        let owner = caller.owner()?.cloned();
        if owner.is_some() && query.resource.is_some() && query.resource != owner {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let query = LettersQuery { resource: owner.or(query.resource), ..query };
        let page = self.inner.check(self.inner.store.dead_letters(query).await)?;
        let mut items = Vec::with_capacity(page.items.len());
        for record in page.items {
            let input = self.asked_in(&record.turn).await?;
            items.push(DeadLetter { turn: record.turn, input });
        }
        Ok(Page { items, has_more: page.has_more })
    }

    /// What the turn's request message says. It is looked for from the end: a turn asks what was said last, mostly.
    async fn asked_in(&self, turn: &Turn) -> Result<Vec<Part>, Failure> {
        let Some(wanted) = turn.request_message else { return Ok(Vec::new()) };
        let mut query = PlaceQuery { session: turn.session, after: None, before: None, backward: true, limit: READ_PAGE };
        loop {
            let rows = self.inner.check(self.inner.store.messages(query.clone()).await)?;
            let Some(first) = rows.first() else { return Ok(Vec::new()) };
            query.before = Some(first.first_seq);
            if let Some(row) = rows.iter().find(|row| row.id == wanted) {
                let messages = self.inner.fold_messages(turn.session, &[*row], None).await?;
                return Ok(messages.into_iter().flat_map(|message| message.parts).collect());
            }
        }
    }

    /// Every agent and model that has failed since a server first ran here, as it is kept. For who sees everything: a name of
    /// a model is its sender's.
    pub async fn breakers(&self, caller: &Caller) -> Result<Vec<BreakerCard>, Failure> {
        if caller.owner()?.is_some() {
            return Err(Failure::Forbidden);
        }
        let kept = self.inner.check(self.inner.store.breakers().await)?;
        let card = |breaker: Breaker| {
            let (state, probe) = self.inner.breakers.stands(&breaker);
            BreakerCard { breaker, state, probe }
        };
        Ok(kept.into_iter().map(card).collect())
    }

    /// What turns cost, of the caller's own sessions. Those in the trash count; they cannot be asked for by their ids.
    pub async fn usage(&self, caller: &Caller, query: UsageQuery) -> Result<Page<UsageSum>, Failure> {
        if let Some(session) = query.session {
            self.visible(caller, session).await?;
        }
        let owner = caller.owner()?.cloned();
        if owner.is_some() && query.resource.is_some() && query.resource != owner {
            return Ok(Page { items: Vec::new(), has_more: false });
        }
        let query = UsageQuery { resource: owner.or(query.resource), ..query };
        self.inner.check(self.inner.store.usage(query).await)
    }

    pub async fn question(&self, caller: &Caller, question: QuestionId) -> Result<Question, Failure> {
        let question = self.inner.check(self.inner.store.question(question).await)?.ok_or(Refusal::QuestionNotFound)?;
        match self.visible(caller, question.session).await {
            Ok(()) => Ok(question),
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
            let query =
                EventsQuery { session: Some(session.id), after, limit: READ_PAGE, max_bytes: Some(READ_BYTES), ..EventsQuery::default() };
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

    /// Waits until nobody is asked any more for what the turn asks for: its own end, or that of the last attempt which the
    /// agent's configuration put in its place.
    pub async fn wait_answer(&self, caller: &Caller, turn: TurnId) -> Result<Turn, Failure> {
        let mut ended = self.wait_turn(caller, turn).await?;
        while let Some(next) = self.next_attempt(caller, &ended).await? {
            ended = self.wait_turn(caller, next.id).await?;
        }
        Ok(ended)
    }

    /// What the agent's configuration put in the place of a turn that has ended; it is there as soon as the end is.
    pub async fn next_attempt(&self, caller: &Caller, ended: &Turn) -> Result<Option<Turn>, Failure> {
        if !matches!(ended.state, TurnState::Failed | TurnState::TimedOut) {
            return Ok(None);
        }
        let kinds = vec!["turn.retried".to_owned()];
        let query = EventsQuery { session: Some(ended.session), limit: 1, kinds, turn: Some(ended.id), ..EventsQuery::default() };
        let Some(stored) = self.events(caller, query).await?.pop() else { return Ok(None) };
        let Body::TurnRetried(retried) = self.inner.read(ended.session, &stored)?.body else { return Ok(None) };
        let next = self.turn(caller, retried.by).await?;
        // What a person asked for again is theirs to wait for.
        Ok(Some(next).filter(|next| next.tries.is_another()))
    }

    /// A session that is there for someone: not in the trash.
    pub(crate) async fn found(&self, session: SessionId) -> Result<Session, Failure> {
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
