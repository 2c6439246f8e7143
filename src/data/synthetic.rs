//! A synthetic regression problem whose clean function is known.

use super::Dataset;
use crate::base::memory::reserve;
use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use crate::{Error, Result};
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;
use std::f64::consts::PI;

/// The options of [`Dataset::synthetic`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyntheticOptions {
    /// The number of rows.
    #[schemars(range(min = 1))]
    pub rows: usize,
    /// The number of features, at least 5 (default 10); those beyond the fifth say nothing about a single label.
    #[serde(default = "ten")]
    #[schemars(range(min = 5))]
    pub features: usize,
    /// The number of labels per row (default 1).
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub outputs: usize,
    /// The seed of the features (default 0).
    #[serde(default)]
    pub seed: u64,
}

fn ten() -> usize {
    10
}

fn one() -> usize {
    1
}

/// Friedman's first function (Friedman 1991, "Multivariate Adaptive Regression Splines"):
/// `10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4`, of mean 14.4 and variance 23.8 on the unit cube.
pub fn friedman(x: [f64; 5]) -> f64 {
    10.0 * (PI * x[0] * x[1]).sin() + 20.0 * (x[2] - 0.5).powi(2) + 10.0 * x[3] + 5.0 * x[4]
}

impl Dataset {
    /// Features uniform in [0, 1), label `j` [`friedman`]'s function of the five
    /// features from the `j`-th on (counted cyclically), free of noise.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for sizes of 0, fewer than 5 features or more than memory holds.
    pub fn synthetic(options: &SyntheticOptions) -> Result<Self> {
        let SyntheticOptions { rows, features, outputs, seed } = *options;
        require(rows >= 1, "synthetic.rows", rows, "at least 1")?;
        require(features >= 5, "synthetic.features", features, "at least 5")?;
        require(outputs >= 1, "synthetic.outputs", outputs, "at least 1")?;
        // Enough for any data set in memory, and far from overflow below.
        let limit = 1usize << 40;
        if rows.checked_mul(features.max(outputs)).is_none_or(|values| values > limit) {
            return Err(Error::OutOfMemory(format!("{rows} rows of {features} features and {outputs} labels")));
        }
        let mut generator = stream(seed, Purpose::Synthetic, 0);
        let mut x: Vec<f32> = reserve(rows * features)?;
        x.extend((0..rows * features).map(|_| generator.random::<f32>()));
        let mut labels = reserve(rows * outputs)?;
        for row in x.chunks_exact(features) {
            labels.extend((0..outputs).map(|j| friedman(std::array::from_fn(|i| f64::from(row[(i + j) % features])))));
        }
        Dataset::new(x, vec![features], labels, outputs, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_friedmans_function_with_its_known_moments() {
        let options = SyntheticOptions { rows: 20_000, features: 6, outputs: 2, seed: 3 };
        let data = Dataset::synthetic(&options).unwrap();
        let row = &data.feature_values().unwrap()[6..12];
        assert_eq!(data.labels()[3], friedman(std::array::from_fn(|i| f64::from(row[(i + 1) % 6]))));
        let first: Vec<f64> = data.labels().chunks(2).map(|pair| pair[0]).collect();
        let mean = first.iter().sum::<f64>() / first.len() as f64;
        let variance = first.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / first.len() as f64;
        assert!((mean - 14.41).abs() < 0.15, "{mean}");
        assert!((variance - 23.8).abs() < 1.0, "{variance}");
    }
}
