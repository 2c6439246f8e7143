//! Simulated label noise: a variance for every label, then noise of that variance.
//!
//! As in the published method (Mai, Khamies, Paull 2021), both are drawn once, when the noise is applied.

pub use super::variances::{GammaOptions, MixtureOptions, UniformOptions, VarianceDistribution, VarianceLaw};
use super::{Dataset, LabelStatistics, Normalization};
use crate::Result;
use crate::base::memory::collect;
use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How [`NoiseOptions::apply`] corrupts labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoiseOptions {
    /// What the variances are drawn from.
    pub distribution: VarianceDistribution,
    /// Whether drawn variances are multiples of the clean labels' own variance
    /// (per output) instead of squares of the labels' unit (default false).
    #[serde(default)]
    pub relative: bool,
    /// So many times the variances that the labels have already are added to the drawn ones (default 0): measured labels
    /// as they would be from a cheaper measurement.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0))]
    pub times_measured: f64,
    /// delta >= 0: the variances that the loss is told become `|v + e|`, `e ~ N(0, (v/3)^2 delta)`,
    /// while the noise is drawn with the true `v` (default 0).
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub disturbance: f64,
    /// A control: the loss is told the same variances in a random order, so that they carry no information (default
    /// false).
    #[serde(default)]
    pub shuffled: bool,
    /// The seed of variances, noise and disturbance (default 0; in an experiment, the experiment's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl NoiseOptions {
    /// The distribution, when it and the disturbance are legal.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig).
    pub fn validate(&self) -> Result<VarianceLaw> {
        let delta = self.disturbance;
        require(delta >= 0.0 && delta.is_finite(), "noise.disturbance", delta, "at least 0")?;
        let times = self.times_measured;
        require(times >= 0.0 && times.is_finite(), "noise.times_measured", times, "at least 0")?;
        self.distribution.law()
    }

    /// The data set with noisy labels and the variances of their noise. Where the labels have noise
    /// already, the new noise is added to it, and so are the variances.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) for illegal parameters.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset> {
        let (law, delta, seed) = (self.validate()?, self.disturbance, self.seed.unwrap_or(0));
        let mut variances = law.sample(data.labels().len(), seed)?;
        if self.relative {
            let scale = Normalization::fit(data, LabelStatistics::Clean).label_std;
            for (at, variance) in variances.iter_mut().enumerate() {
                *variance *= scale[at % scale.len()].powi(2);
            }
        }
        if let Some(measured) = data.variances().filter(|_| self.times_measured > 0.0) {
            for (variance, measured) in variances.iter_mut().zip(measured) {
                *variance += self.times_measured * measured;
            }
        }
        let mut noise = stream(seed, Purpose::LabelNoise, 0);
        let mut disturbance = stream(seed, Purpose::Disturbance, 0);
        let mut normal = move || -> f64 { noise.sample(StandardNormal) };
        let labels = collect(data.labels().iter().zip(&variances).map(|(label, v)| label + v.sqrt() * normal()))?;
        let known = variances.iter().enumerate().map(|(at, v)| {
            let error: f64 = disturbance.sample(StandardNormal);
            let told = (v + v / 3.0 * delta.sqrt() * error).abs();
            told + data.variances().map_or(0.0, |known| known[at])
        });
        let mut known = collect(known)?;
        if self.shuffled {
            known.shuffle(&mut stream(seed, Purpose::ShuffledVariances, 0));
        }
        data.with_noise(labels, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;
    use proptest::prelude::*;

    fn moments(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn noise_has_the_variance_that_is_told(scale in 0.1..50.0f64, delta in 0.0..1.0f64, seed: u64) {
            let clean = Dataset::new(vec![0.0; 20_000], vec![1], vec![7.0; 20_000], 1, None).unwrap();
            let options = format!(
                r#"{{"distribution":{{"kind":"binary_uniform","components":[{{"weight":0.3,"low":0,"high":{scale}}},
                    {{"weight":0.2,"low":{scale},"high":{scale}}},{{"low":1,"high":2}}]}},"seed":{seed}}}"#
            );
            let mut options: NoiseOptions = parse("noise", &options).unwrap();
            let noisy = options.apply(&clean).unwrap();
            let standard: Vec<f64> = noisy.labels().iter().zip(noisy.variances().unwrap())
                .filter(|(_, v)| **v > 0.0).map(|(y, v)| (y - 7.0) / v.sqrt()).collect();
            let (mean, variance) = moments(&standard);
            prop_assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{} {}", mean, variance);

            options.disturbance = delta;
            let disturbed = options.apply(&clean).unwrap();
            prop_assert_eq!(noisy.labels(), disturbed.labels());
            let errors: Vec<f64> = disturbed.variances().unwrap().iter().zip(noisy.variances().unwrap())
                .filter(|(_, v)| **v > 0.0).map(|(told, v)| (told - v) / (v / 3.0)).collect();
            // |v + e| folds the tail below -v back: at delta 1 that is beyond three deviations.
            prop_assert!((moments(&errors).1 - delta).abs() < 0.05, "{}", moments(&errors).1);
        }
    }

    #[test]
    fn relative_variances_scale_with_the_labels() {
        let clean = Dataset::new(vec![0.0; 4], vec![1], vec![0.0, 0.0, 20.0, 20.0], 1, None).unwrap();
        let json = r#"{"distribution":{"kind":"uniform","low":2,"high":2},"relative":true}"#;
        let noisy = parse::<NoiseOptions>("noise", json).unwrap().apply(&clean).unwrap();
        assert_eq!(noisy.variances().unwrap(), [200.0; 4]);
        let twice = parse::<NoiseOptions>("noise", json).unwrap().apply(&noisy).unwrap();
        assert_eq!(twice.variances().unwrap(), [400.0; 4]);
        assert_eq!(twice.clean_labels(), clean.labels());
    }

    #[test]
    fn shuffled_variances_are_the_same_ones_and_say_nothing() {
        let clean = Dataset::new(vec![0.0; 2000], vec![1], vec![0.0; 2000], 1, None).unwrap();
        let options = |shuffled: bool| -> NoiseOptions {
            let json = format!(r#"{{"distribution":{{"kind":"uniform","low":0,"high":9}},"shuffled":{shuffled}}}"#);
            parse("noise", &json).unwrap()
        };
        let (told, shuffled) = (options(false).apply(&clean).unwrap(), options(true).apply(&clean).unwrap());
        assert_eq!(told.labels(), shuffled.labels());
        // Of squared noise and variance, E[n^2 v] is E[v^2] where v is the noise's own, E[v]^2 where it is another's.
        let product = |data: &Dataset| {
            data.labels().iter().zip(data.variances().unwrap()).map(|(n, v)| n * n * v).sum::<f64>() / 2000.0
        };
        assert!((product(&told) - 27.0).abs() < 3.5 && (product(&shuffled) - 20.25).abs() < 3.0);
        let sorted = |data: &Dataset| {
            let mut variances = data.variances().unwrap().to_vec();
            variances.sort_by(f64::total_cmp);
            variances
        };
        assert_eq!(sorted(&told), sorted(&shuffled));
    }

    #[test]
    fn a_negative_disturbance_is_refused() {
        let options = r#"{"distribution":{"kind":"uniform","low":0,"high":1},"disturbance":-1}"#;
        let clean = Dataset::new(vec![0.0], vec![1], vec![0.0], 1, None).unwrap();
        let read: NoiseOptions = serde_json::from_str(options).unwrap();
        for fault in [read.apply(&clean).unwrap_err(), parse::<NoiseOptions>("noise", options).unwrap_err()] {
            assert_eq!(fault.to_string(), "noise.disturbance: is -1, must be at least 0");
        }
    }
}
