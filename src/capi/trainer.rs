//! Trainers.

use super::array::{biv_array, biv_array_out, view, view_optional};
use super::boundary::boundary;
use super::dataset::biv_dataset;
use super::model::{biv_model, predict};
use super::status::biv_status;
use super::{handle, pointer};
use crate::Result;
use crate::data::Dataset;
use crate::train::metrics::Metrics;
use crate::train::session::Session;
use crate::train::trainer::{EpochReport, StepReport, Trainer, TrainerOptions};
use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Trains one model with Adam. It keeps what it needs of model and data, so
/// their handles may be freed. Any thread may use it; calls on one trainer take
/// turns, except biv_trainer_cancel() and biv_trainer_get_progress(), which never wait.
pub struct biv_trainer {
    _private: (),
}

/// What one step did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_step {
    /// Set to sizeof(biv_step) before the call.
    pub struct_size: usize,
    /// The mini-batch's loss before the step, in normalised units.
    pub loss: f64,
    /// The effective batch size (sum w)^2 / sum w^2, from 1 to the number of rows.
    pub effective_batch_size: f64,
    /// The epsilon used, in normalised units; 0 for losses without one.
    pub epsilon: f64,
    /// The number of rows in the mini-batch.
    pub rows: i64,
    /// How many of them have a weight. 0: the cutoff left none and no step was taken.
    pub samples_used: i64,
}

/// Errors of predictions on a data set; with several outputs, means over them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_metrics {
    /// Set to sizeof(biv_metrics) before the call.
    pub struct_size: usize,
    /// The number of rows.
    pub rows: i64,
    /// Mean squared error, in the square of the labels' unit.
    pub mse: f64,
    /// Its square root.
    pub rmse: f64,
    /// Mean absolute error, in the labels' unit.
    pub mae: f64,
    /// Coefficient of determination, the same in every unit; NaN where the labels are constant.
    pub r2: f64,
    /// mse in normalised units.
    pub normalized_mse: f64,
    /// rmse in normalised units.
    pub normalized_rmse: f64,
    /// mae in normalised units.
    pub normalized_mae: f64,
}

/// What one epoch did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_epoch {
    /// The size of this struct in the library: fields beyond it do not exist.
    pub struct_size: usize,
    /// The number of epochs completed, this one included.
    pub epoch: i64,
    /// Mini-batches seen, those without a label to learn from included.
    pub batches: i64,
    /// Mini-batches that were skipped because the cutoff left no label.
    pub skipped: i64,
    /// The mean loss of the others, in normalised units.
    pub loss: f64,
    /// Their mean effective batch size.
    pub effective_batch_size: f64,
    /// The metrics on the test set; NULL when none was given. Valid during the callback.
    pub test: *const biv_metrics,
}

/// How far training has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_progress {
    /// Set to sizeof(biv_progress) before the call.
    pub struct_size: usize,
    /// Epochs completed.
    pub epoch: i64,
    /// Mini-batches taken from the epoch in progress.
    pub batch: i64,
    /// Steps taken.
    pub steps: i64,
    /// The loss of the last step, in normalised units; 0 before the first.
    pub loss: f64,
    /// 1 while biv_trainer_fit() is running, else 0.
    pub running: i32,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_step {
    const NAME: &'static str = "biv_step";
}

// SAFETY: as above.
unsafe impl pointer::SizedStruct for biv_metrics {
    const NAME: &'static str = "biv_metrics";
}

// SAFETY: as above.
unsafe impl pointer::SizedStruct for biv_progress {
    const NAME: &'static str = "biv_progress";
}

impl From<StepReport> for biv_step {
    fn from(report: StepReport) -> Self {
        biv_step {
            struct_size: size_of::<Self>(),
            loss: report.loss,
            effective_batch_size: report.effective_batch_size,
            epsilon: report.epsilon,
            rows: report.rows as i64,
            samples_used: report.samples_used as i64,
        }
    }
}

impl From<Metrics> for biv_metrics {
    fn from(metrics: Metrics) -> Self {
        biv_metrics {
            struct_size: size_of::<Self>(),
            rows: metrics.rows as i64,
            mse: metrics.mse,
            rmse: metrics.rmse,
            mae: metrics.mae,
            r2: metrics.r2,
            normalized_mse: metrics.normalized_mse,
            normalized_rmse: metrics.normalized_rmse,
            normalized_mae: metrics.normalized_mae,
        }
    }
}

impl biv_epoch {
    fn new(report: &EpochReport, test: Option<&biv_metrics>) -> Self {
        biv_epoch {
            struct_size: size_of::<Self>(),
            epoch: report.epoch as i64,
            batches: report.batches as i64,
            skipped: report.skipped as i64,
            loss: report.loss,
            effective_batch_size: report.effective_batch_size,
            test: test.map_or(std::ptr::null(), std::ptr::from_ref),
        }
    }
}

/// Called by biv_trainer_fit() after every epoch, on the thread that called it.
/// The trainer is free meanwhile: the callback may evaluate, predict, save and set
/// the learning rate. It must return normally: an exception or longjmp that
/// leaves it is undefined behaviour.
///
/// @param user what biv_trainer_fit() was given.
/// @param epoch valid during the call.
/// @return 0 to go on, anything else to stop.
pub type biv_epoch_callback = Option<unsafe extern "C" fn(user: *mut c_void, epoch: *const biv_epoch) -> i32>;

/// Makes a trainer that starts from the model's present weights and moves them to its device.
///
/// @param model trained in place: predictions of the model follow the training.
/// @param dataset copied to the device; NULL for a trainer that only biv_trainer_step_on() feeds.
/// @param options JSON, schema "trainer": {"loss": {"kind": "biv", "epsilon": 0.1}, "batch_size": 256,
///   "learning_rate": 0.001, "normalize": true, "drop_last": true, "seed": 0, "device": "cpu",
///   "adam": {...}}; NULL for these defaults. The statistics for normalisation come from the
///   data set's labels before simulated noise; a model that has some already keeps them.
/// @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE,
///   BIV_ERROR_INVALID_ARGUMENT (the loss needs variances and there are none; batch_size is more
///   than the rows; a BatchNorm would see a mini-batch of one row), BIV_ERROR_DEVICE,
///   BIV_ERROR_UNSUPPORTED (cuda_graph without libbiv_cuda.so), BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_create(
    model: *const biv_model,
    dataset: *const biv_dataset,
    options: *const c_char,
    out: *mut *mut biv_trainer,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let (model, dataset) = (handle::get(model)?, handle::get_optional(dataset)?);
            let options: TrainerOptions = pointer::options(options, "trainer")?;
            Ok(Arc::new(Session::new(Trainer::new(model, dataset.as_deref(), &options)?)))
        })
    })
}

/// Takes one step on the next mini-batch of the trainer's data set: a seeded
/// shuffle, anew every epoch.
///
/// @param out what the step did; may be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_UNSUPPORTED (no data set),
///   BIV_ERROR_NUMERICAL (the loss is not finite: the weights are as before the step).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_step(trainer: *const biv_trainer, out: *mut biv_step) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { step(trainer, out, Trainer::step) })
}

/// Takes one step on a mini-batch of the caller's, in the user's units; arrays as in
/// biv_dataset_create_from_arrays(). The data set's own order is left as it is.
///
/// @param out what the step did; may be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NUMERICAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_step_on(
    trainer: *const biv_trainer,
    features: *const biv_array,
    labels: *const biv_array,
    variances: *const biv_array,
    out: *mut biv_step,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let (features, labels) = (view(features, "features")?, view(labels, "labels")?);
        let variances = view_optional(variances, "variances")?;
        let batch = Dataset::from_arrays(&features, &labels, variances.as_ref())?;
        step(trainer, out, |trainer| trainer.step_on(&batch))
    })
}

/// One step of either kind.
///
/// # Safety
/// As [`pointer::write_sized`], or `out` is NULL.
unsafe fn step(
    trainer: *const biv_trainer,
    out: *mut biv_step,
    take: impl FnOnce(&mut Trainer) -> Result<StepReport>,
) -> Result<()> {
    let session = handle::get(trainer)?;
    if !out.is_null() {
        // Found out before the step is taken, not after.
        // SAFETY: the caller's promise.
        unsafe { pointer::check_sized(out)? };
    }
    let report = {
        let mut trainer = session.trainer();
        let report = take(&mut trainer)?;
        session.publish(&trainer, report.loss);
        report
    };
    // SAFETY: the caller's promise.
    if out.is_null() { Ok(()) } else { unsafe { pointer::write_sized(out, report.into()) } }
}

/// Trains for `epochs` epochs (the first may be the rest of one that was begun).
///
/// @param test evaluated after each epoch; may be NULL.
/// @param callback called after each epoch; may be NULL.
/// @param user passed to the callback.
/// @return BIV_OK, BIV_ERROR_CANCELLED (by the callback or biv_trainer_cancel(): what was trained
///   stays and the trainer can go on), BIV_ERROR_BUSY (it is fitting already),
///   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_SHAPE, BIV_ERROR_UNSUPPORTED,
///   BIV_ERROR_NUMERICAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_fit(
    trainer: *const biv_trainer,
    epochs: i64,
    test: *const biv_dataset,
    callback: biv_epoch_callback,
    user: *mut c_void,
) -> biv_status {
    boundary(|| {
        let (session, test) = (handle::get(trainer)?, handle::get_optional(test)?);
        let epochs = u64::try_from(epochs)
            .map_err(|_| crate::Error::InvalidArgument(format!("epochs is {epochs}, must be at least 0")))?;
        session.fit(epochs, test.as_deref(), |report, metrics| {
            let metrics = metrics.map(|&metrics| biv_metrics::from(metrics));
            let epoch = biv_epoch::new(report, metrics.as_ref());
            // SAFETY: the header's contract for a callback; `epoch` outlives the call.
            let stop = callback.is_some_and(|callback| unsafe { callback(user, &epoch) } != 0);
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
}

/// Makes the biv_trainer_fit() that is running on another thread return
/// BIV_ERROR_CANCELLED after its present step. Does nothing when none is running.
/// Never waits.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_cancel(trainer: *const biv_trainer) -> biv_status {
    boundary(|| {
        handle::get(trainer)?.cancel();
        Ok(())
    })
}

/// How far training has come, for hosts that poll instead of taking callbacks. Never waits.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_get_progress(trainer: *const biv_trainer, out: *mut biv_progress) -> biv_status {
    boundary(|| {
        let progress = handle::get(trainer)?.progress();
        let progress = biv_progress {
            struct_size: 0,
            epoch: progress.epoch as i64,
            batch: progress.batch as i64,
            steps: progress.steps as i64,
            loss: progress.loss,
            running: progress.running.into(),
        };
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, progress) }
    })
}

/// The model's errors on a data set, in evaluation mode.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_evaluate(
    trainer: *const biv_trainer,
    dataset: *const biv_dataset,
    out: *mut biv_metrics,
) -> biv_status {
    boundary(|| {
        let (session, dataset) = (handle::get(trainer)?, handle::get(dataset)?);
        let metrics = session.trainer().evaluate(&dataset)?;
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, metrics.into()) }
    })
}

/// Predicts with the trainer's model: as biv_model_predict().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_predict(
    trainer: *const biv_trainer,
    features: *const biv_array,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let model = handle::get(trainer)?.trainer().model().clone();
        predict(&model.lock(), &view(features, "features")?, out)
    })
}

/// Adam's learning rate.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_get_learning_rate(trainer: *const biv_trainer, out: *mut f64) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, handle::get(trainer)?.trainer().learning_rate(), "out") })
}

/// Sets the learning rate from the next step on.
///
/// @param learning_rate finite and greater than 0.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_set_learning_rate(trainer: *const biv_trainer, learning_rate: f64) -> biv_status {
    boundary(|| handle::get(trainer)?.trainer().set_learning_rate(learning_rate))
}

/// A new handle for the model in training.
///
/// @param out to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_get_model(trainer: *const biv_trainer, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { handle::create(out, || Ok(handle::get(trainer)?.trainer().model().clone())) })
}

/// Saves a checkpoint: model, normalisation, optimiser, options and position. A
/// file at `path` is replaced, in one go, when the new one is complete.
///
/// A link is followed.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
///   BIV_ERROR_INVALID_ARGUMENT (no regular file): on failure an older file is untouched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_save(trainer: *const biv_trainer, path: *const c_char) -> biv_status {
    // SAFETY: the header's contract for `path`.
    boundary(|| unsafe { handle::get(trainer)?.trainer().save(Path::new(pointer::text(path, "path")?)) })
}

/// Makes the trainer that biv_trainer_save() saved, with a model of its own. On
/// a CPU, training goes on bit for bit as if it had never stopped.
///
/// @param dataset the one it was trained on; NULL when it had none.
/// @param device replaces the saved device; NULL to keep it.
/// @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_SHAPE (the
///   data set is another one), BIV_ERROR_INVALID_ARGUMENT (a model file), BIV_ERROR_DEVICE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_load(
    path: *const c_char,
    dataset: *const biv_dataset,
    device: *const c_char,
    out: *mut *mut biv_trainer,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let path = Path::new(pointer::text(path, "path")?);
            let dataset = handle::get_optional(dataset)?;
            let device = if device.is_null() { None } else { Some(pointer::text(device, "device")?) };
            Ok(Arc::new(Session::new(Trainer::load(path, dataset.as_deref(), device)?)))
        })
    })
}

/// Frees a handle. NULL and a handle that was freed before are left alone. A
/// call that is running on another thread ends in its own time. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_free(trainer: *mut biv_trainer) {
    handle::free(trainer);
}
