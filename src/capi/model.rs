//! Models.

use super::array::{biv_array, biv_array_out, fill, view};
use super::boundary::boundary;
use super::status::biv_status;
use super::{handle, pointer};
use crate::base::memory::collect;
use crate::data::array::ArrayView;
use crate::model::archive::StoredArray;
use crate::model::{Model, ModelOptions};
use crate::torch::device;
use crate::{Error, Result};
use parking_lot::Mutex;
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

/// A network and, once it was trained, the normalisation of its data. Any thread
/// may use it; calls on one model take turns. While a trainer trains it, other
/// calls come in between two steps.
pub struct biv_model {
    _private: (),
}

/// The sizes of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_model_info {
    /// Set to sizeof(biv_model_info) before the call.
    pub struct_size: usize,
    /// The number of feature values in a row.
    pub inputs: i64,
    /// The number of predictions for a row.
    pub outputs: i64,
    /// The number of trainable values.
    pub parameters: i64,
    /// 1 when predictions are in the labels' unit by the model's own normalisation, else 0.
    pub normalized: i32,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_model_info {
    const NAME: &'static str = "biv_model_info";
}

/// Makes a network on the CPU, its weights drawn as PyTorch's defaults by a seed of its own.
///
/// @param options JSON, schema "model": {"kind": "mlp", "inputs": 19, "hidden": [100, 50],
///   "outputs": 1, "batch_norm": false, "seed": 0} or {"kind": "vanilla_ann", "dataset": "bike"}.
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_create(options: *const c_char, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let options: ModelOptions = pointer::options(options, "model")?;
            Ok(Arc::new(Mutex::new(Model::new(&options)?)))
        })
    })
}

/// Reads the model that biv_model_save() wrote, onto the CPU.
///
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT,
///   BIV_ERROR_INVALID_ARGUMENT for a training checkpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_load(path: *const c_char, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || Ok(Arc::new(Mutex::new(Model::load(Path::new(pointer::text(path, "path")?))?))))
    })
}

/// Saves weights and normalisation. A file at `path` is replaced, in one go, when the new one is complete.
///
/// A link is followed.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
///   BIV_ERROR_INVALID_ARGUMENT (no regular file): on failure an older file is untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_save(model: *const biv_model, path: *const c_char) -> biv_status {
    // SAFETY: the header's contract for `path`.
    boundary(|| unsafe { handle::get(model)?.lock().save(Path::new(pointer::text(path, "path")?)) })
}

/// The model's sizes.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_get_info(model: *const biv_model, out: *mut biv_model_info) -> biv_status {
    boundary(|| {
        let model = handle::get(model)?;
        let model = model.lock();
        let info = biv_model_info {
            struct_size: 0,
            inputs: model.inputs() as i64,
            outputs: model.outputs() as i64,
            parameters: model.parameter_count() as i64,
            normalized: model.normalization().is_some().into(),
        };
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, info) }
    })
}

/// Describes the model as JSON: its options, its device and the name and shape of every tensor.
///
/// @param buffer room for `capacity` bytes; NULL with capacity 0 only asks for the size.
/// @param needed set to the size of the text with its NUL; may be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_describe(
    model: *const biv_model,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> biv_status {
    boundary(|| {
        let model = handle::get(model)?;
        let model = model.lock();
        let device = device::name(model.device());
        let text =
            serde_json::json!({"options": model.options(), "device": device, "tensors": model.tensors()}).to_string();
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_text(&text, buffer, capacity, needed) }
    })
}

/// Copies one of the model's tensors.
///
/// @param name as in biv_model_describe() and in PyTorch's state_dict: "0.weight" has shape [outputs, inputs].
/// @param out an array of the tensor's shape.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_get_tensor(
    model: *const biv_model,
    name: *const c_char,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let tensor = handle::get(model)?.lock().tensor(pointer::text(name, "name")?)?;
        let values = collect(tensor.to_f32()?.into_iter().map(f64::from))?;
        fill(out, "out", tensor.shape(), &values)
    })
}

/// Overwrites one of the model's tensors.
///
/// @param values an array of exactly the tensor's shape, all finite.
/// @return as biv_model_get_tensor().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_set_tensor(
    model: *const biv_model,
    name: *const c_char,
    values: *const biv_array,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let values = view(values, "values")?;
        let array = StoredArray::f32(values.shape().to_vec(), &values.to_f32()?)?;
        handle::get(model)?.lock().set_tensor(pointer::text(name, "name")?, &array)
    })
}

/// Predicts labels, in the labels' unit (where the model was trained with normalisation, by undoing it).
///
/// @param features shape [rows, ...] with as many values in a row as the model has inputs, in
///   their own unit, all finite. No rows give no predictions.
/// @param out shape [rows, outputs], or [rows] for one output.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_predict(
    model: *const biv_model,
    features: *const biv_array,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe { predict(&handle::get(model)?.lock(), &view(features, "features")?, out) })
}

/// Predicts rows of features into a caller's array.
///
/// # Safety
/// As [`fill`].
pub(super) unsafe fn predict(model: &Model, features: &ArrayView, out: *const biv_array_out) -> Result<()> {
    let [rows, rest @ ..] = features.shape() else {
        return Err(Error::Shape("features have no dimensions, the first is the rows".into()));
    };
    let width: usize = rest.iter().product();
    if width != model.inputs() {
        let inputs = model.inputs();
        return Err(Error::Shape(format!("features have {width} values in a row, the model has {inputs} inputs")));
    }
    let values = features.as_f32()?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (row, feature) = (at / width, at % width);
        return Err(Error::InvalidArgument(format!("row {row}, feature {feature}: {} is not finite", values[at])));
    }
    let predictions = model.predict(&values)?;
    // SAFETY: the caller's promise.
    unsafe { fill(out, "out", &[*rows, model.outputs()], &predictions) }
}

/// Frees a handle. NULL and a handle that was freed before are left alone, and so is the last message.
/// A trainer keeps its model alive. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_model_free(model: *mut biv_model) {
    handle::free(model);
}
