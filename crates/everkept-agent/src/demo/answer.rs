//! One answer of the demo agent, from the first word to the last.
//!
//! It reads as what it does: think, use tools, ask, speak. A cancel drops it wherever it waits.
//! Never: a `Done`. Whoever runs the answer says how it ended.

use super::Directives;
use crate::{Done, ORDER_QUEUE, Output, digest_of_call};
use bytes::Bytes;
use everkept_core::{Asked, Json, OptionKind, Payload, QuestionId, QuestionKind, QuestionOption, Said, ToolStatus, TurnId, Usage};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;

const TOOL: &str = "demo_tool";
/// How fast `!long` speaks when `!slow` does not say.
const LONG_PACE: Duration = Duration::from_millis(20);
/// What `!big` says at a time.
const BIG_PIECE: usize = 1024;
/// How many words `!falter` and `!crash` live to say: `reply N to:`.
const LAST_WORDS: usize = 3;

pub(super) enum Ending {
    Done(Done),
    Crashed,
}

/// Says things in one turn.
pub(super) struct Voice {
    output: mpsc::Sender<Output>,
    turn: TurnId,
    /// The prompts its session has seen, this one included.
    number: u64,
    permission: Permission,
    words_out: u64,
}

impl Voice {
    pub fn new(output: mpsc::Sender<Output>, turn: TurnId, number: u64, permission: Permission) -> Self {
        Self { output, turn, number, permission, words_out: 0 }
    }

    pub async fn answer(mut self, prompt: &str) -> Ending {
        let (directives, text) = Directives::read(prompt);
        if directives.hang {
            std::future::pending::<()>().await;
        }
        if self.number <= directives.fail.into() {
            return failed();
        }
        if directives.think {
            self.think(&text).await;
        }
        for n in 1..=directives.tools {
            self.use_tool(n, &text).await;
        }
        let allowed = !directives.ask || self.ask(&text).await;
        let mut reply = format!("reply {} to: {text}", self.number);
        if !allowed {
            reply.push_str("\n\nThe tool was not used: you said no.");
        }
        let falters = self.number <= directives.falter.into();
        if falters || directives.crash {
            self.speak(first_words(&reply, LAST_WORDS), directives.slow).await;
            return if falters { failed() } else { Ending::Crashed };
        }
        self.speak(&reply, directives.slow).await;
        self.speak_big(directives.big_kib).await;
        if directives.long {
            self.speak_for_ever(directives.slow.unwrap_or(LONG_PACE)).await;
        }
        self.report_usage(prompt).await;
        Ending::Done(Done::Completed { reason: "end_turn".into() })
    }

    async fn think(&mut self, text: &str) {
        for word in words(&format!("thinking about: {text}")) {
            self.say(json!({ "think": word }), Said::Reasoning { message: self.message(), text: word.into() }).await;
        }
    }

    async fn use_tool(&mut self, n: u32, text: &str) {
        let call = format!("tool-{}-{n}", self.number);
        self.start_tool(&call, ToolStatus::Running, &Json::of(&json!({ "n": n, "text": text }))).await;
        self.end_tool(&call, true).await;
    }

    /// Whether the tool was allowed, and therefore used.
    async fn ask(&mut self, text: &str) -> bool {
        let request = format!("ask-{}", self.number);
        let input = Json::of(&json!({ "text": text }));
        self.start_tool(&request, ToolStatus::Pending, &input).await;
        let asked = Asked {
            question: QuestionId::derive(self.turn.0, &request, 0),
            kind: QuestionKind::Permission,
            title: format!("use {TOOL}"),
            digest: digest_of_call(&input),
            call: Payload::Json(input),
            request: request.clone(),
            options: options(),
            expires_at: None,
        };
        self.say(json!({ "ask": request }), Said::Asked(asked)).await;
        let allowed = matches!(self.permission.answered(&request).await.as_deref(), Some("allow_once" | "allow_always"));
        self.end_tool(&request, allowed).await;
        allowed
    }

    async fn start_tool(&mut self, call: &str, status: ToolStatus, input: &Json) {
        let said = Said::ToolStarted {
            call: call.into(),
            name: TOOL.into(),
            title: Some("Demo tool".into()),
            status,
            input: Some(Payload::Json(input.clone())),
        };
        self.say(json!({ "tool": call, "input": input }), said).await;
    }

    async fn end_tool(&mut self, call: &str, used: bool) {
        let status = if used { ToolStatus::Completed } else { ToolStatus::Failed };
        let output = Json::of(&if used { "the tool was used" } else { "the tool was not allowed" });
        let raw = json!({ "tool": call, "output": output });
        let said =
            Said::ToolUpdated { call: call.into(), status: Some(status), title: None, input: None, output: Some(Payload::Json(output)) };
        self.say(raw, said).await;
    }

    async fn speak(&mut self, text: &str, pace: Option<Duration>) {
        for word in words(text) {
            if let Some(pace) = pace {
                tokio::time::sleep(pace).await;
            }
            self.text(word).await;
        }
    }

    async fn speak_for_ever(&mut self, pace: Duration) {
        loop {
            self.speak(" and on", Some(pace)).await;
        }
    }

    /// Exactly so much text, in lines that can be told apart.
    async fn speak_big(&mut self, kib: u32) {
        for n in 0..kib {
            let mut piece = format!("\n{n} ");
            piece.extend(std::iter::repeat_n('.', BIG_PIECE - piece.len()));
            self.text(&piece).await;
        }
    }

    async fn report_usage(&mut self, prompt: &str) {
        let (words_in, words_out) = (words(prompt).count() as u64, self.words_out);
        let usage = Usage { input_tokens: Some(words_in), output_tokens: Some(words_out), ..Usage::default() };
        self.say(json!({ "words_in": words_in, "words_out": words_out }), Said::Usage(usage)).await;
    }

    async fn text(&mut self, text: &str) {
        self.words_out += 1;
        self.say(json!({ "text": text }), Said::Text { message: self.message(), text: text.into() }).await;
    }

    /// One answer is one message.
    fn message(&self) -> Option<String> {
        Some(format!("answer-{}", self.number))
    }

    /// A reader that is gone is noticed by whoever runs the answer.
    async fn say(&self, raw: Value, said: Said) {
        _ = self.output.send(Output::Said { raw: line(&raw), said: vec![said] }).await;
    }
}

fn failed() -> Ending {
    Ending::Done(Done::Failed { code: "demo_failure".into(), message: "failed, as it was asked to".into() })
}

/// The bytes of one thing said.
pub(super) fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

fn options() -> Vec<QuestionOption> {
    let option = |id: &str, label: &str, kind| QuestionOption { id: id.into(), label: label.into(), kind };
    vec![
        option("allow_once", "Allow once", OptionKind::AllowOnce),
        option("allow_always", "Always allow", OptionKind::AllowAlways),
        option("reject_once", "Reject", OptionKind::RejectOnce),
    ]
}

/// Each with the white space that follows it: together they are the text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

fn first_words(text: &str, count: usize) -> &str {
    let end = words(text).take(count).map(str::len).sum();
    &text[..end]
}

/// Where an answer waits for a human.
pub(super) struct Permission(mpsc::Receiver<(String, Option<String>)>);

/// Where what the human said comes in.
pub(super) struct Answers(mpsc::Sender<(String, Option<String>)>);

impl Permission {
    pub fn desk() -> (Self, Answers) {
        let (give, wait) = mpsc::channel(ORDER_QUEUE);
        (Self(wait), Answers(give))
    }

    /// The option chosen for `request`; none for a no. Answers to other questions are nobody's.
    async fn answered(&mut self, request: &str) -> Option<String> {
        loop {
            let (answered, option) = self.0.recv().await?;
            if answered == request {
                return option;
            }
        }
    }
}

impl Answers {
    /// An answer to a question that nobody asked may be lost.
    pub fn give(&self, request: String, option: Option<String>) {
        _ = self.0.try_send((request, option));
    }
}
