//! The part of JSON Schema that the API's document speaks.
//!
//! Never lax about a word it does not know: a keyword that is not understood fails.

use serde_json::Value;

pub struct Document(pub Value);

impl Document {
    /// What a reference stands for.
    pub fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(place) => self.resolved(self.0.pointer(place.trim_start_matches('#')).unwrap_or_else(|| panic!("{place} is not there"))),
            None => schema,
        }
    }

    /// Says what is wrong with a value, and where. Keys that no schema names are wrong as well.
    pub fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        self.look(schema, value, "", true)
    }

    fn look(&self, schema: &Value, value: &Value, at: &str, closed: bool) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{}: {what}: {value:.200}", if at.is_empty() { "the body" } else { at }));
        let schema = self.resolved(schema);
        for (word, rule) in schema.as_object().expect("a schema is an object") {
            match word.as_str() {
                "type" => {
                    let types: Vec<_> = rule.as_array().map_or_else(|| vec![rule], |several| several.iter().collect());
                    if !types.iter().any(|name| is(name.as_str().unwrap(), value)) {
                        return wrong(format!("is no {rule}"));
                    }
                }
                "enum" if !rule.as_array().unwrap().contains(value) => return wrong(format!("is none of {rule}")),
                "minimum" if value.is_number() && value.as_f64() < rule.as_f64() => return wrong(format!("is less than {rule}")),
                "format" => {
                    if let Some(what) = format(rule.as_str().unwrap(), value) {
                        return wrong(what);
                    }
                }
                "required" if value.is_object() => {
                    for name in rule.as_array().unwrap() {
                        if value.get(name.as_str().unwrap()).is_none() {
                            return wrong(format!("{name} is missing"));
                        }
                    }
                }
                "properties" if value.is_object() => {
                    for (name, held) in value.as_object().unwrap() {
                        match rule.get(name) {
                            Some(of) => self.look(of, held, &format!("{at}.{name}"), true)?,
                            None if closed && schema.get("additionalProperties").is_none() => {
                                return wrong(format!("{name} is not described"));
                            }
                            None => {}
                        }
                    }
                }
                "additionalProperties" => {
                    let named = |name: &String| schema["properties"].get(name).is_some();
                    for (name, held) in value.as_object().into_iter().flatten().filter(|(name, _)| !named(name)) {
                        match rule {
                            Value::Bool(false) => return wrong(format!("{name} must not be there")),
                            rule => self.look(rule, held, &format!("{at}.{name}"), true)?,
                        }
                    }
                }
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.look(rule, item, &format!("{at}[{number}]"), true)?;
                    }
                }
                "oneOf" => {
                    let tried: Vec<_> = rule.as_array().unwrap().iter().map(|one| self.look(one, value, at, closed)).collect();
                    match tried.iter().filter(|one| one.is_ok()).count() {
                        1 => {}
                        0 => return wrong(format!("fits none: {tried:?}")),
                        several => return wrong(format!("fits {several} at once")),
                    }
                }
                // Together they name the keys.
                "allOf" => rule.as_array().unwrap().iter().try_for_each(|one| self.look(one, value, at, false))?,
                "enum" | "minimum" | "required" | "properties" | "description" | "default" | "propertyNames" => {}
                unknown => panic!("{unknown} is not understood: {schema}"),
            }
        }
        Ok(())
    }
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        unknown => panic!("{unknown} is no type"),
    }
}

fn format(name: &str, value: &Value) -> Option<String> {
    let good = match name {
        "int32" => value.is_null() || value.as_i64().is_some_and(|number| u32::try_from(number).is_ok() || i32::try_from(number).is_ok()),
        "int64" => value.is_null() || value.is_i64() || value.is_u64(),
        "double" => value.is_null() || value.is_number(),
        "date-time" => value.is_null() || value.as_str().is_some_and(is_time),
        "byte" | "binary" => true,
        unknown => panic!("{unknown} is no format"),
    };
    (!good).then(|| format!("is no {name}"))
}

/// `2026-11-20T14:03:51.000000Z`
fn is_time(text: &str) -> bool {
    let digits = |range: std::ops::Range<usize>| text.get(range).is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let [year, month, day, hour, minute, second] = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].map(digits);
    year && month && day && hour && minute && second && text.as_bytes()[10] == b'T' && text.ends_with('Z')
}

#[test]
fn what_does_not_fit_its_schema_is_seen() {
    let document = Document(serde_json::json!({ "components": { "schemas": {
        "Inner": { "type": "object", "required": ["n"], "properties": { "n": { "type": ["integer", "null"], "format": "int32", "minimum": 0 } } },
        "Outer": { "oneOf": [
            { "type": "object", "required": ["at"], "properties": { "at": { "type": "string", "format": "date-time" } } },
            { "allOf": [{ "$ref": "#/components/schemas/Inner" }, { "type": "object", "properties": { "kind": { "enum": ["a"], "type": "string" } } }] }
        ] }
    } } }));
    let check = |value| document.check(&serde_json::json!({ "$ref": "#/components/schemas/Outer" }), &value).is_ok();
    for good in [
        serde_json::json!({ "at": "2026-11-20T14:03:51.5Z" }),
        serde_json::json!({ "n": 3, "kind": "a" }),
        serde_json::json!({ "n": null }),
    ] {
        assert!(check(good.clone()), "{good}");
    }
    for bad in [
        serde_json::json!({ "at": "yesterday" }),
        serde_json::json!({ "n": -1 }),
        serde_json::json!({ "n": 1.5 }),
        serde_json::json!({ "n": 5_000_000_000_u64 }),
        serde_json::json!({ "n": 3, "kind": "b" }),
        serde_json::json!({ "at": "2026-11-20T14:03:51.5Z", "more": 1 }),
        serde_json::json!([]),
    ] {
        assert!(!check(bad.clone()), "{bad}");
    }
}
