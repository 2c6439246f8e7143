//! Trainers.

use super::array::{biv_array, biv_array_out, view, view_optional};
use super::boundary::boundary;
use super::caller::in_host;
use super::dataset::biv_dataset;
use super::handle::{self, Handle};
use super::model::{biv_model, predict};
use super::pointer;
use super::status::biv_status;
use crate::base::log;
use crate::data::Dataset;
use crate::torch::device;
use crate::train::checkpoint::LoadOptions;
use crate::train::metrics::{Calibration, Metrics};
use crate::train::session::Session;
use crate::train::trainer::{EpochReport, StepReport, Trainer, TrainerOptions};
use crate::{Error, Result};
use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Trains one model. It shares the model and has its own copy of the data, or shares their memory, so their
/// handles may be freed. Calls on one trainer take turns, except biv_trainer_cancel() and biv_trainer_get_progress(), which
/// never wait.
pub struct biv_trainer {
    _private: (),
}

impl Handle for biv_trainer {
    type Target = Session;
    const NAME: &'static str = "biv_trainer";

    fn freed(session: &Session) {
        session.cancel();
    }
}

/// What one step did. With the option "members", loss, effective_batch_size and epsilon are means over the networks,
/// learning_rate is that of the first, and samples_used the most that one of them used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_step {
    /// Set to sizeof(biv_step) before the call.
    pub struct_size: usize,
    /// The mini-batch's loss before the step, in normalised units.
    pub loss: f64,
    /// The effective batch size, (sum w)^2 / sum w^2 of the rows' weights w: from 1 to the number of rows.
    pub effective_batch_size: f64,
    /// The epsilon that was used, in normalised units; 0 for a loss without an epsilon.
    pub epsilon: f64,
    /// The number of rows in the mini-batch.
    pub rows: i64,
    /// How many of them have a weight that is not 0. Where the cutoff left none, no step was taken.
    pub samples_used: i64,
    /// The learning rate of the step, as the schedule had it.
    pub learning_rate: f64,
}

/// Errors of predictions on a data set; with several outputs, means over them. Masked labels do not count.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_metrics {
    /// Set to sizeof(biv_metrics) before the call.
    pub struct_size: usize,
    /// The number of rows.
    pub rows: i64,
    /// Mean squared error, in the square of the labels' unit.
    pub mse: f64,
    /// The square root of mse, in the labels' unit.
    pub rmse: f64,
    /// Mean absolute error, in the labels' unit.
    pub mae: f64,
    /// Coefficient of determination, without a unit; NaN where the labels are constant.
    pub r2: f64,
    /// mse in normalised units.
    pub normalized_mse: f64,
    /// rmse in normalised units.
    pub normalized_rmse: f64,
    /// mae in normalised units.
    pub normalized_mae: f64,
    /// As rmse, with each label weighted by 1 / (scale v + tau2), where v is the variance of its noise and the rest is the
    /// model's error bars; by 1 / v where the model has none. Without variances, rmse.
    pub weighted_rmse: f64,
    /// What rmse would be if the predictions were perfect: the square root of the mean v. NaN without variances.
    pub expected_rmse: f64,
    /// The mean of (label - prediction)^2 / variance, where the variance is the prediction's own and, for a label with
    /// noise, scale v: 1 for error bars of the right size. NaN where the model has none.
    pub mean_z2: f64,
    /// The mean negative logarithm of a label's density in a normal distribution of that variance, in nats and the
    /// labels' unit. NaN as mean_z2.
    pub nlpd: f64,
    /// The share of the labels within the central 68 % of that distribution. NaN as mean_z2.
    pub coverage_68: f64,
    /// The share of the labels within the central 95 %. NaN as mean_z2.
    pub coverage_95: f64,
}

/// What one epoch did; means as in biv_step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_epoch {
    /// The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
    pub struct_size: usize,
    /// The number of epochs completed, this one included.
    pub epoch: i64,
    /// The number of mini-batches, the skipped ones included.
    pub batches: i64,
    /// How many mini-batches were skipped because the cutoff left them no label.
    pub skipped: i64,
    /// The mean loss of the mini-batches that were not skipped, in normalised units.
    pub loss: f64,
    /// The mean effective batch size of the same.
    pub effective_batch_size: f64,
    /// The errors on the test set; NULL where no test set was given. Valid during the callback.
    pub test: *const biv_metrics,
    /// The mean squared error on the validation set, weighted by what the variance model says of the labels' noise, in
    /// normalised units; NaN without one.
    pub validation_loss: f64,
    /// The number of the epoch of the least validation_loss so far; 0 without a validation set.
    pub best_epoch: i64,
    /// The learning rate of the last step, as the schedule had it.
    pub learning_rate: f64,
}

/// How far training has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_progress {
    /// Set to sizeof(biv_progress) before the call.
    pub struct_size: usize,
    /// The number of epochs completed.
    pub epoch: i64,
    /// The number of mini-batches taken from the epoch in progress.
    pub batch: i64,
    /// The number of steps taken.
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
            learning_rate: report.learning_rate,
        }
    }
}

impl From<Metrics> for biv_metrics {
    fn from(metrics: Metrics) -> Self {
        let unknown = Calibration { coverage_68: f64::NAN, coverage_95: f64::NAN, mean_z2: f64::NAN, nlpd: f64::NAN };
        let bars = metrics.bars.unwrap_or(unknown);
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
            weighted_rmse: metrics.weighted_rmse,
            expected_rmse: metrics.expected_rmse.unwrap_or(f64::NAN),
            mean_z2: bars.mean_z2,
            nlpd: bars.nlpd,
            coverage_68: bars.coverage_68,
            coverage_95: bars.coverage_95,
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
            validation_loss: report.validation.map_or(f64::NAN, |validation| validation.loss),
            best_epoch: report.validation.map_or(0, |validation| validation.best_epoch as i64),
            learning_rate: report.learning_rate,
        }
    }
}

/// Hears of every epoch of biv_trainer_fit(), on the thread that called that.
///
/// The trainer is not in use meanwhile: the callback may evaluate, predict, save and set the learning rate. It
/// must return normally: a C++ exception or longjmp that leaves it is undefined behaviour.
///
/// @param user what biv_trainer_fit() was given.
/// @param epoch what the epoch did; valid during the call.
/// @return 0 to continue, anything else to stop.
pub type biv_epoch_callback = Option<unsafe extern "C-unwind" fn(user: *mut c_void, epoch: *const biv_epoch) -> i32>;

/// Makes a trainer that starts from the model's weights as they are.
///
/// With "normalize", features and labels are normalised by the statistics of the data set, of its labels before
/// the noise where that was simulated. A model that has a normalisation keeps it.
///
/// @param model is moved to the trainer's device and trained in place: its predictions follow the training. With
///   "members": M it becomes an ensemble of M networks, of which it is the first; they are trained side by side, each by
///   itself. An ensemble of M stays what it is.
/// @param dataset is copied to the device, but for more than 16 MiB of numbers on a CPU: these are shared, and a
///   mini-batch is normalised when it is its turn. NULL for a trainer that is used with biv_trainer_step_on(), or gets
///   its data by biv_trainer_set_data().
/// @param options JSON, schema "trainer": {"loss": {"kind": "biv", "epsilon": 0.1}, "batch_size": 256,
///   "learning_rate": 0.001, "normalize": true, "drop_last": true, "seed": 0, "device": "cpu",
///   "optimizer": {"kind": "adam", ...}, "schedule": {"kind": "constant", ...}, "members": 5, "shared_batches": false,
///   ...}; NULL for these defaults. Epsilon
///   "auto", "patience" and the schedule "plateau" take a validation set: biv_trainer_set_validation().
/// @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE,
///   BIV_ERROR_INVALID_ARGUMENT (the loss needs variances and there are none; batch_size is more than the rows;
///   a BatchNorm would get a mini-batch of one row), BIV_ERROR_DEVICE, BIV_ERROR_UNSUPPORTED (cuda_graph
///   without libbiv_cuda.so), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_create(
    model: *mut biv_model,
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

/// Takes one step on the next mini-batch of the trainer's data set. Every epoch has an order of its own, which
/// the trainer's seed determines.
///
/// @param out a struct of the caller's, with its struct_size set: what the step did. May be NULL.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_UNSUPPORTED (the trainer has
///   no data set), BIV_ERROR_NUMERICAL (the loss is not finite; the weights are as before the step),
///   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_step(trainer: *mut biv_trainer, out: *mut biv_step) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { step(trainer, out, Trainer::step) })
}

/// Takes one step on a mini-batch of the caller's. The order of the trainer's own data set is not changed.
///
/// @param features @param labels @param variances as for biv_dataset_create_from_arrays().
/// @param out as for biv_trainer_step().
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NUMERICAL
///   (the loss is not finite; the weights are as before the step), BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE.
///   Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_step_on(
    trainer: *mut biv_trainer,
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
        // Checked before the step is taken, not after.
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

/// Goes on with other data: weights, Adam's state, the normalisation and the numbers of steps and epochs stay. So does
/// the place in the epoch where an epoch of the new data has such a mini-batch; else the next epoch begins. With the same
/// data set it changes no bit of what follows. What is saved from now on goes on with the new data set.
///
/// While biv_trainer_fit() runs on another thread, this waits for the end of its present epoch.
///
/// Up to 16 MiB of features are normalised again, all of them, and beyond it a mini-batch at a time, as
/// biv_trainer_create() does. Either way all values are read once, and the rows get a new order: a time that grows with
/// the number of rows, about that of reading them from memory. Append many rows before a call.
///
/// @param dataset rows with the features that the model was trained on. The handle may be freed.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, and as biv_trainer_create(): the trainer has its former data then. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_set_data(trainer: *mut biv_trainer, dataset: *const biv_dataset) -> biv_status {
    boundary(|| {
        let (session, dataset) = (handle::get(trainer)?, handle::get(dataset)?);
        let mut trainer = session.trainer();
        trainer.set_data(&dataset)?;
        session.publish(&trainer, session.progress().loss);
        Ok(())
    })
}

/// Judges the model on a validation set after each epoch of biv_trainer_fit() from now on.
///
/// A loss of epsilon "auto" gets its epsilon from there; for the first epoch from its labels alone. Each
/// biv_trainer_fit() ends with the weights of the best epoch so far and, with the option "patience": N, ends when N
/// epochs were no better than the best. After biv_trainer_load(), give the same set again.
///
/// @param dataset rows that are not trained on. The trainer shares it: the handle may be freed.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE (it does not fit the model), BIV_ERROR_INVALID_ARGUMENT
///   (the loss needs variances and it has none), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_set_validation(trainer: *mut biv_trainer, dataset: *const biv_dataset) -> biv_status {
    boundary(|| {
        let (session, dataset) = (handle::get(trainer)?, handle::get(dataset)?);
        session.trainer().set_validation(dataset)
    })
}

/// Trains for a number of epochs. Where steps have begun an epoch, its rest is the first. With a validation set it may
/// end earlier, and the model has the weights of the best epoch then.
///
/// @param epochs at least 0.
/// @param test a data set that the model is evaluated on after each epoch; may be NULL.
/// @param callback called after each epoch; may be NULL.
/// @param user passed to the callback.
/// @return BIV_OK, BIV_ERROR_CANCELLED (the callback or biv_trainer_cancel() stopped it; what was trained stays
///   and the trainer can go on), BIV_ERROR_BUSY (another fit of this trainer is running),
///   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_SHAPE (the test set does not fit the
///   model), BIV_ERROR_UNSUPPORTED (the trainer has no data set), BIV_ERROR_NUMERICAL (a loss is not finite),
///   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_fit(
    trainer: *mut biv_trainer,
    epochs: i64,
    test: *const biv_dataset,
    callback: biv_epoch_callback,
    user: *mut c_void,
) -> biv_status {
    boundary(|| {
        let (session, test) = (handle::get(trainer)?, handle::get_optional(test)?);
        let epochs = u64::try_from(epochs)
            .map_err(|_| Error::InvalidArgument(format!("epochs is {epochs}, must be at least 0")))?;
        session.fit(epochs, test.as_deref(), |report, metrics| {
            log::deliver();
            let metrics = metrics.map(|&metrics| biv_metrics::from(metrics));
            let epoch = biv_epoch::new(report, metrics.as_ref());
            // SAFETY: the header's contract for a callback; `epoch` outlives the call.
            let stop = callback.is_some_and(|callback| in_host(|| unsafe { callback(user, &epoch) }) != 0);
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
}

/// Makes the biv_trainer_fit() that is running return BIV_ERROR_CANCELLED after its present step. Where none is running,
/// the next one returns it before its first step: a fit that another thread is about to begin is not missed.
///
/// A fit that returns, for this reason or another, has used up what was cancelled before. So one of 0 epochs takes
/// back a cancel that nothing has heard.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE. Any thread; never waits.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_cancel(trainer: *mut biv_trainer) -> biv_status {
    boundary(|| {
        handle::get(trainer)?.cancel();
        Ok(())
    })
}

/// How far training has come, for hosts that poll instead of being called back.
///
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread; never waits.
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

/// The errors of the model's predictions on a data set, measured against the labels that it has. A BatchNorm
/// uses its running statistics.
///
/// @param dataset any that fits the model, the training data too.
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
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

/// Describes the trainer as JSON: its "options", of which the learning rate is the one that was set last; the
/// "learning_rate" of the next step, as the schedule has it; its "device"; its "kernel", which takes the steps: "mlp_cpu"
/// or "mlp_gpu", as in biv_build_info(), "graphs_gpu" where steps are recorded and repeated, "operations" for libtorch's
/// with the gradient by hand, or "autograd" for libtorch's automatic differentiation; and "accepted", in what its data
/// sets differed from those before, where that was accepted.
///
/// @param buffer @param capacity @param needed as for biv_model_describe().
/// @return as biv_model_describe(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_describe(
    trainer: *const biv_trainer,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> biv_status {
    boundary(|| {
        let session = handle::get(trainer)?;
        let trainer = session.trainer();
        let text = serde_json::json!({
            "options": trainer.options(),
            "learning_rate": trainer.present_rate(),
            "device": device::name(trainer.model().lock().device()),
            "kernel": trainer.kernel(),
            "accepted": trainer.accepted(),
        })
        .to_string();
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_text(&text, buffer, capacity, needed) }
    })
}

/// Predicts with the trainer's model.
///
/// @param features @param out as for biv_model_predict().
/// @return as biv_model_predict(). Any thread.
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

/// The learning rate, which the schedule multiplies: biv_step and biv_epoch have the product.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_get_learning_rate(trainer: *const biv_trainer, out: *mut f64) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { pointer::write(out, handle::get(trainer)?.trainer().learning_rate(), "out") })
}

/// Sets the learning rate from the next step on; a schedule multiplies it as before.
///
/// @param learning_rate finite and greater than 0.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_set_learning_rate(trainer: *mut biv_trainer, learning_rate: f64) -> biv_status {
    boundary(|| handle::get(trainer)?.trainer().set_learning_rate(learning_rate))
}

/// Makes another handle for the model that the trainer trains.
///
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_get_model(trainer: *const biv_trainer, out: *mut *mut biv_model) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { handle::create(out, || Ok(handle::get(trainer)?.trainer().model().clone())) })
}

/// Saves a checkpoint: the model, its normalisation, the optimiser, the options and the position in the data. A
/// file at `path` is replaced at once when the new one is complete; on failure it is as it was. A symbolic
/// link is followed.
///
/// @param path the file, UTF-8.
/// @return as biv_model_save(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_save(trainer: *const biv_trainer, path: *const c_char) -> biv_status {
    // SAFETY: the header's contract for `path`.
    boundary(|| unsafe { handle::get(trainer)?.trainer().save(Path::new(pointer::text(path, "path")?)) })
}

/// Makes the trainer that biv_trainer_save() saved, with a model of its own. On a CPU, training continues bit
/// for bit as if it had never stopped.
///
/// @param path the file, UTF-8.
/// @param dataset the one that the trainer was trained on; NULL where it had none.
/// @param device "cpu", "cuda", "cuda:N" or "auto", instead of the saved one; NULL to keep that.
/// @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT,
///   BIV_ERROR_SHAPE (the data set has another number of rows or features), BIV_ERROR_INVALID_ARGUMENT (it is another
///   one, and the message says in what it differs; the file is a model's; there is no such device),
///   BIV_ERROR_DEVICE, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_load(
    path: *const c_char,
    dataset: *const biv_dataset,
    device: *const c_char,
    out: *mut *mut biv_trainer,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        load(path, dataset, out, || {
            let device = if device.is_null() { None } else { Some(pointer::text(device, "device")?.to_string()) };
            Ok(LoadOptions { device, ..LoadOptions::default() })
        })
    })
}

/// As biv_trainer_load(), with options. Training can go on with other data than the trainer was trained on: with the
/// epoch and the mini-batch where it was, or the next epoch where there is no such mini-batch. In what the data differ
/// is kept in the checkpoints that biv_trainer_save() makes from then on.
///
/// @param path @param dataset as there.
/// @param options JSON, schema "load": {"device": "cpu", "accept_data": true}; NULL for the saved device and the same
///   data.
/// @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
/// @return as biv_trainer_load(), and BIV_ERROR_INVALID_CONFIG. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_load_with(
    path: *const c_char,
    dataset: *const biv_dataset,
    options: *const c_char,
    out: *mut *mut biv_trainer,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe { load(path, dataset, out, || pointer::options(options, "load")) })
}

/// As biv_trainer_load_with(), of the file's bytes in memory. They are not needed after the call.
///
/// @param bytes @param size what biv_trainer_save_to_memory() gave, or a file's content.
/// @param dataset @param options @param out as there.
/// @return as biv_trainer_load(), and BIV_ERROR_INVALID_CONFIG. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_load_from_memory(
    bytes: *const c_void,
    size: usize,
    dataset: *const biv_dataset,
    options: *const c_char,
    out: *mut *mut biv_trainer,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let (bytes, dataset) = (pointer::slice(bytes.cast(), size, "bytes")?, handle::get_optional(dataset)?);
            let options: LoadOptions = pointer::options(options, "load")?;
            Ok(Arc::new(Session::new(Trainer::from_bytes(bytes, &"the bytes", dataset.as_deref(), &options)?)))
        })
    })
}

/// Writes what biv_trainer_save() saves into the caller's memory.
///
/// @param buffer @param capacity @param needed as for biv_model_save_to_memory().
/// @return as biv_model_save_to_memory(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_trainer_save_to_memory(
    trainer: *const biv_trainer,
    buffer: *mut c_void,
    capacity: usize,
    needed: *mut usize,
) -> biv_status {
    boundary(|| {
        let bytes = handle::get(trainer)?.trainer().to_bytes()?;
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_bytes(&bytes, buffer, capacity, needed) }
    })
}

/// Makes the trainer in a file.
///
/// # Safety
/// The header's contract for all pointers.
unsafe fn load(
    path: *const c_char,
    dataset: *const biv_dataset,
    out: *mut *mut biv_trainer,
    options: impl FnOnce() -> Result<LoadOptions>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        handle::create(out, || {
            let path = Path::new(pointer::text(path, "path")?);
            let dataset = handle::get_optional(dataset)?;
            Ok(Arc::new(Session::new(Trainer::load_with(path, dataset.as_deref(), &options()?)?)))
        })
    }
}

/// Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
/// message. A biv_trainer_fit() that is running ends after its present step with BIV_ERROR_CANCELLED, as no other call
/// could end it any more; other calls that are running do their work. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_trainer_free(trainer: *mut biv_trainer) {
    handle::free(trainer);
}
