//! What happens when storage fails, made to happen from within; and how the statements are carried out.

use super::*;
use crate::tx::SqlFault;
use everkept_core::Command;
use everkept_store::conformance::{Hand, block_on};
use rusqlite::config::DbConfig;
use std::sync::atomic::{AtomicU32, Ordering};

fn poisoned<T: std::fmt::Debug>(answer: Result<T, StoreFault>) -> bool {
    matches!(answer, Err(StoreFault { problem: Problem::Failed(_), may_have_happened: false, .. }))
}

/// A session with one event, and a commit that would add a second.
fn begun(store: &SqliteStore) -> (SessionId, Commit) {
    let mut hand = Hand::new(store);
    let session = block_on(hand.create(None));
    let (write, _) = hand.write(session, hand.decide(session, Command::ClearContext).unwrap());
    (session, hand.commit_of(vec![write]))
}

#[test]
fn d4_after_a_commit_that_failed_nothing_is_answered_until_a_new_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let (session, commit) = begun(&store);
    let Runner::Inline(inline) = &store.runner else { panic!("the store is inline") };
    held(&inline.writer).connection.commit_hook(Some(|| true)).unwrap();
    let fault = block_on(store.commit(commit.clone())).unwrap_err();
    let CommitFault::Store(StoreFault { problem: Problem::Failed(_), may_have_happened: true, .. }) = fault else {
        panic!("the commit may be on disk: {fault:?}");
    };
    held(&inline.writer).connection.commit_hook(None::<fn() -> bool>).unwrap();
    assert!(block_on(store.commit(commit.clone())).is_err());
    assert!(poisoned(block_on(store.head(session))));
    assert!(poisoned(block_on(store.boot(Timestamp(0)))));
    assert!(poisoned(block_on(store.tokens())));
    assert!(poisoned(block_on(store.backup(directory.path().join("copy")))));
    drop(store);
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    assert_eq!(block_on(store.boot(Timestamp(0))).unwrap().number, 1);
    assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 1, fence: 1 }));
    assert_eq!(block_on(store.commit(commit)).unwrap()[0].len(), 1);
}

#[test]
fn d4_an_error_of_storage_in_one_job_stops_the_whole_store() {
    for mode in [Mode::Inline, Mode::Threads { readers: 1 }] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, commit) = begun(&store);
        let broken = |_: &mut SqliteTx<'_>| Err::<(), Stop>(Stop::Sql(SqlFault::Storage("disk I/O error".into())));
        assert!(poisoned(block_on(store.put(|| "try".into(), broken))));
        assert!(block_on(store.commit(commit)).is_err());
        assert!(poisoned(block_on(store.session(session))));
        drop(store);
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 1, fence: 1 }));
    }
}

#[test]
fn an_error_that_is_not_of_storage_undoes_one_job_only() {
    for mode in [Mode::Inline, Mode::Threads { readers: 1 }] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, commit) = begun(&store);
        let half = |tx: &mut SqliteTx<'_>| -> Result<(), Stop> {
            answer(op::note_wall(tx, Timestamp(i64::MAX)))?;
            answer(async { Ok(crate::tx::Tx::exec(tx, "INSERT INTO boot (number, at) VALUES (NULL, 'x')", &[]).await?) }).map(|_| ())
        };
        let (refused, done) = block_on(async {
            let refused = store.put(|| "try".into(), half);
            let done = store.commit(commit);
            futures::join!(refused, done)
        });
        assert!(poisoned(refused));
        assert_eq!(done.unwrap()[0].len(), 1);
        assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 2, fence: 1 }));
        assert_ne!(block_on(store.read(|| "look".into(), |tx| answer(op::latest_wall(tx)))).unwrap(), Timestamp(i64::MAX));
    }
}

#[test]
fn d8_a_purge_that_was_cut_short_shows_nothing_and_is_finished_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let mut hand = Hand::new(&store);
    let session = block_on(hand.create(Some("gone")));
    let turn = block_on(hand.talk(session, "question", &["an ", "answer"]));
    block_on(hand.act(session, Command::DeleteSession { keep_ms: Some(0) }));
    let later = Timestamp(hand.now.0 + 1);
    let begun = block_on(store.put(|| "begin".into(), move |tx| answer(op::purge(tx, session, later)))).unwrap();
    assert_eq!(begun, op::Purged::More);
    drop(store);
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    assert_eq!(block_on(store.all_sessions(None, 10)).unwrap(), []);
    let events = EventsQuery { session: Some(session), limit: 10, ..EventsQuery::default() };
    assert_eq!(block_on(store.events(events)).unwrap(), []);
    assert_eq!(block_on(store.due(later, 10)).unwrap(), [session]);
    assert!(block_on(store.purge(session, later)).unwrap());
    assert_eq!(block_on(store.due(later, 10)).unwrap(), []);
    assert_eq!(block_on(store.turn(turn)).unwrap(), None);
}

/// Carries every statement out, and notes how SQLite means to.
struct Planned<'a> {
    tx: SqliteTx<'a>,
    plans: Vec<String>,
}

impl crate::tx::Tx for Planned<'_> {
    async fn exec(&mut self, sql: &str, args: &[crate::tx::Arg<'_>]) -> Result<u64, SqlFault> {
        self.tx.exec(sql, args).await
    }

    async fn rows(&mut self, sql: &str, args: &[crate::tx::Arg<'_>]) -> Result<Vec<crate::tx::Row>, SqlFault> {
        for mut row in self.tx.rows(&format!("EXPLAIN QUERY PLAN {sql}"), args).await? {
            let step = row.text(3).unwrap();
            self.plans.push(format!("{step} | {sql}"));
        }
        self.tx.rows(sql, args).await
    }

    async fn each(
        &mut self,
        sql: &str,
        args: &[crate::tx::Arg<'_>],
        take: impl FnMut(&dyn crate::tx::Columns) -> Result<std::ops::ControlFlow<()>, Stop>,
    ) -> Result<(), Stop> {
        for mut row in self.tx.rows(&format!("EXPLAIN QUERY PLAN {sql}"), args).await? {
            let step = row.text(3).unwrap();
            self.plans.push(format!("{step} | {sql}"));
        }
        self.tx.each(sql, args, take).await
    }

    fn search_condition(number: usize) -> String {
        SqliteTx::search_condition(number)
    }

    fn search_argument(search: &str) -> Option<String> {
        SqliteTx::search_argument(search)
    }
}

#[test]
fn a_refusal_that_ended_the_whole_transaction_undoes_the_batch_and_no_more() {
    for mode in [Mode::Inline, Mode::Threads { readers: 1 }] {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), mode).unwrap();
        let (session, commit) = begun(&store);
        let ending = |tx: &mut SqliteTx<'_>| -> Result<(), Stop> {
            answer(async { Ok(crate::tx::Tx::exec(tx, "INSERT OR ROLLBACK INTO wall (id, at) VALUES (1, 0)", &[]).await?) }).map(|_| ())
        };
        assert!(poisoned(block_on(store.put(|| "try".into(), ending))));
        assert_eq!(block_on(store.boot(Timestamp(5))).unwrap(), Boot { number: 1, latest_wall: commit.wall });
        assert_eq!(block_on(store.commit(commit)).unwrap()[0].len(), 1);
        assert_eq!(block_on(store.head(session)).unwrap(), Some(Head { seq: 2, fence: 1 }));
    }
}

#[test]
fn a_piece_of_the_index_is_one_transaction_and_what_failed_is_still_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let session = block_on(Hand::new(&store).create(Some("a title of words")));
    let Runner::Inline(inline) = &store.runner else { panic!("the store is inline") };
    let hook = |fails: bool| {
        let commits = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&commits);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            fails
        };
        held(&inline.indexer).connection.commit_hook(Some(count)).unwrap();
        commits
    };
    hook(true);
    let fault = block_on(store.index()).unwrap_err();
    assert!(matches!(&fault.problem, Problem::Failed(why) if why.contains("constraint")), "{fault:?}");
    let commits = hook(false);
    while !block_on(store.index()).unwrap() {}
    assert_eq!(commits.load(Ordering::Relaxed), 1);
    let query = SessionsQuery { search: Some("words".into()), limit: 10, ..SessionsQuery::default() };
    assert_eq!(block_on(store.sessions(query)).unwrap().items[0].id, session);
}

#[test]
fn no_list_is_read_through_or_sorted() {
    use everkept_store::conformance::hand::{resource, thread};
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let (session, _) = begun(&store);
    let Runner::Inline(inline) = &store.runner else { panic!("the store is inline") };
    let indexer = held(&inline.indexer);
    let mut planned = Planned { tx: SqliteTx::new(&indexer.connection, directory.path()), plans: Vec::new() };
    let tx = &mut planned;
    block_on(async {
        let before = Some((Timestamp(i64::MAX), session));
        let all = SessionsQuery { before, limit: 10, ..SessionsQuery::default() };
        let of_anna = SessionsQuery { resource: Some(resource("anna")), ..all.clone() };
        let searched = SessionsQuery { search: Some("words".into()), ..all.clone() };
        for query in [all.clone(), of_anna, searched] {
            op::sessions(tx, &query).await.unwrap();
        }
        op::session_of_thread(tx, &resource("anna"), &thread("t")).await.unwrap();
        op::children(tx, session).await.unwrap();
        let turn: TurnId = "trn_00000000000000000000000000000001".parse().unwrap();
        let kinds = vec!["part.delta".to_owned()];
        let events = EventsQuery { session: Some(session), turn: Some(turn), kinds, context: Some(0), limit: 9, ..EventsQuery::default() };
        op::events(tx, &events).await.unwrap();
        for backward in [false, true] {
            let query = PlaceQuery { session, after: None, before: None, backward, limit: 10 };
            op::turns(tx, &query).await.unwrap();
            op::messages(tx, &query).await.unwrap();
        }
        let open = QuestionsQuery { open_only: true, ..QuestionsQuery::default() };
        let of_anna = QuestionsQuery { resource: Some(resource("anna")), ..open.clone() };
        let of_session = QuestionsQuery { session: Some(session), ..QuestionsQuery::default() };
        for query in [open, of_anna, of_session] {
            op::questions(tx, &query).await.unwrap();
        }
        op::raw(tx, session, turn, 5).await.unwrap();
        op::kept_answer(tx, "anna", "k", Timestamp(0)).await.unwrap();
        op::forget_expired(tx).await.unwrap();
        op::all_sessions(tx, Some(session), 5).await.unwrap();
        op::chains(tx, session, 0, 5).await.unwrap();
        op::rows(tx, session).await.unwrap();
    });
    // Small by nature: the generations of one session, the open questions, and what the index itself finds.
    let small = ["SCAN line", "USING INDEX question_open", "SCAN words.search VIRTUAL TABLE", "SCAN CONSTANT ROW"];
    let long = |plan: &&String| {
        let (step, sql) = plan.split_once(" | ").unwrap();
        let sorts = step.contains("TEMP B-TREE FOR ORDER BY") && !sql.starts_with("WITH RECURSIVE line");
        (step.starts_with("SCAN") && !small.iter().any(|small| step.contains(small))) || sorts
    };
    assert_eq!(planned.plans.iter().filter(long).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(planned.plans.len() > 25);
}

#[test]
fn d1_every_connection_syncs_as_far_as_it_can_and_looks_at_what_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Mode::Inline).unwrap();
    let Runner::Inline(inline) = &store.runner else { panic!("the store is inline") };
    let reader = open::open_reader(directory.path(), &SystemFiles).unwrap();
    let (writer, indexer) = (held(&inline.writer), held(&inline.indexer));
    for (connection, own) in [
        (&writer.connection, [("query_only", 0), ("cache_size", -16 * 1024)]),
        (&indexer.connection, [("query_only", 0), ("cache_size", -8 * 1024)]),
        (&reader, [("query_only", 1), ("cache_size", -8 * 1024)]),
    ] {
        let all = [("synchronous", 2), ("fullfsync", 1), ("checkpoint_fullfsync", 1), ("foreign_keys", 0), ("cell_size_check", 1)];
        for (name, expected) in all.into_iter().chain(own).chain([("temp_store", 2)]) {
            let found: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            assert_eq!(found, expected, "{name}");
        }
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG).unwrap());
    }
    let limit: i64 = writer.connection.pragma_query_value(None, "journal_size_limit", |row| row.get(0)).unwrap();
    assert_eq!(limit, 64 * 1024 * 1024);
}
