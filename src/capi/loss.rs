//! The losses by themselves, for a training loop of the caller's own.

use super::array::{biv_array, biv_array_out, fill, view, view_optional};
use super::boundary::boundary;
use super::pointer;
use super::status::biv_status;
use crate::Error;
use crate::base::memory::reserve;
use crate::data::array::ArrayView;
use crate::train::loss::Loss;
use std::ffi::c_char;
use std::ops::RangeInclusive;

/// The value of a loss on a mini-batch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_loss_result {
    /// Set to sizeof(biv_loss_result) before the call.
    pub struct_size: usize,
    /// The loss: for several outputs, the mean over them.
    pub value: f64,
    /// The effective batch size, (sum w)^2 / sum w^2 of the rows' weights w; for several outputs, the mean.
    pub effective_batch_size: f64,
    /// The epsilon that was used, in the unit of the variances: infinite where only equal weights reach the
    /// minimum effective batch size, 0 for a loss without an epsilon.
    pub epsilon: f64,
    /// How many rows have a weight that is not 0.
    pub samples_used: i64,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_loss_result {
    const NAME: &'static str = "biv_loss_result";
}

/// Computes a loss and its gradient in double precision, for a training loop of the caller's own.
///
/// With the errors e, the variances v and K rows: "mse" is (1/K) sum e^2; "cutoff_mse" is the mean of e^2 over the
/// rows with v < threshold; "iv" is (1/K) sum e^2/(v + epsilon); "biv" is sum w e^2 / sum w with
/// w = 1/(v + epsilon) (Mai, Khamies, Paull 2021). "gaussian" is the mean of (log s + e^2/s)/2, s = v + exp(q), where
/// q is a second prediction; "beta_nll" is the same with each row times s^beta, which counts as a constant (Seitzer,
/// Tavakoli, Antic, Martius 2022). Several outputs are computed each by itself; the loss is their mean. A label of
/// infinite variance has no weight, and K does not count it.
///
/// @param loss JSON, schema "loss": {"kind": "biv", "epsilon": 0.1}; NULL for that. Epsilon may also be
///   {"min_effective_batch_size": 64} or {"min_effective_batch_ratio": 0.5}. Epsilon and threshold are in the
///   unit of the variances.
/// @param predictions @param labels shape [rows] or [rows, outputs], both the same, in any unit. For "gaussian" and
///   "beta_nll" the predictions have shape [rows, 2 outputs]: in each row the values, then their q.
/// @param variances the labels' shape, the square of their unit, at least 0; may be NULL for "mse" and the likelihoods.
/// @param result a struct of the caller's, with its struct_size set.
/// @param gradient an array of the caller's to be filled, of the predictions' shape: the derivative of the
///   loss by each prediction. NULL when not wanted.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a value that is NaN
///   or infinite, a negative variance, variances that are missing), BIV_ERROR_NUMERICAL (the loss is not
///   finite), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_loss_compute(
    loss: *const c_char,
    predictions: *const biv_array,
    labels: *const biv_array,
    variances: *const biv_array,
    result: *mut biv_loss_result,
    gradient: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let loss = if loss.is_null() { Loss::default() } else { pointer::options(loss, "loss")? };
        loss.validate("loss")?;
        let (predictions, labels) = (view(predictions, "predictions")?, view(labels, "labels")?);
        let variances = view_optional(variances, "variances")?;
        let shape = predictions.shape().to_vec();
        let mut expected = shape.clone();
        if loss.likelihood().is_some() {
            let [_, columns] = &mut expected[..] else {
                return Err(Error::Shape(format!("predictions have shape {shape:?}, expected [rows, 2 outputs]")));
            };
            *columns /= 2;
        }
        let outputs = match expected[..] {
            [_] => 1,
            [_, outputs] => outputs,
            _ => return Err(Error::Shape(format!("predictions have shape {shape:?}, expected [rows, outputs]"))),
        };
        for (name, array) in [("labels", Some(&labels)), ("variances", variances.as_ref())] {
            let is_column = loss.likelihood().is_some() && outputs == 1;
            let fits = |found: &[usize]| found == expected || is_column && found == &expected[..1];
            if array.is_some_and(|array| !fits(array.shape())) {
                return Err(Error::Shape(match loss.likelihood() {
                    None => format!("{name} must have the predictions' shape, {shape:?}"),
                    Some(_) => format!("{name} must have half the predictions' columns, shape {expected:?}"),
                }));
            }
        }
        let within = |name: &'static str, allowed: RangeInclusive<f64>, must: &str, values: Vec<f64>| {
            let Some(at) = values.iter().position(|value| !allowed.contains(value)) else { return Ok(values) };
            let columns = values.len() / shape[0];
            let fault = Error::InvalidArgument(format!("{} {must}", values[at]));
            Err(fault.at([("row", at / columns), (name, at % columns)]))
        };
        let finite = |name, array: ArrayView| within(name, f64::MIN..=f64::MAX, "is not finite", array.to_f64()?);
        let of_noise =
            |array: ArrayView| within("variance", 0.0..=f64::INFINITY, "must not be negative or NaN", array.to_f64()?);
        let variances = variances.map(of_noise).transpose()?;
        let predictions = finite("prediction", predictions)?;
        let labels = finite("label", labels)?;
        // The computation has up to six numbers for each prediction, in buffers whose allocation cannot fail.
        drop(reserve::<[f64; 6]>(predictions.len())?);
        let found = loss.evaluate(outputs, &predictions, &labels, variances.as_deref())?;
        pointer::check_sized(result)?;
        if !gradient.is_null() {
            fill(gradient, "gradient", &shape, &found.gradient)?;
        }
        pointer::write_sized(
            result,
            biv_loss_result {
                struct_size: 0,
                value: found.value,
                effective_batch_size: found.weights.effective_batch_size,
                epsilon: found.weights.epsilon,
                samples_used: found.weights.samples_used as i64,
            },
        )
    })
}
