//! The scripts that are cut short: each goes through one thing that Everkept does.
//!
//! Never: a check. What has to hold after a cut holds after each of them.

use super::server::{Ended, KEEP_TRASH, Note, Request, Scripted, Server, What};
use crate::world::{history, name, turn_of};
use everkept_core::*;
use everkept_engine::*;
use everkept_store::{Store, Token};
use std::time::Duration;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        pub async fn play(name: &str, server: &Server) -> Scripted {
            match name {
                $(stringify!($name) => $name(server).await,)*
                other => panic!("no scenario {other}"),
            }
        }
    };
}

scenarios! {
    create, turn, stream, queue, cancel, fork, clear, revert, question, thread, packing, checkpoint, trash, purge, backup, boot, tokens,
    again, record, give_up, migration,
}

async fn start(server: &Server) -> Scripted<SessionId> {
    server.start().await?;
    server.create("one").await
}

/// From nothing: the database is made, too.
async fn create(server: &Server) -> Scripted {
    server.start().await?;
    let session = server.create("first").await?;
    server.create("second").await?;
    let update = UpdateSession { title: Some(Some("renamed".into())), ..UpdateSession::default() };
    server.order("rename", session, Order::Update(update)).await?;
    server.stop().await;
    Ok(())
}

async fn turn(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "hello there").await?;
    server.talk(session, "!think !tool:2 and more").await?;
    Ok(())
}

async fn stream(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "!slow:20 one two three four five six seven eight nine ten eleven twelve").await?;
    Ok(())
}

async fn queue(server: &Server) -> Scripted {
    let session = start(server).await?;
    let first = server.submit(session, "!slow:50 a b c d").await?;
    let dropped = server.submit(session, "to be dropped").await?;
    let edited = server.submit(session, "to be edited").await?;
    let last = server.submit(session, "the last one").await?;
    server.order("drop", session, Order::Drop { turn: dropped }).await?;
    let input = Some(vec![PartIn::Text("edited".into())]);
    server.order("edit", session, Order::Edit { turn: edited, input, agent: None, model: None }).await?;
    for turn in [first, edited, last] {
        server.ended(turn).await?;
    }
    Ok(())
}

async fn cancel(server: &Server) -> Scripted {
    let session = start(server).await?;
    let hanging = server.submit(session, "!hang").await?;
    server.until(session, "turn.started").await?;
    let waiting = server.submit(session, "after it").await?;
    server.order("cancel", session, Order::Cancel { turn: hanging }).await?;
    server.ended(hanging).await?;
    server.ended(waiting).await?;
    let failed = server.talk(session, "!fail").await?;
    let retried = match server.order("retry", session, Order::Retry { turn: failed.id, agent: None, model: None }).await? {
        Reply::Turn(turn) => turn.id,
        other => panic!("{other:?}"),
    };
    server.ended(retried).await?;
    Ok(())
}

/// A turn whose agent never starts: it is tried again, given up, taken up with another request, given up and put away.
async fn give_up(server: &Server) -> Scripted {
    let session = start(server).await?;
    let to_stubborn = NewTurn { agent: Some(name("stubborn")), ..turn_of("build") };
    let first = server.submit_new(session, "build", to_stubborn).await?;
    server.ended(first).await?;
    let input = Some(vec![PartIn::Text("build less".into())]);
    let second = match server.order("take up", session, Order::RetryLetter { turn: first, input }).await? {
        Reply::Turn(turn) => turn.id,
        other => panic!("{other:?}"),
    };
    server.ended(second).await?;
    server.order("put away", session, Order::DismissLetter { turn: second }).await?;
    server.talk(session, "go on").await?;
    Ok(())
}

async fn forked(server: &Server, key: &str, session: SessionId, fork: NewFork) -> Scripted<SessionId> {
    match server.order(key, session, Order::Fork(fork)).await? {
        Reply::Session(child) => {
            server.tail(child.id).await?;
            Ok(child.id)
        }
        other => panic!("{other:?}"),
    }
}

async fn fork(server: &Server) -> Scripted {
    let session = start(server).await?;
    let first = server.talk(session, "one").await?;
    let child = forked(server, "fork", session, NewFork::default()).await?;
    server.talk(child, "two in the child").await?;
    server.talk(session, "two in the parent").await?;
    let early = NewFork { at: Some(Cut::Turn(first.id)), ..NewFork::default() };
    let early = forked(server, "fork early", child, early).await?;
    server.talk(early, "elsewhere").await?;
    Ok(())
}

async fn clear(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "before").await?;
    server.order("clear", session, Order::Clear).await?;
    server.talk(session, "after").await?;
    Ok(())
}

async fn revert(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "one").await?;
    let two = server.talk(session, "two").await?;
    server.order("revert", session, Order::Revert { turn: None }).await?;
    server.order("unrevert", session, Order::Unrevert).await?;
    server.order("revert again", session, Order::Revert { turn: Some(two.id) }).await?;
    server.talk(session, "three").await?;
    Ok(())
}

async fn question(server: &Server) -> Scripted {
    let session = start(server).await?;
    for (n, option) in [(1, "allow_once"), (2, "reject_once"), (3, "allow_always")] {
        let turn = server.submit_new(session, &format!("ask {n}"), turn_of("!ask may I")).await?;
        let mut looks = 0;
        loop {
            looks += 1;
            if looks > 400 {
                return Err(Ended::Late);
            }
            let open = QuestionsQuery { session: Some(session), resource: None, open_only: true };
            let open = server.engine().questions(&crate::world::admin(), open).await?;
            if let Some(question) = open.first() {
                let answer = Order::Answer { question: question.id, option: option.into(), note: None };
                server.order(&format!("answer {n}"), session, answer).await?;
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.ended(turn).await?;
    }
    let turn = server.submit_new(session, "ask once more", turn_of("!ask may I")).await?;
    server.ended(turn).await?;
    server.order("take back", session, Order::Revert { turn: Some(turn) }).await?;
    Ok(())
}

async fn thread(server: &Server) -> Scripted {
    server.start().await?;
    for n in 0..3 {
        let (resource, thread) = (Resource::new("anna").unwrap(), Thread::new(format!("t{}", n / 2)).unwrap());
        let text = format!("message {n}");
        let what = What::Thread(resource, thread, Order::Submit(turn_of(&text)));
        match server.ask(Request { key: text, what }).await? {
            Reply::Turn(turn) => server.ended(turn.id).await?,
            other => panic!("{other:?}"),
        };
    }
    Ok(())
}

async fn packing(server: &Server) -> Scripted {
    let session = start(server).await?;
    for text in ["!slow:20 a b c d e", "!slow:20 !big:4 f g"] {
        server.talk(session, text).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.tail(session).await?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}

/// Long enough for the log to be moved into the database while the server goes on.
async fn checkpoint(server: &Server) -> Scripted {
    let session = start(server).await?;
    let long = "word ".repeat(40_000);
    for n in 0..20 {
        let parts = vec![PartIn::Text(format!("{n} {long}"))];
        let messages = vec![MessageIn { role: Role::User, parts }];
        server.order(&format!("long {n}"), session, Order::Record { messages, history: false }).await?;
    }
    server.talk(session, "after it").await?;
    Ok(())
}

async fn trash(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "one").await?;
    server.order("delete", session, Order::Delete).await?;
    server.order("restore", session, Order::Restore).await?;
    server.talk(session, "two").await?;
    server.order("delete again", session, Order::Delete).await?;
    Ok(())
}

/// One session goes for good; the other is still read through its fork.
async fn purge(server: &Server) -> Scripted {
    let plain = start(server).await?;
    server.talk(plain, "!think !tool:2 to be forgotten").await?;
    let parent = server.create("parent").await?;
    server.talk(parent, "in the parent").await?;
    let child = forked(server, "fork", parent, NewFork::default()).await?;
    let other = server.create("other").await?;
    server.order("delete plain", plain, Order::Delete).await?;
    server.order("delete parent", parent, Order::Delete).await?;
    tokio::time::sleep(KEEP_TRASH + Duration::from_secs(60)).await;
    server.witness.note(Note::Later);
    server.witness.note(Note::Due(plain));
    // The trash is looked through with a commit, and what was found due an hour before is purged.
    server.talk(other, "a look").await?;
    tokio::time::sleep(Duration::from_secs(3_660)).await;
    server.talk(other, "a second look").await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    server.talk(child, "what it inherited is there").await?;
    assert!(server.store().session(plain).await?.is_none(), "its time was over");
    assert!(server.store().session(parent).await?.is_some(), "a fork is read from it");
    Ok(())
}

/// The first start on a database of the oldest schema.
async fn migration(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "written by the newest").await?;
    server.stop().await;
    Ok(())
}

async fn backup(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.talk(session, "one").await?;
    server.store().backup(server.directory().join("copy.db")).await?;
    server.witness.note(Note::Backup("copy.db".into()));
    server.talk(session, "two").await?;
    Ok(())
}

async fn boot(server: &Server) -> Scripted {
    let session = start(server).await?;
    server.submit(session, "!slow:50 interrupted by a stop").await?;
    server.submit(session, "waits for the next start").await?;
    tokio::time::sleep(Duration::from_millis(120)).await;
    server.stop().await;
    server.start().await?;
    server.tail(session).await?;
    let last = server.submit(session, "!slow:50 interrupted by a kill").await?;
    tokio::time::sleep(Duration::from_millis(120)).await;
    server.kill().await;
    server.start().await?;
    server.ended(last).await?;
    Ok(())
}

async fn tokens(server: &Server) -> Scripted {
    server.start().await?;
    for n in 0..3 {
        let token = Token {
            id: TokenId(uuid::Uuid::from_u128(n + 1)),
            secret_hash: digest_of(n.to_string()),
            kind: "resource".into(),
            name: Some("anna".into()),
            created_at: Timestamp(1),
            expires_at: None,
            revoked_at: None,
        };
        server.engine().put_token(token.clone()).await?;
        server.witness.note(Note::Token(token.clone()));
        if n == 1 {
            server.engine().revoke_token(token.id).await?;
            let revoked = server.engine().token_by_hash(token.secret_hash).await?.expect("it was put there");
            server.witness.note(Note::Token(revoked));
        }
    }
    Ok(())
}

/// The whole conversation is sent each time, once with an earlier message changed; and a file goes along.
async fn again(server: &Server) -> Scripted {
    let session = start(server).await?;
    let first = server.submit_new(session, "h1", history(&[(Role::User, "one")], IfEdited::Refuse)).await?;
    server.ended(first).await?;
    let whole = [(Role::User, "one"), (Role::Assistant, "reply 1 to: one"), (Role::User, "two")];
    let second = server.submit_new(session, "h2", history(&whole, IfEdited::Refuse)).await?;
    server.ended(second).await?;
    let edited = [(Role::User, "one, edited"), (Role::Assistant, "reply 1 to: one"), (Role::User, "three")];
    let third = server.submit_new(session, "h3", history(&edited, IfEdited::Fork)).await?;
    server.ended(third).await?;
    let file = PartIn::File { name: Some("f".into()), media_type: "text/plain".into(), bytes: vec![7; 20_000].into() };
    let with_file = NewTurn { intake: Intake::Input(vec![PartIn::Text("look".into()), file]), ..turn_of("") };
    let fourth = server.submit_new(session, "look", with_file).await?;
    server.ended(fourth).await?;
    Ok(())
}

async fn record(server: &Server) -> Scripted {
    let session = start(server).await?;
    for n in 0..4 {
        let messages = crate::world::messages_in(&[(Role::User, &format!("said {n}")), (Role::Assistant, "answered")]);
        server.order(&format!("record {n}"), session, Order::Record { messages, history: false }).await?;
    }
    Ok(())
}

/// Whether a script ended as it was written to.
pub fn whole(played: Scripted) -> Result<(), String> {
    match played {
        Ok(()) => Ok(()),
        Err(Ended::Failure(failure)) => Err(failure.to_string()),
        Err(Ended::Late) => Err("something did not come".into()),
        Err(Ended::Open(turn)) => Err(format!("{turn} did not end")),
    }
}
