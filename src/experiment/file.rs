//! Descriptions in files: TOML or JSON of the same content.

use crate::base::options;
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// The content of a file, TOML when its name ends in `.toml`, else JSON.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::Parse`] or [`Error::InvalidConfig`] with the line of what is not
/// TOML or JSON, or has two fields of one name.
pub fn read_value(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let file = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::Parse(format!("{file}: line {line}: {}", error.message()))
        })
    } else {
        options::read(&file, &text)
    }
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
        let fault = |name: &str, text: &str| read(name, text).unwrap_err().to_string();
        for (name, text, message) in [
            ("b.toml", "a = 1\nb = = 2\n", "b.toml: line 2: "),
            ("b.toml", "a = 1\na = 2\n", "b.toml: line 2: duplicate key"),
            ("b.json", "{\n]", "b.json: key must be a string at line 2 column 1"),
            ("b.json", "{\"a\": 1,\n\"a\": 2}", "b.json: duplicate field `a` at line 2 column"),
        ] {
            assert!(fault(name, text).contains(message), "{text}: {}", fault(name, text));
        }
        assert!(read_value(&folder.path().join("none.toml")).unwrap_err().to_string().contains("no such file"));
    }
}
