//! Strict JSON options: an unknown field or a wrong type is an error that
//! names its place and what is allowed there.

use crate::{Error, Result};
use parking_lot::Mutex;
use schemars::{JsonSchema, Schema};
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::any::TypeId;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Formatter;
use std::sync::Arc;

/// Reads `json` as a `T`. `name` is the first part of the path in messages.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path of the offending field.
pub fn parse<T: DeserializeOwned + JsonSchema + 'static>(name: &str, json: &str) -> Result<T> {
    // Where fields are kept for later, or read twice, serde takes the last of two fields of one name.
    read::<Unambiguous>(name, json)?;
    if json.trim_start().starts_with('[') {
        return Err(Error::config(name, "is a list [ ... ], must be an object { ... }"));
    }
    let options = read(name, json)?;
    if json.contains('[') {
        let schema = kept_schema::<T>();
        let value: Value = read(name, json)?;
        if let Some(path) = misplaced_list(schema.as_value(), schema.as_value(), &value) {
            return Err(Error::config(name.to_string() + &path, "is a list [ ... ], must be an object { ... }"));
        }
    }
    Ok(options)
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

fn read<T: DeserializeOwned>(name: &str, json: &str) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => name.to_string(),
            path => format!("{name}.{}", shortened(path)),
        };
        Error::config(path, shortened(&error.into_inner().to_string()))
    })?;
    reader.end().map_err(|error| Error::config(name, error.to_string()))?;
    Ok(value)
}

/// Any JSON in which no object has two fields of one name.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Unambiguous)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            fields.next_value::<Self>()?;
            if let Some(twice) = names.replace(name) {
                return Err(A::Error::custom(format!("duplicate field `{twice}`")));
            }
        }
        Ok(self)
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
    use crate::data::noise::NoiseOptions;
    use crate::model::ModelOptions;
    use crate::train::trainer::TrainerOptions;

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        fn refused<T: DeserializeOwned + JsonSchema + 'static>(json: &str, path: &str) {
            let error = parse::<T>("here", json).map(drop).unwrap_err().to_string();
            assert_eq!(error, format!("here{path}: is a list [ ... ], must be an object {{ ... }}"), "{json}");
        }
        refused::<TrainerOptions>("[]", "");
        refused::<TrainerOptions>(r#"{"adam": []}"#, ".adam");
        refused::<TrainerOptions>(r#"{"loss": ["mse"]}"#, ".loss");
        let part = r#"{"kind": "binary_uniform", "components": [{"low": 1, "high": 2}, [3, 4, null, null, null, 1]]}"#;
        refused::<NoiseOptions>(&format!(r#"{{"distribution": {part}}}"#), ".distribution.components[1]");
        let lists = r#"{"kind": "mlp", "inputs": 3, "hidden": [4, 5]}"#;
        assert!(parse::<ModelOptions>("model", lists).is_ok());
    }

    #[test]
    fn fields_of_one_name_are_refused_at_any_depth() {
        let found = |json| parse::<serde_json::Value>("config", json).map_err(|error| error.to_string());
        assert!(found(r#"{"a": {"b": [1, "x", true, null, -2, 0.5]}, "b": 1}"#).is_ok());
        for json in [r#"{"a": 1, "a": 1}"#, r#"{"c": [{"a": 1, "b": 2, "a": 3}]}"#, r#"{"a": {}, "\u0061": {}}"#] {
            assert!(found(json).unwrap_err().contains("duplicate field `a`"), "{json}: {:?}", found(json));
        }
    }
}
