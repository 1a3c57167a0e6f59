//! One open agent session of a model: takes orders, sends the conversation, hears the answer.
//!
//! Never: two requests at once, or one that nobody waits for any more.

use super::{
    dialect::{Dialect, Read, failed},
    transcript::Transcript,
};
use bytes::Bytes;
use everkept_agent::{Done, Order, Output, Prompt};
use everkept_api::client::SseReader;
use everkept_core::{ModelName, Said};
use futures::StreamExt;
use serde_json::Value;
use std::{error::Error, pin::pin};
use tokio::sync::mpsc;

/// More than any event of an answer has.
const EVENT_BYTES: usize = 16 * 1024 * 1024;
/// How much of an answer that is an error is read.
const ERROR_BYTES: usize = 64 * 1024;

pub struct Talk {
    pub http: reqwest::Client,
    pub dialect: Dialect,
    pub model: ModelName,
    pub transcript: Transcript,
    pub orders: mpsc::Receiver<Order>,
    pub output: mpsc::Sender<Output>,
}

/// Nobody listens any more.
struct Left;

impl Talk {
    pub async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Prompt(prompt) => {
                    if self.prompt(prompt).await.is_err() {
                        return;
                    }
                }
                Order::SetModel { model, done } => {
                    self.model = model;
                    // Whoever asked may have left.
                    let _ = done.send(true);
                }
                // Nothing runs, and nothing was asked.
                Order::Cancel | Order::Answer { .. } | Order::Hold(_) => {}
            }
        }
    }

    async fn prompt(&mut self, prompt: Prompt) -> Result<(), Left> {
        self.transcript.ask(prompt, self.dialect.takes());
        let mut text = String::new();
        let request = self.dialect.request(&self.http, &self.model, self.transcript.messages());
        let (raw, done) = {
            let mut answer = pin!(hear(&self.dialect, request, &self.output, &mut text));
            loop {
                tokio::select! {
                    heard = &mut answer => break heard?,
                    order = self.orders.recv() => match order {
                        None => return Err(Left),
                        Some(Order::Cancel) => break (Bytes::new(), Done::Cancelled),
                        Some(Order::SetModel { model, done }) => {
                            self.model = model;
                            let _ = done.send(true);
                        }
                        // The next one comes after this one's end.
                        Some(Order::Prompt(_) | Order::Answer { .. } | Order::Hold(_)) => {}
                    }
                }
            }
        };
        match done {
            Done::Completed { .. } | Done::Cancelled => self.transcript.answered(text),
            Done::Failed { .. } => self.transcript.forget_prompt(),
        }
        self.output.send(Output::Done { raw, done }).await.map_err(|_| Left)
    }
}

/// Sends the request and passes on what is heard; the text of it is left in `text`, also when this is given up.
async fn hear(
    dialect: &Dialect,
    request: reqwest::RequestBuilder,
    output: &mpsc::Sender<Output>,
    text: &mut String,
) -> Result<(Bytes, Done), Left> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Ok((Bytes::new(), unreachable(dialect, error))),
    };
    let status = response.status();
    let mut pieces = response.bytes_stream();
    if !status.is_success() {
        let mut body = Vec::new();
        while body.len() < ERROR_BYTES
            && let Some(Ok(piece)) = pieces.next().await
        {
            body.extend_from_slice(&piece);
        }
        let said = serde_json::from_slice(&body).unwrap_or(Value::Null);
        return Ok((body.into(), failed(&said, &format!("http_{}", status.as_u16()))));
    }
    let mut events = SseReader::default();
    let mut reader = dialect.reader();
    let mut waiting = 0;
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Ok((Bytes::new(), cut_off(dialect, &reason(&error.without_url())))),
        };
        let (mut all, mut ended) = (Vec::new(), None);
        waiting += piece.len();
        for event in events.push(&piece) {
            waiting = 0;
            let Read { said, done } = reader.read(&event);
            all.extend(said);
            ended = ended.or(done);
        }
        for said in &all {
            if let Said::Text { text: more, .. } = said {
                text.push_str(more);
            }
        }
        if let Some(done) = ended {
            output.send(Output::Said { raw: piece, said: all }).await.map_err(|_| Left)?;
            return Ok((Bytes::new(), done));
        }
        output.send(Output::Said { raw: piece, said: all }).await.map_err(|_| Left)?;
        if waiting > EVENT_BYTES {
            return Ok((
                Bytes::new(),
                Done::Failed { code: "too_long".into(), message: format!("an event of more than {EVENT_BYTES} bytes") },
            ));
        }
    }
    let done = reader.end().unwrap_or_else(|| cut_off(dialect, "the stream ended before the answer did"));
    Ok((Bytes::new(), done))
}

fn unreachable(dialect: &Dialect, error: reqwest::Error) -> Done {
    let code = if error.is_connect() { "unreachable" } else { "cut_off" };
    Done::Failed { code: code.into(), message: format!("{}: {}", dialect.name(), reason(&error.without_url())) }
}

fn cut_off(dialect: &Dialect, why: &str) -> Done {
    Done::Failed { code: "cut_off".into(), message: format!("{}: {why}", dialect.name()) }
}

/// The last cause says the most.
fn reason(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    if std::ptr::eq(last, error) { error.to_string() } else { format!("{error}: {last}") }
}
