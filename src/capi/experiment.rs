//! Whole experiments: the published settings, runs and sweeps.

use super::boundary::boundary;
use super::status::biv_status;
use super::{handle, pointer};
use crate::data::{FaceOptions, draw_faces};
use crate::experiment::{Config, Progress, Stage, Sweep, run, table};
use crate::{Error, Result};
use serde::Serialize;
use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A text that the library made, JSON in UTF-8.
pub struct biv_text {
    _private: (),
}

/// Images are being decoded.
pub const BIV_STAGE_LOADING: i32 = 1;
/// Mini-batches are being trained on.
pub const BIV_STAGE_TRAINING: i32 = 2;
/// Runs of a sweep have ended.
pub const BIV_STAGE_SWEEP: i32 = 3;

/// How far a long computation has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_experiment_progress {
    /// The size of this struct in the library: fields beyond it do not exist.
    pub struct_size: usize,
    /// BIV_STAGE_LOADING, BIV_STAGE_TRAINING or BIV_STAGE_SWEEP: what `done` and `total` count.
    pub stage: i32,
    /// The run: its tag, in a sweep its variant and seed. Valid during the callback.
    pub run: *const c_char,
    /// Images, mini-batches or runs done.
    pub done: i64,
    /// Of how many.
    pub total: i64,
    /// Epochs completed.
    pub epoch: i64,
    /// Of how many; 0 outside training.
    pub epochs: i64,
    /// The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
    pub loss: f64,
    /// The last RMSE on the test set, in the labels' unit; NaN before the first.
    pub rmse: f64,
    /// Images or training rows per second; NaN for BIV_STAGE_SWEEP.
    pub samples_per_second: f64,
    /// An estimate; NaN before there is one.
    pub seconds_left: f64,
}

/// Called often by biv_experiment_run() and biv_sweep_run(), on the thread that called them. It must
/// return normally: an exception or longjmp that leaves it is undefined behaviour.
///
/// @param user what the function was given.
/// @param progress valid during the call.
/// @return 0 to go on, anything else to stop.
pub type biv_experiment_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, progress: *const biv_experiment_progress) -> i32>;

/// Checks an experiment's description and fills in every default; runs nothing.
///
/// @param config JSON, schema "experiment". Under "settings" it may hold the published settings strings,
///   {"settings": {"experiment_settings": "tag,7159,bike,True,7000", "model_settings": "vanilla_ann,biv,0.5",
///   "noise_settings": "True,uniform", "params_settings": "boundaries", "parameters": "0,1"}, "data": "folder"};
///   the other fields then change what these say.
/// @param out the whole description as JSON, to be freed with biv_text_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG (the message names the setting, the position in it and what is
///   allowed), BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_experiment_resolve(config: *const c_char, out: *mut *mut biv_text) -> biv_status {
    // SAFETY: the header's contract for both pointers.
    boundary(|| unsafe { handle::create(out, || text(&Config::from_json(pointer::text(config, "config")?)?)) })
}

/// Runs an experiment: reads and divides the data, makes the labels noisy, trains, evaluates, and, where
/// "out" names a run directory, leaves there the configuration, the losses and predictions as CSV,
/// metrics as JSON lines and TensorBoard events, the last checkpoint and a report. With "resume" true a
/// run that was broken off goes on from its last checkpoint, to the same result on a CPU.
///
/// @param config as for biv_experiment_resolve().
/// @param callback called after each mini-batch; may be NULL.
/// @param user passed to the callback.
/// @param out the result as JSON, to be freed with biv_text_free(), with the test errors at the end
///   ("last") and at their best ("best"): {"epochs": 100, "last": {"rmse": 59.8, ...}, ...}; NULL on failure.
/// @return BIV_OK, BIV_ERROR_CANCELLED (by the callback: with a run directory, a checkpoint was written),
///   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_INVALID_ARGUMENT (the run
///   directory is in use for something else, or train and test are more than the data), BIV_ERROR_BUSY
///   (a run is going on there), BIV_ERROR_NUMERICAL, BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY,
///   BIV_ERROR_DEVICE, BIV_ERROR_CORRUPT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_experiment_run(
    config: *const c_char,
    callback: biv_experiment_callback,
    user: *mut c_void,
    out: *mut *mut biv_text,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let config = Config::from_json(pointer::text(config, "config")?)?;
            text(&run(&config, &mut |progress| show(callback, user, progress))?)
        })
    })
}

/// Runs every loss with every noise and every seed, several at a time, and gives mean and spread.
///
/// @param sweep JSON, schema "sweep": {"base": {an experiment}, "grid": {"seeds": [1, 2, 3], "losses":
///   [{"kind": "mse"}, {"kind": "biv"}], "noises": [...]}, "out": "folder", "jobs": 2}. Runs that are complete
///   in the folder are not run again.
/// @param callback called after each mini-batch and each run; may be NULL.
/// @param user passed to the callback.
/// @param out the result as JSON, to be freed with biv_text_free(): "table", a row per variant, and "runs",
///   each with its "outcome" or its "error"; NULL on failure. A run that fails leaves the others alone.
/// @return BIV_OK (even where single runs failed), BIV_ERROR_CANCELLED, BIV_ERROR_INVALID_CONFIG,
///   BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_sweep_run(
    sweep: *const c_char,
    callback: biv_experiment_callback,
    user: *mut c_void,
    out: *mut *mut biv_text,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let sweep = Sweep::from_json(pointer::text(sweep, "sweep")?)?;
            let runs = sweep.run(&mut |progress| show(callback, user, progress))?;
            if sweep.has_folder() {
                sweep.write_summary(&runs)?;
            }
            text(&serde_json::json!({"table": table(&runs).rows, "runs": runs}))
        })
    })
}

/// Draws simple faces whose age shows, in files named like UTKFace's, for tests and demonstrations.
///
/// @param folder is created; must be empty if it exists.
/// @param options JSON, schema "faces": {"count": 100, "size": 64, "seed": 0}.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (the path
///   is empty). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_faces_draw(folder: *const c_char, options: *const c_char) -> biv_status {
    // SAFETY: the header's contract for both pointers.
    boundary(|| unsafe {
        let options: FaceOptions = pointer::options(options, "faces")?;
        draw_faces(Path::new(pointer::text(folder, "folder")?), &options)
    })
}

/// The text itself.
///
/// @param out valid until the handle is freed.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_text_get(text: *const biv_text, out: *mut *const c_char) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe {
        pointer::write(out, std::ptr::null(), "out")?;
        // The table keeps the text alive beside this reference.
        pointer::write(out, handle::get(text)?.as_ptr(), "out")
    })
}

/// Frees a handle. NULL and a handle that was freed before are left alone. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_text_free(text: *mut biv_text) {
    handle::free(text);
}

fn text(value: &impl Serialize) -> Result<Arc<CString>> {
    let text = serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))?;
    // JSON writes a NUL as an escape.
    CString::new(text).map(Arc::new).map_err(|error| Error::Internal(error.to_string()))
}

/// Calls back.
///
/// # Safety
/// The header's contract for a callback.
unsafe fn show(callback: biv_experiment_callback, user: *mut c_void, progress: &Progress) -> ControlFlow<()> {
    let Some(callback) = callback else { return ControlFlow::Continue(()) };
    let run = CString::new(progress.run.replace('\0', "")).unwrap_or_default();
    let progress = biv_experiment_progress {
        struct_size: size_of::<biv_experiment_progress>(),
        stage: match progress.stage {
            Stage::Loading => BIV_STAGE_LOADING,
            Stage::Training => BIV_STAGE_TRAINING,
            Stage::Sweep => BIV_STAGE_SWEEP,
        },
        run: run.as_ptr(),
        done: progress.done as i64,
        total: progress.total as i64,
        epoch: progress.epoch as i64,
        epochs: progress.epochs as i64,
        loss: progress.loss,
        rmse: progress.rmse,
        samples_per_second: progress.samples_per_second,
        seconds_left: progress.seconds_left,
    };
    // SAFETY: the caller's promise; `progress` and `run` outlive the call.
    if unsafe { callback(user, &progress) } != 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
