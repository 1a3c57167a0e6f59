//! Questions that wait for a human.
//!
//! Never an answer to anything but the exact call that was shown.

use super::{
    Shared,
    answer::{done, ok, order},
};
use crate::{
    app::App,
    extract::{Asked, At, Sent},
    failed::Failed,
    front::Who,
};
use axum::response::Response;
use everkept_api::{AnswerQuestion, List, Question};
use everkept_core::{QuestionId, Refusal, Resource};
use everkept_engine::{Order, QuestionsQuery};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(read)).routes(routes!(answer))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Listed {
    /// Only this session's.
    session: Option<String>,
    /// Only those of this owner's sessions.
    resource: Option<String>,
}

/// Lists the open questions, oldest first.
#[utoipa::path(get, path = "/api/questions", operation_id = "list_questions", tag = "questions", params(Listed),
    responses((status = 200, body = List<Question>, description = "All that are open")))]
async fn list(app: Shared, Who(caller): Who, Asked(listed): Asked<Listed>) -> Result<Response, Failed> {
    let query = QuestionsQuery {
        session: listed.session.map(|session| session.parse().map_err(|_| Refusal::SessionNotFound)).transpose()?,
        resource: listed.resource.map(Resource::new).transpose()?,
        open_only: true,
    };
    let questions = app.engine.questions(&caller, query).await?;
    Ok(ok(&List::whole(questions.into_iter().map(Question::from).collect())))
}

/// Answers one question's text and state.
#[utoipa::path(get, path = "/api/questions/{qst}", operation_id = "get_question", tag = "questions",
    responses((status = 200, body = Question, description = "The question")))]
async fn read(app: Shared, Who(caller): Who, At(qst): At<QuestionId>) -> Result<Response, Failed> {
    Ok(ok(&Question::from(app.engine.question(&caller, qst).await?)))
}

/// Settles a question with one of its options.
#[utoipa::path(post, path = "/api/questions/{qst}/answer", operation_id = "answer_question", tag = "questions", request_body = AnswerQuestion,
    responses((status = 200, body = Question, description = "The question, answered")))]
async fn answer(app: Shared, At(qst): At<QuestionId>, sent: Sent<AnswerQuestion>) -> Result<Response, Failed> {
    let session = app.engine.session_of_question(&sent.caller, qst).await?;
    let answer = Order::Answer { question: qst, option: sent.body.option, note: sent.body.note };
    order(&app, &sent.caller, session, answer, sent.key, done).await
}
