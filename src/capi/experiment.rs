//! Whole experiments: the published settings, runs and sweeps.

use super::boundary::boundary;
use super::caller::in_host;
use super::handle::{self, Handle};
use super::pointer;
use super::status::biv_status;
use crate::base::log;
use crate::experiment::{Config, Progress, Stage, Sweep, run, table};
use crate::{Error, Result};
use serde::Serialize;
use std::ffi::{CString, c_char, c_void};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A text that the library made: JSON in UTF-8. It never changes.
pub struct biv_text {
    _private: (),
}

impl Handle for biv_text {
    type Target = CString;
    const NAME: &'static str = "biv_text";
}

/// Images are decoded.
pub const BIV_STAGE_LOADING: i32 = 1;
/// Mini-batches are trained on.
pub const BIV_STAGE_TRAINING: i32 = 2;
/// The runs of a sweep are done.
pub const BIV_STAGE_SWEEP: i32 = 3;

/// How far a long computation has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_experiment_progress {
    /// The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
    pub struct_size: usize,
    /// What `done` and `total` count: images (BIV_STAGE_LOADING), mini-batches (BIV_STAGE_TRAINING) or runs
    /// (BIV_STAGE_SWEEP).
    pub stage: i32,
    /// The name of the run: its tag, in a sweep its variant and seed. Valid during the callback.
    pub run: *const c_char,
    /// How many are done.
    pub done: i64,
    /// How many there are.
    pub total: i64,
    /// The number of epochs completed.
    pub epoch: i64,
    /// The number of epochs in all; 0 outside training.
    pub epochs: i64,
    /// The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
    pub loss: f64,
    /// The last RMSE on the test set, in the labels' unit, with what noise its labels have; NaN before the first.
    pub rmse: f64,
    /// Images or training rows per second; NaN for BIV_STAGE_SWEEP.
    pub samples_per_second: f64,
    /// The estimated time to the end, in seconds; NaN before there is one.
    pub seconds_left: f64,
}

/// Hears how far biv_experiment_run() or biv_sweep_run() has come, on the thread that called that.
///
/// It may call every function of the library. It must return normally: a C++ exception or longjmp that leaves
/// it is undefined behaviour.
///
/// @param user what the function was given.
/// @param progress valid during the call.
/// @return 0 to continue, anything else to stop.
pub type biv_experiment_callback =
    Option<unsafe extern "C-unwind" fn(user: *mut c_void, progress: *const biv_experiment_progress) -> i32>;

/// Checks the description of an experiment and fills in every default. It reads no data and runs nothing.
///
/// @param config JSON, schema "experiment". "settings" may hold the published settings strings,
///   {"settings": {"experiment_settings": "tag,7159,bike,True,7000", "model_settings": "vanilla_ann,biv,0.5",
///   "noise_settings": "True,uniform", "params_settings": "boundaries", "parameters": "0,1"}, "data": "folder"};
///   other fields then replace what the strings say.
/// @param out a new text, the whole description as JSON, to be freed with biv_text_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG (for a setting, the message names it, the position in it and what
///   is allowed), BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_experiment_resolve(config: *const c_char, out: *mut *mut biv_text) -> biv_status {
    // SAFETY: the header's contract for both pointers.
    boundary(|| unsafe { handle::create(out, || text(&Config::from_json(pointer::text(config, "config")?)?)) })
}

/// Runs an experiment: reads and splits the data, adds noise to the labels, trains and evaluates.
///
/// Where "out" names a run directory, the configuration, the losses and predictions as CSV, the metrics as JSON
/// lines and TensorBoard events, the last checkpoint and a report are written there. With "resume" true, a run
/// that was interrupted continues from its last checkpoint; on a CPU its result is the same.
///
/// @param config as for biv_experiment_resolve().
/// @param callback called after each mini-batch; may be NULL.
/// @param user passed to the callback.
/// @param out a new text, the result as JSON, to be freed with biv_text_free(); NULL on failure. It has the
///   test errors at the end ("last") and at their best ("best"), in the labels' unit, and what is known of the
///   test labels' noise: "clean" (none), "noisy" (its variances are known) or "unknown":
///   {"epochs": 100, "last": {"test_labels": "clean", "rmse": 59.8, ...}, ...}.
/// @return BIV_OK, BIV_ERROR_CANCELLED (the callback stopped the run; in a run directory there is a
///   checkpoint), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_SHAPE,
///   BIV_ERROR_INVALID_ARGUMENT (the run directory has something else in it, or train and test together are
///   more than the data), BIV_ERROR_BUSY (another run is in progress there), BIV_ERROR_NUMERICAL,
///   BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_UNSUPPORTED, BIV_ERROR_DEVICE, BIV_ERROR_CORRUPT. Any
///   thread.
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

/// Runs an experiment with every combination of losses, noises and seeds, several at a time, and gives the mean
/// and the spread of the results.
///
/// @param sweep JSON, schema "sweep": {"base": {an experiment}, "grid": {"seeds": [1, 2, 3], "losses":
///   [{"kind": "mse"}, {"kind": "biv"}], "noises": [...]}, "out": "folder", "jobs": 2}. Runs that are complete
///   in the folder are not run again.
/// @param callback called after each mini-batch and each run; may be NULL.
/// @param user passed to the callback.
/// @param out a new text, the result as JSON, to be freed with biv_text_free(); NULL on failure. "table" has a
///   row for each variant (with "test_labels", as in the result of a run), "runs" has each run with its "outcome" or
///   its "error".
/// @return BIV_OK (also where single runs failed), BIV_ERROR_CANCELLED (the callback stopped the sweep),
///   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_IO,
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// The characters of a text.
///
/// @param out set to a NUL-terminated text that is valid until the handle is freed; NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_text_get(text: *const biv_text, out: *mut *const c_char) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe {
        pointer::write(out, std::ptr::null(), "out")?;
        // The table keeps the text alive beside this reference.
        pointer::write(out, handle::get(text)?.as_ptr(), "out")
    })
}

/// Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
/// message. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_text_free(text: *mut biv_text) {
    handle::free(text);
}

pub(super) fn text(value: &impl Serialize) -> Result<Arc<CString>> {
    let text = serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))?;
    // JSON writes a NUL as an escape.
    CString::new(text).map(Arc::new).map_err(|error| Error::Internal(error.to_string()))
}

/// Calls back, after the log's listener.
///
/// # Safety
/// The header's contract for a callback.
unsafe fn show(callback: biv_experiment_callback, user: *mut c_void, progress: &Progress) -> ControlFlow<()> {
    log::deliver();
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
    if in_host(|| unsafe { callback(user, &progress) }) != 0 {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
