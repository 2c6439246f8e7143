//! Saved files: of any bytes; with their digest made right; and well-formed ones with any record and
//! any arrays. What can be loaded is used.

#![no_main]

use biv::model::archive::{Archive, ArchiveKind, StoredArray};
use biv_fuzz::*;
use libfuzzer_sys::fuzz_target;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::Path;
use std::ptr::{null, null_mut};

/// Loads the file as either kind, as a trainer with its data and without.
fn load(path: &Path) {
    let path = c_string(path.as_os_str().as_encoded_bytes());
    // SAFETY: C strings that outlive the calls, handles that were just made.
    unsafe {
        if let Ok(model) = made(|out| biv_model_load(path.as_ptr(), out)) {
            use_model(model);
            biv_model_free(model);
        }
        for (rows, features) in [(0, 0), (6, 2), (8, 1)] {
            let dataset = if rows > 0 { data(rows, features) } else { null_mut() };
            for options in [null(), c"{\"accept_data\": true}".as_ptr()] {
                if let Ok(trainer) = made(|out| biv_trainer_load_with(path.as_ptr(), dataset, options, out)) {
                    use_trainer(trainer, dataset);
                    biv_trainer_free(trainer);
                }
            }
            biv_dataset_free(dataset);
        }
    }
}

/// Rows with one label each.
fn data(rows: i64, features: i64) -> *mut biv_dataset {
    let values: Vec<f64> = (0..rows * features).map(|at| (at * 5 % 7) as f64).collect();
    let shape = [rows];
    let labels = array(&values[..rows as usize], &shape);
    // SAFETY: the arrays are as large as their shapes say.
    made(|out| unsafe { biv_dataset_create_from_arrays(&array(&values, &[rows, features]), &labels, &labels, out) })
        .expect("a data set")
}

/// # Safety
/// The handles are those of a trainer and of its data set, or NULL.
unsafe fn use_trainer(trainer: *mut biv_trainer, dataset: *const biv_dataset) {
    // SAFETY: the caller's promise; locals that outlive the calls.
    unsafe {
        let other = data(3, 2);
        check_status(biv_trainer_step(trainer, null_mut()));
        check_status(biv_trainer_fit(trainer, 2, dataset, None, null_mut()));
        check_status(biv_trainer_evaluate(trainer, other, &mut sized()));
        biv_dataset_free(other);
        let model = made(|out| biv_trainer_get_model(trainer, out)).expect("every trainer has a model");
        use_model(model);
        biv_model_free(model);
        with_file("again.biv", &[], |path| {
            let path = c_string(path.as_os_str().as_encoded_bytes());
            assert_eq!(check_status(biv_trainer_save(trainer, path.as_ptr())), BIV_OK);
        });
    }
}

/// Networks of more than this are not what is looked for, unless no memory could hold them.
fn is_large(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 64.0 && number < 1e18),
        Value::Array(values) => values.len() > 8 || values.iter().any(is_large),
        Value::Object(fields) => {
            fields.values().any(is_large) || fields.get("kind").is_some_and(|kind| kind == "vanilla_cnn" || kind == "resnet")
        }
        _ => false,
    }
}

/// An archive without arrays yet, unless its state describes something large.
fn archive(kind: ArchiveKind, state: &[u8]) -> Option<Archive> {
    let state: Value = serde_json::from_slice(state).ok()?;
    if is_large(&state) { None } else { Archive::new(kind, &state).ok() }
}

/// A file whose digest is right: the state as JSON up to the first NUL, and then arrays `name NUL length values NUL`.
fn well_formed(kind: ArchiveKind, text: &[u8]) -> Option<Archive> {
    let mut parts = text.split(|&byte| byte == 0);
    let mut archive = archive(kind, parts.next()?)?;
    while let (Some(name), Some(values)) = (parts.next(), parts.next()) {
        let name = String::from_utf8(name.to_vec()).ok()?;
        let numbers: Vec<f32> = values.iter().map(|&byte| f32::from(byte) - 100.0).collect();
        let array = match values.split_first() {
            Some((254, rest)) => StoredArray::text(String::from_utf8(rest.to_vec()).ok()?),
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

/// What a file holds, whatever its digest.
fn repaired(bytes: &[u8]) -> Option<Archive> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let record: Value = serde_json::from_str(metadata.metadata().as_ref()?.get("libbiv")?).ok()?;
    let kind = serde_json::from_value(record["kind"].clone()).ok()?;
    let mut archive = archive(kind, record["state"].as_str()?.as_bytes())?;
    for (name, view) in SafeTensors::deserialize(bytes).ok()?.iter() {
        let values = view.data();
        let array = match view.dtype() {
            Dtype::F32 => {
                let values: Vec<f32> = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
                StoredArray::f32(view.shape().to_vec(), &values).ok()?
            }
            Dtype::F64 => StoredArray::f64(values.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
            Dtype::U8 => StoredArray::text(String::from_utf8(values.to_vec()).ok()?),
            _ => return None,
        };
        archive.insert(name.into(), array);
    }
    Some(archive)
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else { return };
    let kind = if which % 2 == 0 { ArchiveKind::Model } else { ArchiveKind::Training };
    let archive = if which < 128 { repaired(bytes) } else { well_formed(kind, bytes) };
    if which < 128 {
        with_file("any.biv", bytes, load);
    }
    if let Some(archive) = archive {
        with_file("well-formed.biv", &[], |path| {
            archive.save(path).expect("it is saved");
            load(path);
        });
    }
});
