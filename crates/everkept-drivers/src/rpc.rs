//! JSON-RPC lines, as agents write them and as they want to be written to: with the version field or without.
//!
//! Never: an error for a line; what is no JSON-RPC is told apart and kept.

use crate::json::{Object, Value};
use everkept_core::Json;
use serde::Serialize;
use serde_json::value::RawValue;

/// Anything else an agent may write as an id of its own is echoed, never understood.
pub type RequestId = u64;

/// One line, by what it wants of us.
pub enum Incoming<'a> {
    /// The answer to a request of ours.
    Answer {
        id: RequestId,
        answer: Result<Value<'a>, RpcError>,
    },
    /// To be answered with the same id.
    Request {
        id: &'a RawValue,
        method: String,
        params: Object<'a>,
    },
    Notification {
        method: String,
        params: Object<'a>,
    },
    /// JSON that is no JSON-RPC.
    Stray(Json),
    /// Not even JSON.
    Noise(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// As it was written.
    pub code: String,
    pub message: String,
}

/// Some agents write what their users should read into `data`.
const MAX_DETAIL: usize = 500;

impl<'a> Incoming<'a> {
    pub fn read(line: &'a str) -> Self {
        Self::read_rpc(line).unwrap_or_else(|| match Json::parse(line.to_owned()) {
            Ok(json) => Self::Stray(json),
            Err(text) => Self::Noise(text),
        })
    }

    fn read_rpc(line: &'a str) -> Option<Self> {
        let message = Object::parse(line)?;
        let id = message.get("id");
        match (message.text("method"), id) {
            (Some(method), Some(Value(id))) => Some(Self::Request { id, method, params: message.object("params") }),
            (Some(method), None) => Some(Self::Notification { method, params: message.object("params") }),
            (None, Some(id)) => {
                let answer = match message.get("error") {
                    Some(error) => Err(RpcError::read(error)),
                    None => Ok(message.get("result").unwrap_or(Value(RawValue::NULL))),
                };
                Some(Self::Answer { id: id.number()?, answer })
            }
            (None, None) => None,
        }
    }
}

impl RpcError {
    fn read(error: Value<'_>) -> Self {
        let object = error.object();
        let code = object.get("code").map_or("unknown".into(), |code| code.json().get().to_owned());
        let mut message = object.text("message").unwrap_or_else(|| "no message".into());
        let data = object.get("data");
        let detail = data.and_then(|data| data.text().or_else(|| data.object().text("message")).or_else(|| data.object().text("details")));
        if let Some(detail) = detail.filter(|detail| *detail != message) {
            message.push_str(": ");
            message.extend(detail.chars().take(MAX_DETAIL));
        }
        Self { code, message }
    }
}

/// Writes our side.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    version: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    jsonrpc: Option<&'static str>,
    #[serde(flatten)]
    body: Body<'a, T>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a, T> {
    Request { id: RequestId, method: &'a str, params: T },
    Notification { method: &'a str, params: T },
    Result { id: &'a RawValue, result: T },
    Error { id: &'a RawValue, error: T },
}

const METHOD_NOT_FOUND: i32 = -32601;

impl Writer {
    pub const VERSION_2: Self = Self { version: Some("2.0") };
    pub const WITHOUT_VERSION: Self = Self { version: None };

    pub fn request(self, id: RequestId, method: &str, params: impl Serialize) -> Vec<u8> {
        self.line(Body::Request { id, method, params })
    }

    pub fn notification(self, method: &str, params: impl Serialize) -> Vec<u8> {
        self.line(Body::Notification { method, params })
    }

    pub fn result(self, id: &RawValue, result: impl Serialize) -> Vec<u8> {
        self.line(Body::Result { id, result })
    }

    pub fn method_not_found(self, id: &RawValue, method: &str) -> Vec<u8> {
        let error = serde_json::json!({ "code": METHOD_NOT_FOUND, "message": format!("{method} is not served here") });
        self.line(Body::Error { id, error })
    }

    fn line(self, body: Body<'_, impl Serialize>) -> Vec<u8> {
        let message = Message { jsonrpc: self.version, body };
        let mut bytes = serde_json::to_vec(&message).expect("our own messages have string keys only");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_size_are_nobodys_concern() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(matches!(Incoming::read(&deep), Incoming::Stray(json) if json.get() == deep));
        let line = format!(r#"{{"method":"m","params":{{"deep":{deep},"huge":1{}}}}}"#, "0".repeat(1_000));
        let Incoming::Notification { params, .. } = Incoming::read(&line) else { panic!("a notification") };
        assert_eq!(params.get("deep").map(|deep| deep.0.get().len()), Some(20_000));
        assert_eq!(params.get("huge").and_then(Value::number), None);
    }
}
