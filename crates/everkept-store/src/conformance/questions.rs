//! Questions by id, by session, and the open ones of an owner.

use super::{
    Stores,
    hand::{Hand, id, known, resource},
    ok,
};
use crate::QuestionsQuery;
use everkept_core::{
    AnswerQuestion, Asked, Command, ExpiredBecause, Json, OptionKind, Payload, Question, QuestionId, QuestionKind, QuestionOption,
    QuestionState, Said, SessionId, TurnId, digest_of,
};

/// Begins a turn that asks as often as there are titles.
pub(super) async fn ask(hand: &mut Hand<'_>, session: SessionId, titles: &[&str]) -> (TurnId, Vec<QuestionId>) {
    let turn = hand.submit(session, "may I").await;
    hand.begin(session, turn).await;
    let mut asked = Vec::new();
    for title in titles {
        hand.later(1_000);
        let question = hand.question();
        asked.push(question);
        let call = format!(r#"{{"run": "{title}",  "n": 1e400}}"#);
        let said = Said::Asked(Asked {
            question,
            kind: QuestionKind::Permission,
            title: (*title).into(),
            digest: digest_of(&call),
            call: Payload::Json(Json::parse(call).expect("the call is JSON")),
            request: format!("request {title}"),
            options: vec![QuestionOption { id: "yes".into(), label: "Yes".into(), kind: OptionKind::AllowOnce }],
            expires_at: None,
        });
        hand.act(session, Command::HearAgent { turn, said: vec![said] }).await;
    }
    (turn, asked)
}

fn names(questions: &[Question]) -> Vec<QuestionId> {
    questions.iter().map(|question| question.id).collect()
}

pub async fn questions_are_found_by_id_session_and_owner(stores: &impl Stores) {
    let store = stores.fresh();
    let mut hand = Hand::new(&*store);
    let anna = hand.create_for(None, Some("anna"), None).await;
    let bert = hand.create_for(None, Some("bert"), None).await;
    let (_, of_anna) = ask(&mut hand, anna, &["a", "b"]).await;
    let (turn, of_bert) = ask(&mut hand, bert, &["c"]).await;
    let (again, later) = {
        let trashed = hand.create_for(None, Some("anna"), None).await;
        let (_, asked) = ask(&mut hand, trashed, &["d"]).await;
        hand.act(trashed, Command::DeleteSession { keep_ms: None }).await;
        (trashed, asked)
    };
    let answer =
        AnswerQuestion { question: of_anna[0], option: "yes".into(), note: None, turn: hand.fresh(TurnId::PREFIX), known: known() };
    hand.act(anna, Command::AnswerQuestion(answer)).await;

    assert_eq!(ok(store.question(of_anna[0])).await.as_ref(), hand.state(anna).question(of_anna[0]));
    assert_eq!(ok(store.question(id(QuestionId::PREFIX, 8_000))).await, None);
    let query = QuestionsQuery::default();
    let of = |session| QuestionsQuery { session: Some(session), ..QuestionsQuery::default() };
    let open = QuestionsQuery { open_only: true, ..QuestionsQuery::default() };
    assert_eq!(ok(store.questions(of(anna))).await, hand.state(anna).questions);
    assert_eq!(names(&ok(store.questions(of(again))).await), later);
    assert_eq!(names(&ok(store.questions(query)).await), [of_anna.clone(), of_bert.clone()].concat());
    assert_eq!(names(&ok(store.questions(open.clone())).await), [of_anna[1], of_bert[0]]);
    let owned = |name| QuestionsQuery { resource: Some(resource(name)), ..open.clone() };
    assert_eq!(names(&ok(store.questions(owned("anna"))).await), [of_anna[1]]);
    assert_eq!(names(&ok(store.questions(QuestionsQuery { session: Some(bert), ..open.clone() })).await), of_bert);
    assert!(ok(store.questions(QuestionsQuery { session: Some(bert), ..owned("anna") })).await.is_empty());

    hand.act(bert, Command::ExpireQuestion { question: of_bert[0], because: ExpiredBecause::Timeout }).await;
    hand.end(bert, turn).await;
    let held = ok(store.question(of_bert[0])).await;
    assert_eq!(held.map(|question| question.state), Some(QuestionState::Expired));
    assert!(ok(store.questions(owned("bert"))).await.is_empty());
}
