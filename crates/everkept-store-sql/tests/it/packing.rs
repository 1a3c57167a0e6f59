//! Packing saves rows and space in the file.

use crate::{open, raw};
use everkept_store::{
    Store,
    conformance::{Hand, block_on, log},
};

#[test]
fn packed_deltas_take_one_row_and_less_space_and_read_back_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let words: Vec<String> = (0..2_500).map(|n| format!("word{n} ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (session, turn) = block_on(async {
        let mut hand = Hand::new(&store);
        let session = hand.create(None).await;
        let turn = hand.talk(session, "many words", &words).await;
        (session, turn)
    });
    let size = || -> (i64, i64) {
        let find = "SELECT COUNT(*), SUM(length(body) + length(chain)) FROM event WHERE kind = 'part.delta'";
        raw(directory.path()).query_row(find, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let before = block_on(log(&store, session));
    let (rows, bytes) = size();
    block_on(store.pack(session, turn)).unwrap();
    let (packed_rows, packed_bytes) = size();
    assert_eq!(rows, 2_500);
    assert!(packed_rows <= 4, "{packed_rows} rows");
    assert!(packed_bytes * 10 < bytes, "{packed_bytes} of {bytes} bytes");
    assert_eq!(block_on(log(&store, session)), before);
}
