//! The losses: each is a weighted sum of squared errors, and the weights
//! depend on the variances alone.
//!
//! For K rows, predictions p, labels y and variances v:
//!
//! | loss | value |
//! |---|---|
//! | mse | `(1/K) sum (p_k - y_k)^2` |
//! | cutoff_mse | the mean of `(p_k - y_k)^2` over the rows with `v_k < threshold` |
//! | iv | `(1/K) sum w_k (p_k - y_k)^2`, `w_k = 1 / (v_k + epsilon)` |
//! | biv | `sum w_k (p_k - y_k)^2 / sum w_k` |
//!
//! | gaussian | the mean of `(log s_k + (p_k - y_k)^2 / s_k) / 2`, `s_k = v_k + exp(q_k)` |
//! | beta_nll | the same with each row times `s_k^beta`, which counts as a constant |
//!
//! The last two are for networks with a second output `q_k`, the logarithm of the variance of what they miss (Seitzer,
//! Tavakoli, Antic, Martius 2022, "On the Pitfalls of Heteroscedastic Uncertainty Estimation with Probabilistic Neural
//! Networks"). A label of infinite variance is masked: it has no weight, and K does not count it.
//!
//! (Mai, Khamies, Paull 2021, "Batch Inverse-Variance Weighting: Deep
//! Heteroscedastic Regression", section 4.) With several outputs this holds
//! for each output by itself, and the loss is the mean over the outputs.
//!
//! The weights are computed here, on the host and in double precision, so that
//! a device needs no synchronisation to choose them.

use crate::base::options::require;
use crate::{Error, Result};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;

/// Which loss, with its parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Mean squared error: ignores the variances.
    Mse {},
    /// Mean squared error over the labels whose variance is below a threshold.
    #[serde(alias = "cutoffMSE")]
    #[schemars(transform = published_name)]
    CutoffMse {
        /// In the square of the labels' unit; without it, 1 in normalised units.
        #[schemars(extend("exclusiveMinimum" = 0))]
        threshold: Option<f64>,
    },
    /// Inverse variance, not normalised: the mini-batch's weights scale the step.
    Iv {
        /// Added to the variances, in normalised units (default 0.1).
        #[serde(default)]
        epsilon: Epsilon,
    },
    /// Batch inverse-variance: weights normalised over the mini-batch.
    Biv {
        /// Added to the variances, in normalised units (default 0.1).
        #[serde(default)]
        epsilon: Epsilon,
    },
    /// The Gaussian likelihood of a network that predicts its own variance, to which that of the label is added; for
    /// models of kind `mean_variance`.
    Gaussian {},
    /// As `gaussian`, with each row times the power `beta` of its variance, so that rows of great variance are not given
    /// up early.
    BetaNll {
        /// Between 0, which is `gaussian`, and 1, for which the means are trained as by `mse` (default 0.5).
        #[serde(default = "half")]
        #[schemars(range(min = 0.0, max = 1.0))]
        beta: f64,
    },
}

/// Lets the schema of `cutoff_mse` have the published code's name for it, too.
fn published_name(schema: &mut Schema) {
    if let Some(kind) = schema.pointer_mut("/properties/kind") {
        *kind = json!({"type": "string", "enum": ["cutoff_mse", "cutoffMSE"]});
    }
}

fn half() -> f64 {
    0.5
}

impl Default for Loss {
    fn default() -> Self {
        Loss::Biv { epsilon: Epsilon::default() }
    }
}

/// The epsilon of inverse-variance weights: a number, or chosen for every mini-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Epsilon {
    /// The same for every mini-batch, greater than 0.
    Fixed(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    /// The smallest that gives a mini-batch at least this effective size.
    Minimum(MinimumBatch),
    /// Found in training from residuals on rows that it does not see.
    Auto(Auto),
}

/// The epsilon that the variance model of residuals on unseen rows says, times a factor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, rename_all = "snake_case")]
pub enum Auto {
    /// The factor 0.25: what serves training is smaller than what describes the misfit.
    Plain(AutoWord),
    /// A factor of one's own.
    Factor(AutoFactor),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoWord {
    /// It stands for the factor 0.25.
    Auto,
}

/// The factor of an epsilon that is found in training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoFactor {
    /// Greater than 0: 0.25 by default, 0.5 for the cautious.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub auto: f64,
}

impl Auto {
    /// What the variance model's epsilon is multiplied by.
    pub fn factor(&self) -> f64 {
        match self {
            Auto::Plain(AutoWord::Auto) => 0.25,
            Auto::Factor(AutoFactor { auto }) => *auto,
        }
    }
}

impl Default for Epsilon {
    fn default() -> Self {
        Epsilon::Fixed(0.1)
    }
}

/// The least effective batch size `(sum w)^2 / sum w^2` of a mini-batch
/// (Mai, Mani, Paull 2022, "Sample Efficient Deep Reinforcement Learning via
/// Uncertainty Estimation").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MinimumBatch {
    /// As a number of rows, at least 1. A mini-batch that has no more rows weighs all the same.
    #[serde(rename = "min_effective_batch_size")]
    Size(#[schemars(range(min = 1.0))] f64),
    /// As a part of the mini-batch, between 0 and 1.
    #[serde(rename = "min_effective_batch_ratio")]
    Ratio(#[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))] f64),
}

/// The weights of a mini-batch's squared errors, and what they amount to.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `c`, row-major as the labels: the loss is `sum c (p - y)^2`.
    pub coefficients: Vec<f64>,
    /// `(sum w)^2 / sum w^2`, in [1, K]; the mean over the outputs.
    pub effective_batch_size: f64,
    /// The epsilon used, in the unit of the variances given; the mean over the outputs. 0 for losses without one.
    pub epsilon: f64,
    /// How many rows have a weight other than 0.
    pub samples_used: usize,
}

/// A loss evaluated on a mini-batch.
#[derive(Clone, Debug)]
pub struct LossValue {
    /// The loss.
    pub value: f64,
    /// Its derivative by each prediction, row-major.
    pub gradient: Vec<f64>,
    /// What the squared errors were weighed with.
    pub weights: Weights,
}

impl Loss {
    /// Checks the parameters; `path` is their place in messages.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn validate(&self, path: &str) -> Result<()> {
        match self {
            Loss::Mse {} | Loss::CutoffMse { threshold: None } | Loss::Gaussian {} => Ok(()),
            Loss::BetaNll { beta } => require((0.0..=1.0).contains(beta), format!("{path}.beta"), beta, "in [0, 1]"),
            Loss::CutoffMse { threshold: Some(threshold) } => {
                require(*threshold > 0.0, format!("{path}.threshold"), threshold, "greater than 0")
            }
            Loss::Iv { epsilon } | Loss::Biv { epsilon } => match epsilon {
                Epsilon::Fixed(epsilon) => {
                    let legal = *epsilon > 0.0 && epsilon.is_finite();
                    require(legal, format!("{path}.epsilon"), epsilon, "greater than 0")
                }
                Epsilon::Minimum(MinimumBatch::Size(size)) => {
                    require(*size >= 1.0, format!("{path}.epsilon.min_effective_batch_size"), size, "at least 1")
                }
                Epsilon::Minimum(MinimumBatch::Ratio(ratio)) => {
                    let legal = *ratio > 0.0 && *ratio < 1.0;
                    require(legal, format!("{path}.epsilon.min_effective_batch_ratio"), ratio, "in (0, 1)")
                }
                Epsilon::Auto(auto) => {
                    let legal = auto.factor() > 0.0 && auto.factor().is_finite();
                    require(legal, format!("{path}.epsilon.auto"), auto.factor(), "greater than 0")
                }
            },
        }
    }

    /// Inverse-variance weights of an epsilon that is found in training.
    pub fn automatic() -> Self {
        Loss::Biv { epsilon: Epsilon::Auto(Auto::Plain(AutoWord::Auto)) }
    }

    /// The factor of an epsilon that is found in training; `None` for other losses.
    pub fn auto_factor(&self) -> Option<f64> {
        match self {
            Loss::Iv { epsilon: Epsilon::Auto(auto) } | Loss::Biv { epsilon: Epsilon::Auto(auto) } => {
                Some(auto.factor())
            }
            _ => None,
        }
    }

    /// Whether the loss cannot do without variances.
    pub fn needs_variances(&self) -> bool {
        matches!(self, Loss::CutoffMse { .. } | Loss::Iv { .. } | Loss::Biv { .. })
    }

    /// The beta of a likelihood, whose networks have a second output for each label; `None` for sums of squares.
    pub fn likelihood(&self) -> Option<f64> {
        match self {
            Loss::Gaussian {} => Some(0.0),
            Loss::BetaNll { beta } => Some(*beta),
            _ => None,
        }
    }

    /// An error where the loss needs variances and there are none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn require_variances(&self, available: bool) -> Result<()> {
        let name = match self {
            Loss::Mse {} | Loss::Gaussian {} | Loss::BetaNll { .. } => return Ok(()),
            Loss::CutoffMse { .. } => "cutoff_mse",
            Loss::Iv { .. } => "iv",
            Loss::Biv { .. } => "biv",
        };
        if available {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!("the loss '{name}' needs the variances of the labels, the data have none")))
    }

    /// The weights of `rows` rows whose labels have `variances` (row-major,
    /// `rows x outputs`). `parameters` are one per output: the threshold of `cutoff_mse`, the epsilon that was found for
    /// `auto`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without variances where the loss needs them;
    /// [`Error::Numerical`] when an inverse variance is infinite.
    pub fn weights(
        &self,
        rows: usize,
        outputs: usize,
        variances: Option<&[f64]>,
        parameters: &[f64],
    ) -> Result<Weights> {
        self.require_variances(variances.is_some())?;
        let has_masks = variances.is_some_and(|variances| variances.iter().any(|variance| variance.is_infinite()));
        let Some(variances) = variances.filter(|_| self.needs_variances() || has_masks) else {
            let coefficients = vec![1.0 / (rows * outputs) as f64; rows * outputs];
            return Ok(Weights { coefficients, effective_batch_size: rows as f64, epsilon: 0.0, samples_used: rows });
        };
        let (mut mean_size, mut mean_epsilon) = (0.0, 0.0);
        let mut columns = Vec::with_capacity(outputs);
        for (output, &parameter) in parameters.iter().enumerate().take(outputs) {
            let all = column(variances, outputs, output);
            let known = if has_masks { all.iter().copied().filter(|v| v.is_finite()).collect() } else { all.clone() };
            let (mut weights, largest, epsilon) = self.column(&known, parameter);
            let (sum, squares) = sums(&weights);
            let factor = match self {
                _ if sum == 0.0 => 0.0,
                Loss::Iv { .. } => largest / known.len() as f64,
                _ => 1.0 / sum,
            } / outputs as f64;
            if !(factor * sum).is_finite() {
                return Err(Error::Numerical(
                    "the inverse of a variance is infinite: choose a greater epsilon, or the loss 'biv'".into(),
                ));
            }
            weights.iter_mut().for_each(|weight| *weight *= factor);
            columns.push(if has_masks { with_zeros(&weights, &all) } else { weights });
            mean_size += ratio(sum, squares) / outputs as f64;
            mean_epsilon += epsilon / outputs as f64;
        }
        let coefficients = interleaved(columns, rows);
        let samples_used = coefficients.chunks_exact(outputs).filter(|row| row.iter().any(|c| *c > 0.0)).count();
        Ok(Weights { coefficients, effective_batch_size: mean_size, epsilon: mean_epsilon, samples_used })
    }

    /// One output's weights relative to the largest, that one, and the epsilon.
    fn column(&self, variances: &[f64], parameter: f64) -> (Vec<f64>, f64, f64) {
        match self {
            Loss::Mse {} | Loss::Gaussian {} | Loss::BetaNll { .. } => (vec![1.0; variances.len()], 1.0, 0.0),
            Loss::CutoffMse { .. } => {
                let kept = variances.iter().map(|v| if *v < parameter { 1.0 } else { 0.0 });
                (kept.collect(), 1.0, 0.0)
            }
            Loss::Iv { epsilon } | Loss::Biv { epsilon } => {
                let epsilon = epsilon.choose(variances, parameter);
                let (weights, largest) = inverse_variances(variances, epsilon);
                (weights, largest, epsilon)
            }
        }
    }

    /// Value and gradient on a mini-batch in the host's memory, all row-major `rows x outputs`. A likelihood takes twice
    /// as many predictions: after a row's values, the logarithms of their variances.
    ///
    /// # Errors
    /// [`Error::Shape`] for lengths that differ; [`Error::InvalidConfig`] for an epsilon that is found in training;
    /// [`Error::Numerical`] for a result that is not finite; as [`Loss::weights`].
    pub fn evaluate(
        &self,
        outputs: usize,
        predictions: &[f64],
        labels: &[f64],
        variances: Option<&[f64]>,
    ) -> Result<LossValue> {
        let (count, heads) = (labels.len(), if self.likelihood().is_some() { 2 } else { 1 });
        if count == 0 || outputs == 0 || !count.is_multiple_of(outputs) || predictions.len() != count * heads {
            let found = predictions.len();
            return Err(Error::Shape(format!("{found} predictions and {count} labels of {outputs} outputs")));
        }
        if variances.is_some_and(|variances| variances.len() != count) {
            let given = variances.map_or(0, <[f64]>::len);
            return Err(Error::Shape(format!("{given} variances were given for {count} labels")));
        }
        if self.auto_factor().is_some() {
            let allowed = "is found in training: by itself, a loss takes a number";
            return Err(Error::config("loss.epsilon", allowed));
        }
        let threshold = match self {
            Loss::CutoffMse { threshold } => threshold.unwrap_or(1.0),
            _ => 0.0,
        };
        let weights = self.weights(count / outputs, outputs, variances, &vec![threshold; outputs])?;
        let (mut value, mut gradient) = (0.0, vec![0.0; predictions.len()]);
        for (at, (label, coefficient)) in labels.iter().zip(&weights.coefficients).enumerate() {
            if *coefficient == 0.0 {
                continue;
            }
            let first = at / outputs * outputs * heads + at % outputs;
            let error = predictions[first] - label;
            let Some(beta) = self.likelihood() else {
                value += coefficient * error.powi(2);
                gradient[first] = 2.0 * coefficient * error;
                continue;
            };
            let own = predictions[first + outputs].exp();
            let total = own + variances.map_or(0.0, |variances| variances[at]);
            let factor = coefficient * total.powf(beta) / 2.0;
            value += factor * (total.ln() + error * error / total);
            gradient[first] = 2.0 * factor * error / total;
            gradient[first + outputs] = factor * own / total * (1.0 - error * error / total);
        }
        if !value.is_finite() {
            return Err(Error::Numerical(format!("the loss is {value}")));
        }
        Ok(LossValue { value, gradient, weights })
    }
}

impl Epsilon {
    /// The epsilon for a mini-batch with these variances, where `found` is what training has found.
    fn choose(&self, variances: &[f64], found: f64) -> f64 {
        match *self {
            Epsilon::Auto(_) => found,
            Epsilon::Fixed(epsilon) => epsilon,
            Epsilon::Minimum(MinimumBatch::Size(size)) => smallest_epsilon(variances, size),
            Epsilon::Minimum(MinimumBatch::Ratio(ratio)) => smallest_epsilon(variances, ratio * variances.len() as f64),
        }
    }
}

/// Inverse variances divided by the largest of them, and that one: every scale
/// of variances, from 1e-300 on, gives weights in [0, 1] without overflow.
fn inverse_variances(variances: &[f64], epsilon: f64) -> (Vec<f64>, f64) {
    if epsilon.is_infinite() {
        return (vec![1.0; variances.len()], 0.0);
    }
    let smallest = variances.iter().fold(f64::INFINITY, |a, &b| if b < a { b } else { a }) + epsilon;
    if smallest == 0.0 {
        // The limit for vanishing epsilon: labels without noise share the batch.
        return (variances.iter().map(|v| if *v == 0.0 { 1.0 } else { 0.0 }).collect(), f64::INFINITY);
    }
    (variances.iter().map(|v| smallest / (v + epsilon)).collect(), 1.0 / smallest)
}

/// One output's part of `values`, row-major for `outputs` outputs.
fn column(values: &[f64], outputs: usize, output: usize) -> Cow<'_, [f64]> {
    match outputs {
        1 => Cow::Borrowed(values),
        _ => values.iter().skip(output).step_by(outputs).copied().collect(),
    }
}

/// `weights`, those of the finite ones of `variances`, with a 0 for each of the others.
fn with_zeros(weights: &[f64], variances: &[f64]) -> Vec<f64> {
    let mut weights = weights.iter();
    let weight = |variance: &f64| if variance.is_finite() { weights.next().copied().unwrap_or_default() } else { 0.0 };
    variances.iter().map(weight).collect()
}

/// The row-major list whose [`column`]s are `columns`, of `rows` rows.
fn interleaved(mut columns: Vec<Vec<f64>>, rows: usize) -> Vec<f64> {
    match columns.len() {
        1 => columns.swap_remove(0),
        _ => (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect(),
    }
}

/// `(sum w)^2 / sum w^2`; 0 where all weights are.
pub fn effective_batch_size(weights: &[f64]) -> f64 {
    let (sum, squares) = sums(weights);
    ratio(sum, squares)
}

fn ratio(sum: f64, squares: f64) -> f64 {
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

/// `sum w` and `sum w^2`, in lanes that do not wait for each other.
fn sums(weights: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |(lane, weight): (usize, &f64)| {
        sums[lane] += weight;
        squares[lane] += weight * weight;
    };
    let (chunks, rest) = weights.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| chunk.iter().enumerate().for_each(&mut add));
    rest.iter().enumerate().for_each(add);
    (sums.iter().sum(), squares.iter().sum())
}

/// The smallest epsilon >= 0 that gives inverse variances an effective batch size of at least `target`, to the rounding
/// of its sums; infinity where no finite one does. It depends on the arguments alone, to the last bit.
///
/// For K variances and the effective batch size N, `f = (K / N - 1)^(-1/2)` is the mean of the weights over their standard
/// deviation. It grows with epsilon, for a large one as `(epsilon + mean) / deviation` of the variances: nearly a straight
/// line, for which Newton's method is made. A bracket is kept, and halved where a step would leave it. All of it is in
/// units of the largest variance: no scale is special.
pub fn smallest_epsilon(variances: &[f64], target: f64) -> f64 {
    let scale = variances.iter().copied().fold(0.0, f64::max);
    if scale == 0.0 {
        return 0.0;
    }
    let relative: Vec<f64> = variances.iter().map(|v| v / scale).collect();
    if effective_batch_size(&inverse_variances(&relative, 0.0).0) >= target {
        return 0.0;
    }
    let count = relative.len() as f64;
    if target >= count {
        return f64::INFINITY;
    }
    let least = relative.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = relative.iter().sum::<f64>() / count;
    let deviation = (relative.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let f = |size: f64| (count / size - 1.0).sqrt().recip();
    // From the target to a few roundings beyond it all sizes are the same; the middle is aimed at.
    let (wanted, enough) = (f(target * (1.0 + 2.0 * f64::EPSILON)), target * (1.0 + 4.0 * f64::EPSILON));
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let line = wanted * deviation - mean;
    // Far below the mean, the line is far from the curve.
    let mut epsilon = if line > mean / 5.0 { line } else { wanted * wanted * deviation / 10.0 };
    loop {
        let [sum, squares, cubes] = power_sums(&relative, least, epsilon);
        let size = sum * sum / squares;
        if size < target {
            low = epsilon;
        } else if size <= enough {
            return epsilon * scale;
        } else {
            high = epsilon;
        }
        let value = f(size);
        let slope = value.powi(3) * count / size * (cubes / squares - squares / sum) / (least + epsilon);
        let newton = epsilon + (wanted - value) / slope;
        epsilon = if low < newton && newton < high {
            newton
        } else if high.is_infinite() {
            low * 16.0
        } else if low == 0.0 {
            high / 16.0
        } else {
            low * (high / low).sqrt()
        };
        if epsilon <= low || epsilon >= high {
            return high * scale;
        }
    }
}

/// The sums of the first, second and third powers of inverse variances relative to the largest of them, that of `least`,
/// in lanes as [`sums`].
fn power_sums(variances: &[f64], least: f64, epsilon: f64) -> [f64; 3] {
    const LANES: usize = 8;
    let mut powers = [[0.0; LANES]; 3];
    let mut add = |(lane, variance): (usize, &f64)| {
        let weight = (least + epsilon) / (variance + epsilon);
        let square = weight * weight;
        powers[0][lane] += weight;
        powers[1][lane] += square;
        powers[2][lane] += square * weight;
    };
    let (chunks, rest) = variances.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| chunk.iter().enumerate().for_each(&mut add));
    rest.iter().enumerate().for_each(add);
    powers.map(|lanes| lanes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn biv(epsilon: f64) -> Loss {
        Loss::Biv { epsilon: Epsilon::Fixed(epsilon) }
    }

    fn weights(loss: &Loss, variances: &[f64]) -> Weights {
        loss.weights(variances.len(), 1, Some(variances), &[1.0]).unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
    }

    proptest! {
        #[test]
        fn biv_does_not_depend_on_the_unit(v in prop::collection::vec(0.0..5.0f64, 1..40), exponent in -30i32..30) {
            let c = 10f64.powi(exponent);
            let scaled: Vec<f64> = v.iter().map(|v| c * v).collect();
            let (one, other) = (weights(&biv(0.3), &v), weights(&biv(0.3 * c), &scaled));
            prop_assert!(one.coefficients.iter().zip(&other.coefficients).all(|(a, b)| close(*a, *b)));
            prop_assert!(close(one.effective_batch_size, other.effective_batch_size));
        }

        #[test]
        fn weights_sum_to_one_and_the_batch_is_between_one_and_all(v in prop::collection::vec(0.0..5.0f64, 1..40)) {
            let found = weights(&biv(0.1), &v);
            prop_assert!(close(found.coefficients.iter().sum(), 1.0));
            prop_assert!(found.effective_batch_size >= 1.0 - 1e-12);
            prop_assert!(found.effective_batch_size <= v.len() as f64 * (1.0 + 1e-12));
        }

        #[test]
        fn equal_variances_or_a_huge_epsilon_give_the_mse(v in prop::collection::vec(0.0..5.0f64, 1..40)) {
            let mse = 1.0 / v.len() as f64;
            let equal = vec![v[0]; v.len()];
            prop_assert!(weights(&biv(0.1), &equal).coefficients.iter().all(|c| close(*c, mse)));
            prop_assert!(weights(&biv(1e12), &v).coefficients.iter().all(|c| (c / mse - 1.0).abs() < 1e-9));
        }

        #[test]
        fn the_smallest_epsilon_reaches_the_target_and_a_smaller_one_does_not(
            v in prop::collection::vec(0.0..5.0f64, 2..60), share in 0.01..0.99f64, exponent in -200i32..200,
        ) {
            let c = 10f64.powi(exponent);
            let v: Vec<f64> = v.iter().map(|v| c * v).collect();
            let target = share * v.len() as f64;
            let epsilon = smallest_epsilon(&v, target);
            let size = |epsilon| effective_batch_size(&inverse_variances(&v, epsilon).0);
            prop_assert!(size(epsilon) >= target * (1.0 - 1e-12));
            prop_assert!(epsilon == 0.0 || size(epsilon * (1.0 - 1e-9)) < target);
        }
    }

    /// [`smallest_epsilon`] by bisection, which takes ten times as long.
    fn bisected_epsilon(variances: &[f64], target: f64) -> f64 {
        let size = |epsilon| effective_batch_size(&inverse_variances(variances, epsilon).0);
        let (mut low, mut high) = (1e-60, 1e60);
        loop {
            let middle: f64 = low * f64::sqrt(high / low);
            if middle <= low || middle >= high {
                return high;
            }
            if size(middle) >= target { high = middle } else { low = middle }
        }
    }

    proptest! {
        #[test]
        fn newtons_method_finds_what_bisection_does(
            exponents in prop::collection::vec(-12.0..12.0f64, 2..300), share in 0.0..1.0f64,
        ) {
            let v: Vec<f64> = exponents.iter().map(|&exponent| 10f64.powf(exponent)).collect();
            let size = |epsilon| effective_batch_size(&inverse_variances(&v, epsilon).0);
            // Between what there is without an epsilon and all rows.
            let target = size(0.0) + share * (v.len() as f64 - size(0.0));
            let (found, expected) = (smallest_epsilon(&v, target), bisected_epsilon(&v, target));
            // The sizes agree to rounding; so do the epsilons, where they tell sizes apart.
            prop_assert!(found.is_infinite() || (size(found) / size(expected) - 1.0).abs() < 1e-14 * v.len() as f64);
            prop_assert!(size(found) >= target * (1.0 - 1e-14));
            if (0.01..0.99).contains(&share) {
                prop_assert!((found / expected - 1.0).abs() < 1e-9, "{} {}", found, expected);
            }
        }
    }

    #[test]
    fn one_row_is_its_squared_error() {
        for loss in [Loss::Mse {}, biv(0.1)] {
            let found = loss.evaluate(1, &[3.0], &[1.0], Some(&[7.0])).unwrap();
            assert_eq!((found.value, found.gradient[0]), (4.0, 4.0));
        }
    }

    #[test]
    fn at_a_vanishing_epsilon_one_tiny_variance_takes_the_batch() {
        let found = weights(&biv(1e-30), &[1e-20, 1.0, 2.0]);
        assert!((found.effective_batch_size - 1.0).abs() < 1e-9);
        let policy = Loss::Biv { epsilon: Epsilon::Minimum(MinimumBatch::Size(1.0)) };
        let found = weights(&policy, &[0.0, 1.0, 0.0]);
        assert_eq!((found.coefficients, found.epsilon), (vec![0.5, 0.0, 0.5], 0.0));
    }

    #[test]
    fn a_batch_too_small_for_the_target_weighs_all_the_same() {
        let policy = Loss::Biv { epsilon: Epsilon::Minimum(MinimumBatch::Size(64.0)) };
        let found = weights(&policy, &[0.5, 1.0]);
        assert_eq!((found.coefficients, found.epsilon), (vec![0.5, 0.5], f64::INFINITY));
    }

    #[test]
    fn cutoff_is_strictly_below_and_may_leave_nothing() {
        let cutoff = Loss::CutoffMse { threshold: None };
        let found = weights(&cutoff, &[0.5, 1.0, 0.9]);
        assert_eq!((found.coefficients, found.samples_used), (vec![0.5, 0.0, 0.5], 2));
        let none = weights(&cutoff, &[1.0, 2.0]);
        assert_eq!((none.samples_used, none.effective_batch_size), (0, 0.0));
    }

    #[test]
    fn each_output_is_normalised_by_itself() {
        let found = biv(1.0).weights(2, 2, Some(&[0.0, 0.0, 3.0, 0.0]), &[0.0; 2]).unwrap();
        assert_eq!(found.coefficients, [0.4, 0.25, 0.1, 0.25]);
        assert!(close(found.effective_batch_size, (25.0 / 17.0 + 2.0) / 2.0));
    }

    #[test]
    fn faults_are_named() {
        let fault = |json: &str| {
            let loss: Result<Loss> = crate::base::options::parse("trainer.loss", json);
            loss.and_then(|loss| loss.validate("trainer.loss")).unwrap_err().to_string()
        };
        for (json, message) in [
            (r#"{"kind":"biv","epsilon":0}"#, "trainer.loss.epsilon: is 0, must be greater than 0"),
            (r#"{"kind":"iv","epsilon":-1}"#, "trainer.loss.epsilon: is -1, must be greater than 0"),
            (
                r#"{"kind":"biv","epsilon":"a"}"#,
                "trainer.loss.epsilon: is 'a', must be a number, {\"min_effective_batch_size\": ...}",
            ),
            (
                r#"{"kind":"biv","epsilon":{"min_effective_batch_ratio":1}}"#,
                "min_effective_batch_ratio: is 1, must be in (0, 1)",
            ),
            (r#"{"kind":"cutoff_mse","threshold":0}"#, "trainer.loss.threshold: is 0, must be greater than 0"),
            (r#"{"kind":"mse","epsilon":1}"#, "trainer.loss.epsilon: is no known field, allowed are 'kind'"),
            (r#"{"kind":"huber"}"#, "trainer.loss.kind: is 'huber', must be 'mse', 'cutoff_mse', 'iv'"),
        ] {
            assert!(fault(json).contains(message), "{json}: {}", fault(json));
        }
        let missing = biv(0.1).evaluate(1, &[1.0], &[1.0], None).unwrap_err();
        assert!(missing.to_string().contains("'biv' needs the variances"));
        let policy = Loss::Iv { epsilon: Epsilon::Minimum(MinimumBatch::Size(1.0)) };
        assert!(policy.evaluate(1, &[1.0], &[2.0], Some(&[0.0])).unwrap_err().to_string().contains("greater epsilon"));
    }
}
