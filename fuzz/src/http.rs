//! Any bytes on a connection: heads, queries, bodies, one request after another.
//!
//! The words `ADMIN` and `SES` in them stand for a good token and a session, so that routes are reached.
//! Never: a mistake of the server's own, an answer without its headers of security, or anything good without a token.

use crate::house::{ADMIN, House, answers, visit};

pub fn run(bytes: &[u8]) {
    visit(
        |_| {},
        |house| {
            let with_session = find(bytes, b"SES").is_some();
            let session = if with_session { house.session() } else { String::new() };
            let request = replace(&replace(bytes, b"ADMIN", ADMIN.as_bytes()), b"SES", session.as_bytes());
            check(house, &request);
        },
    );
}

fn check(house: &House, request: &[u8]) {
    let has_token = find(request, ADMIN.as_bytes()).is_some();
    // The body an answer to HEAD has not would be missed when the next answer is looked for.
    if find(&request.to_ascii_uppercase(), b"HEAD").is_some() {
        house.exchange(request);
        return;
    }
    for answer in answers(&house.exchange(request)) {
        assert!(answer.status < 500 || answer.status == 501, "{answer:?}");
        // What hyper itself refuses never came to the front.
        let bare = answer.status == 400 && answer.body.is_empty() || answer.status == 431 || answer.status == 101;
        if !bare {
            assert_eq!(answer.headers.get("x-content-type-options").map(String::as_str), Some("nosniff"), "{answer:?}");
        }
        if !has_token && answer.status < 300 {
            let open = answer.body.is_empty() || find(request, b"/login").is_some();
            assert!(open, "{answer:?}");
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn replace(bytes: &[u8], word: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = find(rest, word) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + word.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
