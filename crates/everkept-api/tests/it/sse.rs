//! The reader of server-sent events.

use everkept_api::client::{Sse, SseReader};

#[test]
fn events_come_out_the_same_however_the_bytes_are_cut() {
    let stream =
        "\u{feff}: hello\nid: 7\nevent: part.delta\ndata: {\"a\":\ndata: \"ü\"}\n\nretry: 5\r\ndata:x\r\n\r\ndata\r\rid: 9\n\n".as_bytes();
    let expected = vec![
        Sse { id: Some("7".into()), event: Some("part.delta".into()), data: "{\"a\":\n\"ü\"}".into() },
        Sse { id: None, event: None, data: "x".into() },
        Sse { id: None, event: None, data: String::new() },
    ];
    for size in 1..=stream.len() {
        let mut reader = SseReader::default();
        let events: Vec<Sse> = stream.chunks(size).flat_map(|chunk| reader.push(chunk)).collect();
        assert_eq!(events, expected, "cut every {size} bytes");
    }
}

#[test]
fn an_event_without_its_blank_line_is_not_handed_out() {
    assert_eq!(SseReader::default().push(b"id: 1\ndata: {}\n"), vec![]);
}
