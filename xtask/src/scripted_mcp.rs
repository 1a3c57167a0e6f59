//! A server of the Model Context Protocol for tests: it writes down that it was started, and offers one tool.
//!
//! Each start is a line of `mcp.log` in `SCRIPTED_DIR`: its arguments, and `SCRIPTED_SECRET`.
//! Never: more of the protocol than makes an agent take it for a server.

use crate::scripted_agent::{append, say};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead},
    path::PathBuf,
};

const UNKNOWN_METHOD: i64 = -32601;

pub fn run(args: &[String]) -> Result<()> {
    let folder = PathBuf::from(std::env::var_os("SCRIPTED_DIR").context("SCRIPTED_DIR is not set")?);
    let secret = std::env::var("SCRIPTED_SECRET").unwrap_or_default();
    append(&folder.join("mcp.log"), &format!("{}\n", json!({ "args": args, "secret": secret })))?;
    for line in io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?).context("reading a line")?;
        let Some(id) = message.get("id") else { continue };
        let answer = match message["method"].as_str().unwrap_or_default() {
            "initialize" => Ok(json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "scripted", "version": "1" },
            })),
            "tools/list" => Ok(json!({ "tools": [{
                "name": "look", "description": "Looks.", "inputSchema": { "type": "object", "properties": {} },
            }] })),
            "ping" => Ok(json!({})),
            method => Err(json!({ "code": UNKNOWN_METHOD, "message": format!("Method not found: {method}") })),
        };
        say(&match answer {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
        });
    }
    Ok(())
}
