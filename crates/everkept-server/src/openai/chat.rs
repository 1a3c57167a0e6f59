//! Chat completions, whole and as a stream.
//!
//! What the agent's configuration tries again is waited for: the answer is the last attempt's. A stream shows words as they
//! come, and what they add up to is the answer that is kept; when an attempt fails that has shown some, the stream ends
//! with an error that names the turn which answers instead.
//!
//! Never an answer to a turn that did not complete: that is an error which says whether the agent may have acted.
//! Never the words of two attempts in one answer. A client that leaves ends nothing.

use super::{
    OpenAiError, OpenAiErrorDetail, Refused, advise,
    intake::{Asking, Turned, agent_and_model, ask, header, named},
    said::ChatRequest,
    stream::{Piece, pieces, text},
};
use crate::{
    app::{App, ended},
    extract::Sent,
    failed::{Failed, json_response},
    front::Credential,
    stream::{Chunk, sse},
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderValue, StatusCode},
    response::Response,
};
use everkept_core::{Resource, Turn, TurnId, TurnState, Usage};
use everkept_engine::{Caller, Failure};
use futures::{
    StreamExt,
    stream::{self, BoxStream, Stream},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(complete))
}

/// A turn that ended, but not with an answer.
fn not_completed(turn: &Turn) -> OpenAiError {
    let state = everkept_api::TurnState::from(turn.state);
    let (message, may_have_happened) = match &turn.error {
        Some(error) => (error.message.clone(), error.may_have_happened),
        None => (turn.reason.clone().unwrap_or_default(), turn.started_at.is_some()),
    };
    OpenAiError {
        error: OpenAiErrorDetail {
            message: format!("turn {} ended as {state}: {message}", turn.id),
            kind: "server_error",
            param: None,
            code: turn.error.as_ref().map_or_else(|| format!("turn_{state}"), |error| error.code.clone()),
            may_have_happened: Some(may_have_happened),
            turn: Some(turn.id.to_string()),
        },
    }
}

/// A turn that another takes the place of, when the client has seen words that are none of the answer.
fn replaced(turn: &Turn, next: &Turn) -> OpenAiError {
    let OpenAiError { error } = not_completed(turn);
    let message = format!("{}; what it said does not count, and turn {} answers in its place", error.message, next.id);
    OpenAiError { error: OpenAiErrorDetail { message, code: "turn_retried".to_owned(), turn: Some(next.id.to_string()), ..error } }
}

#[derive(Debug, Serialize, ToSchema)]
struct Completion {
    id: String,
    object: &'static str,
    created: i64,
    model: String,
    choices: Vec<Choice>,
    usage: TokenUsage,
}

#[derive(Debug, Serialize, ToSchema)]
struct Choice {
    index: u32,
    message: CompletionMessage,
    logprobs: Option<u32>,
    finish_reason: &'static str,
}

/// A message of an answer.
#[derive(Debug, Serialize, ToSchema)]
struct CompletionMessage {
    role: &'static str,
    content: String,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct TokenUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionChunk {
    id: String,
    object: &'static str,
    created: i64,
    model: String,
    choices: Vec<ChunkChoice>,
    /// Null until the last chunk, which has it when `stream_options.include_usage` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<TokenUsage>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ChunkChoice {
    index: u32,
    delta: AnswerDelta,
    logprobs: Option<u32>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct AnswerDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
}

impl From<&Usage> for TokenUsage {
    fn from(usage: &Usage) -> Self {
        let went_in = [usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens];
        let prompt = went_in.into_iter().flatten().fold(0, u64::saturating_add);
        let completion = usage.output_tokens.unwrap_or(0);
        TokenUsage { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt.saturating_add(completion) }
    }
}

fn finish_reason(turn: &Turn) -> &'static str {
    match turn.reason.as_deref() {
        Some("max_tokens" | "length") => "length",
        Some("refusal" | "content_filter") => "content_filter",
        Some(_) | None => "stop",
    }
}

/// Asks an agent in the way of OpenAI's chat completions. `x-session-id` (or `x-everkept-thread` with
/// `x-everkept-resource`) names the session, which is made on first use; only what is new of the messages is stored.
///
/// The answer's `x-session-id` is the session's id. A request that was answered before is answered again without a prompt.
/// Without a name each request is a session of its own. The agent runs its own tools; none is handed to the client.
///
/// Where the agent's configuration tries a failed turn again, the answer is the last attempt's, whose id and model it has. A
/// stream has the id it began with; when an attempt fails after words of it were sent, the stream ends with the error
/// `turn_retried`, whose `turn` answers instead: a request that repeats the idempotency key, or the whole conversation, joins it.
#[utoipa::path(post, path = "/v1/chat/completions", operation_id = "openai_create_chat_completion", tag = "openai", request_body = ChatRequest,
    params(
        ("x-session-id" = Option<String>, Header, description = "A session's id, or any name of the client's own"),
        ("x-everkept-resource" = Option<String>, Header, description = "The owner; the token's own or `default` without it"),
        ("x-everkept-thread" = Option<String>, Header, description = "The owner's name for the conversation")),
    responses(
        (status = 200, description = "The answer, or a stream of it", content((Completion = "application/json"), (CompletionChunk = "text/event-stream"))),
        (status = 502, body = OpenAiError, description = "The turn did not complete"),
        (status = "default", body = OpenAiError, description = "An error")))]
async fn complete(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refused> {
    let (mut parts, body) = request.into_parts();
    let credential = Credential::from_request_parts(&mut parts, &app).await?;
    let headers = parts.headers.clone();
    let sent = Sent::<ChatRequest>::from_request(Request::from_parts(parts, body), &app).await?;
    let request = sent.body;
    if request.n.is_some_and(|n| n != 1) {
        return Err(Failed::field("n", "must be 1").into());
    }
    let named = named(&app, &sent.caller, &headers).await?;
    let (agent, model) = agent_and_model(&app, request.model.as_deref())?;
    let resource = header(&headers, "x-everkept-resource")?.map(Resource::new).transpose()?;
    let streams = request.stream == Some(true);
    let with_usage = request.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true);
    let asking = Asking { caller: sent.caller.clone(), named, resource, messages: request.conversation()?, agent, model, key: sent.key };
    let turned = ask(&app, asking).await?;
    let mut response = match streams {
        true => streamed(&app, &credential, &turned, with_usage).await?,
        false => whole(&app, &sent.caller, &turned).await?,
    };
    let session = HeaderValue::try_from(turned.session.to_string()).expect("an id is ASCII");
    response.headers_mut().insert("x-session-id", session);
    if turned.replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn whole(app: &App, caller: &Caller, turned: &Turned) -> Result<Response, Failed> {
    let turn = tokio::select! {
        turn = app.engine.wait_answer(caller, turned.turn) => turn?,
        () = ended(app.ending.clone()) => return Err(Failed::stopping()),
    };
    if turn.state != TurnState::Completed {
        let error = serde_json::to_vec(&not_completed(&turn)).expect("an error has string keys only");
        let mut response = json_response(StatusCode::BAD_GATEWAY, error);
        // Sent again by itself, it would be a second message or a second try that nobody asked for.
        advise(&mut response, false);
        return Ok(response);
    }
    let (content, reasoning) = text(app, caller, turned.session, turn.id).await?;
    let completion = Completion {
        id: format!("chatcmpl-{}", turn.id),
        object: "chat.completion",
        created: seconds(&turn),
        model: model_name(&turn),
        choices: vec![Choice {
            index: 0,
            message: CompletionMessage {
                role: "assistant",
                content,
                refusal: None,
                reasoning_content: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
            },
            logprobs: None,
            finish_reason: finish_reason(&turn),
        }],
        usage: turn.usage.as_ref().map(TokenUsage::from).unwrap_or_default(),
    };
    Ok(json_response(StatusCode::OK, serde_json::to_vec(&completion).expect("a completion has string keys only")))
}

async fn streamed(app: &Arc<App>, credential: &Credential, turned: &Turned, with_usage: bool) -> Result<Response, Failed> {
    let caller = credential.caller.clone();
    let mut turn = app.engine.turn(&caller, turned.turn).await?;
    // Whoever asks again is shown nothing of what failed before.
    while let Some(next) = app.engine.next_attempt(&caller, &turn).await? {
        turn = next;
    }
    let pieces = pieces(app, &caller, turn.session, turn.id).await?.boxed();
    let writer = Writer { head: (turn.id, seconds(&turn)), turn, worded: false, with_usage, caller, app: app.clone(), pieces };
    Ok(sse(app, credential, writer.write()))
}

/// Writes the pieces of an answer as chunks.
struct Writer {
    /// Id and time of the turn the stream began with: all its chunks have the same.
    head: (TurnId, i64),
    /// The attempt that is under way.
    turn: Turn,
    /// Text of it has been shown.
    worded: bool,
    with_usage: bool,
    caller: Caller,
    app: Arc<App>,
    pieces: BoxStream<'static, Result<Piece, Failure>>,
}

impl Writer {
    fn write(self) -> impl Stream<Item = Chunk> + Send + 'static {
        let role = self.chunk(AnswerDelta { role: Some("assistant"), content: Some(String::new()), ..AnswerDelta::default() }, None);
        let rest = stream::unfold(Some(self), |writer| async move { writer?.next().await });
        stream::iter([role]).chain(rest)
    }

    /// The next chunk, and the writer unless it was the last one.
    async fn next(mut self) -> Option<(Chunk, Option<Self>)> {
        loop {
            let delta = match self.pieces.next().await? {
                Ok(Piece::Text(text)) => {
                    self.worded = true;
                    AnswerDelta { content: Some(text), ..AnswerDelta::default() }
                }
                Ok(Piece::Reasoning(text)) => AnswerDelta { reasoning_content: Some(text), ..AnswerDelta::default() },
                Ok(Piece::Ended) => match self.end().await {
                    Ok(Some(last)) => return Some((last, None)),
                    Ok(None) => continue,
                    Err(failed) => return Some((event(&OpenAiError::from(failed)), None)),
                },
                Err(failure) => return Some((event(&OpenAiError::from(Failed::from(failure))), None)),
            };
            return Some((self.chunk(delta, None), Some(self)));
        }
    }

    /// The last chunk; nothing when another attempt follows, to which it turns.
    async fn end(&mut self) -> Result<Option<Chunk>, Failed> {
        let ended = self.app.engine.turn(&self.caller, self.turn.id).await?;
        match self.app.engine.next_attempt(&self.caller, &ended).await? {
            None => Ok(Some(self.last(&ended))),
            Some(next) if self.worded => Ok(Some(event(&replaced(&ended, &next)))),
            Some(next) => {
                self.pieces = pieces(&self.app, &self.caller, next.session, next.id).await?.boxed();
                self.turn = next;
                Ok(None)
            }
        }
    }

    /// The end as OpenAI's clients know it, or an error as they know one.
    fn last(&self, turn: &Turn) -> Chunk {
        if turn.state != TurnState::Completed {
            return event(&not_completed(turn));
        }
        let mut last = self.chunk(AnswerDelta::default(), Some(finish_reason(turn))).to_vec();
        if self.with_usage {
            let usage = turn.usage.as_ref().map(TokenUsage::from).unwrap_or_default();
            last.extend_from_slice(&event(&CompletionChunk { choices: Vec::new(), usage: Some(Some(usage)), ..self.frame() }));
        }
        last.extend_from_slice(b"data: [DONE]\n\n");
        last.into()
    }

    fn chunk(&self, delta: AnswerDelta, finish_reason: Option<&'static str>) -> Chunk {
        let choices = vec![ChunkChoice { index: 0, delta, logprobs: None, finish_reason }];
        event(&CompletionChunk { choices, usage: self.with_usage.then_some(None), ..self.frame() })
    }

    fn frame(&self) -> CompletionChunk {
        CompletionChunk {
            id: format!("chatcmpl-{}", self.head.0),
            object: "chat.completion.chunk",
            created: self.head.1,
            model: model_name(&self.turn),
            choices: Vec::new(),
            usage: None,
        }
    }
}

fn event(value: &impl Serialize) -> Chunk {
    let json = serde_json::to_string(value).expect("wire types have string keys only");
    Chunk::from(format!("data: {json}\n\n"))
}

fn seconds(turn: &Turn) -> i64 {
    turn.queued_at.0.div_euclid(1_000_000)
}

fn model_name(turn: &Turn) -> String {
    match &turn.model {
        Some(model) => format!("{}/{model}", turn.agent),
        None => turn.agent.to_string(),
    }
}
