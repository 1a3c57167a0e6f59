//! What is read back, through all logs a session is made of.
//!
//! Never a second copy: a fork reads its parent's events where they are.

use super::Kept;
use crate::{
    CHAIN_START, Chain, DAY_MICROS, EventsQuery, LettersQuery, Page, PlaceQuery, QuestionsQuery, SessionsQuery, StoredEvent, UsageQuery,
    UsageSum, words::matches,
};
use everkept_core::{Fold, MessageRecord, Question, QuestionId, QuestionState, Record, Session, SessionId, Timestamp, TurnId, TurnRecord};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// The events `from + 1 ..= to` of the session stand in `log`; none where `to` is not beyond `from`.
struct Segment {
    log: SessionId,
    from: u64,
    to: u64,
}

impl Kept {
    /// Oldest first; the last one is open-ended and stands in the session's own log.
    fn segments(&self, session: SessionId) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut at = Some((session, u64::MAX));
        while let Some((id, to)) = at {
            let Some(log) = self.logs.get(&id) else { break };
            segments.push(Segment { log: id, from: log.cut, to });
            at = log.parent.map(|parent| (parent, to.min(log.cut)));
        }
        segments.reverse();
        segments
    }

    pub fn events(&self, query: &EventsQuery) -> Vec<StoredEvent> {
        let Some(session) = query.session else { return Vec::new() };
        let until = query.until.unwrap_or(u64::MAX);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let max_bytes = query.max_bytes.unwrap_or(usize::MAX);
        for segment in self.segments(session) {
            let log = &self.logs[&segment.log];
            let own = log.own(segment.from.max(query.after), segment.to.min(until)).iter();
            let fits = own.filter(|kept| {
                (query.kinds.is_empty() || query.kinds.iter().any(|kind| kind == kept.stored.kind))
                    && (query.turn.is_none() || query.turn == kept.event.turn)
                    && query.context.is_none_or(|context| context == kept.event.context)
            });
            for kept in fits.take(query.limit as usize - found.len()) {
                if bytes >= max_bytes {
                    return found;
                }
                bytes += kept.stored.bytes.len();
                found.push(kept.stored.clone());
            }
        }
        found
    }

    /// The chain after event `seq`.
    pub fn chain(&self, session: SessionId, seq: u64) -> Option<Chain> {
        if seq == 0 {
            return self.logs.contains_key(&session).then_some(CHAIN_START);
        }
        let segments = self.segments(session);
        let segment = segments.iter().find(|segment| seq <= segment.to)?;
        self.logs[&segment.log].own(seq - 1, seq).first().map(|kept| kept.chain)
    }

    pub fn chains(&self, session: SessionId, after: u64, limit: usize) -> Vec<(u64, Chain)> {
        let mut found = Vec::new();
        for segment in self.segments(session) {
            let own = self.logs[&segment.log].own(segment.from.max(after), segment.to);
            found.extend(own.iter().map(|kept| (kept.stored.seq, kept.chain)));
        }
        found.extend(self.logs.get(&session).map(|log| (log.head().seq, log.chain)));
        found.truncate(limit);
        found
    }

    pub fn sessions(&self, query: &SessionsQuery) -> Page<Session> {
        let earlier = |session: &Session| query.before.is_none_or(|before| activity(session) < before);
        let mut found: Vec<&Session> = self.sessions.values().filter(|it| earlier(it) && self.fits(it, query)).collect();
        found.sort_by_key(|session| Reverse(activity(session)));
        let limit = query.limit as usize;
        Page { items: found.iter().take(limit).map(|session| (*session).clone()).collect(), has_more: found.len() > limit }
    }

    pub fn fits(&self, session: &Session, query: &SessionsQuery) -> bool {
        session.deleted_at.is_some() == query.deleted
            && (query.resource.is_none() || query.resource == session.resource)
            && (query.thread.is_none() || query.thread == session.thread)
            && (!query.with_thread || session.thread.is_some())
            && (query.agent.is_none() || query.agent == session.agent)
            && query.state.is_none_or(|state| state == session.state)
            && query.archived.is_none_or(|archived| archived == session.archived_at.is_some())
            && query.search.as_ref().is_none_or(|search| self.says(session, search))
    }

    /// Whether the title or one whole message of the session's own log has the words.
    fn says(&self, session: &Session, search: &str) -> bool {
        if session.title.as_ref().is_some_and(|title| matches(title, search)) {
            return true;
        }
        let Some(log) = self.logs.get(&session.id) else { return false };
        let mut fold = Fold::default();
        for kept in &log.events {
            fold.apply(&kept.event);
        }
        let whole = |id| log.messages.values().any(|message| message.id == id && message.last_seq.is_some());
        fold.into_messages().iter().any(|message| whole(message.id) && matches(&message.text(), search))
    }

    pub fn children(&self, session: SessionId) -> Vec<Session> {
        let child = |it: &&Session| it.deleted_at.is_none() && it.parent.is_some_and(|parent| parent.session == session);
        let mut children: Vec<Session> = self.sessions.values().filter(child).cloned().collect();
        children.sort_by_key(|child| (child.created_at, child.id));
        children
    }

    pub fn turns(&self, query: &PlaceQuery) -> Vec<TurnRecord> {
        let mut found = Vec::new();
        for segment in self.segments(query.session) {
            let whole = |turn: &&TurnRecord| segment.to == u64::MAX || turn.ended_seq.is_some_and(|ended| ended <= segment.to);
            found.extend(self.logs[&segment.log].turns.values().filter(whole).cloned());
        }
        page(found, query, |turn| turn.queued_seq)
    }

    pub fn messages(&self, query: &PlaceQuery) -> Vec<MessageRecord> {
        let mut found = Vec::new();
        for segment in self.segments(query.session) {
            let inherited = self.logs[&segment.log].messages.values().filter(|message| message.first_seq <= segment.to);
            found.extend(inherited.map(|message| capped(*message, segment.to)));
        }
        page(found, query, |message| message.first_seq)
    }

    pub fn dead_letters(&self, query: &LettersQuery) -> Page<TurnRecord> {
        let there = |session: &SessionId| {
            let held = self.sessions.get(session).filter(|held| held.deleted_at.is_none());
            let owned = |held: &Session| query.resource.is_none() || held.resource == query.resource;
            query.session.is_none_or(|wanted| wanted == *session) && held.is_some_and(owned)
        };
        let logs = self.logs.iter().filter(|(session, _)| there(session));
        let letters = logs.flat_map(|(_, log)| log.turns.values().filter(|turn| turn.dead_letter));
        let mut items: Vec<TurnRecord> =
            letters.filter(|turn| query.before.is_none_or(|before| given_up(turn) < before)).cloned().collect();
        items.sort_by_key(|turn| Reverse(given_up(turn)));
        let has_more = items.len() > query.limit as usize;
        items.truncate(query.limit as usize);
        Page { items, has_more }
    }

    pub fn question(&self, id: QuestionId) -> Option<Question> {
        let log = self.logs.get(self.questions.get(&id)?)?;
        log.questions.values().find(|question| question.id == id).cloned()
    }

    pub fn questions(&self, query: &QuestionsQuery) -> Vec<Question> {
        let asked = |session: &SessionId| match query.session {
            Some(wanted) => wanted == *session,
            None => self.sessions.get(session).is_some_and(|it| it.deleted_at.is_none()),
        };
        let owner =
            |session: &SessionId| query.resource.is_none() || self.sessions.get(session).is_some_and(|it| it.resource == query.resource);
        let logs = self.logs.iter().filter(|(session, _)| asked(session) && owner(session));
        let all = logs.flat_map(|(session, log)| log.questions.iter().map(|(place, question)| (*session, *place, question)));
        let mut found: Vec<_> = all.filter(|(_, _, question)| !query.open_only || question.state == QuestionState::Open).collect();
        match query.session {
            Some(_) => {}
            None => found.sort_by_key(|(session, place, question)| (question.asked_at, *session, *place)),
        }
        found.into_iter().map(|(_, _, question)| question.clone()).collect()
    }

    pub fn usage(&self, query: &UsageQuery) -> Page<UsageSum> {
        let by = query.by;
        let mut sums: BTreeMap<_, UsageSum> = BTreeMap::new();
        let mut turns: BTreeSet<_> = BTreeSet::new();
        let of = |session: &SessionId| self.sessions.get(session).filter(|_| query.session.is_none_or(|wanted| wanted == *session));
        let logs = self.logs.iter().filter_map(|(session, log)| Some((of(session)?, log)));
        let owned = logs.filter(|(session, _)| query.resource.is_none() || query.resource == session.resource);
        for (session, record) in owned.flat_map(|(session, log)| log.usage.values().map(move |record| (session, record))) {
            let late = query.from.is_some_and(|from| record.at < from) || query.to.is_some_and(|to| record.at >= to);
            if late || query.agent.as_ref().is_some_and(|agent| *agent != record.agent) {
                continue;
            }
            for (model, usage) in &record.parts {
                if query.model.is_some() && query.model != *model {
                    continue;
                }
                let key = (
                    by.day.then(|| Reverse(record.at.0.div_euclid(DAY_MICROS))),
                    by.resource.then(|| session.resource.clone()).flatten(),
                    by.agent.then(|| record.agent.clone()),
                    by.model.then(|| model.clone()).flatten(),
                    by.session.then_some(session.id),
                );
                let sum = sums.entry(key.clone()).or_insert_with(|| UsageSum {
                    day: key.0.map(|Reverse(day)| day),
                    resource: key.1.clone(),
                    agent: key.2.clone(),
                    model: key.3.clone(),
                    session: key.4,
                    ..UsageSum::default()
                });
                sum.turns += u64::from(turns.insert((key.clone(), record.turn, true)));
                let unknown = usage.cost_usd_micros.is_none() && turns.insert((key, record.turn, false));
                sum.turns_without_cost += u64::from(unknown);
                sum.usage.add(usage);
                if usage.priced_on.is_some() {
                    let reckoned = sum.reckoned_usd_micros.unwrap_or(0) + usage.cost_usd_micros.unwrap_or(0);
                    sum.reckoned_usd_micros = Some(reckoned);
                }
            }
        }
        let limit = query.limit as usize;
        let has_more = sums.len() > limit;
        Page { items: sums.into_values().take(limit).collect(), has_more }
    }

    pub fn rows(&self, session: SessionId) -> Vec<Record> {
        let mut rows: Vec<Record> = self.sessions.get(&session).cloned().map(Record::Session).into_iter().collect();
        if let Some(log) = self.logs.get(&session) {
            rows.extend(log.turns.values().cloned().map(Record::Turn));
            rows.extend(log.usage.values().cloned().map(Record::Usage));
            rows.extend(log.messages.values().copied().map(Record::Message));
            rows.extend(log.questions.values().cloned().map(Record::Question));
            rows.push(Record::Owed(log.owed.clone()));
        }
        rows
    }
}

fn activity(session: &Session) -> (Timestamp, SessionId) {
    (session.updated_at, session.id)
}

fn given_up(turn: &TurnRecord) -> (Timestamp, TurnId) {
    (turn.turn.ended_at.unwrap_or_default(), turn.turn.id)
}

/// A message of a parent as it stood at the cut.
fn capped(message: MessageRecord, to: u64) -> MessageRecord {
    let last_seq = if to == u64::MAX { message.last_seq } else { Some(message.last_seq.unwrap_or(to).min(to)) };
    MessageRecord { last_seq, ..message }
}

fn page<T>(mut rows: Vec<T>, query: &PlaceQuery, place: impl Fn(&T) -> u64) -> Vec<T> {
    rows.retain(|row| query.after.is_none_or(|after| place(row) > after) && query.before.is_none_or(|before| place(row) < before));
    let limit = query.limit as usize;
    if query.backward {
        rows.drain(..rows.len().saturating_sub(limit));
    } else {
        rows.truncate(limit);
    }
    rows
}
