//! How far predictions are from labels.

use crate::data::{Dataset, Normalization};
use crate::model::{ErrorBars, Model, Prediction};
use crate::torch::{Arena, Precision};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Errors of predictions on a data set; with several outputs, means over them. Masked labels do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The number of rows.
    pub rows: usize,
    /// Mean squared error, in the square of the labels' unit.
    pub mse: f64,
    /// Its square root.
    pub rmse: f64,
    /// Mean absolute error, in the labels' unit.
    pub mae: f64,
    /// Coefficient of determination, 1 - MSE / variance of the labels: the same in every unit.
    /// NaN where the labels are constant.
    pub r2: f64,
    /// `mse` in normalised units.
    pub normalized_mse: f64,
    /// `rmse` in normalised units.
    pub normalized_rmse: f64,
    /// `mae` in normalised units.
    pub normalized_mae: f64,
    /// As `rmse`, with each label weighted by 1 / (scale v + tau2), where v is the variance of its noise, by the model's
    /// error bars; by 1 / v where the model has none. Without variances, `rmse`.
    pub weighted_rmse: f64,
    /// What `rmse` would be if the predictions were perfect: the square root of the mean v. None without variances.
    pub expected_rmse: Option<f64>,
    /// How well the error bars hold, where the model has some: for the prediction's own variance and, of a label with
    /// noise, scale v.
    pub bars: Option<Calibration>,
}

/// Half the width of the central 68 % of a normal distribution, in standard deviations.
const CENTRAL_68: f64 = 0.994_457_883_209_753;

/// Of the central 95 %.
const CENTRAL_95: f64 = 1.959_963_984_540_054;

/// How well error bars hold; with several outputs, means over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The share of the labels within the central 68 % of a normal distribution of the variance that is said.
    pub coverage_68: f64,
    /// The share within the central 95 %.
    pub coverage_95: f64,
    /// The mean of (label - prediction)^2 / variance: 1 for error bars of the right size.
    pub mean_z2: f64,
    /// The mean negative logarithm of the label's density in that distribution, in nats and the labels' unit.
    pub nlpd: f64,
}

/// Means over errors, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calibrating {
    count: f64,
    means: Calibration,
}

impl Calibrating {
    /// Takes an error whose square is `square`, of a distribution of this variance.
    pub fn add(&mut self, square: f64, variance: f64) {
        self.count += 1.0;
        let z2 = square / variance;
        let inside = |half: f64| if z2 <= half * half { 1.0 } else { 0.0 };
        let move_to = |mean: &mut f64, value: f64| *mean += (value - *mean) / self.count;
        move_to(&mut self.means.mean_z2, z2);
        move_to(&mut self.means.nlpd, ((TAU * variance).ln() + z2) / 2.0);
        move_to(&mut self.means.coverage_68, inside(CENTRAL_68));
        move_to(&mut self.means.coverage_95, inside(CENTRAL_95));
    }

    /// Of all errors so far.
    pub fn means(&self) -> Calibration {
        self.means
    }
}

/// Of the errors of one output, in normalised units, and of its labels, in their own.
#[derive(Clone, Default)]
struct Sums {
    count: f64,
    squares: f64,
    absolutes: f64,
    weights: f64,
    weighted_squares: f64,
    variances: f64,
    labels: f64,
    calibration: Calibrating,
}

impl Metrics {
    /// The metrics of `model` on `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit; [`Error::Numerical`] when a prediction is not finite;
    /// [`Error::InvalidArgument`] when all labels are masked.
    pub fn of(model: &Model, data: &Dataset) -> Result<Self> {
        let arena = Arena::new()?;
        let _arena = arena.enter();
        Self::within(model, data, &model.normalization_or_identity(), Precision::F32)
    }

    /// As [`Metrics::of`], with a trainer's normalisation and in its precision.
    pub(super) fn within(
        model: &Model,
        data: &Dataset,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Self> {
        let data = &*model.matched(data)?;
        Self::in_blocks(data, normalization, model.error_bars(), model.prediction_rows(), |block| {
            model.predict_normalized(block.features().rows(), normalization, precision)
        })
    }

    /// The metrics on `data`, whose labels are in their own units, of predictions in normalised ones: `predict` is given
    /// `most` rows at a time, so that there are never many predictions in memory. `bars` are those of the model that
    /// predicts.
    fn in_blocks(
        data: &Dataset,
        normalization: &Normalization,
        bars: Option<&ErrorBars>,
        most: usize,
        predict: impl Fn(&Dataset) -> Result<Prediction>,
    ) -> Result<Self> {
        let (scale, rows) = (&normalization.label_std, data.rows());
        let outputs = scale.len();
        if data.masked() == rows * outputs {
            return Err(Error::InvalidArgument("every label is missing or has an infinite variance".into()));
        }
        let blocks = || (0..rows).step_by(most).map(|start| data.slice(start..rows.min(start + most)));
        let (mut sums, mut has_bars) = (vec![Sums::default(); outputs], false);
        // Noise of variance 0 outweighs all other without an epsilon: the limit of the weights 1 / v.
        let mut exact = vec![false; outputs];
        if bars.is_none() && data.has_variances() {
            for block in blocks() {
                let variances = block.variances().unwrap_or_default().iter().enumerate();
                variances.for_each(|(at, &variance)| exact[at % outputs] |= variance == 0.0);
            }
        }
        for (block, first) in blocks().zip((0..).step_by(most)) {
            let (labels, variances, prediction) = (block.labels(), block.variances(), predict(&block)?);
            let predictions = &prediction.mean;
            has_bars = prediction.variance.is_some();
            if let Some(at) = predictions.iter().position(|p| !p.is_finite()) {
                let fault = Error::Numerical(format!("the prediction is {}", predictions[at]));
                return Err(fault.at([("row", first + at / outputs), ("output", at % outputs)]));
            }
            for (at, normal) in normalization.labels(labels).enumerate() {
                if !block.is_known(at) {
                    continue;
                }
                let (output, error) = (at % outputs, predictions[at] - normal);
                let (sums, square, unit) = (&mut sums[output], error * error, scale[output] * scale[output]);
                sums.count += 1.0;
                sums.squares += square;
                sums.absolutes += error.abs();
                sums.labels += labels[at];
                let noise = variances.map_or(0.0, |variances| variances[at] / unit);
                sums.variances += noise;
                let weight = match (bars, variances) {
                    (_, None) => 1.0,
                    (Some(bars), _) => (bars.scale[output] * noise + bars.tau2[output]).recip(),
                    (None, Some(_)) if exact[output] => {
                        if noise == 0.0 {
                            1.0
                        } else {
                            0.0
                        }
                    }
                    (None, Some(_)) => noise.recip(),
                };
                sums.weights += weight;
                sums.weighted_squares += weight * square;
                if let Some(own) = &prediction.variance {
                    let scale = bars.map_or(1.0, |bars| bars.scale[output]);
                    sums.calibration.add(square * unit, (own[at] + scale * noise) * unit);
                }
            }
        }
        // Of the labels from their mean.
        let mut deviations = vec![0.0; outputs];
        for block in blocks() {
            for (at, label) in block.labels().iter().enumerate().filter(|&(at, _)| block.is_known(at)) {
                let Sums { labels, count, .. } = sums[at % outputs];
                deviations[at % outputs] += (label - labels / count).powi(2);
            }
        }
        let mut metrics = Metrics { rows, ..Metrics::default() };
        let (mut weighted, mut expected, mut calibration) = (0.0, 0.0, Calibration::default());
        for ((sums, scale), deviations) in sums.into_iter().zip(scale).zip(deviations) {
            let count = sums.count * outputs as f64;
            metrics.normalized_mse += sums.squares / count;
            metrics.normalized_mae += sums.absolutes / count;
            metrics.mse += sums.squares * scale.powi(2) / count;
            metrics.mae += sums.absolutes * scale / count;
            let r2 = if deviations > 0.0 { 1.0 - sums.squares * scale.powi(2) / deviations } else { f64::NAN };
            metrics.r2 += r2 / outputs as f64;
            weighted += sums.weighted_squares / sums.weights * scale.powi(2) / outputs as f64;
            expected += sums.variances * scale.powi(2) / count;
            let Calibration { coverage_68, coverage_95, mean_z2, nlpd } = sums.calibration.means();
            calibration.coverage_68 += coverage_68 / outputs as f64;
            calibration.coverage_95 += coverage_95 / outputs as f64;
            calibration.mean_z2 += mean_z2 / outputs as f64;
            calibration.nlpd += nlpd / outputs as f64;
        }
        metrics.rmse = metrics.mse.sqrt();
        metrics.normalized_rmse = metrics.normalized_mse.sqrt();
        metrics.weighted_rmse = weighted.sqrt();
        metrics.expected_rmse = data.has_variances().then(|| expected.sqrt());
        metrics.bars = has_bars.then_some(calibration);
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(labels: &[f64], outputs: usize, variances: Option<Vec<f64>>) -> Dataset {
        // Each row's feature is its number.
        let features = (0..labels.len() / outputs).map(|row| row as f32).collect();
        Dataset::new(features, vec![1], labels.to_vec(), outputs, variances).unwrap()
    }

    fn means(mean: &[f64]) -> Prediction {
        Prediction { mean: mean.to_vec(), variance: None, spread: None }
    }

    /// The metrics of `prediction`, of which `most` rows are looked at together.
    fn in_blocks(
        prediction: &Prediction,
        data: &Dataset,
        normalization: &Normalization,
        bars: Option<&ErrorBars>,
        most: usize,
    ) -> Result<Metrics> {
        let outputs = data.outputs();
        Metrics::in_blocks(data, normalization, bars, most, |block| {
            assert!(block.rows() <= most);
            let first = block.feature_values()?[0] as usize * outputs;
            let part = |values: &Vec<f64>| values[first..first + block.rows() * outputs].to_vec();
            Ok(Prediction {
                mean: part(&prediction.mean),
                variance: prediction.variance.as_ref().map(part),
                spread: None,
            })
        })
    }

    fn of(
        prediction: &Prediction,
        data: &Dataset,
        normalization: &Normalization,
        bars: Option<&ErrorBars>,
    ) -> Result<Metrics> {
        in_blocks(prediction, data, normalization, bars, data.rows())
    }

    #[test]
    fn metrics_match_a_calculation_by_hand() {
        let mut normalization = Normalization::identity(2);
        normalization.label_mean = vec![1.0, 0.0];
        normalization.label_std = vec![2.0, 10.0];
        // Errors in normalised units: 0.5, 0, -0.5, 0.2; in the labels' own: 1, 0, -1, 2.
        let data = data(&[1.0, 0.0, 3.0, 10.0], 2, None);
        let metrics = of(&means(&[0.5, 0.0, 0.5, 1.2]), &data, &normalization, None).unwrap();
        assert_eq!(metrics.rows, 2);
        assert!((metrics.mse - 1.5).abs() < 1e-12);
        assert!((metrics.mae - 1.0).abs() < 1e-12);
        assert!((metrics.normalized_mse - 0.135).abs() < 1e-12);
        assert!((metrics.normalized_mae - 0.3).abs() < 1e-12);
        // Output 0: 1 - 0.25 / 0.25; output 1: 1 - 0.02 / 0.25.
        assert!((metrics.r2 - (0.0 + 0.92) / 2.0).abs() < 1e-12);
        assert_eq!(metrics.weighted_rmse, metrics.rmse);
        assert_eq!((metrics.expected_rmse, metrics.bars), (None, None));
    }

    #[test]
    fn variances_weigh_and_error_bars_are_judged() {
        let normalization =
            Normalization { label_mean: vec![10.0], label_std: vec![2.0], ..Normalization::identity(1) };
        // Errors of 1, -2, 4 and one that is masked.
        let noisy = data(&[9.0, 12.0, 6.0, 500.0], 1, Some(vec![1.0, 4.0, 3.0, f64::INFINITY]));
        let mut prediction = means(&[0.0; 4]);
        let metrics = of(&prediction, &noisy, &normalization, None).unwrap();
        let weighted: f64 = (1.0 + 4.0 / 4.0 + 16.0 / 3.0) / (1.0 + 0.25 + 1.0 / 3.0);
        assert!((metrics.mse - 7.0).abs() < 1e-12 && (metrics.weighted_rmse - weighted.sqrt()).abs() < 1e-12);
        assert!((metrics.expected_rmse.unwrap() - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        // In the labels' unit a variance of 4 of its own, and half of the noise's.
        let bars = ErrorBars { scale: vec![0.5], tau2: vec![1.0], mean_spread: vec![0.0] };
        prediction.variance = Some(vec![1.0; 4]);
        let metrics = of(&prediction, &noisy, &normalization, Some(&bars)).unwrap();
        let total = [4.5, 6.0, 5.5f64];
        let z2 = (1.0 / total[0] + 4.0 / total[1] + 16.0 / total[2]) / 3.0;
        let nlpd = z2 / 2.0 + total.iter().map(|s| (TAU * s).ln() / 2.0).sum::<f64>() / 3.0;
        let found = metrics.bars.unwrap();
        assert!((found.mean_z2 - z2).abs() < 1e-12 && (found.nlpd - nlpd).abs() < 1e-12, "{metrics:?}");
        assert!((found.coverage_68 - 2.0 / 3.0).abs() < 1e-12 && found.coverage_95 == 1.0);
        let weighted =
            (1.0 / total[0] + 4.0 / total[1] + 16.0 / total[2]) / total.iter().map(|s| s.recip()).sum::<f64>();
        assert!((metrics.weighted_rmse - weighted.sqrt()).abs() < 1e-12);
        // Exact labels outweigh all others.
        let exact = data(&[9.0, 12.0], 1, Some(vec![0.0, 4.0]));
        assert!((of(&means(&[0.0; 2]), &exact, &normalization, None).unwrap().weighted_rmse - 1.0).abs() < 1e-12);
    }

    #[test]
    fn constant_labels_have_no_r2_and_nan_predictions_are_an_error() {
        let constant = data(&[1.0, 1.0], 1, None);
        let metrics = of(&means(&[1.0, 2.0]), &constant, &Normalization::identity(1), None).unwrap();
        assert!(metrics.r2.is_nan() && metrics.rmse.is_finite());
        let error = of(&means(&[1.0, f64::NAN]), &constant, &Normalization::identity(1), None).unwrap_err();
        assert_eq!(error.to_string(), "row 1, output 0: the prediction is NaN");
    }

    #[test]
    fn the_size_of_the_blocks_changes_no_bit() {
        let number = |at: usize| (at * 7919 % 101) as f64 / 7.0;
        let normalization =
            Normalization { label_mean: vec![6.0, 7.0], label_std: vec![4.1, 3.9], ..Normalization::identity(2) };
        let labels: Vec<f64> = (0..46).map(number).collect();
        // Some are exact, some are masked.
        let variances = |exact: f64| {
            let variance = |at: usize| {
                if at % 11 == 3 {
                    f64::INFINITY
                } else if at == 20 {
                    exact
                } else {
                    number(3 * at)
                }
            };
            Some((0..46).map(variance).collect())
        };
        let bars = ErrorBars { scale: vec![0.5, 1.5], tau2: vec![1.0, 0.3], mean_spread: vec![0.0; 2] };
        let mean: Vec<f64> = (0..46).map(|at| (number(at + 1) - 7.0) / 4.0).collect();
        for (bars, variances) in
            [(None, None), (None, variances(0.0)), (None, variances(0.1)), (Some(&bars), variances(0.1))]
        {
            let prediction = Prediction { variance: bars.map(|_| vec![0.7; 46]), ..means(&mean) };
            let all = data(&labels, 2, variances);
            let mut parts = all.slice(0..5);
            for rows in [5..9, 9..10, 10..20, 20..23] {
                parts = parts.append(&all.slice(rows)).unwrap();
            }
            let expected = of(&prediction, &all, &normalization, bars).unwrap();
            for (data, most) in [(&all, 1), (&all, 2), (&parts, 3), (&parts, 7), (&parts, 22), (&parts, 40)] {
                assert_eq!(in_blocks(&prediction, data, &normalization, bars, most).unwrap(), expected, "{most}");
            }
        }
        let mut faulty = means(&mean);
        faulty.mean[31] = f64::INFINITY;
        let error = in_blocks(&faulty, &data(&labels, 2, None), &normalization, None, 4).unwrap_err();
        assert_eq!(error.to_string(), "row 15, output 1: the prediction is inf");
    }
}
