//! A session over a WebSocket: events out, commands in.
//!
//! A frame out is one event's JSON, or the answer to a command: `{id, ok}` or `{id, error}`. Commands are read as
//! strictly as bodies and become the same orders.
//! Never a command by a cookie alone (the subprotocol `everkept` stands for the header), and never more than one
//! command at a time: the next is read when the last is answered.

use super::{
    Shared,
    answer::{body, done},
    convert,
    events::after,
};
use crate::{
    app::App,
    extract::{Asked, At, Key, check, read_value},
    failed::Failed,
    front::Credential,
    stream::{ending, frames},
};
use axum::{
    extract::{
        FromRequestParts, Request,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use everkept_api as api;
use everkept_api::{Error, ErrorCode};
use everkept_core::{QuestionId, Refusal, SessionId, TurnId, digest_of};
use everkept_engine::{Answered, Caller, Failure, Frame, Keyed, Order, Tail};
use futures::{SinkExt, StreamExt, future::BoxFuture};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};
use std::{sync::Arc, time::Duration};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

const SUBPROTOCOL: &str = "everkept";
/// Commands are short as a rule; every open socket has one of these.
const READ_BUFFER: usize = 8 * 1024;
const PING: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(open))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Opened {
    /// Events after this one are sent: decimal digits; from the first when it is not given.
    after: Option<String>,
}

/// A WebSocket: a frame out is one event; commands come in as JSON.
///
/// A command is `{id?, command, idempotency_key?, ...}`. `submit` takes what a new turn takes, `record` what recording
/// messages takes, `update` what changing a session takes, `revert` a `turn?`; `edit`, `drop`, `cancel`, `retry`, `redo` and
/// `continue` name a `turn` (and take what their routes take), `answer` a `question`, `option` and `note?`; `clear` and
/// `unrevert` take nothing. The answer is `{id, ok}` or `{id, error}`. A browser's cookie may send commands only with the
/// subprotocol `everkept`.
#[utoipa::path(get, path = "/api/sessions/{ses}/socket", operation_id = "open_socket", tag = "events", params(Opened),
    responses((status = 101, description = "The connection is a WebSocket now")))]
async fn open(
    app: Shared,
    credential: Credential,
    At(ses): At<SessionId>,
    Asked(opened): Asked<Opened>,
    request: Request,
) -> Result<Response, Failed> {
    let (mut parts, _) = request.into_parts();
    let after = after(&parts.headers, opened.after.as_deref())?.unwrap_or(0);
    let tail = app.engine.tail(&credential.caller, ses, after).await?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|_| Failed::new(ErrorCode::InvalidRequest, "this route is a WebSocket"))?.protocols([SUBPROTOCOL]);
    let by_header = parts.headers.get("x-everkept").is_some_and(|value| value == "1");
    let speaks = upgrade.selected_protocol().is_some_and(|protocol| protocol == SUBPROTOCOL);
    let session = Session {
        may_command: !credential.by_cookie || by_header || speaks,
        ending: ending(&app, &credential),
        caller: credential.caller,
        session: ses,
        app: app.0,
    };
    let limit = session.app.body_limit;
    let upgrade = upgrade.max_message_size(limit).max_frame_size(limit).read_buffer_size(READ_BUFFER).write_buffer_size(0);
    let spawner = session.app.engine.runtime().spawner.clone();
    Ok(upgrade.on_upgrade(move |socket| async move { spawner.spawn(Box::pin(session.run(socket, tail))) }))
}

struct Session {
    app: Arc<App>,
    caller: Caller,
    session: SessionId,
    may_command: bool,
    ending: BoxFuture<'static, ()>,
}

/// Why a socket is closed by us.
enum Closing {
    /// The server or the credential ended.
    Away,
    /// The log cannot be read on; whoever comes back is told why.
    Failed,
    /// The client closed, or is gone.
    Gone,
}

impl Session {
    async fn run(mut self, socket: WebSocket, tail: Tail) {
        let clock = self.app.engine.runtime().clock.clone();
        let (mut writer, mut reader) = socket.split();
        let mut frames = std::pin::pin!(frames(tail));
        let mut command: Option<BoxFuture<'static, String>> = None;
        let mut ping = clock.sleep(PING);
        let closing = loop {
            let message = tokio::select! {
                () = &mut self.ending => break Closing::Away,
                said = async { command.as_mut().expect("only polled when there is one").await }, if command.is_some() => {
                    command = None;
                    Message::text(said)
                }
                came = reader.next(), if command.is_none() => match came {
                    Some(Ok(Message::Text(text))) => {
                        command = Some(self.obey(text));
                        continue;
                    }
                    Some(Ok(Message::Binary(_))) => Message::text(answer(None, Err(Failed::new(ErrorCode::InvalidRequest, "commands are text")))),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break Closing::Gone,
                },
                frame = frames.next() => match frame {
                    Some(Ok(frame)) => event(frame),
                    Some(Err(_)) | None => break Closing::Failed,
                },
                () = &mut ping => {
                    ping = clock.sleep(PING);
                    Message::Ping(bytes::Bytes::new())
                }
            };
            if writer.send(message).await.is_err() {
                break Closing::Gone;
            }
        };
        let (code, reason) = match closing {
            Closing::Away => (close_code::AWAY, "the server or the credential ended"),
            Closing::Failed => (close_code::ERROR, "the log cannot be read on"),
            Closing::Gone => return,
        };
        // A client that is gone needs no last word.
        _ = writer.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    }

    /// Reads and performs a command; what it becomes is the frame that answers it.
    fn obey(&self, text: Utf8Bytes) -> BoxFuture<'static, String> {
        let (app, caller, session, may_command) = (self.app.clone(), self.caller.clone(), self.session, self.may_command);
        Box::pin(async move {
            let mut id = None;
            let obeyed = async {
                let mut said = read(text.as_str())?;
                id = said.remove("id").filter(|id| !id.is_null());
                if !may_command {
                    return Err(Failure::Forbidden.into());
                }
                caller.may_write()?;
                let key = key(&mut said, session)?;
                let order = order(said)?;
                check_session(&app, &caller, session, &order).await?;
                Ok::<_, Failed>(app.engine.order(&caller, session, order, key).await?)
            };
            let obeyed = obeyed.await;
            answer(id, obeyed)
        })
    }
}

fn event(frame: Frame) -> Message {
    match Utf8Bytes::try_from(frame.json.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(frame.json),
    }
}

fn read(text: &str) -> Result<Map<String, Value>, Failed> {
    check(text.as_bytes())?;
    let value =
        serde_json::from_str(text).map_err(|error| Failed::new(ErrorCode::InvalidJson, format!("the command is not JSON: {error}")))?;
    match value {
        Value::Object(said) => Ok(said),
        _ => Err(Failed::field("command", "must be an object")),
    }
}

/// The digest is over the command without its id: the same command is the same request, whatever number it has.
fn key(said: &mut Map<String, Value>, session: SessionId) -> Result<Option<Keyed>, Failed> {
    let Some(key) = said.remove("idempotency_key") else { return Ok(None) };
    let key =
        key.as_str().and_then(Key::check).ok_or_else(|| Failed::field("idempotency_key", "must be 1 to 255 visible ASCII characters"))?;
    let command = serde_json::to_string(said).expect("JSON values are JSON");
    let digest = digest_of(format!("SOCKET\n{session}\n{command}"));
    Ok(Some(Key { key: key.to_owned(), digest }.keyed(done)))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Submit,
    Record,
    Update,
    Clear,
    Revert,
    Unrevert,
    Edit,
    Drop,
    Cancel,
    Retry,
    Redo,
    Continue,
    Answer,
}

fn order(mut said: Map<String, Value>) -> Result<Order, Failed> {
    let command = said.remove("command").ok_or_else(|| Failed::field("command", "is missing"))?;
    let command = read_value(command).map_err(|_| Failed::field("command", "is not known"))?;
    Ok(match command {
        Command::Submit => convert::submit(rest(said)?)?,
        Command::Record => convert::record(rest(said)?),
        Command::Update => Order::Update(rest::<api::UpdateSession>(said)?.try_into()?),
        Command::Clear => nothing(said, Order::Clear)?,
        Command::Unrevert => nothing(said, Order::Unrevert)?,
        Command::Revert => {
            let api::RevertSession { turn } = rest(said)?;
            Order::Revert { turn: turn.map(|turn| turn.parse().map_err(|_| Refusal::TurnNotFound)).transpose()? }
        }
        Command::Edit => {
            let turn = turn(&mut said)?;
            let api::EditTurn { input, agent, model } = rest(said)?;
            Order::Edit { turn, input: input.map(convert::parts), agent: convert::agent(agent)?, model: convert::model(model)? }
        }
        Command::Drop => {
            let turn = turn(&mut said)?;
            nothing(said, Order::Drop { turn })?
        }
        Command::Cancel => {
            let turn = turn(&mut said)?;
            nothing(said, Order::Cancel { turn })?
        }
        Command::Retry => {
            let (turn, agent, model) = again(said)?;
            Order::Retry { turn, agent, model }
        }
        Command::Redo => {
            let (turn, agent, model) = again(said)?;
            Order::Redo { turn, agent, model }
        }
        Command::Continue => {
            let (turn, agent, model) = again(said)?;
            Order::Continue { turn, agent, model }
        }
        Command::Answer => {
            let question: String = named(&mut said, "question")?;
            let question: QuestionId = question.parse().map_err(|_| Refusal::QuestionNotFound)?;
            let api::AnswerQuestion { option, note } = rest(said)?;
            Order::Answer { question, option, note }
        }
    })
}

type Again = (TurnId, Option<everkept_core::AgentName>, Option<everkept_core::ModelName>);

fn again(mut said: Map<String, Value>) -> Result<Again, Failed> {
    let turn = turn(&mut said)?;
    let api::AgainTurn { agent, model } = rest(said)?;
    Ok((turn, convert::agent(agent)?, convert::model(model)?))
}

fn turn(said: &mut Map<String, Value>) -> Result<TurnId, Failed> {
    let turn: String = named(said, "turn")?;
    Ok(turn.parse().map_err(|_| Refusal::TurnNotFound)?)
}

fn named(said: &mut Map<String, Value>, name: &str) -> Result<String, Failed> {
    match said.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Failed::field(name, "must be a string")),
        None => Err(Failed::field(name, "is missing")),
    }
}

fn rest<T: DeserializeOwned>(said: Map<String, Value>) -> Result<T, Failed> {
    read_value(Value::Object(said))
}

fn nothing(said: Map<String, Value>, order: Order) -> Result<Order, Failed> {
    let api::Empty {} = rest(said)?;
    Ok(order)
}

/// A turn or a question of another session is not one of this socket's.
async fn check_session(app: &App, caller: &Caller, session: SessionId, order: &Order) -> Result<(), Failed> {
    match order {
        Order::Edit { turn, .. }
        | Order::Drop { turn }
        | Order::Cancel { turn }
        | Order::Retry { turn, .. }
        | Order::RetryLetter { turn, .. }
        | Order::DismissLetter { turn }
        | Order::Redo { turn, .. }
        | Order::Continue { turn, .. } => match app.engine.session_of_turn(caller, *turn).await? == session {
            true => Ok(()),
            false => Err(Refusal::TurnNotFound.into()),
        },
        Order::Answer { question, .. } => match app.engine.session_of_question(caller, *question).await? == session {
            true => Ok(()),
            false => Err(Refusal::QuestionNotFound.into()),
        },
        Order::Submit(_)
        | Order::Record { .. }
        | Order::Update(_)
        | Order::Clear
        | Order::Revert { .. }
        | Order::Unrevert
        | Order::Delete
        | Order::Restore
        | Order::RemoveRule { .. }
        | Order::Fork(_) => Ok(()),
    }
}

/// The frame that answers a command.
fn answer(id: Option<Value>, obeyed: Result<Answered, Failed>) -> String {
    #[derive(Serialize)]
    struct Good {
        id: Option<Value>,
        ok: Box<RawValue>,
    }
    #[derive(Serialize)]
    struct Bad {
        id: Option<Value>,
        #[serde(flatten)]
        error: Error,
    }
    let written = match obeyed {
        Ok(answered) => {
            let bytes = match answered {
                Answered::Fresh(reply) => body(&reply),
                Answered::Kept { body, .. } => body.to_vec(),
            };
            let ok = String::from_utf8(bytes).ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "{}".to_owned());
            let ok = RawValue::from_string(ok).expect("what is rendered is JSON");
            serde_json::to_string(&Good { id, ok })
        }
        Err(Failed(error)) => serde_json::to_string(&Bad { id, error }),
    };
    written.expect("JSON values are JSON")
}
