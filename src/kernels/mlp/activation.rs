//! Activations other than the ReLU, each with its derivative, in arithmetic that compilers turn into vectors.
//!
//! The exponential and the functions of it are polynomials: to a few units of the last place, and NaN stays NaN.

use crate::kernels::spec::LEAKY_RELU_SLOPE;
use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

/// Beyond it `softplus` is the identity.
const SOFTPLUS_THRESHOLD: f32 = 20.0;

/// `x` where it is positive, else `0.01 x`.
#[inline(always)]
pub(super) fn leaky_relu(x: f32) -> (f32, f32) {
    let slope = if x > 0.0 { 1.0 } else { LEAKY_RELU_SLOPE as f32 };
    (x * slope, slope)
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh(x: f32) -> (f32, f32) {
    // Near 0 the quotient would cancel: there its series as a polynomial (Cephes, tanhf.c).
    let square = x * x;
    let series = ((((-5.704_988_7e-3 * square + 2.063_909e-2) * square - 0.053_739_715) * square + 1.333_144_2e-1)
        * square
        - 3.333_328e-1)
        * square
        * x
        + x;
    let decay = exp(-2.0 * x.abs());
    let quotient = ((1.0 - decay) / (1.0 + decay)).copysign(x);
    let tanh = if square < 0.390_625 { series } else { quotient };
    (tanh, 1.0 - tanh * tanh)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    (sigmoid, sigmoid * (1.0 - sigmoid))
}

/// `x sigmoid(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> (f32, f32) {
    let (sigmoid, slope) = sigmoid(x);
    (x * sigmoid, sigmoid + x * slope)
}

/// `x P(z < x)` for a standard normal `z`.
#[inline(always)]
pub(super) fn gelu(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_2_PI: f32 = 0.398_942_3;
    // The error function by Abramowitz and Stegun 7.1.26, to 1.5e-7.
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * FRAC_1_SQRT_2 * x.abs());
    let tail = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t * bell;
    let below = 0.5 * tail;
    let probability = if x < 0.0 { below } else { 1.0 - below };
    (x * probability, probability + x * FRAC_1_SQRT_2_PI * bell)
}

/// `log(1 + exp(x))`.
#[inline(always)]
pub(super) fn softplus(x: f32) -> (f32, f32) {
    let decay = exp(-x.abs());
    // log(1 + u) = 2 artanh(u / (2 + u)), of which the last argument is at most a third.
    let y = decay / (2.0 + decay);
    let square = y * y;
    let series = (((((square / 13.0 + 1.0 / 11.0) * square + 1.0 / 9.0) * square + 1.0 / 7.0) * square + 0.2) * square
        + 1.0 / 3.0)
        * square
        + 1.0;
    let positive = if x < 0.0 { 0.0 } else { x };
    let slope = if x < 0.0 { decay } else { 1.0 } / (1.0 + decay);
    let is_identity = x > SOFTPLUS_THRESHOLD;
    (if is_identity { x } else { positive + 2.0 * y * series }, if is_identity { 1.0 } else { slope })
}

/// The exponential function, for `x` beyond what single precision holds that of the nearest limit.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a number of less than 2^22, it leaves the nearest whole number in the last bits.
    const ROUND: f32 = 12_582_912.0;
    /// The first bits of ln 2, whose products with whole numbers are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = LN_2 - LN_2_HIGH;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    // Cephes, expf.c.
    let polynomial = (((((1.987_569_1e-4 * rest + 1.398_199_9e-3) * rest + 8.333_452e-3) * rest + 4.166_579_6e-2)
        * rest
        + 1.666_666_5e-1)
        * rest
        + 0.5)
        * rest
        * rest
        + rest
        + 1.0;
    // Times 2^whole, in the exponent's bits.
    f32::from_bits(polynomial.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function, by its series.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        if x.abs() > 4.0 { x.signum() } else { sum * std::f64::consts::FRAC_2_SQRT_PI }
    }

    #[test]
    fn values_and_derivatives_are_those_of_the_functions() {
        type Exact = fn(f64) -> f64;
        type Function = fn(f32) -> (f32, f32);
        let sigmoid_of: Exact = |x| 1.0 / (1.0 + (-x).exp());
        let cases: [(&str, Function, Exact, Exact); 6] = [
            ("leaky_relu", leaky_relu, |x| if x > 0.0 { x } else { 0.01 * x }, |x| if x > 0.0 { 1.0 } else { 0.01 }),
            ("tanh", tanh, f64::tanh, |x| 1.0 / x.cosh().powi(2)),
            ("sigmoid", sigmoid, sigmoid_of, |x| 1.0 / (2.0 + x.exp() + (-x).exp())),
            ("silu", silu, |x| x / (1.0 + (-x).exp()), |x| 1.0 / (1.0 + (-x).exp()) + x / (2.0 + x.exp() + (-x).exp())),
            (
                "gelu",
                gelu,
                |x| x * 0.5 * (1.0 + erf(x / 2.0f64.sqrt())),
                |x| 0.5 * (1.0 + erf(x / 2.0f64.sqrt())) + x * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt(),
            ),
            ("softplus", softplus, |x| x.exp().ln_1p(), sigmoid_of),
        ];
        for (name, function, exact, derivative) in cases {
            for step in -3000..=3000 {
                let x = step as f32 / 100.0 + 0.0013;
                let (value, slope) = function(x);
                for (found, expected) in [(value, exact(x.into())), (slope, derivative(x.into()))] {
                    let error = (f64::from(found) - expected).abs();
                    assert!(error < 2e-6 * expected.abs().max(1.0), "{name} at {x}: {found}, {expected}");
                }
            }
            let (value, slope) = function(f32::NAN);
            assert!(value.is_nan() && (slope.is_nan() || name == "leaky_relu"), "{name}");
            for x in [1e30, -1e30] {
                let (value, slope) = function(x);
                assert!(value.is_finite() && (0.0..=1.0).contains(&slope.abs()), "{name}({x}) = {value}, {slope}");
            }
        }
        // Small values keep their digits.
        assert!((tanh(1e-4).0 / 1e-4 - 1.0).abs() < 1e-6 && tanh(-1e-20).0 == -1e-20);
    }
}
