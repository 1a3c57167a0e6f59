//! What was linked once is linked the same way for ever.

use everkept_store::{CHAIN_START, fits, link, sum};

#[test]
fn d6_checksums_and_chains_are_what_they_were_in_every_earlier_log() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // XXH3 of 64 bits without a seed, as other programs work it out.
    assert_eq!(hex(&sum(b"abc")), "78af5f94892f3950");
    let (first, chain) = link(&CHAIN_START, b"abc");
    assert_eq!((first, hex(&chain).as_str()), (sum(b"abc"), "589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d"));
    let (second, chain) = link(&chain, b"");
    assert_eq!((second, hex(&chain).as_str()), (sum(b""), "ef6a5fdbba9e14e07fa74d23b7ae639d146ce41635cf3fe44315988c4cbd0caf"));
}

#[test]
fn d6_bytes_fit_the_checksum_of_every_version_and_no_others_do() {
    // Until schema version 3 it was how the SHA-256 of the bytes begins.
    let old = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];
    for kept in [sum(b"abc"), old] {
        assert!(fits(b"abc", kept));
        for bit in 0..24 {
            let mut other = *b"abc";
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!fits(&other, kept), "{other:?}");
        }
    }
    assert!(!fits(b"abc", [0; 8]));
}
