//! Distributions of the noise variances, by their parameters or by their moments.

use crate::base::Path;
use crate::base::memory::reserve;
use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use crate::{Error, Result};
use rand::RngExt;
use rand_distr::{Distribution, Gamma};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The distribution of the noise variances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VarianceDistribution {
    /// One uniform distribution.
    Uniform(UniformOptions),
    /// A mixture of uniform distributions; the published experiment has two.
    BinaryUniform(MixtureOptions),
    /// A gamma distribution.
    Gamma(GammaOptions),
}

/// A uniform distribution, by its bounds or by its moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UniformOptions {
    /// In a mixture, the component's probability; one component may leave it out and takes the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight: Option<f64>,
    /// The lower bound `a >= 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub low: Option<f64>,
    /// The upper bound `b >= a`; `a = b` makes the variance constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub high: Option<f64>,
    /// Instead of the bounds: the mean `mu` of the noise variance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub mean: Option<f64>,
    /// The variance `V` of the noise variance: `a = mu - sqrt(3V)`, `b = mu + sqrt(3V)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub variance: Option<f64>,
    /// Instead of `variance`: `s` in [0, 1] for `V = s mu^2 / 3`; 1 is the largest for which `a >= 0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub heteroscedasticity: Option<f64>,
}

/// A mixture of uniform distributions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureOptions {
    /// The components; their weights sum to 1.
    #[schemars(length(min = 1))]
    pub components: Vec<UniformOptions>,
    /// The mean of the whole mixture: it determines the last component's mean, which is then left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub average: Option<f64>,
}

/// A gamma distribution, by its parameters or by its moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GammaOptions {
    /// The shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: Option<f64>,
    /// The rate, the inverse of the scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub beta: Option<f64>,
    /// Instead of these: the mean; `alpha = mu^2 / V`, `beta = mu / V`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub mean: Option<f64>,
    /// The variance `V > 0` of the noise variance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub variance: Option<f64>,
}

/// A distribution whose parameters were checked.
#[derive(Clone, Debug, PartialEq)]
pub enum VarianceLaw {
    /// Uniform components: weight, lower and upper bound.
    Mixture(Vec<(f64, f64, f64)>),
    /// Gamma.
    Gamma {
        /// alpha
        shape: f64,
        /// beta
        rate: f64,
    },
}

const UNIFORM_FORMS: &str = "either low and high, or mean with variance or heteroscedasticity";

impl UniformOptions {
    /// The mean, which the bounds may give.
    fn mean(&self) -> Option<f64> {
        self.mean.or_else(|| Some((self.low? + self.high?) / 2.0))
    }

    fn bounds(&self, path: &Path) -> Result<(f64, f64)> {
        let (low, high) = match (self.low, self.high, self.mean, self.variance, self.heteroscedasticity) {
            (Some(low), Some(high), None, None, None) => (low, high),
            (None, None, Some(mean), Some(variance), None) => {
                require(mean >= 0.0, path.field("mean"), mean, "at least 0")?;
                require(variance >= 0.0, path.field("variance"), variance, "at least 0")?;
                let half = (3.0 * variance).sqrt();
                if mean - half < 0.0 {
                    let largest = mean * mean / 3.0;
                    return Err(Error::config(
                        path.field("variance"),
                        format!(
                            "is {variance}, with mean {mean} it must be at most {largest}: variances would be negative"
                        ),
                    ));
                }
                (mean - half, mean + half)
            }
            (None, None, Some(mean), None, Some(scale)) => {
                require((0.0..=1.0).contains(&scale), path.field("heteroscedasticity"), scale, "in [0, 1]")?;
                require(mean >= 0.0, path.field("mean"), mean, "at least 0")?;
                // sqrt(3V) for V = scale mu^2 / 3.
                (mean - mean * scale.sqrt(), mean + mean * scale.sqrt())
            }
            _ => {
                return Err(Error::config(
                    path.clone(),
                    format!("its fields do not determine it, give {UNIFORM_FORMS}"),
                ));
            }
        };
        require(low >= 0.0, path.field("low"), low, "at least 0: a variance is never negative")?;
        require(high >= low, path.field("high"), high, &format!("at least low, {low}"))?;
        Ok((low, high))
    }
}

impl MixtureOptions {
    fn law(&self, path: &Path) -> Result<VarianceLaw> {
        let path = path.field("components");
        let mut components = self.components.clone();
        require(!components.is_empty(), path.clone(), "empty", "at least one component")?;
        let given: f64 = components.iter().filter_map(|component| component.weight).sum();
        let open = components.iter().filter(|component| component.weight.is_none()).count();
        require(open <= 1, path.clone(), format!("{open} without a weight"), "at most one without a weight")?;
        for (at, component) in components.iter_mut().enumerate() {
            let weight = *component.weight.get_or_insert(1.0 - given);
            require((0.0..=1.0).contains(&weight), path.item(at).field("weight"), weight, "in [0, 1]")?;
        }
        let total: f64 = components.iter().filter_map(|component| component.weight).sum();
        require((total - 1.0).abs() < 1e-9, path.clone(), format!("of total weight {total}"), "of total weight 1")?;

        if let Some(average) = self.average
            && let Some((last, others)) = components.split_last_mut()
        {
            let last_path = path.item(others.len());
            let weight = last.weight.unwrap_or_default();
            require(
                last.mean().is_none(),
                last_path.clone(),
                "given a mean",
                "left without one: average determines it",
            )?;
            require(weight > 0.0, last_path.field("weight"), weight, "greater than 0 where average is given")?;
            let mut rest = average;
            for (at, other) in others.iter().enumerate() {
                let mean = other.mean().ok_or_else(|| Error::config(path.item(at), UNIFORM_FORMS))?;
                rest -= other.weight.unwrap_or_default() * mean;
            }
            let mean = rest / weight;
            let allowed = "at least what the other components contribute";
            require(mean >= 0.0, "noise.distribution.average", average, allowed)?;
            last.mean = Some(mean);
        }
        let bounds = components.iter().enumerate().map(|(at, component)| {
            let (low, high) = component.bounds(&path.item(at))?;
            Ok((component.weight.unwrap_or_default(), low, high))
        });
        Ok(VarianceLaw::Mixture(bounds.collect::<Result<_>>()?))
    }
}

impl GammaOptions {
    fn law(&self, path: &Path) -> Result<VarianceLaw> {
        let (shape, rate, allowed) = match (self.alpha, self.beta, self.mean, self.variance) {
            (Some(alpha), Some(beta), None, None) => (alpha, beta, "alpha and beta greater than 0"),
            (None, None, Some(mean), Some(variance)) => {
                (mean * mean / variance, mean / variance, "mean and variance greater than 0")
            }
            _ => return Err(Error::config(path.clone(), "give either alpha and beta, or mean and variance")),
        };
        let legal = [shape, rate].iter().all(|value| value.is_finite() && *value > 0.0);
        require(legal, path.clone(), format!("alpha {shape}, beta {rate}"), allowed)?;
        Ok(VarianceLaw::Gamma { shape, rate })
    }
}

impl VarianceDistribution {
    /// The distribution with its parameters checked and its moments resolved.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for parameters that make no distribution of variances.
    pub fn law(&self) -> Result<VarianceLaw> {
        let path = &Path::from("noise.distribution");
        match self {
            VarianceDistribution::Uniform(options) => {
                let weight = options.weight.unwrap_or(1.0);
                require(weight == 1.0, path.field("weight"), weight, "left out, it is for mixtures")?;
                let (low, high) = options.bounds(path)?;
                Ok(VarianceLaw::Mixture(vec![(1.0, low, high)]))
            }
            VarianceDistribution::BinaryUniform(options) => options.law(path),
            VarianceDistribution::Gamma(options) => options.law(path),
        }
    }
}

impl VarianceLaw {
    /// `count` variances; the same seed gives the same ones.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn sample(&self, count: usize, seed: u64) -> Result<Vec<f64>> {
        let mut generator = stream(seed, Purpose::Variance, 0);
        let mut variances = reserve(count)?;
        match self {
            VarianceLaw::Mixture(components) => {
                let possible: Vec<_> = components.iter().filter(|(weight, ..)| *weight > 0.0).collect();
                variances.extend((0..count).map(|_| {
                    let (mut choice, position) = (generator.random::<f64>(), generator.random::<f64>());
                    let mut is_chosen = |weight: f64| {
                        choice -= weight;
                        choice < 0.0
                    };
                    let chosen = possible.iter().find(|(weight, ..)| is_chosen(*weight));
                    // Rounding may leave a little of the choice past the last component.
                    chosen.or(possible.last()).map_or(0.0, |(_, low, high)| low + (high - low) * position)
                }));
            }
            VarianceLaw::Gamma { shape, rate } => {
                let gamma = Gamma::new(*shape, 1.0 / rate)
                    .map_err(|error| Error::config("noise.distribution", format!("{self:?}: {error}")))?;
                variances.extend(gamma.sample_iter(generator).take(count));
            }
        }
        Ok(variances)
    }

    /// The mean of the variances.
    pub fn mean(&self) -> f64 {
        match self {
            VarianceLaw::Mixture(components) => components.iter().map(|(w, a, b)| w * (a + b) / 2.0).sum(),
            VarianceLaw::Gamma { shape, rate } => shape / rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;
    use proptest::prelude::*;

    fn law(json: &str) -> Result<VarianceLaw> {
        parse::<VarianceDistribution>("noise.distribution", json)?.law()
    }

    fn moments(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64)
    }

    /// Asserts mean and variance of 40,000 draws to within five standard errors of the mean.
    fn assert_moments(law: &VarianceLaw, seed: u64, mean: f64, variance: f64) {
        let draws = law.sample(40_000, seed).unwrap();
        let (found_mean, found_variance) = moments(&draws);
        let tolerance = 5.0 * (variance / 40_000.0).sqrt() + 1e-9 * mean;
        assert!((found_mean - mean).abs() <= tolerance, "{law:?}: mean {found_mean}, expected {mean}");
        assert!((found_variance - variance).abs() <= 0.15 * variance + 1e-12, "{law:?}: variance {found_variance}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn uniform_samples_lie_in_their_bounds_with_their_moments(low in 0.0..5.0, width in 0.0..5.0, seed: u64) {
            let law = law(&format!(r#"{{"kind":"uniform","low":{low},"high":{}}}"#, low + width)).unwrap();
            let draws = law.sample(1000, seed).unwrap();
            prop_assert!(draws.iter().all(|&v| v >= low && v <= low + width));
            assert_moments(&law, seed, low + width / 2.0, width * width / 12.0);
        }

        #[test]
        fn moments_given_are_moments_found(mean in 0.01..100.0f64, share in 0.0..0.999, seed: u64) {
            let variance = share * mean * mean / 3.0;
            let uniform = format!(r#"{{"kind":"uniform","mean":{mean},"variance":{variance}}}"#);
            assert_moments(&law(&uniform).unwrap(), seed, mean, variance);
            let scaled = format!(r#"{{"kind":"uniform","mean":{mean},"heteroscedasticity":{share}}}"#);
            assert_moments(&law(&scaled).unwrap(), seed, mean, variance);
            let gamma = format!(r#"{{"kind":"gamma","mean":{mean},"variance":{}}}"#, variance + 0.01 * mean * mean);
            assert_moments(&law(&gamma).unwrap(), seed, mean, variance + 0.01 * mean * mean);
        }

        #[test]
        fn mixtures_have_the_average_asked_for(p in 0.1..0.9f64, mean in 0.1..1.0f64, excess in 0.1..3.0f64, seed: u64) {
            let average = p * mean + excess;
            let json = format!(
                r#"{{"kind":"binary_uniform","average":{average},"components":[
                    {{"weight":{p},"mean":{mean},"heteroscedasticity":1}},{{"variance":0}}]}}"#
            );
            let law = law(&json).unwrap();
            prop_assert!((law.mean() - average).abs() < 1e-9);
            let second = excess / (1.0 - p);
            let within = p * mean * mean / 3.0;
            let between = p * (mean - average).powi(2) + (1.0 - p) * (second - average).powi(2);
            assert_moments(&law, seed, average, within + between);
        }
    }

    #[test]
    fn the_published_settings_resolve() {
        let sixth = law(r#"{"kind":"binary_uniform","components":[{"weight":0.5,"mean":0.5,"variance":0.083},
                                                      {"weight":0.5,"mean":1,"variance":0}]}"#);
        let VarianceLaw::Mixture(components) = sixth.unwrap() else { panic!("a mixture of uniforms") };
        assert!((components[0].1 - 0.00100).abs() < 1e-5);
        assert_eq!(components[1], (0.5, 1.0, 1.0));
    }

    #[test]
    fn illegal_parameters_are_named() {
        let fault = |json: &str| law(json).unwrap_err().to_string();
        for (json, message) in [
            (r#"{"kind":"uniform","low":-1,"high":1}"#, "distribution.low: is -1, must be at least 0"),
            (r#"{"kind":"uniform","low":2,"high":1}"#, "distribution.high: is 1, must be at least low, 2"),
            (r#"{"kind":"uniform","mean":1,"variance":0.5}"#, "is 0.5, with mean 1 it must be at most 0.333"),
            (r#"{"kind":"uniform","mean":1,"variance":-1}"#, "distribution.variance: is -1, must be at least 0"),
            (r#"{"kind":"uniform","low":1}"#, "do not determine it, give either low and high"),
            (r#"{"kind":"uniform","mean":1,"heteroscedasticity":1.5}"#, "is 1.5, must be in [0, 1]"),
            (r#"{"kind":"gamma","alpha":0,"beta":1}"#, "noise.distribution.alpha: is 0, must be greater than 0"),
            (r#"{"kind":"gamma","mean":1e-200,"variance":1}"#, "must be mean and variance greater than 0"),
            (r#"{"kind":"gamma","mean":1}"#, "give either alpha and beta"),
            (r#"{"kind":"binary_uniform","components":[]}"#, "components: is an empty list, must have at least 1"),
            (
                r#"{"kind":"binary_uniform","components":[{"weight":0.5,"low":0,"high":1},{"weight":0.4,"low":0,"high":1}]}"#,
                "of total weight 0.9, must be of total weight 1",
            ),
            (
                r#"{"kind":"binary_uniform","average":1,"components":[{"weight":0.5,"mean":4,"variance":0},{"variance":0}]}"#,
                "average: is 1, must be at least what the other components contribute",
            ),
            (r#"{"kind":"normal"}"#, "distribution.kind: is 'normal', must be 'uniform', 'binary_uniform' or 'gamma'"),
            (
                r#"{"kind":"uniform","lo":0}"#,
                "distribution.lo: is no known field (did you mean 'low'?), allowed are 'heteroscedasticity'",
            ),
            (
                r#"{"kind":"binary_uniform","components":[{"low":1,"high":2},[3,4,null,null,null,1]]}"#,
                "noise.distribution.components[1]: is a list [ ... ], must be an object",
            ),
        ] {
            assert!(fault(json).contains(message), "{json}: {}", fault(json));
        }
    }
}
