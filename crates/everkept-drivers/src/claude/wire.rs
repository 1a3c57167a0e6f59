//! The lines between us and the agent: what one wants of us, and what we say.
//!
//! Never: an error for a line; what is of no known kind is told apart and kept.

use crate::json::{Object, Value};
use everkept_core::Json;
use serde::Serialize;
use serde_json::{Value as Owned, json};

/// One line, by what it wants of us.
pub enum Incoming<'a> {
    /// The answer to a request of ours; what went wrong, when it did.
    Answer { id: String, answer: Result<(), String> },
    /// To be answered with the same id.
    Request { id: String, request: Value<'a> },
    /// A request of the agent's that wants no answer any more.
    Withdrawn { id: String },
    /// The end of a turn.
    Result(Object<'a>),
    /// Anything else that says what it is.
    Event { kind: String, fields: Object<'a> },
    /// JSON that does not.
    Stray(Json),
    /// Not even JSON.
    Noise(String),
}

impl<'a> Incoming<'a> {
    pub fn read(line: &'a str) -> Self {
        Self::read_typed(line).unwrap_or_else(|| match Json::parse(line.to_owned()) {
            Ok(json) => Self::Stray(json),
            Err(text) => Self::Noise(text),
        })
    }

    fn read_typed(line: &'a str) -> Option<Self> {
        let fields = Object::parse(line)?;
        let kind = fields.text("type")?;
        Some(match kind.as_str() {
            "control_response" => {
                let response = fields.object("response");
                let answer = match response.text("subtype").as_deref() {
                    Some("success") => Ok(()),
                    Some(_) | None => Err(response.text("error").unwrap_or_else(|| "no message".into())),
                };
                Self::Answer { id: response.text("request_id")?, answer }
            }
            "control_request" => Self::Request { id: fields.text("request_id")?, request: fields.get("request")? },
            "control_cancel_request" => Self::Withdrawn { id: fields.text("request_id")? },
            "result" => Self::Result(fields),
            _ => Self::Event { kind, fields },
        })
    }
}

// What we say.

/// `id` is what the agent knows a prompt by.
pub fn prompt(id: &str, content: Owned) -> Vec<u8> {
    line(&json!({ "type": "user", "uuid": id, "message": { "role": "user", "content": content } }))
}

pub fn request(id: &str, request: Owned) -> Vec<u8> {
    line(&json!({ "type": "control_request", "request_id": id, "request": request }))
}

/// The answer to a request of the agent's.
pub fn response(id: &str, response: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        r#type: &'static str,
        response: Inner<'a, T>,
    }
    #[derive(Serialize)]
    struct Inner<'a, T> {
        subtype: &'static str,
        request_id: &'a str,
        response: &'a T,
    }
    line(&Answer { r#type: "control_response", response: Inner { subtype: "success", request_id: id, response } })
}

pub fn not_served(id: &str) -> Vec<u8> {
    let response = json!({ "subtype": "error", "request_id": id, "error": "this is not served here" });
    line(&json!({ "type": "control_response", "response": response }))
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).expect("our own messages have string keys only");
    bytes.push(b'\n');
    bytes
}
