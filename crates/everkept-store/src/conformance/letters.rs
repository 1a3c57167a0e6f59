//! Turns that were given up.

use super::{
    Stores,
    hand::{Hand, known, resource},
    ok,
};
use crate::LettersQuery;
use everkept_core::{AgainTurn, Command, EndTurn, MessageId, NewPart, SessionId, Timestamp, TurnEnd, TurnId};

async fn give_up(hand: &mut Hand<'_>, session: SessionId) -> TurnId {
    hand.later(1_000);
    let turn = hand.submit(session, "build").await;
    hand.act(session, Command::EndTurn(EndTurn { turn, end: TurnEnd::DeadLettered, reason: "over".into(), error: None })).await;
    turn
}

pub async fn re_03_dead_letters_are_listed_until_they_are_taken_up_or_put_away(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let anna = hand.create_for(None, Some("anna"), None).await;
    let bert = hand.create_for(None, Some("bert"), None).await;
    let trashed = hand.create_for(None, Some("anna"), None).await;
    let mut letters = Vec::new();
    for session in [anna, bert, anna, anna] {
        letters.push(give_up(&mut hand, session).await);
    }
    give_up(&mut hand, trashed).await;
    hand.act(trashed, Command::DeleteSession { keep_ms: None }).await;
    let done = hand.submit(bert, "done").await;
    hand.begin(bert, done).await;
    hand.end(bert, done).await;

    let listed = |query: LettersQuery| {
        let page = store.dead_letters(query);
        async move {
            let page = ok(page).await;
            let ids: Vec<TurnId> = page.items.iter().map(|letter| letter.turn.id).collect();
            (ids, page.has_more)
        }
    };
    let all = LettersQuery { limit: 10, ..LettersQuery::default() };
    let newest: Vec<TurnId> = letters.iter().rev().copied().collect();
    assert_eq!(listed(all.clone()).await, (newest.clone(), false));
    assert_eq!(listed(LettersQuery { resource: Some(resource("bert")), ..all.clone() }).await, (vec![letters[1]], false));
    assert_eq!(listed(LettersQuery { session: Some(anna), ..all.clone() }).await, (vec![letters[3], letters[2], letters[0]], false));
    assert_eq!(listed(LettersQuery { session: Some(trashed), ..all.clone() }).await, (vec![], false));
    let held = ok(store.turn(letters[2])).await.expect("a turn that was kept");
    let before = Some((held.turn.ended_at.expect("it ended"), held.turn.id));
    assert_eq!(listed(LettersQuery { limit: 2, ..all.clone() }).await, (newest[..2].to_vec(), true));
    assert_eq!(listed(LettersQuery { before, ..all.clone() }).await, (newest[2..].to_vec(), false));
    let between = before.map(|(at, id)| (Timestamp(at.0 + 1), id));
    assert_eq!(listed(LettersQuery { before: between, ..all.clone() }).await, (newest[1..].to_vec(), false));

    hand.act(bert, Command::DismissLetter { turn: letters[1] }).await;
    let again = AgainTurn { turn: letters[0], by: hand.fresh(TurnId::PREFIX), agent: None, model: None, known: known() };
    let request = Some((hand.fresh(MessageId::PREFIX), vec![NewPart::Text("build less".into())]));
    hand.act(anna, Command::RetryLetter { again, request }).await;
    assert_eq!(listed(all).await, (vec![letters[3], letters[2]], false));
    assert!(ok(store.turn(letters[2])).await.is_some_and(|held| held.dead_letter));
    assert!(ok(store.turn(letters[1])).await.is_some_and(|held| !held.dead_letter));
}
