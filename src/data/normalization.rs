//! Normalisation: features and labels to mean 0 and standard deviation 1.

use super::{Dataset, FeatureRows};
use crate::{Error, Result};

/// Means and standard deviations, fitted on training data and applied to all.
///
/// Tables are normalised per feature, anything with more dimensions (images)
/// by one mean and deviation. The deviation is the population's, but 1 where it
/// would be 0 (a constant feature or label).
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// One value per feature, or one for all.
    pub feature_mean: Vec<f64>,
    /// As `feature_mean`.
    pub feature_std: Vec<f64>,
    /// One value per output, in the labels' unit.
    pub label_mean: Vec<f64>,
    /// As `label_mean`.
    pub label_std: Vec<f64>,
}

/// The conversion of a feature to normalised units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    mean: f64,
    /// 1 / standard deviation.
    factor: f64,
}

impl Scale {
    /// The normalised value.
    #[inline(always)]
    pub fn apply(self, value: f32) -> f32 {
        ((f64::from(value) - self.mean) * self.factor) as f32
    }
}

impl Normalization {
    /// The statistics of `data`, its labels as they were before simulated noise.
    pub fn fit(data: &Dataset) -> Self {
        let columns = if data.feature_shape().len() == 1 { data.width() } else { 1 };
        let (feature_mean, feature_std) = match data.features().rows() {
            FeatureRows::Numbers(values) => statistics(columns, values, |&value| f64::from(value)),
            FeatureRows::Pixels(pixels, rows) => pixel_statistics(pixels, rows, data.width()),
        };
        let (label_mean, label_std) = statistics(data.outputs(), data.clean_labels(), |&value| value);
        Normalization { feature_mean, feature_std, label_mean, label_std }
    }

    /// The normalisation that changes nothing.
    pub fn identity(outputs: usize) -> Self {
        Normalization {
            feature_mean: vec![0.0],
            feature_std: vec![1.0],
            label_mean: vec![0.0; outputs],
            label_std: vec![1.0; outputs],
        }
    }

    /// An error unless these are statistics of rows of `width` features and `outputs` labels.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn check(&self, width: usize, outputs: usize) -> Result<()> {
        let columns = self.feature_mean.len();
        let lengths = [columns, self.feature_std.len(), self.label_mean.len(), self.label_std.len()];
        if ![1, width].contains(&columns) || lengths != [columns, columns, outputs, outputs] {
            let message = format!("the normalisation has {lengths:?} values for {width} features and {outputs} labels");
            return Err(Error::Corrupt(message));
        }
        let means = self.feature_mean.iter().chain(&self.label_mean);
        let deviations = self.feature_std.iter().chain(&self.label_std);
        let mut factors = deviations.clone().map(|std| std.recip());
        if means.chain(deviations).any(|value| !value.is_finite())
            || factors.any(|factor| factor <= 0.0 || !factor.is_finite())
        {
            return Err(Error::Corrupt("the normalisation has a value that is no mean or no deviation".into()));
        }
        Ok(())
    }

    /// The conversion to normalised units of each of a row's `width` features.
    ///
    /// # Errors
    /// [`Error::Shape`] when the statistics are those of rows of another width.
    pub fn scales(&self, width: usize) -> Result<Vec<Scale>> {
        let columns = self.feature_mean.len();
        if columns != 1 && columns != width {
            return Err(Error::Shape(format!("rows have {width} features, the normalisation was fitted on {columns}")));
        }
        let scale = |column: usize| Scale { mean: self.feature_mean[column], factor: self.feature_std[column].recip() };
        crate::base::memory::collect((0..width).map(|feature| scale(feature.min(columns - 1))))
    }

    /// Normalised features, for rows of `width` values each.
    ///
    /// # Errors
    /// As [`Normalization::scales`].
    pub fn features(&self, features: &[f32], width: usize) -> Result<Vec<f32>> {
        let scales = self.scales(width)?;
        let mut result = crate::base::memory::reserve(features.len())?;
        for row in features.chunks(width) {
            result.extend(row.iter().zip(&scales).map(|(&value, scale)| scale.apply(value)));
        }
        Ok(result)
    }

    /// Labels in normalised units.
    pub fn labels(&self, labels: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(labels, |value, mean, std| (value - mean) / std)
    }

    /// Variances in normalised units.
    pub fn variances(&self, variances: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(variances, |value, _, std| value / (std * std))
    }

    /// Normalised predictions in the labels' own units.
    pub fn predictions(&self, predictions: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(predictions, |value, mean, std| value * std + mean)
    }

    fn per_output(&self, values: &[f64], convert: impl Fn(f64, f64, f64) -> f64) -> impl ExactSizeIterator<Item = f64> {
        let mut next = 0;
        values.iter().map(move |&value| {
            let output = next;
            next = if output + 1 < self.label_mean.len() { output + 1 } else { 0 };
            convert(value, self.label_mean[output], self.label_std[output])
        })
    }
}

/// Mean and population standard deviation of each column, in two passes.
fn statistics<T>(columns: usize, values: &[T], number: impl Fn(&T) -> f64) -> (Vec<f64>, Vec<f64>) {
    let rows = (values.len() / columns) as f64;
    let mut mean = vec![0.0; columns];
    for row in values.chunks_exact(columns) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += number(value) / rows;
        }
    }
    let mut std = vec![0.0; columns];
    for row in values.chunks_exact(columns) {
        for ((sum, value), mean) in std.iter_mut().zip(row).zip(&mean) {
            *sum += (number(value) - mean).powi(2) / rows;
        }
    }
    for (variance, &mean) in std.iter_mut().zip(&mean) {
        *variance = deviation(*variance, mean);
    }
    (mean, std)
}

/// The square root of `variance`, or 1 for that of a constant.
fn deviation(variance: f64, mean: f64) -> f64 {
    let deviation = variance.sqrt();
    // Below this the differences are rounding errors of a constant.
    if !deviation.is_finite() || deviation <= mean.abs() * 1e-12 { 1.0 } else { deviation }
}

/// One mean and deviation of all the pixels of the images `rows`, of `width` bytes each; a byte b is b / 255.
fn pixel_statistics(pixels: &[u8], rows: &[usize], width: usize) -> (Vec<f64>, Vec<f64>) {
    let mut counts = [0u64; 256];
    for &row in rows {
        for &byte in &pixels[row * width..(row + 1) * width] {
            counts[usize::from(byte)] += 1;
        }
    }
    let total = (rows.len() * width) as f64;
    let average = |value: &dyn Fn(f64) -> f64| {
        counts.iter().enumerate().map(|(byte, &count)| count as f64 / total * value(byte as f64 / 255.0)).sum::<f64>()
    };
    let mean = average(&|value| value);
    (vec![mean], vec![deviation(average(&|value| (value - mean).powi(2)), mean)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_per_feature_and_constants_stay_finite() {
        let data = Dataset::new(vec![1.0, 7.0, 5.0, 7.0], vec![2], vec![10.0, 30.0], 1, None).unwrap();
        let fitted = Normalization::fit(&data);
        assert_eq!((&fitted.feature_mean[..], &fitted.feature_std[..]), (&[3.0, 7.0][..], &[2.0, 1.0][..]));
        assert_eq!((fitted.label_mean[0], fitted.label_std[0]), (20.0, 10.0));
        assert_eq!(fitted.features(&[1.0, 7.0, 5.0, 7.0], 2).unwrap(), [-1.0, 0.0, 1.0, 0.0]);
        assert!(fitted.labels(data.labels()).eq([-1.0, 1.0]));
        assert!(fitted.variances(&[100.0, 50.0]).eq([1.0, 0.5]));
        assert!(fitted.predictions(&[-1.0, 1.0]).eq(data.labels().iter().copied()));
        assert!(fitted.features(&[0.0; 3], 3).is_err());
    }

    #[test]
    fn statistics_of_other_rows_are_found_out() {
        let fitted = Normalization {
            feature_mean: vec![0.0, 1.0],
            feature_std: vec![1.0, 2.0],
            label_mean: vec![5.0],
            label_std: vec![0.5],
        };
        assert!(fitted.check(2, 1).is_ok() && Normalization::identity(3).check(7, 3).is_ok());
        assert!(fitted.check(3, 1).is_err() && fitted.check(2, 2).is_err());
        let wrong = [
            Normalization { feature_std: vec![1.0], ..fitted.clone() },
            Normalization { label_std: vec![], ..fitted.clone() },
            Normalization { label_mean: vec![f64::NAN], ..fitted.clone() },
            Normalization { label_std: vec![0.0], ..fitted.clone() },
            Normalization { feature_std: vec![1.0, -2.0], ..fitted.clone() },
            // What it would be multiplied by is infinite.
            Normalization { feature_std: vec![1.0, 1e-310], ..fitted },
        ];
        assert!(wrong.iter().all(|wrong| matches!(wrong.check(2, 1), Err(Error::Corrupt(_)))));
    }

    #[test]
    fn images_share_one_mean_and_simulated_noise_does_not_count() {
        let data = Dataset::new(vec![0.0, 2.0, 4.0, 6.0], vec![2, 1], vec![1.0, 3.0], 1, None).unwrap();
        assert_eq!(Normalization::fit(&data).feature_mean, [3.0]);
        let pixels = Dataset::from_pixels(vec![0, 51, 102, 255, 9, 9], [1, 1, 2], vec![1.0, 3.0, 9.0], None).unwrap();
        let fitted = Normalization::fit(&pixels.subset(&[0, 1]).unwrap());
        assert!((fitted.feature_mean[0] - 0.4).abs() < 1e-12);
        assert!((fitted.feature_std[0] - 0.14f64.sqrt()).abs() < 1e-12);
        let noisy = data.with_noise(vec![-50.0, 90.0], vec![1.0, 1.0]).unwrap();
        assert_eq!(Normalization::fit(&noisy), Normalization::fit(&data));
    }
}
