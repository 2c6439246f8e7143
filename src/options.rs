//! Strict JSON options: an unknown field or a wrong type is an error that
//! names its place and what is allowed there.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// Reads `json` as a `T`. `name` is the first part of the path in messages.
///
/// # Errors
/// [`Error::InvalidConfig`] with the path of the offending field.
pub fn parse<T: DeserializeOwned>(name: &str, json: &str) -> Result<T> {
    // serde would take a list's items for the fields, in the order of their declaration.
    if json.trim_start().starts_with('[') {
        return Err(Error::config(name, "is a list [ ... ], must be an object { ... }"));
    }
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
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).as_value().to_string()
}

/// Checks that an option's number is in range; NaN never is.
///
/// # Errors
/// [`Error::InvalidConfig`] that gives the value and `allowed`.
pub fn require(holds: bool, path: &str, value: impl std::fmt::Display, allowed: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(path, format!("is {value}, must be {allowed}"))) }
}
