//! JSON as it may be written: right, wrong in what it says, and wrong as JSON.
//!
//! Never a value that a JSON library would have tidied up: keys may come twice, numbers are text.

use crate::dice::Dice;

#[derive(Debug, Clone)]
pub enum Json {
    /// As it stands: numbers, words, and what is neither.
    Raw(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Raw(text) => out.push_str(text),
            Json::Text(text) => out.push_str(&serde_json::to_string(text).unwrap()),
            Json::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(pairs) => {
                out.push('{');
                for (at, (name, value)) in pairs.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(&serde_json::to_string(name).unwrap());
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn size(&self) -> u64 {
        1 + match self {
            Json::Raw(_) | Json::Text(_) => 0,
            Json::List(items) => items.iter().map(Json::size).sum(),
            Json::Object(pairs) => pairs.iter().map(|(_, value)| value.size()).sum(),
        }
    }

    fn nth(&mut self, number: &mut u64) -> Option<&mut Json> {
        if *number == 0 {
            return Some(self);
        }
        *number -= 1;
        match self {
            Json::Raw(_) | Json::Text(_) => None,
            Json::List(items) => items.iter_mut().find_map(|item| item.nth(number)),
            Json::Object(pairs) => pairs.iter_mut().find_map(|(_, value)| value.nth(number)),
        }
    }

    /// Makes one place of it wrong.
    pub fn spoil(&mut self, dice: &mut Dice) {
        let mut number = dice.below(self.size());
        let Some(place) = self.nth(&mut number) else { return };
        match (place, dice.below(3)) {
            (Json::Object(pairs), 0) if !pairs.is_empty() => {
                let at = usize::try_from(dice.below(pairs.len() as u64)).unwrap();
                match dice.below(3) {
                    0 => _ = pairs.remove(at),
                    1 => pairs.push(pairs[at].clone()),
                    _ => pairs[at].0.push('x'),
                }
            }
            (Json::Object(pairs), _) => pairs.push((odd_text(dice), odd(dice))),
            (Json::List(items), 0) => items.push(odd(dice)),
            (Json::List(items), 1) => items.clear(),
            (place, _) => *place = odd(dice),
        }
    }
}

/// A value that is hardly ever right.
pub fn odd(dice: &mut Dice) -> Json {
    match dice.below(10) {
        0 => Json::Raw("null".into()),
        1 => Json::Raw((if dice.one_in(2) { "true" } else { "false" }).into()),
        2 | 3 => Json::Raw(number(dice)),
        4 => Json::List((0..dice.below(3)).map(|_| odd(dice)).collect()),
        5 => Json::Object((0..dice.below(3)).map(|_| (odd_text(dice), odd(dice))).collect()),
        6 => Json::Raw(format!("\"{}\"", ["\\ud800", "\\udc00x", "\\ud83d\\ude00", "\\u0000", "\\x", "\u{1}", "\\u12"][dice.at(7)])),
        7 => {
            let depth = [1, 20, 64, 126, 127, 128, 500, 10_000][dice.at(8)];
            let (open, shut) = if dice.one_in(2) { ("[", "]") } else { ("{\"a\":", "}") };
            Json::Raw(format!("{}1{}", open.repeat(depth), shut.repeat(if dice.one_in(8) { 0 } else { depth })))
        }
        _ => Json::Text(odd_text(dice)),
    }
}

pub fn number(dice: &mut Dice) -> String {
    const NUMBERS: [&str; 24] = [
        "0",
        "1",
        "2",
        "3",
        "50",
        "1000",
        "1001",
        "-1",
        "-0",
        "1.0",
        "1.5",
        "1e2",
        "1e999",
        "2147483648",
        "4294967295",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "00",
        "0x10",
    ];
    NUMBERS[dice.at(24)].to_owned()
}

pub fn odd_text(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => String::new(),
        1 => "\0".into(),
        2 => "a\0b".into(),
        3 => "\u{202e}\u{feff}\u{fffe}".into(),
        4 => "é😀ß\u{301}".into(),
        5 => "x".repeat([64, 65, 255, 256, 4_096, 4_097, 70_000, 70_000][dice.at(8)]),
        6 => "ü".repeat([32, 127, 128, 2_049][dice.at(4)]),
        7 => ["../..", "/etc/passwd", "' OR 1=1 --", "<script>", "%00", "{{7*7}}", "\r\nx: y", "\u{1b}[2J"][dice.at(8)].into(),
        8 => number(dice),
        9 => " ".into(),
        _ => format!("w{}", dice.below(30)),
    }
}

/// Makes the bytes of a body wrong.
pub fn spoil_bytes(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.at(bytes.len().max(1));
    match dice.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at.min(bytes.len()), 0xff),
        2 => bytes.insert(at.min(bytes.len()), 0),
        3 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        4 => bytes.extend_from_slice(b" {}"),
        5 => bytes.splice(at.min(bytes.len())..at.min(bytes.len()), *b"\xed\xa0\x80").for_each(drop),
        6 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        _ => *bytes = [&b"nope"[..], b"\0", b"\"x\"", b"3", b"[]", b"null", b" ", b"{\"a\""][dice.at(8)].to_vec(),
    }
}
