//! Predictions in the user's units.

use super::{Model, batch};
use crate::base::memory::{collect, reserve};
use crate::data::{FeatureRows, Normalization, Scale};
use crate::kernels::mlp::{self, Plan};
use crate::kernels::team::Team;
use crate::torch::tensor::{to_f32, values};
use crate::torch::{Arena, Precision};
use crate::{Error, Result};

/// Rows that go through the network at once in prediction, at most.
const PREDICTION_ROWS: usize = 16_384;

/// Feature values that go through the network at once in prediction, at most
/// (but one row always does): some 70 images of 3 x 200 x 200. The activations
/// of an image network that live at one time take 10 to 25 times as much memory.
const PREDICTION_VALUES: usize = 1 << 23;

impl Model {
    /// How many rows to send through the network at once in prediction, at least
    /// 1: bounds the memory of the activations.
    pub fn prediction_rows(&self) -> usize {
        (PREDICTION_VALUES / self.inputs()).clamp(1, PREDICTION_ROWS)
    }

    /// Predictions in the labels' units for row-major `features` in theirs, `inputs` values a row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows do not fit the model.
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f64>> {
        let inputs = self.inputs();
        if !features.len().is_multiple_of(inputs) {
            return Err(Error::Shape(format!("{} values are not rows of {inputs} features", features.len())));
        }
        let arena = Arena::new()?;
        let _arena = arena.enter();
        let normalization = self.normalization_or_identity();
        let rows = FeatureRows::Numbers(features);
        collect(normalization.predictions(&self.predict_normalized(rows, &normalization, Precision::F32)?))
    }

    /// Predictions in normalised units for whole rows of features in their own.
    pub(crate) fn predict_normalized(
        &self,
        rows: FeatureRows,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Vec<f64>> {
        crate::base::fault::point();
        let inputs = self.inputs();
        if let (Some(plan), FeatureRows::Numbers(values)) = (self.prediction_plan(precision), rows) {
            return self.predict_by_kernel(plan, values, &normalization.scales(inputs)?);
        }
        let (count, step) = (rows.count(inputs), self.prediction_rows());
        let mut predictions = reserve(count * self.outputs())?;
        for start in (0..count).step_by(step) {
            let rows = rows.slice(start..count.min(start + step), inputs);
            let x = batch::features(rows, self.input_shape(), normalization, self.device)?;
            let output = tch::no_grad(|| self.forward(&x, false, precision))?;
            predictions.extend(to_f32(&output)?.into_iter().map(f64::from));
        }
        Ok(predictions)
    }

    fn predict_by_kernel(&self, plan: &Plan, features: &[f32], scales: &[Scale]) -> Result<Vec<f64>> {
        let buffers = if plan.norm { self.buffers() } else { vec![] };
        let buffers = buffers.iter().map(values).collect::<Result<Vec<_>>>()?;
        mlp::predict(plan, values(self.flat()?)?, &buffers, features, scales, &Team::gather())
    }
}
