//! Times no calendar has are shown as the nearest one, and never stop a server.

use everkept_core::{Body, ContextCleared, Event, SessionId, Timestamp};
use everkept_store::{decode, encode};

#[test]
fn an_event_of_any_time_is_stored_and_read() {
    for at in [i64::MIN, -1, 0, 1, i64::MAX] {
        let event = Event {
            session: SessionId(Default::default()),
            turn: None,
            context: 1,
            at: Timestamp(at),
            body: Body::from(ContextCleared {}),
        };
        let (seq, read) = decode(&encode(&event, 7)).unwrap();
        assert_eq!(seq, 7);
        assert!(at.unsigned_abs() > 1 || read == event);
    }
}
