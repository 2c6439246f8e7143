//! How far predictions are from labels.

use crate::data::Normalization;
use crate::{Error, Result};

/// Errors of predictions on a data set; with several outputs, means over them.
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
}

impl Metrics {
    /// The metrics of `predictions` in normalised units against `labels` in
    /// their own, both row-major.
    ///
    /// # Errors
    /// [`Error::Numerical`] when a prediction is not finite.
    pub fn new(predictions: &[f64], labels: &[f64], normalization: &Normalization) -> Result<Self> {
        let scale = &normalization.label_std;
        let outputs = scale.len();
        let (count, rows) = (labels.len() as f64, labels.len() / outputs);
        if let Some(at) = predictions.iter().position(|p| !p.is_finite()) {
            return Err(Error::Numerical(format!("the prediction for row {} is {}", at / outputs, predictions[at])));
        }
        // Of the errors of each output, in normalised units: the squares and the absolute values.
        let mut sums = vec![[0.0; 2]; outputs];
        let mut normal = normalization.labels(labels);
        for predictions in predictions.chunks(outputs) {
            let pairs = predictions.iter().zip(normal.by_ref());
            for ([squares, absolutes], (prediction, label)) in sums.iter_mut().zip(pairs) {
                let error = prediction - label;
                *squares += error * error;
                *absolutes += error.abs();
            }
        }
        let mut metrics = Metrics { rows, ..Metrics::default() };
        for (output, ([squares, absolutes], scale)) in sums.into_iter().zip(scale).enumerate() {
            metrics.normalized_mse += squares / count;
            metrics.normalized_mae += absolutes / count;
            metrics.mse += squares * scale.powi(2) / count;
            metrics.mae += absolutes * scale / count;
            let column = || labels.iter().skip(output).step_by(outputs);
            let mean = column().sum::<f64>() / rows as f64;
            let deviations = column().map(|label| (label - mean).powi(2)).sum::<f64>();
            let r2 = if deviations > 0.0 { 1.0 - squares * scale.powi(2) / deviations } else { f64::NAN };
            metrics.r2 += r2 / outputs as f64;
        }
        metrics.rmse = metrics.mse.sqrt();
        metrics.normalized_rmse = metrics.normalized_mse.sqrt();
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_match_a_calculation_by_hand() {
        let mut normalization = Normalization::identity(2);
        normalization.label_mean = vec![1.0, 0.0];
        normalization.label_std = vec![2.0, 10.0];
        // Errors in normalised units: 0.5, 0, -0.5, 0.2; in the labels' own: 1, 0, -1, 2.
        let metrics = Metrics::new(&[0.5, 0.0, 0.5, 1.2], &[1.0, 0.0, 3.0, 10.0], &normalization).unwrap();
        assert_eq!(metrics.rows, 2);
        assert!((metrics.mse - 1.5).abs() < 1e-12);
        assert!((metrics.mae - 1.0).abs() < 1e-12);
        assert!((metrics.normalized_mse - 0.135).abs() < 1e-12);
        assert!((metrics.normalized_mae - 0.3).abs() < 1e-12);
        // Output 0: 1 - 0.25 / 0.25; output 1: 1 - 0.02 / 0.25.
        assert!((metrics.r2 - (0.0 + 0.92) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn constant_labels_have_no_r2_and_nan_predictions_are_an_error() {
        let metrics = Metrics::new(&[1.0, 2.0], &[1.0, 1.0], &Normalization::identity(1)).unwrap();
        assert!(metrics.r2.is_nan() && metrics.rmse.is_finite());
        let error = Metrics::new(&[1.0, f64::NAN], &[1.0, 1.0], &Normalization::identity(1)).unwrap_err();
        assert_eq!(error.to_string(), "the prediction for row 1 is NaN");
    }
}
