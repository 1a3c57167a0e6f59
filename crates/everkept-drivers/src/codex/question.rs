//! What Codex asks, as questions; and what each answer is in its words.
//!
//! Never: an answer that Codex did not offer, but for the plain no.

use super::convert;
use crate::json::{Object, Value};
use everkept_agent::digest_of_call;
use everkept_core::{Asked, Json, OptionKind, Payload, QuestionId, QuestionKind, QuestionOption, TurnId};
use serde_json::{Value as Owned, json};

/// The answers a question can have.
pub struct Choices {
    /// By the option's id.
    answers: Vec<(QuestionOption, Owned)>,
    no: Owned,
}

impl Choices {
    /// No option means no, and so does one that was not offered.
    pub fn answer(&self, option: Option<&str>) -> &Owned {
        let chosen = self.answers.iter().find(|(offered, _)| Some(offered.id.as_str()) == option);
        chosen.map_or(&self.no, |(_, answer)| answer)
    }
}

/// A request to be settled by a human; none if it is something else. `item` is the tool call it is about, if that was begun.
pub fn read(turn: TurnId, request: &str, method: &str, params: Value<'_>, item: Option<Json>) -> Option<(Asked, Choices)> {
    let fields = params.object();
    let (title, call, choices) = match method {
        "item/commandExecution/requestApproval" => {
            (fields.text("command").or_else(|| fields.text("reason")), params.json(), decisions(&fields))
        }
        // The request has nothing of what is to be changed.
        "item/fileChange/requestApproval" => {
            let title = item.as_ref().and_then(|item| convert::paths(&Object::parse(item.get())?));
            (title, item.unwrap_or_else(|| params.json()), decisions(&fields))
        }
        "item/permissions/requestApproval" => (fields.text("reason"), params.json(), permissions(&fields)),
        "mcpServer/elicitation/request" => (fields.text("message"), params.json(), elicitation(&fields)?),
        "item/tool/requestUserInput" => return choice(turn, request, params),
        _ => return None,
    };
    Some((asked(turn, request, QuestionKind::Permission, title, call, &choices), choices))
}

fn asked(turn: TurnId, request: &str, kind: QuestionKind, title: Option<String>, call: Json, choices: &Choices) -> Asked {
    Asked {
        question: QuestionId::derive(turn.0, request, 0),
        kind,
        title: title.unwrap_or_else(|| "permission".into()),
        digest: digest_of_call(&call),
        call: Payload::Json(call),
        request: request.to_owned(),
        options: choices.answers.iter().map(|(option, _)| option.clone()).collect(),
        expires_at: None,
    }
}

/// Those that are offered, and always the one to say no without an end of the turn.
fn decisions(fields: &Object<'_>) -> Choices {
    let offered = fields.list("availableDecisions");
    let mut answers: Vec<_> = offered.iter().enumerate().filter_map(|(number, offered)| decision(number, *offered)).collect();
    if answers.is_empty() {
        answers = ["accept", "acceptForSession"].into_iter().map(word).collect();
    }
    if !answers.iter().any(|(option, _)| option.id == "decline") {
        let before = answers.iter().position(|(option, _)| option.id == "cancel").unwrap_or(answers.len());
        answers.insert(before, word("decline"));
    }
    Choices { answers, no: json!({ "decision": "decline" }) }
}

fn word(word: &str) -> (QuestionOption, Owned) {
    let (label, kind) = match word {
        "accept" => ("Allow once", OptionKind::AllowOnce),
        "acceptForSession" => ("Allow for this session", OptionKind::AllowAlways),
        "decline" => ("Reject", OptionKind::RejectOnce),
        "cancel" => ("Reject and stop", OptionKind::RejectOnce),
        other => (other, OptionKind::Other),
    };
    (QuestionOption { id: word.to_owned(), label: label.to_owned(), kind }, json!({ "decision": word }))
}

/// A word, or an object whose one key is the word: the rule that is to be kept.
fn decision(number: usize, decision: Value<'_>) -> Option<(QuestionOption, Owned)> {
    if let Some(text) = decision.text() {
        return Some(word(&text));
    }
    let fields = decision.object();
    let kept = fields.keys().next()?.to_owned();
    let rule = fields.object(&kept);
    let network = rule.object("network_policy_amendment");
    let (label, kind) = match network.text("action").as_deref() {
        Some("deny") => (format!("Always reject {}", network.text("host").unwrap_or_default()), OptionKind::RejectAlways),
        Some(_) => (format!("Always allow {}", network.text("host").unwrap_or_default()), OptionKind::AllowAlways),
        None => {
            let words: Vec<String> = rule.list("execpolicy_amendment").into_iter().filter_map(Value::text).collect();
            (format!("Always allow {}", words.join(" ")), OptionKind::AllowAlways)
        }
    };
    let answer = serde_json::from_str::<Owned>(decision.0.get()).ok()?;
    Some((QuestionOption { id: format!("{kept}-{number}"), label, kind }, json!({ "decision": answer })))
}

/// More than the sandbox gives: all of what is asked for, or nothing.
fn permissions(fields: &Object<'_>) -> Choices {
    let wanted = fields.get("permissions").and_then(|wanted| serde_json::from_str::<Owned>(wanted.0.get()).ok());
    let no = json!({ "permissions": {} });
    let give = |scope: &str, label: &str, kind| {
        let option = QuestionOption { id: scope.to_owned(), label: label.to_owned(), kind };
        wanted.as_ref().map(|wanted| (option, json!({ "permissions": wanted, "scope": scope })))
    };
    let given = [give("turn", "Allow once", OptionKind::AllowOnce), give("session", "Allow for this session", OptionKind::AllowAlways)];
    let reject = QuestionOption { id: "none".into(), label: "Reject".into(), kind: OptionKind::RejectOnce };
    Choices { answers: given.into_iter().flatten().chain([(reject, no.clone())]).collect(), no }
}

/// What an MCP server asks, by way of Codex: a yes or a no. A form to be filled has no place here.
fn elicitation(fields: &Object<'_>) -> Option<Choices> {
    let form = fields.object("requestedSchema").object("properties");
    if fields.text("mode").as_deref() != Some("form") || form.keys().next().is_some() {
        return None;
    }
    let option = |id: &str, label: &str, kind| QuestionOption { id: id.into(), label: label.into(), kind };
    let (yes, no) = (json!({ "action": "accept", "content": {} }), json!({ "action": "decline" }));
    let answers = vec![
        (option("accept", "Allow once", OptionKind::AllowOnce), yes),
        (option("decline", "Reject", OptionKind::RejectOnce), no.clone()),
    ];
    Some(Choices { answers, no })
}

/// One question with answers to choose from. Several at once, or one for free words, have no place here.
fn choice(turn: TurnId, request: &str, params: Value<'_>) -> Option<(Asked, Choices)> {
    let questions = params.object().list("questions");
    let [question] = questions[..] else { return None };
    let question = question.object();
    let id = question.text("id")?;
    let labels = question.list("options").into_iter().filter_map(|option| option.object().text("label"));
    let answers: Vec<_> = labels
        .map(|label| {
            let option = QuestionOption { id: label.clone(), label: label.clone(), kind: OptionKind::Other };
            let mut answers = serde_json::Map::new();
            answers.insert(id.clone(), json!({ "answers": [label] }));
            (option, json!({ "answers": answers }))
        })
        .collect();
    if answers.is_empty() {
        return None;
    }
    let choices = Choices { answers, no: json!({ "answers": {} }) };
    Some((asked(turn, request, QuestionKind::Choice, question.text("question"), params.json(), &choices), choices))
}
