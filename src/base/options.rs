//! Strict JSON options: what is wrong in them is named by its whole path, with what is allowed there, in JSON's words.

use super::place::Path;
use super::schema::{Place, conform, published};
use crate::{Error, Result};
use parking_lot::Mutex;
use schemars::{JsonSchema, Schema};
use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};
use std::any::TypeId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Formatter;
use std::sync::Arc;

/// Reads `json` as a `T`. `name` is the first part of the paths in messages; where it is empty, they begin with a field.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path of the offending field.
pub fn parse<T: DeserializeOwned + JsonSchema + 'static>(name: &str, json: &str) -> Result<T> {
    from_value(name, &read(name, json)?)
}

/// The content of the JSON text `json`, in which no object has two fields of one name.
///
/// # Errors
/// As [`parse`], with the line and the column.
pub fn read(name: &str, json: &str) -> Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let whole = Place::Whole(name);
    let fault_at = RefCell::new(None);
    let value = Unambiguous { place: whole, fault_at: &fault_at }.deserialize(&mut reader);
    value.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let path = fault_at.take().unwrap_or_else(|| whole.path());
        let kind = if error.classify() == Category::Data { "" } else { "is not JSON: " };
        Error::config(path, format!("{kind}{error}"))
    })
}

/// As [`parse`], from JSON that was read before.
///
/// # Errors
/// As [`parse`].
pub fn from_value<T: DeserializeOwned + JsonSchema + 'static>(name: &str, value: &Value) -> Result<T> {
    let schema = kept_schema::<T>();
    let whole = Place::Whole(name);
    let value = conform(schema.as_value(), schema.as_value(), value, whole)?;
    serde_json::from_value(value).map_err(|error| whole.fault(error.to_string()))
}

/// The JSON Schema of `T`, made once: it takes longer than all else here.
fn kept_schema<T: JsonSchema + 'static>() -> Arc<Schema> {
    static SCHEMAS: Mutex<BTreeMap<TypeId, Arc<Schema>>> = Mutex::new(BTreeMap::new());
    Arc::clone(SCHEMAS.lock().entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(schemars::schema_for!(T))))
}

/// Reads JSON in which no object has two fields of one name: serde_json takes the last of them without a word.
#[derive(Clone, Copy)]
struct Unambiguous<'a> {
    place: Place<'a>,
    /// Where the first fault is.
    fault_at: &'a RefCell<Option<Path>>,
}

impl Unambiguous<'_> {
    fn note(&self, place: Place) {
        self.fault_at.borrow_mut().get_or_insert_with(|| place.path());
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self).inspect_err(|_| self.note(self.place))
    }
}

impl<'de> Visitor<'de> for Unambiguous<'_> {
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
        while let Some(item) =
            items.next_element_seed(Unambiguous { place: Place::Item(&self.place, list.len()), ..self })?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let place = Place::Field(&self.place, &name);
            if object.contains_key(&name) {
                self.note(place);
                return Err(A::Error::custom("is there twice"));
            }
            let value = fields.next_value_seed(Unambiguous { place, ..self })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// The JSON Schema of `T`.
pub fn schema<T: JsonSchema + 'static>() -> String {
    published(kept_schema::<T>().as_value()).to_string()
}

/// Checks that an option's number is in range; NaN never is.
///
/// # Errors
/// [`Error::InvalidConfig`] that gives the value and `allowed`.
pub fn require(holds: bool, path: impl Into<Path>, value: impl std::fmt::Display, allowed: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(path, format!("is {value}, must be {allowed}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        #[schemars(range(min = 1))]
        count: u32,
        seed: u64,
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        rate: Option<f64>,
        on: bool,
        mark: Option<char>,
        #[schemars(length(min = 1), inner(range(min = 1)))]
        sizes: Vec<usize>,
        names: Option<Vec<String>>,
        periods: BTreeMap<String, f64>,
        words: BTreeMap<String, Vec<String>>,
        anything: Vec<Value>,
        inner: Option<Box<Options>>,
        shape: Option<Shape>,
        size: Option<Size>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
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

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Size {
        Fixed(f64),
        Least(Least),
        Word(Word),
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Least {
        Rows(f64),
        Part(f64),
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        /// Found.
        Auto,
    }

    /// What is wrong with `json`, whether it is read as a text or was read before.
    fn fault(json: &str) -> String {
        let fault = parse::<Options>("here", json).unwrap_err().to_string();
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(from_value::<Options>("here", &value).unwrap_err().to_string(), fault, "{json}");
        fault
    }

    #[test]
    fn faults_are_named_with_their_path_in_the_words_of_json() {
        let cases = [
            ("3", "here: is 3, must be an object { ... }"),
            ("null", "here: is null, must be an object { ... }"),
            ("[1]", "here: is a list [ ... ], must be an object { ... }"),
            (r#"{"count": "x"}"#, "here.count: is 'x', must be a whole number"),
            (r#"{"count": true}"#, "here.count: is true, must be a whole number"),
            (r#"{"count": null}"#, "here.count: is null, must be a whole number"),
            (r#"{"count": {}}"#, "here.count: is an object { ... }, must be a whole number"),
            (r#"{"count": [3]}"#, "here.count: is a list [ ... ], must be a whole number"),
            (r#"{"count": 1.5}"#, "here.count: is 1.5, must be a whole number"),
            (r#"{"count": -1}"#, "here.count: is -1, must be at least 1"),
            (r#"{"count": 0.0}"#, "here.count: is 0, must be at least 1"),
            (r#"{"count": 4294967296}"#, "here.count: is 4294967296, must be at most 4294967295"),
            (r#"{"seed": 1e30}"#, "here.seed: is 1e+30, must be at most 18446744073709551615"),
            (
                r#"{"seed": 18446744073709551616}"#,
                "here.seed: is 1.8446744073709552e+19, must be at most 184467440737095516",
            ),
            (r#"{"seed": -1e30}"#, "here.seed: is -1e+30, must be at least 0"),
            (r#"{"rate": 1}"#, "here.rate: is 1, must be in [0, 1)"),
            (r#"{"rate": "1"}"#, "here.rate: is '1', must be a number"),
            (r#"{"on": 1}"#, "here.on: is 1, must be true or false"),
            (r#"{"on": "true"}"#, "here.on: is 'true', must be true or false"),
            (r#"{"on": []}"#, "here.on: is a list [ ... ], must be true or false"),
            (r#"{"mark": "ab"}"#, "here.mark: is 'ab', must be one character"),
            (r#"{"mark": ""}"#, "here.mark: is '', must be one character"),
            (r#"{"mark": 1}"#, "here.mark: is 1, must be one character"),
            (r#"{"sizes": "1"}"#, "here.sizes: is '1', must be a list of whole numbers"),
            (r#"{"sizes": null}"#, "here.sizes: is null, must be a list of whole numbers"),
            (r#"{"sizes": {}}"#, "here.sizes: is an object { ... }, must be a list of whole numbers"),
            (r#"{"sizes": []}"#, "here.sizes: is an empty list, must have at least 1"),
            (r#"{"sizes": 0}"#, "here.sizes: is 0, must be at least 1"),
            (r#"{"sizes": [1, -1]}"#, "here.sizes[1]: is -1, must be at least 1"),
            (r#"{"sizes": [[1]]}"#, "here.sizes[0]: is a list [ ... ], must be a whole number"),
            (r#"{"names": [1]}"#, "here.names[0]: is 1, must be text"),
            (r#"{"names": 1}"#, "here.names: is 1, must be a list of texts"),
            (r#"{"periods": {"hour": "x"}}"#, "here.periods.hour: is 'x', must be a number"),
            (r#"{"periods": [1]}"#, "here.periods: is a list [ ... ], must be an object { ... }"),
            (r#"{"words": {"hour": ["a", 2]}}"#, "here.words.hour[1]: is 2, must be text"),
            (r#"{"inner": {"inner": {"count": "x"}}}"#, "here.inner.inner.count: is 'x', must be a whole number"),
            (
                r#"{"inner": {"seeds": 1}}"#,
                "here.inner.seeds: is no known field (did you mean 'seed'?), allowed are 'anyt",
            ),
            (r#"{"Count": 1}"#, "here.Count: is no known field (did you mean 'count'?), allowed"),
            (r#"{"other": 1}"#, "here.other: is no known field, allowed are 'anything', 'count', 'inner'"),
            (r#"{"shape": "circle"}"#, "here.shape: is 'circle', must be an object { ... }"),
            (r#"{"shape": {}}"#, "here.shape.kind: is missing, must be 'circle' or 'polygon'"),
            (
                r#"{"shape": {"kind": "Circel"}}"#,
                "here.shape.kind: is 'Circel', must be 'circle' or 'polygon' (did you mean 'circle'?)",
            ),
            (r#"{"shape": {"kind": 1}}"#, "here.shape.kind: is 1, must be 'circle' or 'polygon'"),
            (r#"{"shape": {"kind": ["circle"]}}"#, "here.shape.kind: is a list [ ... ], must be 'circle' or 'polygon'"),
            (r#"{"shape": {"kind": "circle"}}"#, "here.shape.radius: is missing, must be a number"),
            (r#"{"shape": {"kind": "circle", "radius": "1"}}"#, "here.shape.radius: is '1', must be a number"),
            (
                r#"{"shape": {"kind": "circle", "radius": 1, "corners": []}}"#,
                "here.shape.corners: is no known field, allowed are 'kind', 'radius'",
            ),
            (
                r#"{"shape": {"kind": "polygon", "corners": [{"x": 1, "y": 2}, [3, 4]]}}"#,
                "here.shape.corners[1]: is a list [ ... ], must be an object",
            ),
            (
                r#"{"shape": {"kind": "polygon", "corners": [{"x": 1}]}}"#,
                "here.shape.corners[0].y: is missing, must be a number",
            ),
            (
                r#"{"inner": {"shape": ["circle", 1]}}"#,
                "here.inner.shape: is a list [ ... ], must be an object { ... }",
            ),
            (r#"{"size": true}"#, "here.size: is true, must be a number, {\"rows\": ...}, {\"part\": ...} or 'auto'"),
            (
                r#"{"size": "auton"}"#,
                "here.size: is 'auton', must be a number, {\"rows\": ...}, {\"part\": ...} or 'auto' (did you mean 'auto'?)",
            ),
            (r#"{"size": {"rows": "x"}}"#, "here.size.rows: is 'x', must be a number"),
            (
                r#"{"size": {"row": 1}}"#,
                "here.size.row: is no known field (did you mean 'rows'?), allowed are 'rows', 'part'",
            ),
            (r#"{"size": {"rows": 1, "part": 1}}"#, "here.size.part: is no known field, allowed are 'rows'"),
            (r#"{"size": {}}"#, "here.size: is an object without fields, must be {\"rows\": ...} or {\"part\": ...}"),
        ];
        for (json, message) in cases {
            assert!(fault(json).starts_with(message), "{json}: {}", fault(json));
        }
        let long = "x".repeat(5000);
        assert!(fault(&format!(r#"{{"{long}": 1}}"#)).len() < 1500);
        assert!(fault(&format!(r#"{{"count": "{long}"}}"#)).len() < 1500);
        assert!(
            parse::<Options>("", "{\"inner\": {\"on\": 1}}").unwrap_err().to_string().starts_with("inner.on: is 1")
        );
        assert!(parse::<Options>("", "1").unwrap_err().to_string().starts_with("options: is 1"));
    }

    #[test]
    fn what_is_not_json_is_told_with_its_line_and_column() {
        for (json, message) in [
            ("", "here: is not JSON: EOF while parsing a value at line 1 column 0"),
            ("{", "here: is not JSON: EOF while parsing an object at line 1 column 1"),
            ("{} {}", "here: is not JSON: trailing characters at line 1 column 4"),
            ("{\"inner\":\n {\"rate\": NaN}}", "here.inner.rate: is not JSON: expected value at line 2 column 11"),
            ("{\"count\": 1e400}", "here.count: is not JSON: number out of range at line 1 column 15"),
            ("{\"sizes\": [1,]}", "here.sizes: is not JSON: trailing comma at line 1 column 14"),
            ("{'count': 1}", "here: is not JSON: key must be a string at line 1 column 2"),
        ] {
            assert_eq!(parse::<Options>("here", json).unwrap_err().to_string(), message, "{json}");
        }
    }

    #[test]
    fn other_forms_of_a_value_are_taken_for_what_is_meant() {
        for (given, meant) in [
            (json!({"sizes": 32}), json!({"sizes": [32]})),
            (json!({"sizes": 32.0}), json!({"sizes": [32]})),
            (json!({"sizes": [1e3, 2.0]}), json!({"sizes": [1000, 2]})),
            (json!({"names": "y"}), json!({"names": ["y"]})),
            (json!({"words": {"k": "a"}}), json!({"words": {"k": ["a"]}})),
            (json!({"anything": {"kind": "x"}}), json!({"anything": [{"kind": "x"}]})),
            (json!({"anything": false}), json!({"anything": [false]})),
            (json!({"seed": 1e3, "count": 2.0}), json!({"seed": 1000, "count": 2})),
            (json!({"seed": 9007199254740992.0}), json!({"seed": 9007199254740992u64})),
            (json!({"seed": 1e19}), json!({"seed": 10000000000000000000u64})),
            (json!({"seed": -0.0}), json!({"seed": 0})),
            (json!({"periods": [], "words": []}), json!({"periods": {}, "words": {}})),
            (json!({"inner": [], "rate": [], "shape": []}), json!({"inner": null, "rate": null, "shape": null})),
            (json!([]), json!({})),
            (
                json!({"shape": {"kind": "polygon", "corners": {"x": 1, "y": 2}}}),
                json!({"shape": {"kind": "polygon", "corners": [{"x": 1.0, "y": 2.0}]}}),
            ),
            (json!({"inner": {"sizes": 3.0}}), json!({"inner": {"sizes": [3]}})),
        ] {
            let read = |value: &Value| format!("{:?}", from_value::<Options>("here", value).unwrap());
            assert_eq!(read(&given), read(&meant), "{given}");
        }
        let most = from_value::<Options>("here", &json!({"seed": u64::MAX, "names": []})).unwrap();
        assert_eq!((most.seed, most.names), (u64::MAX, Some(vec![])));
    }

    #[test]
    fn the_schema_says_that_a_list_may_be_its_only_item() {
        let schema: Value = serde_json::from_str(&schema::<Options>()).unwrap();
        let item = json!({"type": "integer", "format": "uint", "minimum": 1});
        let list = json!({"type": "array", "items": item, "minItems": 1});
        assert_eq!(schema["properties"]["sizes"]["anyOf"], json!([list, item]));
        assert_eq!(schema["properties"]["count"]["minimum"], 1);
    }

    #[test]
    fn fields_of_one_name_are_refused_at_any_depth() {
        let json = r#"{"a": {"b": [1, "x", true, null, -2, 0.5, 18446744073709551615]}, "b": 1}"#;
        assert_eq!(read("here", json).unwrap(), serde_json::from_str::<Value>(json).unwrap());
        for (json, path) in [
            (r#"{"a": 1, "a": 1}"#, "here.a"),
            (r#"{"c": [{"a": 1, "b": 2, "a": 3}]}"#, "here.c[0].a"),
            (r#"{"a": {}, "\u0061": {}}"#, "here.a"),
        ] {
            let error = read("here", json).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{path}: is there twice at line 1 column ")), "{json}: {error}");
        }
    }
}
