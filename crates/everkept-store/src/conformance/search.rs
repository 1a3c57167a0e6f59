//! Searching sessions by their words.

use super::{Stores, hand::Hand, ok};
use crate::{SessionsQuery, Store};
use everkept_core::{Command, SessionId, UpdateSession};

pub(super) async fn found(store: &dyn Store, search: &str) -> Vec<SessionId> {
    while !ok(store.index()).await {}
    let query = SessionsQuery { search: Some(search.into()), limit: 100, ..SessionsQuery::default() };
    let counted = ok(store.count_sessions(query.clone())).await;
    let page = ok(store.sessions(query)).await;
    assert_eq!(counted, page.items.len() as u64);
    page.items.iter().map(|session| session.id).collect()
}

pub async fn words_of_titles_and_messages_are_found(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let title = |text: &str| Command::UpdateSession(UpdateSession { title: Some(Some(text.into())), ..UpdateSession::default() });
    let tea = hand.create(Some("Brewing green tea")).await;
    hand.later(10);
    let code = hand.create(None).await;
    let turn = hand.submit(code, "why does Parser::next loop forever").await;
    hand.begin(code, turn).await;
    hand.say(code, turn, "because the cur").await;
    hand.say(code, turn, "sor never moves").await;

    assert_eq!(found(&*store, "tea").await, [tea]);
    assert_eq!(found(&*store, "TEA green").await, [tea]);
    assert_eq!(found(&*store, "bre").await, [tea], "the last word may be the beginning of one");
    assert!(found(&*store, "gre tea").await.is_empty(), "the others are whole");
    assert!(found(&*store, "ewing").await.is_empty());
    assert_eq!(found(&*store, "parser loop").await, [code]);
    assert!(found(&*store, "cursor").await.is_empty(), "an answer is found once its turn has ended");
    hand.end(code, turn).await;
    assert_eq!(found(&*store, "cursor never").await, [code]);
    assert!(found(&*store, "parser cursor").await.is_empty(), "all words stand in one message");
    ok(store.pack(code, turn)).await;
    assert_eq!(found(&*store, "cursor").await, [code]);

    hand.later(10);
    hand.act(code, title("green screens")).await;
    assert_eq!(found(&*store, "green").await, [code, tea]);
    hand.later(10);
    hand.act(tea, title("brewing coffee")).await;
    assert_eq!(found(&*store, "green").await, [code]);
    assert_eq!(found(&*store, "coffee").await, [tea]);
    hand.act(tea, Command::DeleteSession { keep_ms: None }).await;
    assert!(found(&*store, "coffee").await.is_empty());
    let long = "padding ".repeat(5_000) + "needle";
    hand.later(10);
    hand.submit(code, &long).await;
    assert_eq!(found(&*store, "needle").await, [code]);
}

pub async fn a_search_is_never_read_as_syntax(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let session = hand.create(Some("alpha beta")).await;
    hand.create(Some("gamma")).await;
    for text in ["alpha\"", "\"alpha", "alpha*", "(alpha", "alpha)", "^alpha", "-alpha", "+alpha", "alpha:", "'alpha'", "alpha\u{0}"] {
        assert_eq!(found(&*store, text).await, [session], "{text:?}");
    }
    for text in ["alpha OR gamma", "alpha NOT beta", "NEAR(alpha beta)", "text:alpha", "{text}: alpha"] {
        assert!(found(&*store, text).await.is_empty(), "{text:?}");
    }
    for text in ["", " ", "*", "\"", "\"\"", "()", "\u{0}"] {
        assert!(found(&*store, text).await.is_empty(), "{text:?}");
    }
}
