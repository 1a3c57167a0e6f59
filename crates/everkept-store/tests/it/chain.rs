//! What was linked once is linked the same way for ever.

use everkept_store::{CHAIN_START, link, sum};

#[test]
fn d6_checksums_and_chains_are_what_they_were_in_every_earlier_log() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&sum(b"abc")), "ba7816bf8f01cfea");
    let (first, chain) = link(&CHAIN_START, b"abc");
    assert_eq!((first, hex(&chain).as_str()), (sum(b"abc"), "589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d"));
    let (second, chain) = link(&chain, b"");
    assert_eq!((second, hex(&chain).as_str()), (sum(b""), "ef6a5fdbba9e14e07fa74d23b7ae639d146ce41635cf3fe44315988c4cbd0caf"));
}
