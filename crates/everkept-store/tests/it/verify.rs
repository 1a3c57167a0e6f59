//! What `verify` says of a store that answers something else than was written.

use bytes::Bytes;
use everkept_core::*;
use everkept_store::{
    Answer, Boot, Chain, Commit, CommitFault, Damage, EventsQuery, Head, KeptAnswer, LettersQuery, MemoryStore, Page, Place, PlaceQuery,
    Problem, QuestionsQuery, Report, SessionsQuery, Store, StoreFault, StoredEvent, Token, UsageQuery, UsageSum,
    conformance::{Hand, block_on, log},
    verify,
};

type Bend<T> = Box<dyn Fn(SessionId, &mut T) -> Result<(), Problem> + Send + Sync>;

/// The memory store, with a hand on what is read for `verify`.
struct Bent {
    inner: MemoryStore,
    events: Bend<Vec<StoredEvent>>,
    chains: Bend<Vec<(u64, Chain)>>,
    rows: Bend<Vec<Record>>,
}

/// Two sessions, the second a fork of the first; a turn in each.
fn written() -> (Bent, [SessionId; 2]) {
    let inner = MemoryStore::new();
    let sessions = block_on(async {
        let mut hand = Hand::new(&inner);
        let parent = hand.create(Some("kept")).await;
        hand.talk(parent, "hello", &["one ", "two"]).await;
        let child = hand.fork(parent, None).await;
        hand.talk(child, "more", &["three"]).await;
        let costly = hand.submit(child, "and more").await;
        hand.begin(child, costly).await;
        let usage = Usage { input_tokens: Some(3), ..Usage::default() };
        hand.act(child, Command::HearAgent { turn: costly, said: vec![Said::Usage(usage)] }).await;
        hand.end(child, costly).await;
        [parent, child]
    });
    let untouched = Bent { inner, events: Box::new(|_, _| Ok(())), chains: Box::new(|_, _| Ok(())), rows: Box::new(|_, _| Ok(())) };
    (untouched, sessions)
}

fn verified(store: &Bent) -> Report {
    block_on(verify(store, &mut |_| {})).expect("the store answers")
}

fn damage(session: SessionId, place: Place, what: &str) -> Damage {
    Damage { session, place, what: what.into() }
}

fn event(session: SessionId, seq: u64, what: &str) -> Damage {
    damage(session, Place::Event(seq), what)
}

/// What is found when the bytes of an event of the parent are others, in whichever session they are read.
fn with_bytes(seq: u64, bend: impl Fn(&mut StoredEvent) + Send + Sync + 'static) -> (Report, [SessionId; 2]) {
    let (mut store, sessions) = written();
    store.events = Box::new(move |_, events| {
        events.iter_mut().filter(|event| event.seq == seq).for_each(&bend);
        Ok(())
    });
    (verified(&store), sessions)
}

#[test]
fn what_is_whole_is_counted_and_nothing_is_reported() {
    let (store, sessions) = written();
    let events: usize = sessions.iter().map(|session| block_on(log(&store.inner, *session)).len()).sum();
    let mut told = Vec::new();
    let report = block_on(verify(&store, &mut |done| told.push(done))).unwrap();
    assert_eq!(report, Report { sessions: 2, events: events as u64, damages: vec![] });
    assert_eq!(told, [1, 2]);
}

#[test]
fn d6_a_log_that_ends_too_early_is_reported_where_it_ends() {
    let (mut store, [parent, child]) = written();
    store.events = Box::new(move |session, events| {
        events.retain(|event| session != parent || event.seq <= 4);
        Ok(())
    });
    let head = block_on(store.head(parent)).unwrap().unwrap().seq;
    let report = verified(&store);
    assert_eq!(report.damages, [event(parent, 5, &format!("missing, although the log goes on to {head}"))]);
    assert_eq!((report.sessions, report.events), (2, 4 + block_on(log(&store.inner, child)).len() as u64));
}

#[test]
fn d6_a_damaged_event_is_reported_and_all_others_are_read() {
    let (mut store, [parent, child]) = written();
    let whole = block_on(log(&store.inner, parent)).len() as u64;
    store.events = Box::new(move |session, events| match events.iter().any(|event| session == parent && event.seq == 3) {
        true => Err(Problem::Corrupt { session, seq: 3 }),
        false => Ok(()),
    });
    let report = verified(&store);
    assert_eq!(report.damages, [event(parent, 3, "is not there, or its bytes do not fit their checksum")]);
    assert_eq!(report.events, whole + block_on(log(&store.inner, child)).len() as u64);
    // A second damage behind it is found as well, and one before it.
    store.events = Box::new(move |session, events| {
        let first = events.iter().find(|event| session == parent && [3, 6].contains(&event.seq));
        let problem = first.map(|event| Problem::Corrupt { session, seq: event.seq });
        events.iter_mut().filter(|event| session == parent && event.seq == 2).for_each(|event| event.bytes = Bytes::from_static(b"{}"));
        problem.map_or(Ok(()), Err)
    });
    let places: Vec<_> = verified(&store).damages.into_iter().map(|damage| damage.place).collect();
    assert_eq!(places, [Place::Event(2), Place::Event(3), Place::Event(6)]);
}

#[test]
fn d6_what_cannot_be_read_at_all_is_reported_with_its_reason_and_ends_that_session_only() {
    let (mut store, [parent, _]) = written();
    store.events = Box::new(move |session, _| match session == parent {
        true => Err(Problem::Failed("input/output error".into())),
        false => Ok(()),
    });
    assert_eq!(verified(&store).damages, [event(parent, 1, "cannot be read: input/output error")]);
    store.events = Box::new(|_, _| Err(Problem::Full));
    let fault = block_on(verify(&store, &mut |_| {})).unwrap_err();
    assert_eq!(fault.problem, Problem::Full, "a store that does not answer is no damage");
}

#[test]
fn d6_an_event_that_is_no_event_or_another_one_is_reported_in_every_session_that_reads_it() {
    let (report, [parent, child]) = with_bytes(2, |event| event.bytes = Bytes::from_static(b"{"));
    let places: Vec<_> = report.damages.iter().map(|damage| (damage.session, damage.place.clone())).collect();
    assert_eq!(places, [(parent, Place::Event(2)), (child, Place::Event(2))]);
    let (report, [parent, child]) = with_bytes(2, |event| event.seq = 9);
    let says = "kept as 9 and says it is 2";
    assert_eq!(report.damages, [event(parent, 2, says), event(child, 2, says)]);
    let renumbered = |event: &mut StoredEvent| {
        event.bytes = String::from_utf8(event.bytes.to_vec()).unwrap().replace(r#"{"seq":2"#, r#"{"seq":7"#).into();
    };
    let (report, [parent, child]) = with_bytes(2, renumbered);
    let says = "kept as 2 and says it is 7";
    assert_eq!(report.damages, [event(parent, 2, says), event(child, 2, says)]);
}

#[test]
fn d6_a_chain_that_parts_from_the_events_is_reported_once_where_it_begins() {
    let (mut store, [parent, _]) = written();
    store.chains = Box::new(move |session, chains| {
        chains.iter_mut().filter(|(seq, _)| session == parent && *seq >= 3).for_each(|(_, chain)| chain[0] ^= 1);
        Ok(())
    });
    let says = "the events up to here do not lead to its hash chain";
    assert_eq!(verified(&store).damages, [event(parent, 3, says)]);
    // An event that was changed and still reads well is noticed by the chain alone.
    let retold = |event: &mut StoredEvent| {
        event.bytes = String::from_utf8(event.bytes.to_vec()).unwrap().replace("hello", "hallo").into();
    };
    let at = block_on(log(&store.inner, parent)).iter().find(|event| event.bytes.windows(5).any(|it| it == b"hello")).unwrap().seq;
    let (report, [parent, child]) = with_bytes(at, retold);
    assert_eq!(report.damages, [event(parent, at, says), event(child, at, says)]);
}

#[test]
fn d6_rows_that_the_events_do_not_lead_to_are_reported_by_their_names() {
    let (mut store, [parent, child]) = written();
    let rows = block_on(store.inner.rows(parent)).unwrap();
    let turn = rows.iter().find_map(|row| if let Record::Turn(row) = row { Some(row.turn.id) } else { None }).unwrap();
    let message = rows.iter().find_map(|row| if let Record::Message(row) = row { Some(row.id) } else { None }).unwrap();
    let row = |name: String| Place::Row(name);
    let of_child = block_on(store.inner.rows(child)).unwrap();
    let costly =
        of_child.iter().find_map(|row| if let Record::Usage(row) = row { Some(format!("usage of {}", row.turn)) } else { None }).unwrap();
    store.rows = Box::new(move |session, rows| {
        if session == parent {
            rows.retain(|row| !matches!(row, Record::Message(row) if row.id == message));
            for row in rows.iter_mut() {
                match row {
                    Record::Session(session) => session.title = None,
                    Record::Turn(row) => row.queued_seq += 1,
                    Record::Owed(owed) => owed.push(Effect::RunTurn { turn }),
                    Record::Usage(_) | Record::Message(_) | Record::Question(_) => {}
                }
            }
        } else {
            for row in rows.iter_mut() {
                if let Record::Usage(usage) = row {
                    usage.parts[0].1.input_tokens = Some(4);
                }
            }
            rows.push(Record::Message(MessageRecord { id: message, turn: None, role: Role::User, first_seq: 1, last_seq: None }));
        }
        Ok(())
    });
    let differs = |name: String| damage(parent, row(name), "differs from what the events lead to");
    let mut expected = vec![
        differs("session".into()),
        differs("owed".into()),
        differs(turn.to_string()),
        damage(child, row(costly), "differs from what the events lead to"),
        damage(parent, row(message.to_string()), "missing"),
        damage(child, row(message.to_string()), "not led to by any event"),
    ];
    let mut found = verified(&store).damages;
    let name = |damage: &Damage| damage.place.to_string();
    expected.sort_by_key(name);
    found.sort_by_key(name);
    assert_eq!(found, expected);
    store.rows = Box::new(move |session, _| match session == child {
        true => Err(Problem::Corrupt { session, seq: 7 }),
        false => Ok(()),
    });
    assert_eq!(verified(&store).damages, [damage(child, row("the row at event 7".into()), "cannot be read")]);
    store.rows = Box::new(|_, _| Err(Problem::Full));
    assert!(block_on(verify(&store, &mut |_| {})).is_err());
}

#[test]
fn a_place_is_shown_as_people_name_it() {
    let shown = [Place::Event(7), Place::Row("owed".into())].map(|place| place.to_string());
    assert_eq!(shown, ["event 7", "owed"]);
}

impl Bent {
    fn bend<'a, T: Send + 'a>(&'a self, session: SessionId, answer: Answer<'a, T>, bend: &'a Bend<T>) -> Answer<'a, T> {
        Box::pin(async move {
            let mut answer = answer.await?;
            let fault = |problem| StoreFault { problem, doing: "reading".into(), may_have_happened: false };
            bend(session, &mut answer).map_err(fault)?;
            Ok(answer)
        })
    }
}

macro_rules! passed_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
            self.inner.$name($($argument),*)
        }
    )*};
}

impl Store for Bent {
    fn commit(&self, commit: Commit) -> Answer<'_, Vec<Vec<StoredEvent>>, CommitFault> {
        self.inner.commit(commit)
    }

    fn events(&self, query: EventsQuery) -> Answer<'_, Vec<StoredEvent>> {
        let session = query.session.expect("verify reads one session at a time");
        self.bend(session, self.inner.events(query), &self.events)
    }

    fn chains(&self, session: SessionId, after: u64, limit: u32) -> Answer<'_, Vec<(u64, Chain)>> {
        self.bend(session, self.inner.chains(session, after, limit), &self.chains)
    }

    fn rows(&self, session: SessionId) -> Answer<'_, Vec<Record>> {
        self.bend(session, self.inner.rows(session), &self.rows)
    }

    passed_on! {
        fn boot(wall: Timestamp) -> Boot;
        fn take(session: SessionId) -> Option<Head>;
        fn head(session: SessionId) -> Option<Head>;
        fn session(session: SessionId) -> Option<Session>;
        fn session_of_thread(resource: Resource, thread: Thread) -> Option<Session>;
        fn sessions(query: SessionsQuery) -> Page<Session>;
        fn count_sessions(query: SessionsQuery) -> u64;
        fn children(session: SessionId) -> Vec<Session>;
        fn turn(turn: TurnId) -> Option<TurnRecord>;
        fn turns(query: PlaceQuery) -> Vec<TurnRecord>;
        fn messages(query: PlaceQuery) -> Vec<MessageRecord>;
        fn question(question: QuestionId) -> Option<Question>;
        fn questions(query: QuestionsQuery) -> Vec<Question>;
        fn dead_letters(query: LettersQuery) -> Page<TurnRecord>;
        fn put_breaker(breaker: Breaker) -> ();
        fn breakers() -> Vec<Breaker>;
        fn usage(query: UsageQuery) -> Page<UsageSum>;
        fn owed() -> Vec<(SessionId, Vec<Effect>)>;
        fn raw(session: SessionId, turn: TurnId, from: u64) -> Bytes;
        fn blob(id: TextDigest) -> Option<Bytes>;
        fn blob_sessions(id: TextDigest) -> Vec<SessionId>;
        fn kept_answer(principal: String, key: String, now: Timestamp) -> Option<KeptAnswer>;
        fn put_token(token: Token) -> ();
        fn token(secret_hash: TextDigest) -> Option<Token>;
        fn tokens() -> Vec<Token>;
        fn revoke_token(token: TokenId, at: Timestamp) -> bool;
        fn pack(session: SessionId, turn: TurnId) -> ();
        fn index() -> bool;
        fn forget_expired() -> bool;
        fn due(now: Timestamp, limit: u32) -> Vec<SessionId>;
        fn purge(session: SessionId, now: Timestamp) -> bool;
        fn all_sessions(after: Option<SessionId>, limit: u32) -> Vec<SessionId>;
        fn backup(to: std::path::PathBuf) -> ();
    }
}
