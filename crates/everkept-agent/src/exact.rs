//! When two calls that an agent asks about are the same one, so that "always" said to one holds for the other.
//!
//! Everything they say counts, but for the names that make each of them one of its own, and what may be answered. A relay
//! has no say in it: both sides of a link reckon by this.
//! Never: the same, of calls that do not say what they would do.

use everkept_core::{Json, TextDigest, digest_of};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One of them tells what is done, in the words of any protocol: arguments, a tool, a command, rights, changes of files. A
/// call whose arguments were told before, and are not in it, does not say.
const SAYS: &[&str] = &["rawInput", "tool_name", "command", "permissions", "changes"];

/// What is another's each time, or is no part of what is done.
const NAMES: &[&str] = &[
    "toolCallId",
    "tool_use_id",
    "threadId",
    "turnId",
    "itemId",
    "approvalId",
    "callId",
    "id",
    "status",
    "startedAtMs",
    "permission_suggestions",
    "availableDecisions",
    "proposedExecpolicyAmendment",
];

pub fn digest_of_call(call: &Json) -> TextDigest {
    let Ok(mut fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(call.get()) else { return digest_of(call.get()) };
    let told = |key: &&str| fields.get(*key).is_some_and(|value| !matches!(value.get(), "{}" | "[]" | "\"\"" | "null"));
    if !SAYS.iter().any(told) {
        return digest_of(call.get());
    }
    fields.retain(|key, _| !NAMES.contains(&key.as_str()));
    digest_of(Json::of(&fields).get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a7_what_would_be_done_counts_and_not_how_the_call_is_named() {
        let digest = |call: &str| digest_of_call(&Json::parse(call.into()).unwrap());
        let one = digest(r#"{"toolCallId":1,"rawInput":{"command":"x"},"kind":"execute"}"#);
        assert_eq!(one, digest(r#"{"kind":"execute","toolCallId":"2","rawInput":{"command":"x"}}"#));
        for other in [
            r#"{"rawInput":{"command":"y"},"kind":"execute"}"#,
            r#"{"rawInput":{"command":"x","cwd":"/"},"kind":"execute"}"#,
            r#"{"rawInput":{"command":"x"},"kind":"edit"}"#,
            r#"{"rawInput":{"command":"x"}}"#,
            r#"{"rawInput":{"command":"x"},"kind":"execute","title":"x"}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
        let codex = |cwd: &str, turn: &str| digest(&format!(r#"{{"command":"x","cwd":"{cwd}","turnId":"{turn}","itemId":"i-{turn}"}}"#));
        assert_eq!(codex("/a", "1"), codex("/a", "2"));
        assert_ne!(codex("/a", "1"), codex("/b", "1"));
        for nothing in [r#""toolCallId":ID"#, r#""id":ID,"rawInput":{}"#, r#""id":ID,"command":null"#, r#""id":ID,"title":"x""#] {
            let call = |id: &str| digest(&format!("{{{}}}", nothing.replace("ID", id)));
            assert_ne!(call("1"), call("2"), "{nothing}");
        }
    }
}
