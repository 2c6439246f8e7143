//! Predictions in the user's units.

use super::{Member, Model, Pass, batch};
use crate::base::memory::{collect, filled, reserve};
use crate::data::array::{ArrayView, width_of};
use crate::data::{Dataset, FeatureRows, Normalization, Scale, check_features, less};
use crate::kernels::mlp::{self, Plan};
use crate::kernels::ops::has_mlp_prediction;
use crate::kernels::team::Team;
use crate::torch::tensor::{to_f32, values};
use crate::torch::{Arena, Precision, ending};
use crate::{Error, Result};

/// Rows that go through the network at once in prediction, at most.
const PREDICTION_ROWS: usize = 16_384;

/// Feature values that go through the network at once in prediction, at most
/// (but one row always does): some 70 images of 3 x 200 x 200. The activations
/// of an image network that live at one time take 10 to 25 times as much memory.
const PREDICTION_VALUES: usize = 1 << 23;

/// A layer whose rows have more than so many times the values of the features counts instead of them.
const USUAL_GROWTH: usize = 25;

/// Predictions of true values for rows, all row-major, `rows x outputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The values.
    pub mean: Vec<f64>,
    /// The variances of their errors, where the model knows them.
    pub variance: Option<Vec<f64>>,
    /// The variances between the networks of a model of several.
    pub(crate) spread: Option<Vec<f64>>,
}

impl Model {
    /// How many rows to send through the network at once in prediction, at least
    /// 1: bounds the memory of the activations.
    pub fn prediction_rows(&self) -> usize {
        let values = self.inputs().max(self.members[0].network.largest / USUAL_GROWTH);
        (PREDICTION_VALUES / values).clamp(1, PREDICTION_ROWS)
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
        Ok(self.predict_rows(FeatureRows::Numbers(features, &[]))?.mean)
    }

    /// As [`Model::predict`], for an array whose first dimension counts the rows; with the errors' variances where the
    /// model knows them. f64 values are centred before they are rounded to f32.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows do not fit the model; [`Error::InvalidArgument`] for a feature that is not finite.
    pub fn predict_array(&self, features: &ArrayView) -> Result<Prediction> {
        let [_, shape @ ..] = features.shape() else {
            return Err(Error::Shape("features have no dimensions, the first is the rows".into()));
        };
        let (width, inputs) = (width_of(shape), self.inputs());
        if width != inputs {
            return Err(Error::Shape(format!("features have {width} values in a row, the model has {inputs} inputs")));
        }
        let offsets = self.normalization().map(Normalization::offsets).unwrap_or_default();
        if offsets.is_empty() {
            let stored = features.as_f32()?;
            check_features(&stored, width, |at| features.to_f64().map_or(f64::NAN, |given| given[at]))?;
            return self.predict_rows(FeatureRows::Numbers(&stored, &[]));
        }
        let given = features.as_f64()?;
        let stored = less(&given, &offsets)?;
        check_features(&stored, width, |at| given[at])?;
        self.predict_rows(FeatureRows::Numbers(&stored, &offsets))
    }

    /// As [`Model::predict_array`], for the features of a data set.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit the model.
    pub fn predict_data(&self, data: &Dataset) -> Result<Prediction> {
        self.predict_rows(self.matched(data)?.features().rows())
    }

    fn predict_rows(&self, rows: FeatureRows) -> Result<Prediction> {
        let arena = Arena::new()?;
        let _arena = arena.enter();
        let normalization = self.normalization_or_identity();
        self.predict_normalized(rows, &normalization, Precision::F32)?.in_units_of(&normalization)
    }

    /// Predictions in normalised units for whole rows of features in their own.
    pub(crate) fn predict_normalized(
        &self,
        rows: FeatureRows,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Prediction> {
        crate::base::fault::point();
        let outputs = self.outputs();
        if let [member] = &self.members[..]
            && !self.predicts_variance()
        {
            let mean = self.member_outputs(member, rows, normalization, precision)?;
            let variance = match &self.error_bars {
                Some(bars) => Some(bars.variances(filled(mean.len(), 0.0)?)),
                None => None,
            };
            return Ok(Prediction { mean, variance, spread: None });
        }
        let count = rows.count(self.inputs()) * outputs;
        let (mut mean, mut spread) = (filled(count, 0.0)?, filled(count, 0.0)?);
        let mut own = if self.predicts_variance() { Some(filled(count, 0.0)?) } else { None };
        for (number, member) in self.members.iter().enumerate() {
            let raw = self.member_outputs(member, rows, normalization, precision)?;
            let raw_width = member.network.outputs;
            for (at, (mean, spread)) in mean.iter_mut().zip(&mut spread).enumerate() {
                let first = at / outputs * raw_width + at % outputs;
                // Welford's recurrence.
                let change = raw[first] - *mean;
                *mean += change / (number + 1) as f64;
                *spread += change * (raw[first] - *mean);
                if let Some(own) = &mut own {
                    own[at] += raw[first + outputs].exp() / self.members.len() as f64;
                }
            }
        }
        spread.iter_mut().for_each(|sum| *sum /= self.members.len() as f64);
        let variance = match (own, &self.error_bars) {
            (Some(mut own), _) => {
                own.iter_mut().zip(&spread).for_each(|(own, spread)| *own += spread);
                Some(own)
            }
            (None, Some(bars)) => Some(bars.variances(collect(spread.iter().copied())?)),
            (None, None) => None,
        };
        Ok(Prediction { mean, variance, spread: Some(spread) })
    }

    /// The outputs of one network, row-major.
    fn member_outputs(
        &self,
        member: &Member,
        rows: FeatureRows,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Vec<f64>> {
        let inputs = self.inputs();
        if let (Some(plan), FeatureRows::Numbers(values, offsets)) = (&member.network.plan, rows)
            && has_mlp_prediction(self.device, precision)
        {
            return member.predict_by_kernel(plan, values, &normalization.scales(inputs, offsets)?);
        }
        let (count, step) = (rows.count(inputs), self.prediction_rows());
        let mut predictions = reserve(count * member.network.outputs)?;
        for start in (0..count).step_by(step) {
            let _at_work = ending::at_work();
            let rows = rows.slice(start..count.min(start + step), inputs);
            let x = batch::features(rows, self.input_shape(), normalization, self.device)?;
            let output = tch::no_grad(|| member.forward(&x, Pass::Evaluation, precision, self.device))?;
            predictions.extend(to_f32(&output)?.into_iter().map(f64::from));
        }
        Ok(predictions)
    }
}

impl Member {
    fn predict_by_kernel(&self, plan: &Plan, features: &[f32], scales: &[Scale]) -> Result<Vec<f64>> {
        let state = if plan.norm { self.network.layers.state() } else { vec![] };
        let buffers = state.iter().filter(|state| !state.trainable).map(|state| values(&state.tensor));
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        mlp::predict(plan, values(self.flat()?)?, &buffers, features, scales, &Team::gather())
    }
}

impl Prediction {
    /// Predictions in the labels' units, of those in the units of `normalization`.
    pub(crate) fn in_units_of(self, normalization: &Normalization) -> Result<Self> {
        let squares = |values: Option<Vec<f64>>| values.map(|values| normalization.squares(&values)).transpose();
        Ok(Prediction {
            mean: collect(normalization.predictions(&self.mean))?,
            variance: squares(self.variance)?,
            spread: squares(self.spread)?,
        })
    }
}
