//! JSON that somebody else wrote, kept as the text it came in: huge numbers, escapes and key order included.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// One JSON value as text. Equal when the texts are equal.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Takes a text that is one JSON value; any other text is given back.
    pub fn parse(text: String) -> Result<Self, String> {
        match RawValue::from_string(text.clone()) {
            Ok(raw) => Ok(Self(raw).on_one_line()),
            Err(_) => Err(text),
        }
    }

    /// The JSON of a value that is known to have one.
    pub fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("our own types have string keys only");
        Self(RawValue::from_string(text).expect("serde_json writes JSON"))
    }

    pub fn empty_object() -> Self {
        Self(RawValue::from_string("{}".into()).expect("{} is JSON"))
    }

    /// How deep arrays and objects lie in each other.
    pub fn depth(&self) -> usize {
        let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
        for byte in self.get().bytes() {
            match byte {
                _ if escaped => escaped = false,
                // Outside of a text JSON has none.
                b'\\' => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'[' | b'{' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    /// A line break in JSON can only stand between tokens; a blank says the same and keeps one event on one line.
    fn on_one_line(self) -> Self {
        if !self.get().contains(['\n', '\r']) {
            return self;
        }
        let text = self.get().replace(['\n', '\r'], " ");
        Self(RawValue::from_string(text).expect("blanks between tokens leave JSON as it was"))
    }

    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw).on_one_line())
    }
}
