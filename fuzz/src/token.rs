//! What is said for a credential.
//!
//! Never: anybody let in by anything but exactly a secret that is good at that time, in the place of its kind.

use crate::house::{ADMIN, House, NEW_YEAR, visit};
use everkept_core::Timestamp;
use libfuzzer_sys::arbitrary::{Result, Unstructured};

const RESOURCE: &str = "ek_resource";
const COOKIE: &str = "ek_cookie";
const EXPIRED: &str = "ek_expired";
const REVOKED: &str = "ek_revoked";
const LOGIN: &str = "ek_login";
/// What takes the place of a byte above 0xEF, so that secrets are reached.
const WORDS: &[&str] = &[ADMIN, RESOURCE, COOKIE, EXPIRED, REVOKED, LOGIN, "Bearer ", "bearer ", "everkept=", "; ", "Basic "];

pub fn run(bytes: &[u8]) {
    let Ok(headers) = make(&mut Unstructured::new(bytes)) else { return };
    visit(furnish, |house| check(house, &headers));
}

fn furnish(house: &House) {
    house.token(RESOURCE, "resource", Some("owner"), None);
    house.token(COOKIE, "cookie", None, None);
    house.token(EXPIRED, "admin", None, Some(Timestamp(NEW_YEAR)));
    house.token(LOGIN, "login", None, None);
    let revoked = house.token(REVOKED, "admin", None, None);
    let answer = house.ask("DELETE", &format!("/api/tokens/{revoked}"), "");
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Header lines, each `authorization` or `cookie` and a value.
fn make(input: &mut Unstructured<'_>) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut headers = Vec::new();
    for _ in 0..input.int_in_range(0..=3)? {
        let name = if input.arbitrary()? { "authorization" } else { "cookie" };
        let mut value = Vec::new();
        for byte in input.arbitrary::<Vec<u8>>()? {
            match byte {
                0xF0.. => value.extend_from_slice(WORDS[usize::from(byte - 0xF0) % WORDS.len()].as_bytes()),
                // These end a header.
                b'\r' | b'\n' | 0 => {}
                byte => value.push(byte),
            }
        }
        headers.push((name, value));
    }
    Ok(headers)
}

fn check(house: &House, headers: &[(&str, Vec<u8>)]) {
    let mut request = format!("GET /api/sessions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", crate::house::HOST).into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let answers = crate::house::answers(&house.exchange(&request));
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let allowed = if is_good(headers) { 200 } else { 401 };
    // A value that no header may have is refused before anybody asks who it is.
    let unfit = headers.iter().any(|(_, value)| value.iter().any(|byte| matches!(byte, 0..=8 | 11..=31 | 127)));
    assert_eq!(statuses, [if unfit { 400 } else { allowed }], "{:?}", String::from_utf8_lossy(&request));
}

/// The rule, said once more.
fn is_good(headers: &[(&str, Vec<u8>)]) -> bool {
    let of = |wanted: &'static str| headers.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_slice());
    let mut authorizations = of("authorization").map(trimmed);
    if let Some(first) = authorizations.next() {
        if authorizations.next().is_some() {
            return false;
        }
        let Some((scheme, secret)) = first.split_once(' ') else { return false };
        return scheme.eq_ignore_ascii_case("bearer") && [ADMIN, RESOURCE].contains(&secret.trim());
    }
    let pairs: Vec<String> = of("cookie")
        .filter(|value| visible(value))
        .flat_map(|value| trimmed(value).split(';').map(|pair| pair.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    pairs.iter().filter_map(|pair| pair.strip_prefix("everkept=")).take(4).any(|secret| secret == COOKIE)
}

fn visible(value: &[u8]) -> bool {
    trimmed_bytes(value).iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

/// White space around a value is not of it; one that is not ASCII says nothing.
fn trimmed(value: &[u8]) -> String {
    if visible(value) { String::from_utf8_lossy(trimmed_bytes(value)).into_owned() } else { String::new() }
}

fn trimmed_bytes(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    &value[start..end]
}
