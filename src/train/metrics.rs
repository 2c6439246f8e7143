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

/// Of the errors of one output, in normalised units.
#[derive(Clone, Default)]
struct Sums {
    count: f64,
    squares: f64,
    absolutes: f64,
    weights: f64,
    weighted_squares: f64,
    variances: f64,
    calibration: Calibrating,
}

impl Metrics {
    /// The metrics of `model` on `data`.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit; [`Error::Numerical`] when a prediction is not finite.
    pub fn of(model: &Model, data: &Dataset) -> Result<Self> {
        let data = &*model.matched(data)?;
        let arena = Arena::new()?;
        let _arena = arena.enter();
        let normalization = model.normalization_or_identity();
        let prediction = model.predict_normalized(data.features().rows(), &normalization, Precision::F32)?;
        Self::new(&prediction, data, &normalization, model.error_bars())
    }

    /// The metrics of a prediction in normalised units on `data`, whose labels are in their own. `bars` are those of the
    /// model that predicted.
    ///
    /// # Errors
    /// [`Error::Numerical`] when a prediction is not finite; [`Error::InvalidArgument`] when all labels are masked.
    pub fn new(
        prediction: &Prediction,
        data: &Dataset,
        normalization: &Normalization,
        bars: Option<&ErrorBars>,
    ) -> Result<Self> {
        let (scale, labels, predictions) = (&normalization.label_std, data.labels(), &prediction.mean);
        let (outputs, rows) = (scale.len(), data.rows());
        if let Some(at) = predictions.iter().position(|p| !p.is_finite()) {
            let fault = Error::Numerical(format!("the prediction is {}", predictions[at]));
            return Err(fault.at([("row", at / outputs), ("output", at % outputs)]));
        }
        if data.masked() == labels.len() {
            return Err(Error::InvalidArgument("every label is missing or has an infinite variance".into()));
        }
        let variances = data.variances();
        // Noise of variance 0 outweighs all other without an epsilon: the limit of the weights 1 / v.
        let has_exact = |output: usize| {
            bars.is_none() && variances.is_some_and(|v| v.iter().skip(output).step_by(outputs).any(|&v| v == 0.0))
        };
        let exact: Vec<bool> = (0..outputs).map(has_exact).collect();
        let mut sums = vec![Sums::default(); outputs];
        for (at, normal) in normalization.labels(labels).enumerate() {
            if !data.is_known(at) {
                continue;
            }
            let (output, error) = (at % outputs, predictions[at] - normal);
            let (sums, square, unit) = (&mut sums[output], error * error, scale[output] * scale[output]);
            sums.count += 1.0;
            sums.squares += square;
            sums.absolutes += error.abs();
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
        let mut metrics = Metrics { rows, ..Metrics::default() };
        let (mut weighted, mut expected, mut bars) = (0.0, 0.0, Calibration::default());
        for (output, (sums, scale)) in sums.into_iter().zip(scale).enumerate() {
            let count = sums.count * outputs as f64;
            metrics.normalized_mse += sums.squares / count;
            metrics.normalized_mae += sums.absolutes / count;
            metrics.mse += sums.squares * scale.powi(2) / count;
            metrics.mae += sums.absolutes * scale / count;
            let column =
                || (output..labels.len()).step_by(outputs).filter(|&at| data.is_known(at)).map(|at| labels[at]);
            let mean = column().sum::<f64>() / sums.count;
            let deviations = column().map(|label| (label - mean).powi(2)).sum::<f64>();
            let r2 = if deviations > 0.0 { 1.0 - sums.squares * scale.powi(2) / deviations } else { f64::NAN };
            metrics.r2 += r2 / outputs as f64;
            weighted += sums.weighted_squares / sums.weights * scale.powi(2) / outputs as f64;
            expected += sums.variances * scale.powi(2) / count;
            let Calibration { coverage_68, coverage_95, mean_z2, nlpd } = sums.calibration.means();
            bars.coverage_68 += coverage_68 / outputs as f64;
            bars.coverage_95 += coverage_95 / outputs as f64;
            bars.mean_z2 += mean_z2 / outputs as f64;
            bars.nlpd += nlpd / outputs as f64;
        }
        metrics.rmse = metrics.mse.sqrt();
        metrics.normalized_rmse = metrics.normalized_mse.sqrt();
        metrics.weighted_rmse = weighted.sqrt();
        metrics.expected_rmse = variances.map(|_| expected.sqrt());
        metrics.bars = prediction.variance.as_ref().map(|_| bars);
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(labels: &[f64], outputs: usize, variances: Option<Vec<f64>>) -> Dataset {
        Dataset::new(vec![0.0; labels.len() / outputs], vec![1], labels.to_vec(), outputs, variances).unwrap()
    }

    fn means(mean: &[f64]) -> Prediction {
        Prediction { mean: mean.to_vec(), variance: None, spread: None }
    }

    #[test]
    fn metrics_match_a_calculation_by_hand() {
        let mut normalization = Normalization::identity(2);
        normalization.label_mean = vec![1.0, 0.0];
        normalization.label_std = vec![2.0, 10.0];
        // Errors in normalised units: 0.5, 0, -0.5, 0.2; in the labels' own: 1, 0, -1, 2.
        let data = data(&[1.0, 0.0, 3.0, 10.0], 2, None);
        let metrics = Metrics::new(&means(&[0.5, 0.0, 0.5, 1.2]), &data, &normalization, None).unwrap();
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
        let metrics = Metrics::new(&prediction, &noisy, &normalization, None).unwrap();
        let weighted: f64 = (1.0 + 4.0 / 4.0 + 16.0 / 3.0) / (1.0 + 0.25 + 1.0 / 3.0);
        assert!((metrics.mse - 7.0).abs() < 1e-12 && (metrics.weighted_rmse - weighted.sqrt()).abs() < 1e-12);
        assert!((metrics.expected_rmse.unwrap() - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        // In the labels' unit a variance of 4 of its own, and half of the noise's.
        let bars = ErrorBars { scale: vec![0.5], tau2: vec![1.0], mean_spread: vec![0.0] };
        prediction.variance = Some(vec![1.0; 4]);
        let metrics = Metrics::new(&prediction, &noisy, &normalization, Some(&bars)).unwrap();
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
        assert!(
            (Metrics::new(&means(&[0.0; 2]), &exact, &normalization, None).unwrap().weighted_rmse - 1.0).abs() < 1e-12
        );
    }

    #[test]
    fn constant_labels_have_no_r2_and_nan_predictions_are_an_error() {
        let constant = data(&[1.0, 1.0], 1, None);
        let metrics = Metrics::new(&means(&[1.0, 2.0]), &constant, &Normalization::identity(1), None).unwrap();
        assert!(metrics.r2.is_nan() && metrics.rmse.is_finite());
        let error = Metrics::new(&means(&[1.0, f64::NAN]), &constant, &Normalization::identity(1), None).unwrap_err();
        assert_eq!(error.to_string(), "row 1, output 0: the prediction is NaN");
    }
}
