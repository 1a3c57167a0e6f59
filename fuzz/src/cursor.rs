//! Cursors and the other words of a list's address.
//!
//! Never: a cursor taken that is not written just as ours are, or a page that skips a row or repeats one.

use crate::house::{House, visit};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use std::sync::{LazyLock, Mutex};

const SESSIONS: usize = 5;
/// Lists, and the query key each cursor stands under.
const LISTS: &[(&str, &str)] = &[
    ("/api/sessions", "cursor"),
    ("/api/threads/owner", "cursor"),
    ("/api/sessions/SES/messages", "cursor"),
    ("/api/sessions/SES/messages", "before"),
    ("/api/sessions/SES/turns", "cursor"),
    ("/api/sessions/SES/events", "after"),
    ("/api/sessions/SES/events", "before"),
];

static SESSION: LazyLock<Mutex<String>> = LazyLock::new(Mutex::default);

pub fn run(bytes: &[u8]) {
    let [list, limit, text @ ..] = bytes else { return };
    let (path, key) = LISTS[usize::from(*list) % LISTS.len()];
    visit(furnish, |house| {
        let path = path.replace("SES", &SESSION.lock().expect("nothing panics while it is held"));
        taken(house, &path, key, text);
        walk(house, &path, key, 1 + usize::from(limit % 4));
    });
}

/// Sessions with threads, and in one of them turns and messages.
fn furnish(house: &House) {
    for n in 0..SESSIONS {
        let body = format!(r#"{{"thread":"thread {n}","resource":"owner"}}"#);
        assert_eq!(house.ask("POST", "/api/sessions", &body).status, 201);
    }
    let session = house.session();
    for text in ["one", "two", "three"] {
        let messages = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let recorded = house.ask("POST", &format!("/api/sessions/{session}/messages"), &messages);
        assert_eq!(recorded.status, 200, "{}", String::from_utf8_lossy(&recorded.body));
        let turn = house.ask("POST", &format!("/api/sessions/{session}/turns"), &format!(r#"{{"input":"{text}"}}"#));
        assert_eq!(turn.status, 202);
    }
    *SESSION.lock().expect("nothing panics while it is held") = session;
}

/// Whatever is taken for a cursor is one of ours, to the letter.
fn taken(house: &House, path: &str, key: &str, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    let encoded: String = text.iter().map(|byte| format!("%{byte:02X}")).collect();
    let answer = house.ask("GET", &format!("{path}?{key}={encoded}"), "");
    assert!(matches!(answer.status, 200 | 400 | 422), "{answer:?}");
    if answer.status != 200 {
        assert_eq!(answer.json()["error"]["field"], key);
        return;
    }
    let text = std::str::from_utf8(text).expect("a cursor is text");
    if path.ends_with("/events") {
        let number: u64 = text.parse().expect("an event's number is digits");
        assert!(number <= i64::MAX as u64);
        return;
    }
    let place = BASE64_URL_SAFE_NO_PAD.decode(text).expect("a cursor is base64");
    let value: Value = serde_json::from_slice(&place).expect("a cursor is JSON");
    assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(value.to_string()), text, "{value}");
}

/// Page by page a list has the same rows as on one page.
fn walk(house: &House, path: &str, key: &str, limit: usize) {
    let whole = house.ask("GET", &format!("{path}?limit=1000"), "").json();
    let backward = key == "before" && path.ends_with("/messages");
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut next = if backward { format!("last={limit}") } else { format!("limit={limit}") };
    loop {
        let page = house.ask("GET", &format!("{path}?{next}"), "").json();
        let items = page["items"].as_array().expect("a page has items");
        assert!(items.len() <= limit);
        assert_eq!(page["has_more"], !page["next_cursor"].is_null());
        pages.push(items.clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        // Events are walked forward only.
        let key = if path.ends_with("/events") { "after" } else { key };
        next = format!("limit={limit}&{key}={cursor}");
    }
    if backward {
        pages.reverse();
    }
    assert_eq!(Value::Array(pages.concat()), whole["items"]);
}
