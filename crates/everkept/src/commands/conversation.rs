//! One person's side of a session: gives prompts, shows answers as they come, asks what the agent asks.
//!
//! A server that goes away is waited for, and the answer goes on where it broke off; a prompt is given once, however
//! often it had to be sent. What the agent's configuration tries again is watched to the last attempt.
//! Never: an answer to a question that was typed before the question was shown.

use crate::{
    server::{Server, is_gone},
    terminal::{Input, Interrupts, Screen, took},
};
use everkept_api::{
    AnswerQuestion, ErrorCode, Event, Message, OptionKind, Payload, Question, QuestionKind, QuestionOption, QuestionState, Role, Snapshot,
    SubmitTurn, ToolStatus, Turn, TurnError, TurnState, Usage,
    client::{ClientError, EventsFilter, Follow},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};
use tokio::select;

pub struct Conversation {
    pub server: Server,
    pub screen: Screen,
    pub interrupts: Interrupts,
    /// Where answers to questions are typed; none where nobody types.
    pub input: Option<Input>,
    following: Option<(String, Follow)>,
    /// Open questions of the turn that is watched, the first of them shown.
    questions: VecDeque<Question>,
    /// What tool calls are called, by their part.
    tools: BTreeMap<String, String>,
    usage: Option<Usage>,
}

/// How watching a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Turn(TurnState),
    /// The person left; the turn goes its way.
    Left,
}

impl Conversation {
    pub fn new(server: Server, input: Option<Input>) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            screen: Screen::new(),
            interrupts: Interrupts::new()?,
            input,
            following: None,
            questions: VecDeque::new(),
            tools: BTreeMap::new(),
            usage: None,
        })
    }

    /// Reads along from after event `after`.
    pub fn follow(&mut self, session: &str, after: u64) {
        self.following = Some((session.to_owned(), self.server.client.follow(session, after)));
    }

    /// Gives a prompt, once, also over a server that goes away in between.
    pub async fn submit(&mut self, session: &str, body: &SubmitTurn) -> anyhow::Result<Turn> {
        let key = fresh_key();
        loop {
            let given = self.server.client.once(&key).submit_turn(session, body).await;
            if let Some(turn) = self.or_wait(given).await? {
                return Ok(turn);
            }
        }
    }

    /// Nothing when the server was gone and is back: the same is to be asked again.
    pub async fn or_wait<T>(&mut self, answer: Result<T, ClientError>) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_gone(&error) => {
                self.wait_for_server().await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn wait_for_server(&mut self) -> anyhow::Result<()> {
        self.screen.remark("the server is gone; waiting for it to come back (Ctrl-C leaves)")?;
        select! {
            found = self.server.found_again() => found?,
            () = self.interrupts.next() => anyhow::bail!("left while the server was gone; what was said before is kept"),
        }
        self.screen.remark("the server is back")?;
        if let Some((session, follow)) = &mut self.following {
            *follow = self.server.client.follow(session, follow.last());
        }
        Ok(())
    }

    /// Shows what there is of a turn and then the rest as it comes.
    pub async fn attach(&mut self, session: &str, turn: &str) -> anyhow::Result<End> {
        let mut turn = turn.to_owned();
        self.screen.hold();
        let snapshot = loop {
            let snapshot = self.snapshot(session).await?;
            match snapshot.turns.iter().find(|held| held.id == turn) {
                Some(held) if !held.state.is_open() => match self.next_attempt(session, &turn, held.state).await? {
                    Some(next) => turn = next.id,
                    None => break snapshot,
                },
                Some(_) | None => break snapshot,
            }
        };
        for message in snapshot.messages.iter().filter(|message| message.turn.as_ref() == Some(&turn) && message.role != Role::User) {
            self.show_message(message)?;
        }
        match snapshot.turns.iter().find(|held| held.id == turn) {
            Some(held) if !held.state.is_open() => {
                self.usage = held.usage.clone();
                self.show_end(held.state, held.reason.as_deref(), held.error.as_ref(), None)?;
                self.screen.release()?;
                Ok(End::Turn(held.state))
            }
            Some(_) | None => self.watch_from(&snapshot, &turn).await,
        }
    }

    /// Watches a turn whose beginning, up to the snapshot, has been shown.
    pub async fn watch_from(&mut self, snapshot: &Snapshot, turn: &str) -> anyhow::Result<End> {
        self.follow(&snapshot.session.id, snapshot.cursor);
        let open = |question: &&Question| question.turn == turn && question.state == QuestionState::Open;
        for question in snapshot.questions.iter().filter(open) {
            self.ask(question.clone())?;
        }
        self.watch(turn).await
    }

    pub async fn snapshot(&mut self, session: &str) -> anyhow::Result<Snapshot> {
        loop {
            let answer = self.server.client.snapshot(session).await;
            if let Some(snapshot) = self.or_wait(answer).await? {
                return Ok(snapshot);
            }
        }
    }

    pub fn show_message(&mut self, message: &Message) -> anyhow::Result<()> {
        for part in &message.parts {
            if let everkept_api::Part::Tool(tool) = part {
                self.tools.insert(tool.id.clone(), tool.title.clone().unwrap_or_else(|| tool.name.clone()));
            }
        }
        Ok(self.screen.message(message)?)
    }

    /// Shows a turn's events, and those of the attempts that follow it, until the last one ends. Ctrl-C cancels what runs,
    /// once more leaves it alone.
    pub async fn watch(&mut self, turn: &str) -> anyhow::Result<End> {
        let mut turn = turn.to_owned();
        self.screen.hold();
        loop {
            let state = match self.watch_one(&turn).await? {
                End::Turn(state) => state,
                End::Left => {
                    self.screen.release()?;
                    return Ok(End::Left);
                }
            };
            let Some((session, _)) = &self.following else { anyhow::bail!("turn {turn} is not followed") };
            let session = session.clone();
            match self.next_attempt(&session, &turn, state).await? {
                Some(next) => {
                    let model = next.model.as_deref().map(|model| format!(" with {model}")).unwrap_or_default();
                    self.screen.another(&format!("attempt {}: {}{model}", next.attempt, next.agent))?;
                    turn = next.id;
                }
                None => {
                    self.screen.release()?;
                    return Ok(End::Turn(state));
                }
            }
        }
    }

    /// What the agent's configuration put in the place of a turn that has ended.
    async fn next_attempt(&mut self, session: &str, turn: &str, state: TurnState) -> anyhow::Result<Option<Turn>> {
        if !matches!(state, TurnState::Failed | TurnState::TimedOut) {
            return Ok(None);
        }
        let of_turn =
            EventsFilter { kind: Some("turn.retried".into()), turn: Some(turn.into()), limit: Some(1), ..EventsFilter::default() };
        let retried = loop {
            let answer = self.server.client.events(session, &of_turn).await;
            if let Some(events) = self.or_wait(answer).await? {
                break events.items.into_iter().next();
            }
        };
        let Some(retried) = retried else { return Ok(None) };
        let by = data::<Retried>(&retried)?.by;
        loop {
            let answer = self.server.client.turn(&by).await;
            if let Some(next) = self.or_wait(answer).await? {
                // What a person asked for again is another's.
                return Ok(Some(next).filter(|next| next.tries.prompts > 0 || next.tries.fallbacks > 0));
            }
        }
    }

    async fn watch_one(&mut self, turn: &str) -> anyhow::Result<End> {
        let begun = Instant::now();
        let mut cancelled = false;
        self.usage = None;
        loop {
            let Some((_, follow)) = &mut self.following else { anyhow::bail!("turn {turn} is not followed") };
            let asking = !self.questions.is_empty();
            let typed = typed(self.input.as_mut().filter(|input| asking && !input.has_ended()));
            select! {
                event = follow.next() => match event {
                    Ok(event) if event.turn.as_deref() == Some(turn) => {
                        if let Some(state) = self.show(&event, begun)? {
                            self.questions.clear();
                            return Ok(End::Turn(state));
                        }
                    }
                    Ok(_) => {}
                    Err(error) => _ = self.or_wait::<()>(Err(error)).await?,
                },
                () = self.interrupts.next() => {
                    self.screen.disturbed();
                    if cancelled {
                        self.screen.line_end()?;
                        return Ok(End::Left);
                    }
                    cancelled = true;
                    self.cancel(turn).await?;
                }
                line = typed => self.take_answer(line?).await?,
            }
        }
    }

    async fn cancel(&mut self, turn: &str) -> anyhow::Result<()> {
        match self.server.client.cancel_turn(turn).await {
            Ok(_) => Ok(self.screen.remark("cancelling (Ctrl-C again leaves)")?),
            Err(error) if error.code() == Some(ErrorCode::TurnEnded) => Ok(()),
            Err(error) => Ok(self.screen.complaint(&format!("cannot cancel: {error} (Ctrl-C again leaves)"))?),
        }
    }

    /// The turn's end, when this event is it.
    fn show(&mut self, event: &Event, begun: Instant) -> anyhow::Result<Option<TurnState>> {
        match event.kind.as_str() {
            "part.delta" => {
                let delta: Delta = data(event)?;
                match delta.kind {
                    DeltaKind::Text => self.screen.text(&delta.part, &delta.text)?,
                    DeltaKind::Reasoning => self.screen.reasoning(&delta.part, &delta.text)?,
                }
            }
            "tool.started" | "tool.updated" | "tool.completed" => {
                let tool: Tool = data(event)?;
                if let Some(title) = tool.title.or(tool.name) {
                    self.tools.insert(tool.part.clone(), title);
                }
                let title = self.tools.get(&tool.part).map_or("tool", String::as_str);
                self.screen.tool(&tool.part, title, tool.status)?;
            }
            "plan.updated" => self.show_plan(data(event)?)?,
            "usage" => self.usage = Some(data(event)?),
            "question.asked" => self.ask(data::<Asked>(event)?.question(event))?,
            "question.answered" | "question.expired" => {
                let settled: Settled = data(event)?;
                self.settle(&settled)?;
            }
            "turn.ended" => {
                let ended: Ended = data(event)?;
                self.show_end(ended.state, ended.reason.as_deref(), ended.error.as_ref(), Some(begun))?;
                return Ok(Some(ended.state));
            }
            // The rest is bookkeeping, or of a kind this version does not know.
            _ => {}
        }
        Ok(None)
    }

    fn show_plan(&mut self, plan: Plan) -> anyhow::Result<()> {
        let Payload::Json(entries) = plan.entries else { return Ok(()) };
        let Ok(entries) = serde_json::from_str::<Vec<PlanEntry>>(entries.get()) else { return Ok(()) };
        if !self.screen.is_pretty() {
            return Ok(());
        }
        for entry in entries {
            let mark = match entry.status.as_deref() {
                Some("completed") => "☑",
                Some("in_progress") => "◐",
                Some(_) | None => "☐",
            };
            self.screen.remark(&format!("{mark} {}", entry.content))?;
        }
        Ok(())
    }

    fn show_end(
        &mut self,
        state: TurnState,
        reason: Option<&str>,
        error: Option<&TurnError>,
        begun: Option<Instant>,
    ) -> anyhow::Result<()> {
        self.screen.line_end()?;
        let word = state.as_str().replace('_', " ");
        let because = match (error, reason) {
            (Some(error), _) => format!(": {}", error.message),
            (None, Some(reason)) if reason != state.as_str() => format!(" ({})", reason.replace('_', " ")),
            (None, _) => String::new(),
        };
        match state {
            TurnState::Completed => {}
            TurnState::Cancelled if self.screen.is_pretty() => self.screen.remark(&format!("■ {word}{because}"))?,
            _ => {
                let unsure =
                    if error.is_some_and(|error| error.may_have_happened) { "; the agent may have acted all the same" } else { "" };
                self.screen.complaint(&format!("{word}{because}{unsure}"))?;
            }
        }
        if self.screen.is_pretty() {
            let mut figures: Vec<String> = begun.map(|begun| took(begun.elapsed())).into_iter().collect();
            if let Some(usage) = &self.usage {
                let tokens = |count: Option<u64>, what| count.map(|count| format!("{count} tokens {what}"));
                figures.extend(tokens(usage.input_tokens, "in"));
                figures.extend(tokens(usage.output_tokens, "out"));
                figures.extend(usage.cost_usd_micros.map(|micros| format!("${}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100)));
            }
            if !figures.is_empty() {
                self.screen.remark(&figures.join(" · "))?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, question: Question) -> anyhow::Result<()> {
        self.questions.push_back(question);
        if self.questions.len() == 1 { self.show_question() } else { Ok(()) }
    }

    /// Shows the first open question to whoever can answer it here.
    fn show_question(&mut self) -> anyhow::Result<()> {
        let Some(question) = self.questions.front() else { return Ok(()) };
        match &mut self.input {
            Some(input) => {
                input.set_aside();
                self.screen.question(question)?;
            }
            None => {
                let session = &question.session;
                let text = format!("waiting for an answer to: {}; give it with `everkept chat --session {session}`", question.title);
                self.screen.remark(&text)?;
            }
        }
        Ok(())
    }

    async fn take_answer(&mut self, line: Option<String>) -> anyhow::Result<()> {
        let Some(question) = self.questions.front() else { return Ok(()) };
        let Some(line) = line else {
            return Ok(self.screen.remark("nobody is left to answer; the question stays open")?);
        };
        let Some(option) = choose(&question.options, &line) else {
            return Ok(self.screen.ask(&format!("a number from 1 to {}: ", question.options.len()))?);
        };
        let body = AnswerQuestion { option: option.id.clone(), note: None };
        match self.server.client.answer_question(&question.id, &body).await {
            // It is shown as what follows in the log.
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some(ErrorCode::QuestionAnswered | ErrorCode::QuestionExpired)) => Ok(()),
            Err(error) if is_gone(&error) => Ok(self.screen.ask("the server is gone; your answer, again: ")?),
            Err(error) => Err(error.into()),
        }
    }

    fn settle(&mut self, settled: &Settled) -> anyhow::Result<()> {
        let Some(at) = self.questions.iter().position(|question| question.id == settled.question) else { return Ok(()) };
        let was_shown = at == 0;
        let Some(question) = self.questions.remove(at) else { return Ok(()) };
        let answered =
            settled.option.as_ref().map(|id| question.options.iter().find(|option| option.id == *id).map_or(id, |option| &option.label));
        let text = match (answered, &settled.because) {
            (Some(label), _) => format!("→ {label}"),
            (None, Some(because)) => format!("→ no answer ({because})"),
            (None, None) => "→ no answer".to_owned(),
        };
        self.screen.remark(&text)?;
        if was_shown { self.show_question() } else { Ok(()) }
    }

    /// Asks about a turn that a crash interrupted; the turn that goes on with it, when one does.
    pub async fn review(&mut self, question: &Question) -> anyhow::Result<Option<String>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        self.screen.question(question)?;
        let option = loop {
            let line = select! {
                line = input.line() => line?,
                () = self.interrupts.next() => None,
            };
            match line.as_deref().map(str::trim) {
                None | Some("") => return Ok(None),
                Some(line) => match choose(&question.options, line) {
                    Some(option) => break option,
                    None => self.screen.ask(&format!("a number from 1 to {}: ", question.options.len()))?,
                },
            }
        };
        let body = AnswerQuestion { option: option.id.clone(), note: None };
        self.server.client.answer_question(&question.id, &body).await?;
        let snapshot = self.snapshot(&question.session).await?;
        Ok(snapshot.turns.into_iter().find(|turn| turn.state.is_open()).map(|turn| turn.id))
    }
}

/// The next line typed as an answer; never one when there is nothing to answer.
async fn typed(input: Option<&mut Input>) -> std::io::Result<Option<String>> {
    match input {
        Some(input) => input.fresh_line().await,
        None => std::future::pending().await,
    }
}

/// By number, by id or label, and by `y` or `n` where that is plain.
fn choose<'a>(options: &'a [QuestionOption], typed: &str) -> Option<&'a QuestionOption> {
    let typed = typed.trim();
    let of_kind = |kind| options.iter().find(|option| option.kind == kind);
    match typed.to_lowercase().as_str() {
        "" => None,
        "y" | "yes" => of_kind(OptionKind::AllowOnce),
        "n" | "no" => of_kind(OptionKind::RejectOnce),
        lower => {
            let by_number = typed.parse::<usize>().ok().and_then(|number| options.get(number.checked_sub(1)?));
            by_number.or_else(|| options.iter().find(|option| option.id == typed || option.label.to_lowercase() == lower))
        }
    }
}

pub fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn data<T: DeserializeOwned>(event: &Event) -> anyhow::Result<T> {
    serde_json::from_str(event.data.get())
        .map_err(|error| anyhow::anyhow!("event {} ({}) cannot be read: {error}; is the server of another version?", event.seq, event.kind))
}

#[derive(Deserialize)]
struct Delta {
    part: String,
    #[serde(rename = "type")]
    kind: DeltaKind,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeltaKind {
    Text,
    Reasoning,
}

#[derive(Deserialize)]
struct Tool {
    part: String,
    name: Option<String>,
    title: Option<String>,
    status: ToolStatus,
}

#[derive(Deserialize)]
struct Plan {
    entries: Payload,
}

#[derive(Deserialize)]
struct PlanEntry {
    content: String,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Retried {
    by: String,
}

#[derive(Deserialize)]
struct Ended {
    state: TurnState,
    reason: Option<String>,
    error: Option<TurnError>,
}

#[derive(Deserialize)]
struct Settled {
    question: String,
    option: Option<String>,
    because: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(rename = "type")]
    kind: QuestionKind,
    title: String,
    call: Payload,
    digest: String,
    options: Vec<QuestionOption>,
}

impl Asked {
    fn question(self, event: &Event) -> Question {
        Question {
            id: self.question,
            session: event.session.clone(),
            turn: event.turn.clone().unwrap_or_default(),
            kind: self.kind,
            title: self.title,
            call: self.call,
            digest: self.digest,
            options: self.options,
            state: QuestionState::Open,
            answer: None,
            asked_at: event.at.clone(),
            expires_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_chosen_by_number_id_label_or_yes_and_no() {
        let option = |id: &str, label: &str, kind| QuestionOption { id: id.into(), label: label.into(), kind };
        let options = [
            option("opt-a", "Allow", OptionKind::AllowOnce),
            option("opt-b", "Always", OptionKind::AllowAlways),
            option("opt-c", "Reject", OptionKind::RejectOnce),
        ];
        let chosen = |typed| choose(&options, typed).map(|option| option.id.as_str());
        assert_eq!(chosen(" 2 "), Some("opt-b"));
        assert_eq!(chosen("opt-c"), Some("opt-c"));
        assert_eq!(chosen("ALWAYS"), Some("opt-b"));
        assert_eq!(chosen("y"), Some("opt-a"));
        assert_eq!(chosen("n"), Some("opt-c"));
        for nothing in ["", "0", "4", "-1", "allo"] {
            assert_eq!(chosen(nothing), None, "{nothing}");
        }
    }
}
