//! What held-out residuals say of the variances that a user gave: the epsilon of inverse-variance weights, and how much
//! of a residual's variance is noise.
//!
//! The variance of residual `k` is `scale v_k + tau2`, with `tau2 = scale epsilon`. Epsilon is the largest that the
//! profile likelihood, in which the scale is free, does not speak against by more than one standard error of the paired
//! difference; it is never below Paule and Mandel's estimate of `tau2` at scale 1 (1982, "Consensus values and weighting
//! factors").

use crate::base::infinite;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::CStr;

/// The number of finite epsilons that are tried.
const GRID: usize = 64;

/// How closely epsilons are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// All of them.
    Fine,
    /// Every third, other numbers to four digits, and `gain_se` not at all (NaN): enough to go on with, at a fifth of the
    /// cost.
    Coarse,
}

impl Search {
    /// The relative error of what is solved for.
    fn tolerance(self) -> f64 {
        if self == Search::Fine { 1e-13 } else { 1e-4 }
    }
}

/// No epsilon is less than this part of the mean variance.
const LEAST_EPSILON: f64 = 1e-6;

/// Variances that are so many times the least epsilon say nothing of what is beside it.
const FARTHEST: f64 = 1e4;

/// With fewer rows nothing can be said.
const FEWEST_ROWS: usize = 30;

/// Why epsilon is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The flattest weights that the residuals do not speak against.
    Profile,
    /// As `profile`, and the smallest epsilon that can be told apart from 0.
    Floor,
    /// The variances explain less than their size says: epsilon is the residuals' variance beyond them.
    PauleMandel,
    /// The variances say nothing: all weights are equal, epsilon is infinite.
    Mse,
    /// There are fewer than 30 rows: as `mse`.
    TooFewRows,
    /// All variances are equal: as `mse`.
    EqualVariances,
    /// All residuals are 0: as `mse`.
    ZeroResiduals,
}

impl Verdict {
    /// Its name in JSON, and what it means.
    pub fn in_words(self) -> [&'static str; 2] {
        match self {
            Verdict::Profile => ["profile", "the flattest weights that the residuals do not speak against"],
            Verdict::Floor => {
                ["floor", "the residuals follow the variances down to the smallest epsilon that was tried"]
            }
            Verdict::PauleMandel => {
                ["paule-mandel", "the residuals have variance beyond the noise: epsilon is as large"]
            }
            Verdict::Mse => ["mse", "the variances say nothing of the residuals: all labels weigh the same"],
            Verdict::TooFewRows => ["too-few-rows", "fewer than 30 rows: all labels weigh the same"],
            Verdict::EqualVariances => ["equal-variances", "no variances, or all equal: all labels weigh the same"],
            Verdict::ZeroResiduals => ["zero-residuals", "all residuals are 0: all labels weigh the same"],
        }
    }
}

/// What the likelihood of the residuals is with one epsilon, the scale being free.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfilePoint {
    /// The epsilon; infinite (null in JSON) for equal weights.
    #[serde(with = "infinite")]
    pub epsilon: f64,
    /// By how much the log likelihood of a row is less than the greatest, on average, in nats.
    pub loss: f64,
    /// The standard error of `loss`.
    pub standard_error: f64,
}

/// What residuals say of known variances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VarianceModel {
    /// Weights are `1 / (variance + epsilon)`; infinite for equal weights (null in JSON). In the variances' unit.
    #[serde(with = "infinite")]
    pub epsilon: f64,
    /// The variance of a residual is `scale * variance + tau2`.
    pub scale: f64,
    /// The part of the residuals' variance that the given variances do not explain.
    pub tau2: f64,
    /// Paule and Mandel's estimate of `tau2` at scale 1.
    pub tau2_pm: f64,
    /// The epsilon of the greatest likelihood; it may be infinite (null in JSON).
    #[serde(with = "infinite")]
    pub epsilon_best: f64,
    /// The smallest epsilon that was tried.
    pub epsilon_floor: f64,
    /// By how much the greatest log likelihood exceeds that of equal weights, per row, in nats.
    pub gain: f64,
    /// The standard error of `gain`.
    pub gain_se: f64,
    /// The mean of residual^2 / (scale * variance + tau2).
    pub mean_z2: f64,
    /// Why epsilon is what it is.
    pub verdict: Verdict,
    /// How many rows counted: those of infinite variance do not.
    pub rows: usize,
}

impl VarianceModel {
    /// What `residuals` (label minus prediction, from rows that training has not seen) say of `variances`.
    ///
    /// Rows of infinite variance count nothing. Costs some 130 operations a row.
    ///
    /// # Errors
    /// [`Error::Shape`] for lists of different lengths; [`Error::InvalidArgument`], which names the row, for a residual
    /// that is not finite or whose square is not, and for a variance that is negative or NaN.
    pub fn fit(residuals: &[f64], variances: &[f64]) -> Result<Self> {
        if residuals.len() != variances.len() {
            let (residuals, variances) = (residuals.len(), variances.len());
            return Err(Error::Shape(format!(
                "{residuals} residuals and {variances} variances: one for each is needed"
            )));
        }
        let (mut squares, mut known) = (Vec::with_capacity(residuals.len()), Vec::with_capacity(residuals.len()));
        for (row, (residual, &variance)) in residuals.iter().zip(variances).enumerate() {
            if variance.is_nan() || variance < 0.0 {
                let fault = format!("the variance {variance} must not be negative or NaN");
                return Err(Error::InvalidArgument(fault).at([("row", row)]));
            }
            if !(residual * residual).is_finite() {
                let fault = format!("the square of the residual {residual} is not finite");
                return Err(Error::InvalidArgument(fault).at([("row", row)]));
            }
            if variance.is_finite() {
                squares.push(residual * residual);
                known.push(variance);
            }
        }
        Ok(Self::of_squares(&squares, &known, Search::Fine))
    }

    /// As [`VarianceModel::fit`], of squared residuals: finite, as the variances.
    pub(crate) fn of_squares(squares: &[f64], variances: &[f64], search: Search) -> Self {
        // Sums of the largest variances, and a thousand times their mean, are to stay finite.
        if variances.iter().any(|&variance| variance > 1e280) {
            let times = |values: &[f64]| values.iter().map(|value| value * 1e-40).collect::<Vec<_>>();
            return Self::of_squares(&times(squares), &times(variances), search).in_unit(1e40);
        }
        match Profile::of(squares, variances, search) {
            Ok(profile) => profile.choose(),
            Err(verdict) => Self::equal(squares, verdict),
        }
    }

    /// As [`VarianceModel::of_squares`], of the rows that can say something. Where some variances exceed all others so far
    /// that the least epsilon, a millionth of their mean, is too large for the rest, the model is of the rest.
    pub(crate) fn of_telling_rows(squares: &[f64], variances: &[f64], search: Search) -> Self {
        let model = Self::of_squares(squares, variances, search);
        // The floor may be rounded; the other floor is never so low where the mean is far above most variances.
        if model.epsilon > 1.001 * LEAST_EPSILON * mean(variances) {
            return model;
        }
        let limit = FARTHEST * model.epsilon;
        let telling = squares.iter().zip(variances).filter(|(_, variance)| **variance <= limit);
        let (squares, rest): (Vec<f64>, Vec<f64>) = telling.unzip();
        if rest.len() < FEWEST_ROWS || rest.len() == variances.len() {
            return model;
        }
        let model = Self::of_telling_rows(&squares, &rest, search);
        if model.epsilon.is_finite() {
            return model;
        }
        // Equal weights for the rest, not for the rows that say nothing: what is beside the rest's variances at scale 1.
        let mean_square = mean(&squares);
        let tau2 = paule_mandel(&squares, &rest, mean_square, search.tolerance()).max(1e-3 * mean_square);
        VarianceModel { epsilon: tau2, scale: 1.0, tau2, tau2_pm: tau2, verdict: Verdict::PauleMandel, ..model }
    }

    /// How the likelihood of residuals with these `squares` depends on epsilon; nothing where the variances say nothing.
    pub(crate) fn profile(squares: &[f64], variances: &[f64]) -> Vec<ProfilePoint> {
        let Ok(profile) = Profile::of(squares, variances, Search::Fine) else { return vec![] };
        let point = |at: usize| ProfilePoint {
            epsilon: profile.epsilons[at],
            loss: (profile.losses[at] - profile.losses[profile.best]) / 2.0,
            standard_error: profile.standard_error(at),
        };
        (0..profile.epsilons.len()).map(point).collect()
    }

    /// The model of equal weights.
    fn equal(squares: &[f64], verdict: Verdict) -> Self {
        let mean_square = mean(squares);
        VarianceModel {
            epsilon: f64::INFINITY,
            scale: 0.0,
            tau2: mean_square,
            tau2_pm: 0.0,
            epsilon_best: f64::INFINITY,
            epsilon_floor: 0.0,
            gain: 0.0,
            gain_se: 0.0,
            mean_z2: if mean_square > 0.0 { 1.0 } else { 0.0 },
            verdict,
            rows: squares.len(),
        }
    }

    /// The same where squares and variances are `unit` times as large.
    pub(crate) fn in_unit(&self, unit: f64) -> Self {
        VarianceModel {
            epsilon: self.epsilon * unit,
            tau2: self.tau2 * unit,
            tau2_pm: self.tau2_pm * unit,
            epsilon_best: self.epsilon_best * unit,
            epsilon_floor: self.epsilon_floor * unit,
            ..self.clone()
        }
    }

    /// What a user should know, in words; none where all is well.
    pub fn warning(&self) -> Option<&'static CStr> {
        match self.verdict {
            Verdict::Mse => Some(c"the variances carry no usable information at this misfit"),
            Verdict::PauleMandel if self.tau2_pm > 4.0 * self.epsilon_best => {
                Some(c"the variances look understated, or the misfit grows with them")
            }
            Verdict::Profile | Verdict::Floor if self.scale < 0.5 => Some(c"the variances look overstated"),
            _ => None,
        }
    }
}

/// Whether weights `1 / (variance + epsilon)` are as good as equal ones: their effective number of rows is 99 % of all or
/// more. Infinite variances do not count.
pub(crate) fn are_weights_flat(epsilon: f64, variances: impl Iterator<Item = f64>) -> bool {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for variance in variances.filter(|variance| variance.is_finite()) {
        let weight = (1.0 + variance / epsilon).recip();
        count += 1.0;
        sum += weight;
        squares += weight * weight;
    }
    epsilon.is_infinite() || sum * sum >= 0.99 * squares * count
}

/// The likelihood of each epsilon, the scale being free.
struct Profile<'a> {
    squares: &'a [f64],
    variances: &'a [f64],
    mean_variance: f64,
    /// The least variance and the greatest.
    range: [f64; 2],
    search: Search,
    /// From the floor to infinity.
    epsilons: Vec<f64>,
    /// For each epsilon the mean of `r^2 / u`, `u = (v + epsilon) / (mean v + epsilon)`: the best scale of `u`.
    scales: Vec<f64>,
    /// For each epsilon minus twice the mean log likelihood of a row, but for a constant.
    losses: Vec<f64>,
    /// The index of the least of them.
    best: usize,
}

impl<'a> Profile<'a> {
    /// Of squares and variances that can say something; else why they cannot.
    fn of(squares: &'a [f64], variances: &'a [f64], search: Search) -> std::result::Result<Self, Verdict> {
        let smallest = variances.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = variances.iter().copied().fold(0.0, f64::max);
        if squares.len() < FEWEST_ROWS {
            return Err(Verdict::TooFewRows);
        }
        if largest <= smallest * (1.0 + 1e-9) {
            return Err(Verdict::EqualVariances);
        }
        if mean(squares) <= 0.0 {
            return Err(Verdict::ZeroResiduals);
        }
        Ok(Profile::new(squares, variances, [smallest, largest], search))
    }

    fn new(squares: &'a [f64], variances: &'a [f64], range: [f64; 2], search: Search) -> Self {
        let rows = squares.len() as f64;
        let mean_variance = mean(variances);
        let floor = floor(variances, range[1], search.tolerance()).max(LEAST_EPSILON * mean_variance);
        let ratio = (1e3 * mean_variance).max(10.0 * floor) / floor;
        let step = if search == Search::Fine { 1 } else { 3 };
        let finite = (0..GRID).step_by(step).map(|at| floor * ratio.powf(at as f64 / (GRID - 1) as f64));
        let epsilons: Vec<f64> = finite.chain([f64::INFINITY]).collect();
        let infinite = epsilons.len() - 1;
        let (mut scales, mut logs) = (vec![0.0; infinite + 1], vec![0.0; infinite + 1]);
        // All epsilons go over a block of rows while it is in the core's cache, with the widest instructions there are.
        pulp::Arch::new().dispatch(|| {
            for (squares, variances) in squares.chunks(BLOCK).zip(variances.chunks(BLOCK)) {
                for (at, &epsilon) in epsilons[..infinite].iter().enumerate() {
                    let total = mean_variance + epsilon;
                    let (quotients, log) = quotients_and_log(squares, variances, epsilon, total.recip());
                    scales[at] += total * quotients;
                    logs[at] += log;
                }
                scales[infinite] += squares.iter().sum::<f64>();
            }
        });
        scales.iter_mut().for_each(|sum| *sum /= rows);
        let losses: Vec<f64> = scales.iter().zip(&logs).map(|(scale, log)| scale.ln() + log / rows + 1.0).collect();
        let best = (0..losses.len()).fold(0, |best, at| if losses[at] < losses[best] { at } else { best });
        Profile { squares, variances, mean_variance, range, search, epsilons, scales, losses, best }
    }

    fn choose(&self) -> VarianceModel {
        let (rows, infinite) = (self.squares.len(), self.epsilons.len() - 1);
        let mean_square = mean(self.squares);
        let tau2_pm = paule_mandel(self.squares, self.variances, mean_square, self.search.tolerance());
        let flattest = (self.best..self.epsilons.len()).rev().find(|&at| self.is_allowed(at)).unwrap_or(self.best);
        let floor = self.epsilons[0];
        let (epsilon, scale, tau2, verdict) = match self.epsilons[flattest] {
            epsilon if tau2_pm.max(floor) > epsilon => {
                let epsilon = tau2_pm.max(floor);
                (epsilon, 1.0, epsilon, Verdict::PauleMandel)
            }
            f64::INFINITY => (f64::INFINITY, 0.0, mean_square, Verdict::Mse),
            epsilon => {
                let scale = self.scales[flattest] / (self.mean_variance + epsilon);
                (epsilon, scale, scale * epsilon, if flattest == 0 { Verdict::Floor } else { Verdict::Profile })
            }
        };
        let z2 = sum(self.squares, self.variances, |square, variance| square / (scale * variance + tau2));
        VarianceModel {
            epsilon,
            scale,
            tau2,
            tau2_pm,
            epsilon_best: self.epsilons[self.best],
            epsilon_floor: floor,
            gain: (self.losses[infinite] - self.losses[self.best]) / 2.0,
            gain_se: if self.search == Search::Fine { self.standard_error(infinite) } else { f64::NAN },
            mean_z2: z2 / rows as f64,
            verdict,
            rows,
        }
    }

    /// Whether the loss at `at` exceeds the least by one standard error of the difference at most.
    fn is_allowed(&self, at: usize) -> bool {
        let limit = (self.losses[at] - self.losses[self.best]) * (self.squares.len() as f64).sqrt();
        limit <= self.most_deviation(at) && limit <= self.deviation(at)
    }

    /// What a row's square is multiplied with at `at`: one over its total variance.
    fn precision(&self, at: usize, variance: f64) -> f64 {
        match self.epsilons[at] {
            f64::INFINITY => 1.0 / self.scales[at],
            epsilon => (self.mean_variance + epsilon) / (self.scales[at] * (variance + epsilon)),
        }
    }

    /// Of half the mean over the rows of the loss at `at` minus the least: that of the log likelihood.
    fn standard_error(&self, at: usize) -> f64 {
        self.deviation(at) / (self.squares.len() as f64).sqrt() / 2.0
    }

    /// The standard deviation over the rows of the loss at `at` minus the least.
    fn deviation(&self, at: usize) -> f64 {
        let mean = self.losses[at] - self.losses[self.best];
        let squares = sum(self.squares, self.variances, |square, variance| {
            let (here, best) = (self.precision(at, variance), self.precision(self.best, variance));
            ((best / here).ln() + square * (here - best) - mean).powi(2)
        });
        (squares / self.squares.len() as f64).sqrt()
    }

    /// No less than [`Profile::deviation`], without a logarithm for each row: a sum deviates by no more than its parts
    /// together, and what is between `low` and `high` by `sqrt((high - mean) (mean - low))` at most (Bhatia, Davis 2000).
    fn most_deviation(&self, at: usize) -> f64 {
        let logs = self.range.map(|variance| (self.precision(self.best, variance) / self.precision(at, variance)).ln());
        // Squares times precisions have the mean 1 at each epsilon: the mean of the logarithms is that of the loss.
        let mean = self.losses[at] - self.losses[self.best];
        let (low, high) = (logs[0].min(logs[1]), logs[0].max(logs[1]));
        let of_logs = ((high - mean) * (mean - low)).max(0.0).sqrt();
        let of_squares = sum(self.squares, self.variances, |square, variance| {
            (square * (self.precision(at, variance) - self.precision(self.best, variance))).powi(2)
        });
        of_logs + (of_squares / self.squares.len() as f64).sqrt()
    }
}

/// Rows whose numbers stay in a core's cache.
const BLOCK: usize = 4096;

/// Sums that do not wait for each other.
const LANES: usize = 8;

/// The sum of `term` over pairs, in a fixed order.
fn sum(first: &[f64], second: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let ((first, first_rest), (second, second_rest)) = (first.as_chunks::<LANES>(), second.as_chunks::<LANES>());
    for (first, second) in first.iter().zip(second) {
        for lane in 0..LANES {
            sums[lane] += term(first[lane], second[lane]);
        }
    }
    let rest: f64 = first_rest.iter().zip(second_rest).map(|(&first, &second)| term(first, second)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The sum of `square / (variance + epsilon)`, and that of the logarithms of `(variance + epsilon) factor`, each between
/// 1e-9 and 1e9: one logarithm for many rows.
#[inline(always)]
fn quotients_and_log(squares: &[f64], variances: &[f64], epsilon: f64, factor: f64) -> (f64, f64) {
    /// The product of so many stays within 1e-288 and 1e288.
    const FACTORS: usize = 32;
    const MANTISSA: u64 = (1 << 52) - 1;
    let (mut sums, mut products, mut exponents) = ([0.0; LANES], [1.0f64; LANES], [0i64; LANES]);
    for (squares, variances) in squares.chunks(FACTORS * LANES).zip(variances.chunks(FACTORS * LANES)) {
        let ((squares, squares_rest), (variances, rest)) =
            (squares.as_chunks::<LANES>(), variances.as_chunks::<LANES>());
        for (squares, variances) in squares.iter().zip(variances) {
            for lane in 0..LANES {
                let total = variances[lane] + epsilon;
                sums[lane] += squares[lane] / total;
                products[lane] *= total * factor;
            }
        }
        for (lane, (square, variance)) in squares_rest.iter().zip(rest).enumerate() {
            sums[lane] += square / (variance + epsilon);
            products[lane] *= (variance + epsilon) * factor;
        }
        for lane in 0..LANES {
            // Positive, finite and not subnormal: the exponent goes to the count, the rest is between 1 and 2.
            let bits = products[lane].to_bits();
            exponents[lane] += (bits >> 52) as i64 - 1023;
            products[lane] = f64::from_bits(bits & MANTISSA | 1.0f64.to_bits());
        }
    }
    let exponent = exponents.iter().sum::<i64>() as f64 * std::f64::consts::LN_2;
    (sums.iter().sum(), exponent + products.iter().map(|product| product.ln()).sum::<f64>())
}

fn mean(values: &[f64]) -> f64 {
    sum(values, values, |value, _| value) / values.len().max(1) as f64
}

/// The epsilon that equals its own standard error: it solves `sum (e / (v + e))^2 = 2`.
fn floor(variances: &[f64], largest: f64, tolerance: f64) -> f64 {
    let value = |log: f64| {
        let epsilon = log.exp();
        sum(variances, variances, |variance, _| (epsilon / (variance + epsilon)).powi(2))
    };
    let reach = |decades: f64| largest.ln() + decades * std::f64::consts::LN_10;
    solve(reach(-16.0), reach(4.0), tolerance, |log| value(log) - 2.0).exp()
}

/// Paule and Mandel's `tau2`, which solves `mean (r^2 / (v + tau2)) = 1`; 0 where the variances alone are enough.
fn paule_mandel(squares: &[f64], variances: &[f64], mean_square: f64, tolerance: f64) -> f64 {
    let rows = squares.len() as f64;
    let excess =
        |tau2: f64| sum(squares, variances, |square, variance| square / (variance + tau2).max(1e-300)) / rows - 1.0;
    if excess(0.0) <= 0.0 { 0.0 } else { solve(0.0, mean_square, tolerance, |tau2| -excess(tau2)) }
}

/// Where `f`, which has another sign at `low` than at `high`, is 0: bisection, and inverse quadratic interpolation where
/// that is safe (Chandrupatla 1997).
fn solve(low: f64, high: f64, tolerance: f64, f: impl Fn(f64) -> f64) -> f64 {
    // `a` and `b` are on two sides of the root; `c` was one of them before.
    let (mut a, mut b) = (high, low);
    let (mut at_a, mut at_b) = (f(a), f(b));
    let mut part = 0.5;
    for _ in 0..200 {
        let x = a + part * (b - a);
        let at_x = f(x);
        let (c, at_c);
        if (at_x < 0.0) == (at_a < 0.0) {
            (c, at_c) = (a, at_a);
        } else {
            (c, at_c) = (b, at_b);
            (b, at_b) = (a, at_a);
        }
        (a, at_a) = (x, at_x);
        let width = (b - a).abs();
        if at_a == 0.0 || width <= tolerance * a.abs().max(b.abs()) {
            break;
        }
        let (xi, phi) = ((a - b) / (c - b), (at_a - at_b) / (at_c - at_b));
        part = if phi * phi < xi && (1.0 - phi).powi(2) < 1.0 - xi {
            at_a / (at_b - at_a) * at_c / (at_b - at_c)
                + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
        } else {
            0.5
        };
        let least = 0.5 * tolerance * a.abs().max(b.abs()) / width;
        part = part.clamp(least.min(0.5), 1.0 - least.min(0.5));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Purpose, stream};
    use proptest::prelude::*;
    use rand::seq::SliceRandom;
    use rand_distr::{Distribution, Exp1, StandardNormal};

    /// Residuals of rows whose variance is `scale v + tau2`, v exponential.
    fn case(rows: usize, scale: f64, tau2: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut random = stream(seed, Purpose::Synthetic, 0);
        let variances: Vec<f64> = (0..rows).map(|_| Exp1.sample(&mut random)).collect();
        let residuals = variances.iter().map(|v| {
            let z: f64 = StandardNormal.sample(&mut random);
            (scale * v + tau2).sqrt() * z
        });
        (residuals.collect(), variances)
    }

    fn times(values: &[f64], factor: f64) -> Vec<f64> {
        values.iter().map(|value| factor * value).collect()
    }

    fn close(found: f64, expected: f64, tolerance: f64) -> bool {
        found == expected || (found - expected).abs() <= tolerance * expected.abs()
    }

    #[test]
    fn what_the_residuals_were_made_of_is_found() {
        let (residuals, variances) = case(20_000, 0.5, 0.25, 1);
        let model = VarianceModel::fit(&residuals, &variances).unwrap();
        assert_eq!(model.verdict, Verdict::Profile);
        assert!(close(model.scale, 0.5, 0.1) && close(model.tau2, 0.25, 0.15), "{model:?}");
        assert!(close(model.mean_z2, 1.0, 0.02) && model.gain > 10.0 * model.gain_se, "{model:?}");
        // Variances that are too small by a factor of a hundred: the scale is never blown up.
        let model = VarianceModel::fit(&residuals, &times(&variances, 0.005)).unwrap();
        assert_eq!((model.verdict, model.scale), (Verdict::PauleMandel, 1.0));
        assert_eq!(model.warning(), Some(c"the variances look understated, or the misfit grows with them"));
        let model = VarianceModel::fit(&residuals, &times(&variances, 100.0)).unwrap();
        assert_eq!(model.warning(), Some(c"the variances look overstated"));
    }

    #[test]
    fn where_nothing_can_be_said_the_weights_are_equal() {
        let (residuals, variances) = case(1000, 1.0, 0.0, 2);
        let mean_square = residuals.iter().map(|r| r * r).sum::<f64>() / 1000.0;
        for (residuals, variances, verdict) in [
            (&residuals[..29], &variances[..29], Verdict::TooFewRows),
            (&residuals[..], &[3.0; 1000][..], Verdict::EqualVariances),
            (&residuals[..], &[0.0; 1000][..], Verdict::EqualVariances),
            (&[0.0; 1000][..], &variances[..], Verdict::ZeroResiduals),
        ] {
            let model = VarianceModel::fit(residuals, variances).unwrap();
            assert_eq!((model.verdict, model.epsilon, model.scale), (verdict, f64::INFINITY, 0.0));
            if verdict == Verdict::EqualVariances {
                assert!(close(model.tau2, mean_square, 1e-12));
            }
        }
    }

    #[test]
    fn wrong_input_is_named_and_infinite_variances_do_not_count() {
        let (mut residuals, mut variances) = case(500, 1.0, 0.5, 3);
        let expected = VarianceModel::fit(&residuals, &variances).unwrap();
        residuals.insert(7, 1e9);
        variances.insert(7, f64::INFINITY);
        assert_eq!(VarianceModel::fit(&residuals, &variances).unwrap(), expected);
        let message =
            |residuals: &[f64], variances: &[f64]| VarianceModel::fit(residuals, variances).unwrap_err().to_string();
        assert!(message(&residuals[1..], &variances).contains("500 residuals and 501 variances"));
        variances[3] = -1.0;
        assert!(message(&residuals, &variances).contains("row 3: the variance -1"));
        residuals[2] = 1e200;
        assert!(message(&residuals, &variances).contains("row 2: the square of the residual"));
    }

    #[test]
    fn shuffled_variances_give_equal_weights_or_nearly_so() {
        let (mut equal, mut loss) = (0, 0.0);
        for seed in 0..100 {
            let (residuals, mut variances) = case(1000, 1.0, 0.25, seed);
            variances.shuffle(&mut stream(seed, Purpose::ShuffledVariances, 0));
            let model = VarianceModel::fit(&residuals, &variances).unwrap();
            equal += usize::from(model.epsilon.is_infinite());
            let weights: Vec<f64> = variances
                .iter()
                .map(|v| if model.epsilon.is_infinite() { 1.0 } else { 1.0 / (v + model.epsilon) })
                .collect();
            let sum: f64 = weights.iter().sum();
            loss += 1000.0 * weights.iter().map(|w| w * w).sum::<f64>() / (sum * sum) / 100.0;
        }
        assert!(equal >= 95, "{equal} of 100");
        assert!(loss <= 1.02, "the variance of a mean is {loss} times the plain mean's");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// The likelihood has a free scale: a factor of all variances is taken back by it.
        #[test]
        fn a_factor_of_the_variances_changes_epsilon_and_scale_only(seed: u64, tau2 in 0.1..3.0f64, rows in 200usize..2000) {
            let (residuals, variances) = case(rows, 1.0, tau2, seed);
            let (model, larger) = (VarianceModel::fit(&residuals, &variances).unwrap(), VarianceModel::fit(&residuals, &times(&variances, 100.0)).unwrap());
            prop_assume!(model.verdict == Verdict::Profile);
            prop_assert_eq!(larger.verdict, Verdict::Profile);
            prop_assert!(close(larger.epsilon, 100.0 * model.epsilon, 1e-9), "{:?} {:?}", model, larger);
            prop_assert!(close(larger.scale, model.scale / 100.0, 1e-9) && close(larger.tau2, model.tau2, 1e-9));
        }

        /// From the least that f64 has to the greatest.
        #[test]
        fn units_change_units_only(seed: u64, decades in -70i32..70) {
            let (residuals, variances) = case(300, 1.0, 0.3, seed);
            let unit = 10.0f64.powi(decades);
            let model = VarianceModel::fit(&residuals, &variances).unwrap();
            let found = VarianceModel::fit(&times(&residuals, unit), &times(&variances, unit * unit)).unwrap();
            prop_assert_eq!(found.verdict, model.verdict);
            prop_assert!(close(found.epsilon, unit * unit * model.epsilon, 1e-9), "{:?} {:?}", model, found);
            prop_assert!(close(found.scale, model.scale, 1e-9));
        }

        #[test]
        fn any_numbers_give_a_model(rows in prop::collection::vec((any::<f64>(), any::<f64>()), 0..200)) {
            let (residuals, variances): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
            if let Ok(model) = VarianceModel::fit(&residuals, &variances) {
                prop_assert!(model.epsilon >= 0.0 && model.scale >= 0.0 && model.tau2 >= 0.0, "{:?}", model);
            }
        }
    }
}
