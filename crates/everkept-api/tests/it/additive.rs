//! What newer servers say is read by older clients.

use everkept_api::{Event, Session};

#[test]
fn ag_10_an_event_of_an_unknown_kind_is_read_like_any_other() {
    let text = r#"{"seq":7,"kind":"weather.changed","session":"ses_1","turn":null,"context":2,"at":"2026-01-01T00:00:00Z","data":{"n":1e400},"later":true}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    assert_eq!((event.seq, event.kind.as_str(), event.context), (7, "weather.changed", 2));
    assert_eq!(serde_json::to_string(&event.data).unwrap(), r#"{"n":1e400}"#);
}

#[test]
fn ag_10_an_answer_with_keys_of_tomorrow_is_read() {
    let session = r#"{"id":"ses_1","slug":"s","title":null,"resource":null,"thread":null,"directory":"/d","agent":null,"model":null,
        "state":"idle","context":0,"parent":null,"agent_sessions":[],"usage":{},"metadata":{},"file_changes":null,"rules":[],
        "revert":null,"compacting_at":null,"archived_at":null,"created_at":"t","updated_at":"t","mood":"good"}"#;
    assert_eq!(serde_json::from_str::<Session>(session).unwrap().id, "ses_1");
}
