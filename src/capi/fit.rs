//! From data to a finished model in one call, and the variance model by itself.

use super::array::{biv_array, view};
use super::boundary::boundary;
use super::caller::in_host;
use super::dataset::biv_dataset;
use super::experiment::{biv_text, text};
use super::handle;
use super::model::biv_model;
use super::pointer;
use super::status::biv_status;
use crate::Error;
use crate::base::log;
use crate::data::{VarianceModel, Verdict};
use crate::train::fit::{FitOptions, FitProgress, default_network, fit};
use parking_lot::Mutex;
use std::ffi::{CStr, c_char, c_void};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The flattest weights that the residuals do not speak against.
pub const BIV_VERDICT_PROFILE: i32 = 1;
/// As BIV_VERDICT_PROFILE, and epsilon is the smallest that can be told apart from 0.
pub const BIV_VERDICT_FLOOR: i32 = 2;
/// The variances explain less than their size says: epsilon is the residuals' variance beyond them.
pub const BIV_VERDICT_PAULE_MANDEL: i32 = 3;
/// The variances say nothing: all weights are equal, epsilon is infinite.
pub const BIV_VERDICT_MSE: i32 = 4;
/// There are fewer than 30 rows: as BIV_VERDICT_MSE.
pub const BIV_VERDICT_TOO_FEW_ROWS: i32 = 5;
/// All variances are equal: as BIV_VERDICT_MSE.
pub const BIV_VERDICT_EQUAL_VARIANCES: i32 = 6;
/// All residuals are 0: as BIV_VERDICT_MSE.
pub const BIV_VERDICT_ZERO_RESIDUALS: i32 = 7;

/// What residuals say of known variances: the variance of a residual is scale * variance + tau2.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_variance_model {
    /// Set to sizeof(biv_variance_model) before the call.
    pub struct_size: usize,
    /// Weights are 1 / (variance + epsilon), in the unit of the variances; infinite for equal weights.
    pub epsilon: f64,
    /// How much of the variances that were given is there: at most 1; 0 where they say nothing.
    pub scale: f64,
    /// The part of the residuals' variance that the variances do not explain, in their unit.
    pub tau2: f64,
    /// Paule and Mandel's estimate of tau2 at scale 1.
    pub tau2_pm: f64,
    /// The epsilon of the greatest likelihood; it may be infinite.
    pub epsilon_best: f64,
    /// The smallest epsilon that was tried.
    pub epsilon_floor: f64,
    /// By how much the greatest log likelihood exceeds that of equal weights, per row, in nats.
    pub gain: f64,
    /// The standard error of gain.
    pub gain_se: f64,
    /// The mean of residual^2 / (scale * variance + tau2).
    pub mean_z2: f64,
    /// How many rows counted: those of infinite variance do not.
    pub rows: i64,
    /// Why epsilon is what it is: BIV_VERDICT_PROFILE or another.
    pub verdict: i32,
    /// What a user should know, a static text; NULL where all is well.
    pub warning: *const c_char,
}

// SAFETY: `repr(C)`, numbers and a pointer, the size first.
unsafe impl pointer::SizedStruct for biv_variance_model {
    const NAME: &'static str = "biv_variance_model";
}

impl From<VarianceModel> for biv_variance_model {
    fn from(model: VarianceModel) -> Self {
        biv_variance_model {
            struct_size: size_of::<Self>(),
            epsilon: model.epsilon,
            scale: model.scale,
            tau2: model.tau2,
            tau2_pm: model.tau2_pm,
            epsilon_best: model.epsilon_best,
            epsilon_floor: model.epsilon_floor,
            gain: model.gain,
            gain_se: model.gain_se,
            mean_z2: model.mean_z2,
            rows: model.rows as i64,
            verdict: match model.verdict {
                Verdict::Profile => BIV_VERDICT_PROFILE,
                Verdict::Floor => BIV_VERDICT_FLOOR,
                Verdict::PauleMandel => BIV_VERDICT_PAULE_MANDEL,
                Verdict::Mse => BIV_VERDICT_MSE,
                Verdict::TooFewRows => BIV_VERDICT_TOO_FEW_ROWS,
                Verdict::EqualVariances => BIV_VERDICT_EQUAL_VARIANCES,
                Verdict::ZeroResiduals => BIV_VERDICT_ZERO_RESIDUALS,
            },
            warning: model.warning().map_or(std::ptr::null(), CStr::as_ptr),
        }
    }
}

/// Finds what the residuals of any model say of the variances that are known of its labels' noise: the epsilon of
/// inverse-variance weights, and how much of a residual's variance is noise.
///
/// Epsilon is the largest that the profile likelihood, in which the scale is free, does not speak against by more
/// than one standard error; it is never below the tau2 of Paule and Mandel (1982).
///
/// @param residuals shape [rows]: label minus prediction, of rows that training has not seen.
/// @param variances the same shape, the square of the residuals' unit, at least 0. A row of infinite variance counts
///   nothing.
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a residual that is not finite, a variance that is
///   negative or NaN), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_variance_model_fit(
    residuals: *const biv_array,
    variances: *const biv_array,
    out: *mut biv_variance_model,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let (residuals, variances) = (view(residuals, "residuals")?, view(variances, "variances")?);
        for (name, shape) in [("residuals", residuals.shape()), ("variances", variances.shape())] {
            if shape.len() != 1 {
                return Err(Error::Shape(format!("{name} have shape {shape:?}, expected [rows]")));
            }
        }
        let model = VarianceModel::fit(&residuals.as_f64()?, &variances.as_f64()?)?;
        pointer::write_sized(out, model.into())
    })
}

/// How far a fit has come.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_fit_progress {
    /// The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
    pub struct_size: usize,
    /// The number of epochs completed.
    pub epoch: i64,
    /// The number of epochs in all.
    pub epochs: i64,
    /// The number of mini-batches taken, of all networks.
    pub steps: i64,
    /// The number of mini-batches in all.
    pub total_steps: i64,
    /// The last loss on held-out rows, in normalised units; NaN before the first.
    pub held_out_loss: f64,
    /// The last epsilon of training for the first output, in the square of the labels' unit: infinite for equal weights,
    /// NaN before the first.
    pub epsilon: f64,
    /// 1 while the final network of "members" 1 is trained, on all rows; else 0.
    pub is_final: i32,
}

impl From<&FitProgress> for biv_fit_progress {
    fn from(progress: &FitProgress) -> Self {
        biv_fit_progress {
            struct_size: size_of::<Self>(),
            epoch: progress.epoch as i64,
            epochs: progress.epochs as i64,
            steps: progress.steps as i64,
            total_steps: progress.total_steps as i64,
            held_out_loss: progress.held_out_loss,
            epsilon: progress.epsilon,
            is_final: progress.is_final.into(),
        }
    }
}

/// Hears how far biv_fit() has come, some ten times a second and after each epoch, on the thread that called that.
///
/// It may call every function of the library. It must return normally: a C++ exception or longjmp that leaves it is
/// undefined behaviour.
///
/// @param user what biv_fit() was given.
/// @param progress valid during the call.
/// @return 0 to continue, anything else to stop; after the last epoch nothing is left to stop.
pub type biv_fit_callback =
    Option<unsafe extern "C-unwind" fn(user: *mut c_void, progress: *const biv_fit_progress) -> i32>;

/// Makes a trained model with error bars of a data set: nothing has to be tuned, and known variances help where they
/// can and do no harm where they cannot.
///
/// By default five networks are trained side by side, each on the rows outside a fold of its own. What they miss of the
/// rows that they do not see gives the weights of the labels, the epoch to stop at and the size of the errors. The
/// model predicts their mean; biv_model_predict_with_variance() gives the error bars. Labels without variances are
/// weighted alike. Labels before simulated noise, kept beside it, are not looked at.
///
/// @param model JSON, schema "model", of one network; its seed is the first network's. NULL for a multi-layer perceptron
///   with hidden layers of 100 and 50.
/// @param dataset the training data. Rows of one group (biv_dataset_create()) stay in one fold.
/// @param options JSON, schema "fit": {"members": 5, "epochs": 100, "batch_size": 256, "learning_rate": 0.001,
///   "seed": 0, "device": "cpu", "loss": {"kind": "biv", "epsilon": "auto"}, "checkpoint": "fit.biv"}; NULL for these
///   defaults, without a checkpoint. "members" 1 is cheaper. A fit that finds its own checkpoint goes on from there. With
///   "distributed" each of several processes makes this call, with the same arguments; all get the result.
/// @param callback called with the progress; may be NULL.
/// @param user passed to the callback.
/// @param out the new handle, to be freed with biv_model_free(); NULL on failure.
/// @param report a new text, what was found as JSON, to be freed with biv_text_free(); NULL on failure. The variance
///   model, coverage and warnings: {"outputs": [{"variance_model": {"epsilon": ...}, "coverage_68": 0.69, ...}],
///   "warnings": [], ...}; null stands for infinity. May be NULL.
/// @return BIV_OK, BIV_ERROR_CANCELLED (the callback stopped it; with a checkpoint, another call goes on),
///   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE (model and data do not fit),
///   BIV_ERROR_INVALID_ARGUMENT (fewer rows or groups than folds, a checkpoint of another fit), BIV_ERROR_NUMERICAL (a
///   loss is not finite), BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_DEVICE, BIV_ERROR_OUT_OF_MEMORY,
///   BIV_ERROR_DISTRIBUTED (another process failed). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_fit(
    model: *const c_char,
    dataset: *const biv_dataset,
    options: *const c_char,
    callback: biv_fit_callback,
    user: *mut c_void,
    out: *mut *mut biv_model,
    report: *mut *mut biv_text,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        if !report.is_null() {
            pointer::write(report, std::ptr::null_mut(), "report")?;
        }
        let mut found = None;
        handle::create(out, || {
            let data = handle::get(dataset)?;
            let network = match model.is_null() {
                true => default_network(&data),
                false => pointer::options(model, "model")?,
            };
            let options: FitOptions = pointer::options(options, "fit")?;
            let (model, report) = fit(&network, &data, &options, &mut |progress| {
                log::deliver();
                let progress = biv_fit_progress::from(progress);
                let stop = callback.is_some_and(|callback| in_host(|| callback(user, &progress)) != 0);
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            found = Some(text(&report)?);
            Ok(Arc::new(Mutex::new(model)))
        })?;
        match found {
            Some(found) if !report.is_null() => handle::create(report, || Ok(found)),
            _ => Ok(()),
        }
    })
}
