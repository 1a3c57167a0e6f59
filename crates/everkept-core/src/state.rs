//! A session as `decide` needs it: the sum of its events, held in memory by the one task that owns it.
//!
//! Never: changed by anything but `apply`, nor counted on for a number that the log has not given.

use crate::{
    AgentName, AgentSession, AgentSessionId, ForkOrigin, GivenMessages, Json, KeptSession, MessageId, PartId, Question, QuestionId,
    QuestionState, Role, Session, SessionId, SessionState, TextDigest, TextKind, Timestamp, ToolStatus, Turn, TurnId, TurnState, Usage,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone)]
pub struct State {
    pub session: Session,
    /// The number of the last event applied.
    pub head: u64,
    /// Every turn, oldest first.
    pub turns: Vec<TurnEntry>,
    /// Every message, oldest first.
    pub messages: Vec<MessageEntry>,
    pub questions: Vec<Question>,
    /// Turns that wait for their start, first come first served.
    pub queue: VecDeque<TurnId>,
    /// The turn whose prompt is claimed and has not ended.
    pub running: Option<TurnId>,
    /// What each agent knows in each context.
    pub threads: Vec<AgentThread>,
    /// What is kept of what agents wrote of their sessions themselves.
    pub kept: Vec<KeptSession>,
    /// For a fork: the agent sessions an agent could fork.
    pub origins: Vec<ForkOrigin>,
    /// When a revert was in force: since which event, and until which one.
    pub(crate) reverts: Vec<(u64, Option<u64>)>,
    /// Where each context after the first began.
    pub(crate) clears: Vec<u64>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) turn_index: BTreeMap<TurnId, usize>,
    pub(crate) message_index: BTreeMap<MessageId, usize>,
    /// Parts of the running answer that may still grow.
    pub(crate) open_parts: BTreeMap<PartId, OpenPart>,
    /// Tool calls of the running turn, by the agent's id of the call.
    pub(crate) tools: BTreeMap<String, OpenTool>,
    /// How many parts the running turn has begun; names the next one.
    pub(crate) parts_made: u64,
    /// The turn that is about to be queued as a newer attempt, and the place it takes.
    pub(crate) next_attempt: Option<(TurnId, usize)>,
}

#[derive(Debug, Clone)]
pub struct TurnEntry {
    pub turn: Turn,
    pub queued_seq: u64,
    pub started_seq: Option<u64>,
    pub ended_seq: Option<u64>,
    /// It was given up, and nobody has tried it again or put it away.
    pub dead_letter: bool,
    /// Running hash of all the text the turn answered.
    pub(crate) answer: Sha256,
    pub(crate) answered: bool,
    pub(crate) slot: usize,
}

impl TurnEntry {
    pub(crate) fn answer_digest(&self) -> TextDigest {
        TextDigest(self.answer.clone().finalize().into())
    }
}

/// Where a message stands in the log, and the digest of its text.
#[derive(Debug, Clone)]
pub struct MessageEntry {
    pub id: MessageId,
    pub turn: Option<TurnId>,
    pub role: Role,
    pub context: u32,
    pub first_seq: u64,
    /// The last event that says something of it; none while its turn may still add to it.
    pub last_seq: Option<u64>,
    /// The agent's own name for the message, where it has one.
    pub agent_message: Option<String>,
    pub(crate) text: Sha256,
}

impl MessageEntry {
    pub fn digest(&self) -> TextDigest {
        TextDigest(self.text.clone().finalize().into())
    }
}

/// One agent's own session in one context: how far into the conversation it has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentThread {
    pub agent: AgentName,
    pub context: u32,
    /// One that was named for single turns; none for the pinned one.
    pub named: Option<AgentSessionId>,
    /// Turns that ended and messages recorded after this number are unknown to the agent.
    pub seen_seq: u64,
    /// A revert took back something the agent knows: its next turn begins a new agent session.
    pub stale: bool,
}

impl AgentThread {
    pub(crate) fn is_of(&self, agent: &AgentName, context: u32, named: Option<&AgentSessionId>) -> bool {
        self.agent == *agent && self.context == context && self.named.as_ref() == named
    }
}

/// What an agent session does not hold yet, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unseen {
    pub messages: Vec<MessageId>,
    /// The same, as what lies together in the conversation; the first [`MAX_RUNS`] of them.
    pub runs: Vec<GivenMessages>,
}

impl Unseen {
    fn add(&mut self, message: MessageId, unseen: bool, goes_on: &mut bool) {
        let went_on = std::mem::replace(goes_on, unseen);
        if !unseen {
            return;
        }
        self.messages.push(message);
        let room = self.runs.len() < MAX_RUNS;
        match self.runs.last_mut() {
            Some(run) if went_on => run.last = message,
            Some(_) | None if room => self.runs.push(GivenMessages { first: message, last: message }),
            Some(_) | None => *goes_on = false,
        }
    }
}

/// More than a conversation is ever scattered into.
pub const MAX_RUNS: usize = 256;

/// One place in the conversation: a request with all its attempts, or a recorded message.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub context: u32,
    /// The event that took it out of the conversation.
    pub hidden_at: Option<u64>,
    pub kind: SlotKind,
}

#[derive(Debug, Clone)]
pub(crate) enum SlotKind {
    /// Attempts at one request, oldest first; the last one's answer counts.
    Turns(Vec<usize>),
    Recorded(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct OpenPart {
    pub message: MessageId,
    pub kind: TextKind,
    pub bytes: u64,
    pub hash: Sha256,
}

#[derive(Debug, Clone)]
pub(crate) struct OpenTool {
    pub message: MessageId,
    pub part: PartId,
    pub status: ToolStatus,
}

impl State {
    /// A session before its first event.
    pub fn new(id: SessionId) -> Self {
        State {
            session: Session {
                id,
                title: None,
                resource: None,
                thread: None,
                directory: String::new(),
                agent: None,
                model: None,
                state: SessionState::Idle,
                context: 0,
                parent: None,
                agent_sessions: Vec::new(),
                usage: Usage::default(),
                metadata: Json::empty_object(),
                file_changes: None,
                rules: Vec::new(),
                revert: None,
                hidden: Vec::new(),
                replaced: Vec::new(),
                compacting_at: None,
                archived_at: None,
                deleted_at: None,
                purge_at: None,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
            },
            head: 0,
            turns: Vec::new(),
            messages: Vec::new(),
            questions: Vec::new(),
            queue: VecDeque::new(),
            running: None,
            threads: Vec::new(),
            kept: Vec::new(),
            origins: Vec::new(),
            reverts: Vec::new(),
            clears: Vec::new(),
            slots: Vec::new(),
            turn_index: BTreeMap::new(),
            message_index: BTreeMap::new(),
            open_parts: BTreeMap::new(),
            tools: BTreeMap::new(),
            parts_made: 0,
            next_attempt: None,
        }
    }

    pub fn turn(&self, id: TurnId) -> Option<&TurnEntry> {
        self.turn_index.get(&id).map(|&at| &self.turns[at])
    }

    pub fn message(&self, id: MessageId) -> Option<&MessageEntry> {
        self.message_index.get(&id).map(|&at| &self.messages[at])
    }

    pub fn question(&self, id: QuestionId) -> Option<&Question> {
        self.questions.iter().find(|question| question.id == id)
    }

    /// Open questions of a turn, in the order they were asked.
    pub fn open_questions(&self, turn: TurnId) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(move |question| question.turn == turn && question.state == QuestionState::Open)
    }

    /// Whether another turn has these very figures, by the agent's own id of them: an agent may tell again what it told.
    pub fn has_counted(&self, turn: TurnId, usage: &Usage) -> bool {
        let (Some(request), Some(entry)) = (&usage.request, self.turn(turn)) else { return false };
        let agent = &entry.turn.agent;
        let same = |counted: &Usage| counted.request.as_ref() == Some(request);
        self.turns.iter().any(|entry| entry.turn.id != turn && entry.turn.agent == *agent && entry.turn.usage.as_ref().is_some_and(same))
    }

    /// The turn that holds the session: the running one, else the first of the queue.
    pub fn current_turn(&self) -> Option<TurnId> {
        self.running.or_else(|| self.queue.front().copied())
    }

    /// The newest turn that is still part of the conversation.
    pub fn last_visible_turn(&self) -> Option<TurnId> {
        self.visible_slots().rev().find_map(|slot| match &slot.kind {
            SlotKind::Turns(attempts) => attempts.last().map(|&at| self.turns[at].turn.id),
            SlotKind::Recorded(_) => None,
        })
    }

    /// Follows the attempts at one request to the newest.
    pub fn latest_attempt(&self, id: TurnId) -> Option<&TurnEntry> {
        let entry = self.turn(id)?;
        match &self.slots[entry.slot].kind {
            SlotKind::Turns(attempts) => attempts.last().map(|&at| &self.turns[at]),
            SlotKind::Recorded(_) => Some(entry),
        }
    }

    /// The turn that was asked for, of which `id` is a fallback; itself when it is none.
    pub fn asked_for(&self, id: TurnId) -> Option<&TurnEntry> {
        let mut entry = self.turn(id)?;
        while let (1.., Some(before)) = (entry.turn.tries.fallbacks, entry.turn.continues) {
            entry = self.turn(before)?;
        }
        Some(entry)
    }

    /// The context that was in force after event `seq`.
    pub fn context_at(&self, seq: u64) -> u32 {
        u32::try_from(self.clears.iter().take_while(|cleared| **cleared <= seq).count()).unwrap_or(u32::MAX)
    }

    /// Whether a newer attempt at the same request counts in the turn's place.
    pub(crate) fn is_superseded(&self, id: TurnId) -> bool {
        self.latest_attempt(id).is_some_and(|latest| latest.turn.id != id)
    }

    /// Whether a revert was in force right after event `seq`.
    pub(crate) fn reverted_at(&self, seq: u64) -> bool {
        self.reverts.iter().any(|(from, until)| *from <= seq && until.is_none_or(|until| until > seq))
    }

    /// Whether an agent session may hold something of a place in the conversation.
    pub(crate) fn knows(&self, thread: &AgentThread, slot: &Slot) -> bool {
        let seen = |seq: Option<u64>| seq.is_some_and(|seq| seq <= thread.seen_seq);
        let told = |entry: &TurnEntry| seen(entry.ended_seq) || (entry.turn.agent == thread.agent && seen(entry.started_seq));
        match &slot.kind {
            SlotKind::Recorded(at) => seen(Some(self.messages[*at].first_seq)),
            SlotKind::Turns(attempts) => attempts.iter().any(|&at| told(&self.turns[at])),
        }
    }

    pub fn is_visible(&self, id: TurnId) -> bool {
        self.turn(id).is_some_and(|entry| entry.slot < self.first_reverted_slot() && self.slots[entry.slot].hidden_at.is_none())
    }

    /// The pinned agent session of an agent in the current context.
    pub fn agent_session(&self, agent: &AgentName) -> Option<&AgentSession> {
        let context = self.session.context;
        self.session.agent_sessions.iter().find(|pinned| pinned.agent == *agent && pinned.context == context)
    }

    /// What the agent's pinned session has been told.
    pub fn thread(&self, agent: &AgentName) -> Option<&AgentThread> {
        self.thread_of(agent, None)
    }

    fn thread_of(&self, agent: &AgentName, named: Option<&AgentSessionId>) -> Option<&AgentThread> {
        self.threads.iter().find(|thread| thread.is_of(agent, self.session.context, named))
    }

    /// The id, when it is another one than the agent's pinned session.
    pub(crate) fn named_beside_the_pin(&self, agent: &AgentName, named: Option<&AgentSessionId>) -> Option<AgentSessionId> {
        let pinned = self.agent_session(agent)?;
        named.filter(|named| pinned.current != **named).cloned()
    }

    pub fn kept(&self, agent: &AgentName, agent_session: &AgentSessionId) -> Option<&KeptSession> {
        self.kept.iter().find(|kept| kept.agent == *agent && kept.agent_session == *agent_session)
    }

    /// What must go along with `turn`'s prompt because the agent session does not hold it; everything for a fresh one.
    pub fn unseen(&self, turn: TurnId, fresh: bool) -> Unseen {
        let Some(entry) = self.turn(turn) else { return Unseen::default() };
        let agent = &entry.turn.agent;
        let context = self.session.context;
        let named = self.named_beside_the_pin(agent, entry.turn.agent_session.as_ref());
        let thread = self.thread_of(agent, named.as_ref()).or_else(|| self.thread(agent));
        let seen = if fresh { 0 } else { thread.map_or(0, |thread| thread.seen_seq) };
        // What a session holds that somebody named is for them to know: it is not told of its agent's own turns.
        let heard = |own: &TurnEntry| {
            let began = own.started_seq.is_some_and(|started| started <= seen || named.is_some());
            !fresh && began && own.turn.agent == *agent
        };
        let mut unseen = Unseen::default();
        // Whether the message before this one was unseen as well.
        let mut goes_on = false;
        for slot in self.visible_slots().filter(|slot| slot.context == context) {
            match &slot.kind {
                SlotKind::Recorded(at) => {
                    let message = &self.messages[*at];
                    unseen.add(message.id, message.first_seq > seen, &mut goes_on);
                }
                SlotKind::Turns(attempts) => {
                    let Some(&at) = attempts.last() else { continue };
                    let other = &self.turns[at];
                    // What was taken back before anybody acted on it is not for any agent to read.
                    let taken_back = other.started_seq.is_none() && other.turn.state == TurnState::Cancelled;
                    let ended = other.ended_seq.is_some_and(|ended| ended > seen);
                    let told = other.turn.id != turn && !heard(other) && !taken_back && ended;
                    // An attempt of its own at the same request has told it what was asked.
                    let asked = |at: &usize| heard(&self.turns[*at]) && self.turns[*at].turn.request_message == other.turn.request_message;
                    let held = attempts.iter().any(asked);
                    if let Some(request) = other.turn.request_message {
                        unseen.add(request, told && !held, &mut goes_on);
                    }
                    for response in &other.turn.response_messages {
                        unseen.add(*response, told, &mut goes_on);
                    }
                }
            }
        }
        unseen
    }

    pub(crate) fn visible_slots(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        self.slots[..self.first_reverted_slot()].iter().filter(|slot| slot.hidden_at.is_none())
    }

    pub(crate) fn first_reverted_slot(&self) -> usize {
        self.session.revert.and_then(|turn| self.turn(turn)).map_or(self.slots.len(), |entry| entry.slot)
    }

    pub(crate) fn turn_mut(&mut self, id: TurnId) -> Option<&mut TurnEntry> {
        let at = *self.turn_index.get(&id)?;
        Some(&mut self.turns[at])
    }
}
