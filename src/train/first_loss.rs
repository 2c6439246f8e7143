//! What makes a loss infinite where it is the data: before any step has been taken, or where a value is out of range.

use super::learner::Learner;
use super::training_data::NormalizedData;
use crate::data::{Dataset, Normalization, gather};
use crate::model::Pass;
use crate::torch::tensor::to_f32;
use crate::{Error, Result};
use tch::Tensor;

/// An error for a label that single precision cannot hold in normalised units: every loss that it is in would be infinite.
///
/// # Errors
/// [`Error::Numerical`], which names it.
pub(super) fn check_labels(data: &Dataset, normalization: &Normalization) -> Result<()> {
    let outputs = data.outputs();
    let mut worst: Option<(usize, f64, f64)> = None;
    let mut first = 0;
    for chunk in data.label_chunks() {
        for (at, (&label, normalized)) in chunk.iter().zip(normalization.labels(&chunk)).enumerate() {
            let is_too_large = !label.is_nan() && !(normalized as f32).is_finite();
            if is_too_large && worst.is_none_or(|(_, _, other)| normalized.abs() >= other.abs()) {
                worst = Some((first + at, label, normalized));
            }
        }
        first += chunk.len();
    }
    let Some((at, label, normalized)) = worst else { return Ok(()) };
    let fault = format!(
        "{label:e} is {normalized:e} in normalised units, beyond single precision: correct it, or mask it by an infinite \
         variance"
    );
    Err(Error::Numerical(fault).at([("row", at / outputs), ("label", at % outputs)]))
}

/// The square of a normalised value beyond this leaves single precision, or nearly so.
const FAR: f32 = 1e18;

/// The value that makes a mini-batch's loss infinite.
pub(super) struct Culprit {
    /// The place of its row in the mini-batch.
    pub at: usize,
    /// What it adds to the loss.
    pub term: f32,
    /// Its place in the row: a feature or a label.
    pub element: (&'static str, usize),
    /// What it has that others have not.
    pub reason: String,
    /// Whether that is too much for any weights of the network.
    pub is_out_of_range: bool,
}

/// Which of the mini-batch's `rows` makes the loss of engine number `engine` infinite, and why; of those that this process
/// holds, if it holds any.
pub(super) fn culprit(
    learner: &Learner,
    engine: usize,
    data: &NormalizedData,
    rows: &[usize],
) -> Result<Option<Culprit>> {
    let model = learner.model.lock();
    let networks = learner.engines[engine].networks(&model)?;
    let outputs = model.outputs();
    let coefficients = learner.coefficients(data, rows)?;
    let place = |row: usize| data.held.as_ref().map_or(Some(row), |held| held.place(row));
    let (places, rows): (Vec<usize>, Vec<usize>) =
        rows.iter().enumerate().filter_map(|(at, &row)| Some((at, place(row)?))).unzip();
    if rows.is_empty() {
        return Ok(None);
    }
    let coefficients = gather(&coefficients, outputs, &places)?;
    let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let index = Tensor::f_from_slice(&indices)?.f_to_device(model.device())?;
    let features = data.features.batch(&rows, &index, &learner.normalization, learner.options.precision)?;
    let predictions = tch::no_grad(|| networks.forward(&features, Pass::Evaluation, learner.options.precision))?;
    let (predictions, labels) = (to_f32(&predictions)?, to_f32(&data.labels.f_index_select(0, &index)?)?);
    let width = predictions.len() / rows.len();
    let prediction = |at: usize| predictions[at / outputs * width + at % outputs];
    let term = |at: usize| {
        let miss = prediction(at) - labels[at];
        let term = coefficients[at] as f32 * (miss * miss);
        if coefficients[at] == 0.0 {
            0.0
        } else if term.is_nan() {
            f32::INFINITY
        } else {
            term
        }
    };
    let worst = (0..labels.len()).rev().max_by(|&a, &b| term(a).total_cmp(&term(b))).unwrap_or(0);
    let (row, output) = (worst / outputs, worst % outputs);
    let (far, element, reason) = if !prediction(worst).is_finite() {
        let features = to_f32(&features.f_select(0, row as i64)?.f_reshape([-1])?)?;
        let far = (0..features.len()).max_by(|&a, &b| features[a].abs().total_cmp(&features[b].abs())).unwrap_or(0);
        let (value, prediction) = (features[far], prediction(worst));
        let reason = format!("it is {value:e} in normalised units, and the prediction {prediction}");
        (value, ("feature", far), reason)
    } else {
        let Normalization { label_mean, label_std, .. } = &learner.normalization;
        let label = f64::from(labels[worst]) * label_std[output] + label_mean[output];
        let (normalized, weight) = (labels[worst], coefficients[worst]);
        let unit = "in normalised units and has the weight";
        let reason = format!("about {label:.5e} is {normalized:e} {unit} {weight:e}");
        (normalized, ("label", output), reason)
    };
    let (at, term) = (places[row], term(worst));
    Ok(Some(Culprit { at, term, element, reason, is_out_of_range: far.abs() > FAR }))
}
