//! Options held against their JSON Schema: the one place that knows what a field may be, so that what is refused and
//! what the schema says are the same. Hosts write some values in another form; those are taken for what is meant:
//!
//! - a single value where a list of it is meant: `32` for `[32]`;
//! - a number without a fraction where a whole number is meant: `32.0`, `1e3`;
//! - an empty list for nothing: `null` where that is allowed, else an object without fields.

use super::error::quoted;
use super::place::Path;
use crate::{Error, Result};
use serde_json::{Map, Value};

/// Where something stands in the options: `trainer.loss.epsilon`.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The whole, by its name; without a name, the paths in it begin with a field.
    Whole(&'a str),
    /// A field of an object.
    Field(&'a Place<'a>, &'a str),
    /// An item of a list.
    Item(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// As it is shown.
    pub(super) fn path(&self) -> Path {
        match self {
            Place::Whole("") => "options".into(),
            Place::Whole(name) => (*name).into(),
            Place::Field(Place::Whole(""), name) => shortened(name).into(),
            Place::Field(whole, name) => whole.path().field(&shortened(name)),
            Place::Item(list, index) => list.path().item(*index),
        }
    }

    /// An error in what stands here.
    pub(super) fn fault(&self, message: impl Into<String>) -> Error {
        Error::config(self.path(), message)
    }
}

/// A text with its middle left out where it is far too long, as a field's name in somebody's JSON may be.
fn shortened(text: &str) -> String {
    const KEPT: usize = 200;
    if text.len() <= 2 * KEPT {
        return text.to_string();
    }
    let (start, end) = (text.floor_char_boundary(KEPT), text.ceil_char_boundary(text.len() - KEPT));
    format!("{} ... {}", &text[..start], &text[end..])
}

/// `value`, which stands at `place`, in the form that `schema`, a part of `root`, has for it.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path of what the schema does not allow.
pub(super) fn conform(root: &Value, schema: &Value, value: &Value, place: Place) -> Result<Value> {
    let forms = forms(root, schema);
    let form_of = |kind: &str| forms.iter().copied().find(|form| is_of(form, kind));
    if forms.iter().any(|form| form["type"].is_null()) {
        return Ok(value.clone());
    }
    let wrong = || place.fault(format!("is {}, must be {}", shown(value), allowed(root, schema)));
    match (value, form_of("array")) {
        (Value::Null, _) => form_of("null").map(|_| Value::Null).ok_or_else(wrong),
        (Value::Array(items), Some(list)) => {
            let items = items.iter().enumerate();
            let items = items.map(|(at, item)| conform(root, &list["items"], item, Place::Item(&place, at)));
            long_enough(list, items.collect::<Result<_>>()?, place)
        }
        (Value::Array(items), None) if items.is_empty() && form_of("null").is_some() => Ok(Value::Null),
        (Value::Array(items), None) if items.is_empty() && form_of("object").is_some() => {
            conform(root, schema, &Value::Object(Map::new()), place)
        }
        (Value::Array(_), None) => Err(wrong()),
        (single, Some(list)) => {
            let kind = kind_of(single);
            let is_item =
                self::forms(root, &list["items"]).iter().any(|item| is_of(item, kind) || item["type"].is_null());
            let item = if is_item { conform(root, &list["items"], single, place)? } else { return Err(wrong()) };
            Ok(Value::Array(vec![item]))
        }
        (Value::Object(fields), None) => {
            let objects: Vec<&Value> = forms.into_iter().filter(|form| is_of(form, "object")).collect();
            if objects.is_empty() {
                Err(wrong())
            } else {
                object(root, chosen(&objects, fields, place)?, fields, place)
            }
        }
        (Value::Number(_), None) => number(form_of("number").ok_or_else(wrong)?, value, place),
        (Value::String(text), None) => {
            let texts: Vec<&Value> = forms.iter().copied().filter(|form| is_of(form, "string")).collect();
            match texts.iter().flat_map(|form| constants(form)).collect::<Vec<_>>() {
                known if known.contains(&value) => Ok(value.clone()),
                known if !known.is_empty() => Err(place.fault(format!(
                    "is {}, must be {}{}",
                    shown(value),
                    allowed(root, schema),
                    suggestion(text, known.iter().filter_map(|word| word.as_str()))
                ))),
                _ if texts.iter().any(|form| form["maxLength"] == 1) && text.chars().count() != 1 => Err(wrong()),
                _ if texts.is_empty() => Err(wrong()),
                _ => Ok(value.clone()),
            }
        }
        (Value::Bool(_), None) => form_of("boolean").map(|_| value.clone()).ok_or_else(wrong),
    }
}

/// The forms that a value may have: those of a choice one by one, each without a reference.
fn forms<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    if let Some(form) = schema["$ref"].as_str().and_then(|place| root.pointer(place.trim_start_matches('#'))) {
        return forms(root, form);
    }
    match ["anyOf", "oneOf"].iter().find_map(|key| schema[key].as_array()) {
        Some(choices) => choices.iter().flat_map(|choice| forms(root, choice)).collect(),
        None => vec![schema],
    }
}

/// JSON Schema's name for what `value` is.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a form is one of values of a kind.
fn is_of(form: &Value, kind: &str) -> bool {
    let same = |named: &Value| named == kind || (kind == "number" && named == "integer");
    same(&form["type"]) || form["type"].as_array().is_some_and(|kinds| kinds.iter().any(same))
}

/// The values that a form names one by one.
fn constants(form: &Value) -> Vec<&Value> {
    form["enum"].as_array().map_or_else(|| form.get("const").into_iter().collect(), |all| all.iter().collect())
}

fn long_enough(list: &Value, items: Vec<Value>, place: Place) -> Result<Value> {
    let least = list["minItems"].as_u64().unwrap_or(0);
    if items.len() as u64 >= least {
        return Ok(Value::Array(items));
    }
    let found = if items.is_empty() { "an empty list".into() } else { format!("a list of {}", items.len()) };
    Err(place.fault(format!("is {found}, must have at least {least}")))
}

/// A number within the form's limits; a whole one as such.
fn number(form: &Value, value: &Value, place: Place) -> Result<Value> {
    let wrong = |must: &str| Err(place.fault(format!("is {}, must be {must}", shown(value))));
    let is_whole = is_of(form, "integer");
    let number = match whole(value) {
        Some(number) if is_whole => number,
        None if is_whole => return wrong("a whole number"),
        _ => value.clone(),
    };
    let known = constants(form);
    if !known.is_empty() && !known.contains(&&number) {
        return wrong(&one_of(known.iter().map(|value| value.to_string())));
    }
    let limit = |name: &str| form[name].as_f64();
    let size = number.as_f64().unwrap_or(f64::NAN);
    let within = limit("minimum").is_none_or(|least| size >= least)
        && limit("exclusiveMinimum").is_none_or(|bound| size > bound)
        && limit("maximum").is_none_or(|most| size <= most)
        && limit("exclusiveMaximum").is_none_or(|bound| size < bound);
    if !within {
        return wrong(&range(form));
    }
    let most = if form["format"] == "uint32" { u64::from(u32::MAX) } else { u64::MAX };
    match number.as_u64() {
        Some(number) if number > most => wrong(&format!("at most {most}")),
        None if is_whole => wrong(&format!("at most {most}")),
        _ => Ok(number),
    }
}

/// A number without a fraction as JSON writes whole numbers; one that is too large for that as it is.
fn whole(value: &Value) -> Option<Value> {
    const BEYOND: f64 = (1u128 << 64) as f64;
    match value.as_f64()? {
        _ if value.is_u64() || value.is_i64() => Some(value.clone()),
        number if number.fract() != 0.0 => None,
        number if (0.0..BEYOND).contains(&number) => Some((number as u64).into()),
        number if (-BEYOND / 2.0..0.0).contains(&number) => Some((number as i64).into()),
        _ => Some(value.clone()),
    }
}

/// What a number must be in a form that has limits.
fn range(form: &Value) -> String {
    let limit = |name: &str, text: &str| form[name].as_f64().map(|limit| (limit, text.to_string()));
    let least = limit("minimum", "[").or_else(|| limit("exclusiveMinimum", "("));
    let most = limit("maximum", "]").or_else(|| limit("exclusiveMaximum", ")"));
    match (least, most) {
        (Some((least, _)), Some((most, _))) if is_of(form, "integer") => format!("{least} to {most}"),
        (Some((least, open)), Some((most, close))) => format!("in {open}{least}, {most}{close}"),
        (Some((least, open)), None) if open == "[" => format!("at least {least}"),
        (Some((bound, _)), None) => format!("greater than {bound}"),
        (None, Some((most, close))) if close == "]" => format!("at most {most}"),
        (None, Some((bound, _))) => format!("less than {bound}"),
        (None, None) => "a number".into(),
    }
}

/// Of several kinds of objects the one that is meant: the one that a field like `kind` names, else the first whose
/// fields are there.
fn chosen<'a>(objects: &[&'a Value], fields: &Map<String, Value>, place: Place) -> Result<&'a Value> {
    if let [single] = objects {
        return Ok(single);
    }
    let tagged = |form: &'a Value| -> Vec<(&'a String, Vec<&'a Value>)> {
        let properties = form["properties"].as_object().into_iter().flatten();
        properties.map(|(name, field)| (name, constants(field))).filter(|(_, tags)| !tags.is_empty()).collect()
    };
    let Some((tag, _)) = objects.first().and_then(|form| tagged(form).into_iter().next()) else {
        let has_all = |form: &&&Value| {
            let mut required = form["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.all(|name| fields.contains_key(name))
        };
        return objects.iter().find(has_all).copied().ok_or_else(|| match fields.keys().next() {
            Some(name) => {
                let known =
                    objects.iter().filter_map(|form| form["properties"].as_object()).flat_map(|known| known.keys());
                unknown(place, name, known)
            }
            None => place.fault(format!(
                "is an object without fields, must be {}",
                one_of(objects.iter().map(|form| object_shape(form)))
            )),
        });
    };
    let place = Place::Field(&place, tag);
    let tags = |form: &'a Value| constants(&form["properties"][tag]);
    let words = || objects.iter().filter_map(|form| tags(form).first().copied());
    let must = || one_of(words().map(shown));
    let Some(found) = fields.get(tag) else {
        return Err(place.fault(format!("is missing, must be {}", must())));
    };
    objects.iter().copied().find(|form| tags(form).contains(&found)).ok_or_else(|| {
        let nearest = suggestion(found.as_str().unwrap_or_default(), words().filter_map(Value::as_str));
        place.fault(format!("is {}, must be {}{nearest}", shown(found), must()))
    })
}

/// The fields of an object, none of them unknown and none missing.
fn object(root: &Value, form: &Value, fields: &Map<String, Value>, place: Place) -> Result<Value> {
    let mut read = Map::new();
    for (name, value) in fields {
        let field = Place::Field(&place, name);
        let value = match (form["properties"].get(name), &form["additionalProperties"]) {
            (Some(schema), _) | (None, schema @ Value::Object(_)) => conform(root, schema, value, field)?,
            (None, Value::Bool(false)) => {
                let known = form["properties"].as_object().into_iter().flat_map(|known| known.keys());
                return Err(unknown(place, name, known));
            }
            _ => value.clone(),
        };
        read.insert(name.clone(), value);
    }
    let mut required = form["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(name) = required.find(|name| !fields.contains_key(*name)) {
        let must = allowed(root, &form["properties"][name]);
        return Err(Place::Field(&place, name).fault(format!("is missing, must be {must}")));
    }
    Ok(Value::Object(read))
}

/// An error for a field that is none of the `known` ones.
fn unknown<'a>(place: Place, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> Error {
    let nearest = suggestion(name, known.clone().map(String::as_str));
    let field = Place::Field(&place, name);
    field.fault(format!("is no known field{nearest}, allowed are {}", quoted(known)))
}

/// The word that `text` may stand for, as the next part of a message; empty without one.
fn suggestion<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> String {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let (text, most) = (plain(&shortened(text)), text.chars().count().max(3) / 3);
    let distance = |word: &str| strsim::damerau_levenshtein(&plain(word), &text);
    let nearest = known.map(|word| (distance(word), word)).min().filter(|(distance, _)| *distance <= most);
    nearest.map_or(String::new(), |(_, word)| format!(" (did you mean '{word}'?)"))
}

/// What was found, in a message.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", shortened(text)),
        Value::Array(_) => "a list [ ... ]".into(),
        Value::Object(_) => "an object { ... }".into(),
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").unwrap_or(&text).to_string()
        }
        plain => plain.to_string(),
    }
}

/// What a schema allows, in a message.
fn allowed(root: &Value, schema: &Value) -> String {
    let mut words: Vec<String> = vec![];
    for form in forms(root, schema) {
        let kinds = form["type"].as_array().map_or_else(|| vec![&form["type"]], |kinds| kinds.iter().collect());
        for kind in kinds.iter().filter_map(|kind| kind.as_str()).filter(|kind| *kind != "null") {
            let named: Vec<String> = constants(form).into_iter().map(shown).collect();
            if !named.is_empty() {
                words.extend(named);
                continue;
            }
            words.push(match kind {
                "integer" => "a whole number".into(),
                "number" => "a number".into(),
                "boolean" => "true or false".into(),
                "array" => format!("a list of {}", items(root, &form["items"])),
                "object" => object_shape(form),
                _ if form["maxLength"] == 1 => "one character".into(),
                _ => "text".into(),
            });
        }
    }
    words.dedup();
    one_of(words.into_iter())
}

/// What a list has, in a message.
fn items(root: &Value, schema: &Value) -> &'static str {
    match forms(root, schema)[0]["type"].as_str() {
        Some("integer") => "whole numbers",
        Some("number") => "numbers",
        Some("string") => "texts",
        Some("object") => "objects",
        _ => "values",
    }
}

/// How an object looks, in a message: by its only field, where it has only one.
fn object_shape(form: &Value) -> String {
    let names: Vec<&String> = form["properties"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    match names.as_slice() {
        [name] if constants(&form["properties"][name]).is_empty() => format!("{{\"{name}\": ...}}"),
        _ => "an object { ... }".into(),
    }
}

/// `a, b or c`.
fn one_of(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.concat(),
    }
}

/// A schema as it is published: a list may be written as its only item.
pub(super) fn published(schema: &Value) -> Value {
    let parts = |schema: &Value| match schema {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), published(field))).collect(),
        _ => Map::new(),
    };
    match schema {
        Value::Array(items) => items.iter().map(published).collect(),
        Value::Object(_) if is_of(schema, "array") => {
            let mut rest = parts(schema);
            let mut list = Map::new();
            for name in ["type", "items", "minItems"] {
                list.extend(rest.remove(name).map(|part| (name.to_string(), part)));
            }
            let item = list["items"].clone();
            rest.insert("anyOf".into(), Value::Array(vec![Value::Object(list), item]));
            Value::Object(rest)
        }
        Value::Object(_) => Value::Object(parts(schema)),
        plain => plain.clone(),
    }
}
