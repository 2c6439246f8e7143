//! Saved files: of any bytes, and well-formed ones (their digest is right) with any record and any arrays.

#![no_main]

use biv::archive::{Archive, ArchiveKind, StoredArray};
use biv::model::Model;
use biv::trainer::Trainer;
use biv_fuzz::{check, with_file};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::path::Path;

fn load(path: &Path) {
    let model = Model::load(path);
    if let Ok(model) = &model {
        let inputs = vec![0.5; model.inputs()];
        check(&model.predict(&inputs).map(|_| ()));
    }
    check(&model.map(|_| ()));
    check(&Trainer::load(path, None, None).map(|_| ()));
}

/// Networks of more than this are not what is looked for.
fn is_large(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 64.0),
        Value::Array(values) => values.len() > 8 || values.iter().any(is_large),
        Value::Object(fields) => {
            fields.values().any(is_large) || fields.get("kind").is_some_and(|kind| kind == "vanilla_cnn" || kind == "resnet")
        }
        _ => false,
    }
}

/// A file whose digest is right: the state as JSON up to the first NUL, and then arrays `name NUL length values NUL`.
fn well_formed(kind: ArchiveKind, text: &[u8]) -> Option<Archive> {
    let mut parts = text.split(|&byte| byte == 0);
    let state: Value = serde_json::from_slice(parts.next()?).ok()?;
    if is_large(&state) {
        return None;
    }
    let mut archive = Archive::new(kind, &state).ok()?;
    while let (Some(name), Some(values)) = (parts.next(), parts.next()) {
        let name = String::from_utf8(name.to_vec()).ok()?;
        let numbers: Vec<f32> = values.iter().map(|&byte| f32::from(byte) - 100.0).collect();
        let array = match values.split_first() {
            Some((255, rest)) => StoredArray::f64(rest.iter().map(|&byte| f64::from(byte)).collect()),
            Some((&columns, _)) if columns > 0 && numbers.len().is_multiple_of(usize::from(columns)) => {
                StoredArray::f32(vec![numbers.len() / usize::from(columns), usize::from(columns)], &numbers).ok()?
            }
            _ => StoredArray::f32(vec![numbers.len()], &numbers).ok()?,
        };
        archive.insert(name, array);
    }
    Some(archive)
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    let kind = if which % 2 == 0 { ArchiveKind::Model } else { ArchiveKind::Training };
    if which < 128 {
        with_file("any.biv", bytes, load);
    } else if let Some(archive) = well_formed(kind, bytes) {
        with_file("well-formed.biv", &[], |path| {
            archive.save(path).expect("it is saved");
            load(path);
        });
    }
});
