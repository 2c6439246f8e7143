//! Strict JSON options: an unknown field or a wrong type is an error that
//! names its place and what is allowed there.

use crate::{Error, Result};
use parking_lot::Mutex;
use schemars::{JsonSchema, Schema};
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt::Formatter;
use std::sync::Arc;

/// Reads `json` as a `T`. `name` is the first part of the path in messages.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path of the offending field.
pub fn parse<T: DeserializeOwned + JsonSchema + 'static>(name: &str, json: &str) -> Result<T> {
    from_value(name, &read(name, json)?)
}

/// The content of the JSON text `json`, in which no object has two fields of one name.
///
/// # Errors
/// As [`parse`].
pub fn read(name: &str, json: &str) -> Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let Unambiguous(value) = at_path(name, serde_path_to_error::deserialize(&mut reader))?;
    reader.end().map_err(|error| Error::config(name, error.to_string()))?;
    Ok(value)
}

/// As [`parse`], from JSON that was read before.
///
/// # Errors
/// As [`parse`].
pub fn from_value<T: DeserializeOwned + JsonSchema + 'static>(name: &str, value: &Value) -> Result<T> {
    let a_list = |path: &str| Error::config(name.to_string() + path, "is a list [ ... ], must be an object { ... }");
    if value.is_array() {
        return Err(a_list(""));
    }
    let options = at_path(name, serde_path_to_error::deserialize(value))?;
    let schema = kept_schema::<T>();
    match misplaced_list(schema.as_value(), schema.as_value(), value) {
        Some(path) => Err(a_list(&path)),
        None => Ok(options),
    }
}

/// Turns serde's error into one that begins with `name` and the path below it.
fn at_path<T>(name: &str, read: std::result::Result<T, serde_path_to_error::Error<serde_json::Error>>) -> Result<T> {
    read.map_err(|error| {
        // The whole is ".", and a place without a name ends in "?".
        let path = error.path().to_string();
        let path = path.trim_end_matches(['.', '?']);
        let path = if path.is_empty() { name.to_string() } else { format!("{name}.{}", shortened(path)) };
        Error::config(path, shortened(&error.into_inner().to_string()))
    })
}

/// The JSON Schema of `T`, made once: it takes longer than all else here.
fn kept_schema<T: JsonSchema + 'static>() -> Arc<Schema> {
    static SCHEMAS: Mutex<BTreeMap<TypeId, Arc<Schema>>> = Mutex::new(BTreeMap::new());
    Arc::clone(SCHEMAS.lock().entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(schemars::schema_for!(T))))
}

/// The path of a list in `value` where `schema`, a part of `root`, wants something else: serde takes its items
/// for the fields of an object, in the order of their declaration.
fn misplaced_list(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let within = |schema, value, name: String| Some(name + &misplaced_list(root, schema, value)?);
    let here = match value {
        Value::Array(items) => match &schema["type"] {
            Value::String(kind) if kind != "array" => Some(String::new()),
            Value::Array(kinds) if !kinds.contains(&"array".into()) => Some(String::new()),
            _ => items.iter().enumerate().find_map(|(at, item)| within(&schema["items"], item, format!("[{at}]"))),
        },
        Value::Object(fields) => {
            fields.iter().find_map(|(name, field)| within(&schema["properties"][name], field, format!(".{name}")))
        }
        _ => None,
    };
    let reference = || schema["$ref"].as_str().and_then(|place| root.pointer(place.trim_start_matches('#')));
    let choices = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    let choices = choices.filter(|choice| choice["type"] != "null");
    // An object's constant fields tell which of several it is; else one that fits is enough.
    let is_meant = |choice: &&Value| match (value, choice["properties"].as_object()) {
        (Value::Object(fields), Some(properties)) => {
            properties.iter().all(|(name, field)| field.get("const").is_none_or(|tag| fields.get(name) == Some(tag)))
        }
        _ => true,
    };
    let mut chosen: Vec<_> = choices.filter(is_meant).map(|choice| misplaced_list(root, choice, value)).collect();
    here.or_else(|| if chosen.iter().all(Option::is_some) { chosen.pop()? } else { None })
        .or_else(|| misplaced_list(root, reference()?, value))
}

/// JSON in which no object has two fields of one name: serde_json takes the last of them without a word.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Unambiguous)
    }
}

/// Makes a [`Value`] of what is there.
struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unambiguous(value))) = fields.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A text with its middle left out where it is far too long, as a field's name in somebody's JSON may be.
fn shortened(text: &str) -> String {
    const KEPT: usize = 400;
    if text.len() <= 2 * KEPT {
        return text.to_string();
    }
    let (start, end) = (text.floor_char_boundary(KEPT), text.ceil_char_boundary(text.len() - KEPT));
    format!("{} ... {}", &text[..start], &text[end..])
}

/// The JSON Schema of `T`.
pub fn schema<T: JsonSchema + 'static>() -> String {
    kept_schema::<T>().as_value().to_string()
}

/// Checks that an option's number is in range; NaN never is.
///
/// # Errors
/// [`Error::InvalidConfig`] that gives the value and `allowed`.
pub fn require(holds: bool, path: &str, value: impl std::fmt::Display, allowed: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(path, format!("is {value}, must be {allowed}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Options {
        #[serde(default)]
        count: u32,
        #[serde(default)]
        sizes: Vec<usize>,
        inner: Option<Box<Options>>,
        shape: Option<Shape>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Shape {
        Circle { radius: f64 },
        Polygon { corners: Vec<Corner> },
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Corner {
        x: f64,
        y: f64,
    }

    /// What is wrong with `json`, whether it is read as a text or was read before.
    fn fault(json: &str) -> String {
        let fault = parse::<Options>("here", json).unwrap_err().to_string();
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(from_value::<Options>("here", &value).unwrap_err().to_string(), fault, "{json}");
        fault
    }

    #[test]
    fn faults_are_named_with_their_path() {
        for (json, message) in [
            ("3", "here: invalid type: integer `3`, expected struct Options"),
            (r#"{"inner": {"count": "x"}}"#, "here.inner.count: invalid type: string \"x\", expected u32"),
            (r#"{"sizes": [1, -1]}"#, "here.sizes[1]: invalid value: integer `-1`, expected usize"),
            (r#"{"inner": {"size": 1}}"#, "here.inner.size: unknown field `size`, expected one of `count`, "),
            (
                r#"{"shape": {"kind": "star"}}"#,
                "here.shape.kind: unknown variant `star`, expected `circle` or `polygon`",
            ),
        ] {
            assert!(fault(json).starts_with(message), "{json}: {}", fault(json));
        }
        let long = "x".repeat(5000);
        assert!(fault(&format!(r#"{{"{long}": 1}}"#)).len() < 2500);
        for json in ["", "{", "{} {}", r#"{"count": 1e400}"#] {
            assert!(parse::<Options>("here", json).unwrap_err().to_string().contains(" at line 1 column "), "{json}");
        }
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for (json, path) in [
            ("[]", ""),
            (r#"{"inner": [1, [], null, null]}"#, ".inner"),
            (r#"{"shape": ["circle", 1]}"#, ".shape"),
            (r#"{"inner": {"shape": ["circle", 1]}}"#, ".inner.shape"),
            (r#"{"shape": {"kind": "polygon", "corners": [{"x": 1, "y": 2}, [3, 4]]}}"#, ".shape.corners[1]"),
        ] {
            assert_eq!(fault(json), format!("here{path}: is a list [ ... ], must be an object {{ ... }}"), "{json}");
        }
        assert_eq!(parse::<Options>("here", r#"{"sizes": [4, 5]}"#).unwrap().sizes, [4, 5]);
    }

    #[test]
    fn fields_of_one_name_are_refused_at_any_depth() {
        let json = r#"{"a": {"b": [1, "x", true, null, -2, 0.5, 18446744073709551615]}, "b": 1}"#;
        assert_eq!(read("here", json).unwrap(), serde_json::from_str::<Value>(json).unwrap());
        for json in [r#"{"a": 1, "a": 1}"#, r#"{"c": [{"a": 1, "b": 2, "a": 3}]}"#, r#"{"a": {}, "\u0061": {}}"#] {
            let error = read("here", json).unwrap_err().to_string();
            assert!(error.contains("duplicate field `a`"), "{json}: {error}");
        }
    }
}
