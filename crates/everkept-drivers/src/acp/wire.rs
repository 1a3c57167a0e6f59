//! What is said to an agent: JSON-RPC 2.0 lines.
//!
//! Never: a line that is not whole.

use crate::rpc::RequestId;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(untagged)]
enum Outgoing<'a, T: Serialize> {
    Request { jsonrpc: &'static str, id: RequestId, method: &'a str, params: T },
    Notification { jsonrpc: &'static str, method: &'a str, params: T },
    Result { jsonrpc: &'static str, id: &'a RawValue, result: T },
    Error { jsonrpc: &'static str, id: &'a RawValue, error: T },
}

const VERSION: &str = "2.0";
const METHOD_NOT_FOUND: i32 = -32601;

pub fn request(id: RequestId, method: &str, params: impl Serialize) -> Vec<u8> {
    line(&Outgoing::Request { jsonrpc: VERSION, id, method, params })
}

pub fn notification(method: &str, params: impl Serialize) -> Vec<u8> {
    line(&Outgoing::Notification { jsonrpc: VERSION, method, params })
}

pub fn result(id: &RawValue, result: impl Serialize) -> Vec<u8> {
    line(&Outgoing::Result { jsonrpc: VERSION, id, result })
}

pub fn method_not_found(id: &RawValue, method: &str) -> Vec<u8> {
    let error = serde_json::json!({ "code": METHOD_NOT_FOUND, "message": format!("{method} is not served here") });
    line(&Outgoing::Error { jsonrpc: VERSION, id, error })
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).expect("our own messages have string keys only");
    bytes.push(b'\n');
    bytes
}
