//! Descriptions in files: TOML or JSON of the same content.

use crate::base;
use crate::base::options::{self, require};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The content of a file, TOML when its name ends in `.toml`, else JSON.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::Parse`] or [`Error::InvalidConfig`] with the line of what is not
/// TOML or JSON, or has two fields of one name, and with the path of what JSON does not have.
pub fn read_value(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let text = text.trim_start_matches('\u{feff}');
    let file = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::Parse(format!("{file}: line {line}: {}", error.message()))
        })?;
        object(table, None).map_err(|error| error.moved("", &format!("{file}: ")))
    } else {
        options::read(&file, text)
    }
}

/// A table as JSON; `place` is where it stands, without one it is the whole.
fn object(table: toml::Table, place: Option<&base::Path>) -> Result<Value> {
    let field = |(name, value): (String, _)| {
        let place = place.map_or_else(|| name.as_str().into(), |place| place.field(&name));
        Ok((name, json(value, place)?))
    };
    Ok(Value::Object(table.into_iter().map(field).collect::<Result<Map<_, _>>>()?))
}

/// What stands at `place` as JSON, which has no NaN, no infinity and no dates.
fn json(value: toml::Value, place: base::Path) -> Result<Value> {
    Ok(match value {
        toml::Value::Table(table) => object(table, Some(&place))?,
        toml::Value::Array(items) => {
            let items = items.into_iter().enumerate();
            Value::Array(items.map(|(at, item)| json(item, place.item(at))).collect::<Result<_>>()?)
        }
        toml::Value::Float(number) => {
            require(number.is_finite(), place, number, "a finite number")?;
            number.into()
        }
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_of_the_same_content_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read_value(&path)
        };
        let toml = read("a.toml", "seed = 7\nloss = { kind = \"biv\", epsilon = 0.5 }\n[dataset]\nnormalize = true\n");
        let json = read("a.json", r#"{"seed":7,"loss":{"kind":"biv","epsilon":0.5},"dataset":{"normalize":true}}"#);
        assert_eq!(toml.unwrap(), json.unwrap());
        assert_eq!(read("d.json", "\u{feff}{}").unwrap(), read("d.toml", "\u{feff}").unwrap());
        let fault = |name: &str, text: &str| read(name, text).unwrap_err().to_string();
        for (name, text, message) in [
            ("b.toml", "a = 1\nb = = 2\n", "b.toml: line 2: "),
            ("b.toml", "a = 1\na = 2\n", "b.toml: line 2: duplicate key"),
            ("c.toml", "[loss]\nepsilon = nan\n", "c.toml: loss.epsilon: is NaN, must be a finite number"),
            ("c.toml", "a = [1, { b = -inf }]\n", "c.toml: a[1].b: is -inf, must be a finite number"),
            ("b.json", "{\n]", "b.json: is not JSON: key must be a string at line 2 column 1"),
            ("b.json", "{\"a\": 1,\n\"a\": 2}", "b.json.a: is there twice at line 2 column"),
        ] {
            assert!(fault(name, text).contains(message), "{text}: {}", fault(name, text));
        }
        assert!(read_value(&folder.path().join("none.toml")).unwrap_err().to_string().contains("no such file"));
    }
}
