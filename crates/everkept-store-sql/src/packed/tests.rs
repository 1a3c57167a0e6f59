use super::*;

/// A delta as the store writes it.
fn delta(seq: u64, part: &str, at: &str, text: &str) -> Vec<u8> {
    let data = format!(r#"{{"message":"m","part":"{part}","type":"text","text":"{text}"}}"#);
    format!(r#"{{"seq":{seq},"kind":"part.delta","at":"{at}","data":{data}}}"#).into_bytes()
}

/// Packs all of them, which must go on with each other.
fn packed(first: u64, bodies: &[Vec<u8>]) -> Option<Packed> {
    let mut packer = Packer::default();
    for (seq, body) in (first..).zip(bodies) {
        assert_eq!(packer.add(seq, body.clone()), None, "event {seq} goes on with the run");
    }
    packer.finish()
}

fn three() -> Vec<Vec<u8>> {
    vec![delta(7, "p", "10:00", "a"), delta(8, "p", "10:05", "bc"), delta(9, "p", "11", "")]
}

/// Rows of this form are on people's disks.
#[test]
fn the_form_of_a_packed_row_stays_as_it_is() {
    let packed = packed(7, &three()).unwrap();
    assert_eq!((packed.first, packed.last), (7, 9));
    let names = br#","kind":"part.delta","at":""#;
    let part = br#"","data":{"message":"m","part":"p","type":"text","text":""#;
    let mut expected = vec![1, 3, names.len() as u8];
    expected.extend_from_slice(names);
    expected.push(part.len() as u8);
    expected.extend_from_slice(part);
    expected.extend_from_slice(b"\x03\"}}");
    expected.extend_from_slice(b"\x00\x0510:00\x01\x04\x015\x02\x01\x011\x00abc");
    assert_eq!(packed.bytes, expected);
    assert_eq!(unpack(&packed.bytes, 7), Some(three()));
    assert_eq!(unpack(&packed.bytes, 1_000).unwrap()[2], delta(1_002, "p", "11", ""), "numbers are not kept");
}

#[test]
fn what_is_no_packed_row_unpacks_to_nothing() {
    let good = packed(7, &three()).unwrap().bytes;
    for end in 0..good.len() {
        assert_eq!(unpack(&good[..end], 7), None, "cut after {end} bytes");
    }
    assert_eq!(unpack(&[good.as_slice(), b"x"].concat(), 7), None, "something behind it");
    assert_eq!(unpack(&[&[2], &good[1..]].concat(), 7), None, "another form");
    let of = |count: usize| {
        let mut row = vec![FORM];
        put(&mut row, count);
        row.extend_from_slice(&[0, 0, 0]);
        row.extend(vec![0; 3 * count]);
        unpack(&row, 1).map(|bodies| bodies.len())
    };
    assert_eq!((of(1_000), of(1_001), of(usize::MAX >> 40)), (Some(1_000), None, None));
    assert_eq!(unpack(&[FORM, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 1), None, "a number without end");
}

#[test]
fn numbers_of_every_size_are_read_as_they_were_put() {
    for (number, bytes) in [(0, 1), (1, 1), (127, 1), (128, 2), (300, 2), (16_383, 2), (16_384, 3), (usize::MAX, 10)] {
        let mut written = Vec::new();
        put(&mut written, number);
        assert_eq!(written.len(), bytes, "{number}");
        let mut input = Input(&written);
        assert_eq!((input.number(), input.0.len()), (Some(number), 0));
    }
    let mut written = Vec::new();
    put(&mut written, 300);
    assert_eq!(written, [0xAC, 0x02]);
}

#[test]
fn a_run_ends_where_the_next_event_does_not_go_on_with_it() {
    let first = || {
        let mut packer = Packer::default();
        assert_eq!(packer.add(7, delta(7, "p", "10:00", "a")), None);
        packer
    };
    let other_body = br#"{"seq":8,"kind":"tool.started","at":"10:00","data":{}}"#.to_vec();
    for (seq, body, why) in [
        (8, delta(8, "q", "10:00", "a"), "another part"),
        (9, delta(9, "p", "10:00", "a"), "a gap"),
        (7, delta(7, "p", "10:00", "a"), "the same number"),
        (8, delta(9, "p", "10:00", "a"), "another number in it"),
        (8, other_body, "no delta"),
        (8, Vec::new(), "damaged"),
    ] {
        let mut run = first();
        assert_eq!(run.add(seq, body.clone()), Some(body), "{why}");
        assert!(run.finish().is_none(), "{why}: one event is no run");
    }
    let mut run = Packer::default();
    assert_eq!(run.add(7, Vec::new()), None, "anything begins a run");
    assert_eq!(run.add(8, delta(8, "p", "10:00", "a")), Some(delta(8, "p", "10:00", "a")), "and ends it");
    assert!(Packer::default().finish().is_none());
}

#[test]
fn a_row_has_a_thousand_events_and_64_kib_of_text_at_most() {
    let mut run = Packer::default();
    let taken = (1..2_000).take_while(|seq| run.add(*seq, delta(*seq, "p", "10:00", "")).is_none()).count();
    assert_eq!((taken, run.finish().unwrap().last), (1_000, 1_000));
    let first = delta(1, "p", "10:00", "");
    let most = "x".repeat(MAX_TEXT - first.len());
    let mut run = Packer::default();
    assert_eq!((run.add(1, first), run.add(2, delta(2, "p", "10:00", &most))), (None, None));
    assert!(run.add(3, delta(3, "p", "10:00", "x")).is_some(), "it has all it can hold");
    assert_eq!(run.finish().unwrap().last, 2, "two are a run");
    let text = "x".repeat(10_000);
    let mut run = Packer::default();
    let taken = (1..50).take_while(|seq| run.add(*seq, delta(*seq, "p", "10:00", &text)).is_none()).count();
    assert_eq!(taken, 7, "the first counts whole, and the last may reach beyond");
    let packed = run.finish().unwrap();
    assert!((MAX_TEXT..MAX_TEXT + 20_000).contains(&packed.bytes.len()), "{}", packed.bytes.len());
}
