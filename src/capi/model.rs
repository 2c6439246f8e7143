//! Models.

use super::array::{biv_array, biv_array_out, check_room, fill, view};
use super::boundary::boundary;
use super::dataset::biv_dataset;
use super::experiment::{biv_text, text};
use super::handle::{self, Handle};
use super::pointer;
use super::status::biv_status;
use super::trainer::biv_metrics;
use crate::base::memory::collect;
use crate::data::Normalization;
use crate::data::array::ArrayView;
use crate::model::archive::StoredArray;
use crate::model::{ExportOptions, ImportOptions, Model, ModelOptions};
use crate::torch::device;
use crate::train::metrics::Metrics;
use crate::{Error, Result};
use parking_lot::Mutex;
use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

/// A network and, once it was trained, the normalisation of its data. Calls on one model take turns. While a
/// trainer trains the model, other calls run between two steps.
pub struct biv_model {
    _private: (),
}

impl Handle for biv_model {
    type Target = Mutex<Model>;
    const NAME: &'static str = "biv_model";
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
    /// 1 when the model has a normalisation, which its predictions undo, else 0.
    pub normalized: i32,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_model_info {
    const NAME: &'static str = "biv_model_info";
}

/// Makes a network on the CPU. Its initial weights are distributed as PyTorch's defaults; "seed" determines them.
///
/// @param options JSON, schema "model": {"kind": "mlp", "inputs": 19, "hidden": [100, 50], "outputs": 1,
///   "batch_norm": false, "seed": 0}, {"kind": "vanilla_ann", "dataset": "bike"}, {"kind": "vanilla_cnn",
///   "height": 64, "width": 64}, {"kind": "resnet", "depth": 18, "height": 64, "width": 64}, or layers of your own:
///   {"kind": "sequential", "input_shape": [19], "layers": [{"kind": "linear", "outputs": 64}, {"kind": "activation",
///   "function": "silu"}, {"kind": "dropout", "p": 0.1}, {"kind": "linear", "outputs": 1}]}. A network that also
///   predicts its variance, for the losses "gaussian" and "beta_nll": {"kind": "mean_variance", "network": {...}}.
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// Reads a model that biv_model_save() wrote, or the one in a checkpoint of biv_trainer_save(), onto the CPU.
///
/// @param path the file, UTF-8.
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_INVALID_ARGUMENT (the file
///   is a fit's that is not complete), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_load(path: *const c_char, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || Ok(Arc::new(Mutex::new(Model::load(Path::new(pointer::text(path, "path")?))?))))
    })
}

/// Saves the model's weights and normalisation. A file at `path` is replaced at once when the new one is
/// complete; on failure it is as it was. A symbolic link is followed.
///
/// @param path the file, UTF-8.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
///   BIV_ERROR_INVALID_ARGUMENT (what is there is no regular file), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_save(model: *const biv_model, path: *const c_char) -> biv_status {
    // SAFETY: the header's contract for `path`.
    boundary(|| unsafe { handle::get(model)?.lock().save(Path::new(pointer::text(path, "path")?)) })
}

/// As biv_model_load(), of the file's bytes in memory. They are not needed after the call.
///
/// @param bytes @param size what biv_model_save_to_memory() gave, or a file's content.
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return as biv_model_load(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_load_from_memory(
    bytes: *const c_void,
    size: usize,
    out: *mut *mut biv_model,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            Ok(Arc::new(Mutex::new(Model::from_bytes(pointer::slice(bytes.cast(), size, "bytes")?, &"the bytes")?)))
        })
    })
}

/// Writes what biv_model_save() saves into the caller's memory. A model that a trainer trains may change between two
/// calls, but not its size.
///
/// @param buffer the caller's room; NULL with a capacity of 0 only asks for the size.
/// @param capacity the size of `buffer` in bytes.
/// @param needed set to the number of bytes; may be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_save_to_memory(
    model: *const biv_model,
    buffer: *mut c_void,
    capacity: usize,
    needed: *mut usize,
) -> biv_status {
    boundary(|| {
        let bytes = handle::get(model)?.lock().to_bytes()?;
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_bytes(&bytes, buffer, capacity, needed) }
    })
}

/// Makes a model of its own with the same network, weights and normalisation, on the same device.
///
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any
///   thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_copy(model: *const biv_model, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { handle::create(out, || Ok(Arc::new(Mutex::new(handle::get(model)?.lock().copy()?)))) })
}

/// Writes the model for other programs. A file at `path` is replaced at once when the new one is complete.
///
/// An ONNX file (opset 13) has the whole prediction. Its input "features" are floats of shape [rows, ...] for any number of
/// rows, in the unit of the training data (images: a byte / 255); its output "labels" has shape [rows, outputs], in the
/// labels' unit. A model that knows the variances of its errors has the output "variances" too, as
/// biv_model_predict_with_variance().
///
/// A safetensors file has the tensors under PyTorch's names, for `load_state_dict`. The metadata of both have the
/// "normalization" and the "network" as in biv_model_describe().
///
/// @param path the file, UTF-8.
/// @param options JSON, schema "export": {"format": "onnx"} or {"format": "safetensors"}; NULL for the format that the
///   path ends with: .onnx or .safetensors.
/// @return as biv_model_save(), and BIV_ERROR_INVALID_CONFIG; for ONNX BIV_ERROR_NUMERICAL (a float does not hold a number
///   of the normalisation) and BIV_ERROR_UNSUPPORTED (more than 2 GiB). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_export(
    model: *const biv_model,
    path: *const c_char,
    options: *const c_char,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let model = handle::get(model)?;
        let options: ExportOptions = pointer::options(options, "export")?;
        model.lock().export(Path::new(pointer::text(path, "path")?), &options)
    })
}

/// Takes the weights of a safetensors file that another program saved, PyTorch for example, by their names and shapes:
/// all, or on error none. Names are those of biv_model_describe(), which are PyTorch's; `module.` and `_orig_mod.` in
/// the file's names are passed over, and so are counters called num_batches_tracked. f64, f16 and bf16 become f32.
///
/// @param path the file, UTF-8.
/// @param options JSON, schema "import": {"strict": true}: the file must have all tensors of the model and no others.
///   With false, those that both have are taken. NULL for the default.
/// @param report a new text, JSON with the names that were "imported", those of the model that are "missing" in the file
///   and the file's that are "left_over", to be freed with biv_text_free(); NULL on failure. May be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO,
///   BIV_ERROR_CORRUPT (no safetensors file), BIV_ERROR_SHAPE (a tensor has another shape), BIV_ERROR_INVALID_ARGUMENT
///   (tensors are missing or left over: the message has twenty names of each; a value is not finite; integers),
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_import_weights(
    model: *mut biv_model,
    path: *const c_char,
    options: *const c_char,
    report: *mut *mut biv_text,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let import = || {
            let model = handle::get(model)?;
            let options: ImportOptions = pointer::options(options, "import")?;
            let path = Path::new(pointer::text(path, "path")?);
            let report = model.lock().import_weights(path, &options)?;
            text(&report)
        };
        if report.is_null() { import().map(|_| ()) } else { handle::create(report, import) }
    })
}

/// The model's sizes.
///
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
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

/// Describes the model as JSON: its options, its "network", which is each of its networks as "input_shape" and "layers"
/// (the options of kind "sequential" that make the same), its device, the name and shape of every tensor, its normalisation
/// {"feature_mean": [...], "feature_std": [...], "label_mean": [...], "label_std": [...]} (null where it has none) and
/// its error bars {"scale": [...], "tau2": [...], "mean_spread": [...]}, in the square of the labels' unit (null
/// likewise), and the columns of the data that it was trained on, as in biv_dataset_describe() (null likewise).
///
/// @param buffer the caller's room for the text; NULL with a capacity of 0 only asks for the size.
/// @param capacity the size of `buffer` in bytes.
/// @param needed set to the size of the text in bytes, its NUL included; may be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT. Any
///   thread.
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
        let text = serde_json::json!({
            "options": model.options(),
            "network": model.options().description()?,
            "device": device::name(model.device()),
            "tensors": model.tensors(),
            "normalization": model.normalization(),
            "error_bars": model.error_bars_in_units()?,
            "columns": model.columns(),
        })
        .to_string();
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_text(&text, buffer, capacity, needed) }
    })
}

/// Copies one of the model's tensors.
///
/// @param name as in biv_model_describe() and in PyTorch's state_dict: "0.weight" has shape [outputs, inputs].
/// @param out an array of the caller's to be filled, of the tensor's shape.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
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
/// @param name as for biv_model_get_tensor().
/// @param values an array of exactly the tensor's shape. All values are finite, as f32 too.
/// @return as biv_model_get_tensor(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_set_tensor(
    model: *mut biv_model,
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

/// Predicts labels, in the labels' unit: a model that was trained with normalisation applies it to the features
/// and undoes it in the predictions.
///
/// @param features shape [rows, ...] with as many values in a row as the model has inputs, in the unit of the
///   training data, all finite. There may be no rows.
/// @param out an array of the caller's to be filled, of shape [rows, outputs], or [rows] for one output.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_predict(
    model: *const biv_model,
    features: *const biv_array,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe { predict(&handle::get(model)?.lock(), &view(features, "features")?, out) })
}

/// Predicts true values and the variances of their errors, for a model that knows them: one of biv_fit(), or of kind
/// "mean_variance". For a label with noise of variance v, scale * v comes to it (scale: see biv_model_describe()).
///
/// @param features as for biv_model_predict().
/// @param out the predictions, as there; NULL when not wanted.
/// @param variances an array of the caller's to be filled, of the same shape: in the square of the labels' unit.
/// @return as biv_model_predict(), and BIV_ERROR_UNSUPPORTED (the model knows nothing of its errors). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_predict_with_variance(
    model: *const biv_model,
    features: *const biv_array,
    out: *const biv_array_out,
    variances: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let model = handle::get(model)?;
        let model = model.lock();
        let features = view(features, "features")?;
        let prediction = model.predict_array(&features)?;
        let Some(variance) = prediction.variance else {
            return Err(Error::Unsupported(
                "the model knows nothing of its errors: biv_fit() finds them, and a model of kind 'mean_variance' \
                 predicts them"
                    .into(),
            ));
        };
        let shape = [features.shape()[0], model.outputs()];
        if !out.is_null() {
            check_room(out, "out", &shape)?;
        }
        fill(variances, "variances", &shape, &variance)?;
        if out.is_null() { Ok(()) } else { fill(out, "out", &shape, &prediction.mean) }
    })
}

/// The errors of the model's predictions on a data set, measured against the labels that it has, and how well its
/// error bars hold.
///
/// @param dataset any that fits the model.
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_evaluate(
    model: *const biv_model,
    dataset: *const biv_dataset,
    out: *mut biv_metrics,
) -> biv_status {
    boundary(|| {
        let (model, dataset) = (handle::get(model)?, handle::get(dataset)?);
        let metrics = Metrics::of(&model.lock(), &dataset)?;
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, metrics.into()) }
    })
}

/// Gives the model a normalisation: a feature x becomes (x - mean) / std before the network, and its outputs, times
/// the labels' std plus their mean, the predictions. A trainer that is made for the model later keeps it.
///
/// @param feature_mean @param feature_std shape [inputs], or [1] for all features; the deviations are greater than 0.
/// @param label_mean @param label_std shape [outputs]; the same.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY. Any
///   thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_set_normalization(
    model: *mut biv_model,
    feature_mean: *const biv_array,
    feature_std: *const biv_array,
    label_mean: *const biv_array,
    label_std: *const biv_array,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let list = |array, name| view(array, name)?.to_f64();
        let normalization = Normalization {
            feature_mean: list(feature_mean, "feature_mean")?,
            feature_std: list(feature_std, "feature_std")?,
            label_mean: list(label_mean, "label_mean")?,
            label_std: list(label_std, "label_std")?,
        };
        handle::get(model)?.lock().give_normalization(normalization)
    })
}

/// Takes the model's normalisation away: features and predictions are then the network's own. A trainer that is made
/// for the model later fits a new one.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_model_reset_normalization(model: *mut biv_model) -> biv_status {
    boundary(|| {
        handle::get(model)?.lock().reset_normalization();
        Ok(())
    })
}

/// Predicts rows of features into a caller's array.
///
/// # Safety
/// As [`fill`].
pub(super) unsafe fn predict(model: &Model, features: &ArrayView, out: *const biv_array_out) -> Result<()> {
    let predictions = model.predict_array(features)?.mean;
    // SAFETY: the caller's promise.
    unsafe { fill(out, "out", &[features.shape()[0], model.outputs()], &predictions) }
}

/// Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
/// message. A trainer keeps its model alive. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_model_free(model: *mut biv_model) {
    handle::free(model);
}
