//! One step of Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019): its numbers, and its arithmetic in
//! vectors for the kernels.

use super::optimizer::{UpdateRule, normal};
use crate::Result;
use crate::base::options::require;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::mem::offset_of;

/// Adam's constants other than the learning rate; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamOptions {
    /// The decay of the gradient's mean, in [0, 1) (default 0.9).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// The decay of the squared gradient's mean, in [0, 1) (default 0.999).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the denominator, greater than 0 (default 1e-8).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Times the weights, added to the gradient (default 0).
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        AdamOptions { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl AdamOptions {
    /// Checks the constants; `path` is where they stand.
    pub(crate) fn validate(&self, path: &str) -> Result<()> {
        let AdamOptions { beta1, beta2, epsilon, weight_decay } = *self;
        let within = |range: bool, name: &str, value: f64, allowed: &str| {
            require(range, format!("{path}.{name}"), value, allowed)
        };
        within((0.0..1.0).contains(&beta1), "beta1", beta1, "in [0, 1)")?;
        within((0.0..1.0).contains(&beta2), "beta2", beta2, "in [0, 1)")?;
        within(epsilon > 0.0, "epsilon", epsilon, "greater than 0")?;
        within(weight_decay >= 0.0, "weight_decay", weight_decay, "at least 0")
    }
}

/// AdamW's constants other than the learning rate; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamwOptions {
    /// The decay of the gradient's mean, in [0, 1) (default 0.9).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// The decay of the squared gradient's mean, in [0, 1) (default 0.999).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the denominator, greater than 0 (default 1e-8).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Times the learning rate, the part of the weights that a step takes away (default 0.01).
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl Default for AdamwOptions {
    fn default() -> Self {
        let AdamOptions { beta1, beta2, epsilon, .. } = AdamOptions::default();
        AdamwOptions { beta1, beta2, epsilon, weight_decay: 0.01 }
    }
}

impl AdamwOptions {
    pub(super) fn validate(&self, path: &str) -> Result<()> {
        AdamOptions { weight_decay: self.weight_decay, ..self.adam() }.validate(path)
    }

    /// Adam's constants for what is left without the weight decay.
    fn adam(&self) -> AdamOptions {
        let AdamwOptions { beta1, beta2, epsilon, .. } = *self;
        AdamOptions { beta1, beta2, epsilon, weight_decay: 0.0 }
    }
}

/// The numbers of one step of Adam on f32 values. `biv_cuda_queued_step` in `interface.hpp` ends with the same fields.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    rate: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    /// One over the square root of the second moment's bias correction.
    correction: f32,
}

const _: () = assert!(
    size_of::<AdamStep>() == 24
        && offset_of!(AdamStep, rate) == 0
        && offset_of!(AdamStep, beta1) == 4
        && offset_of!(AdamStep, beta2) == 8
        && offset_of!(AdamStep, epsilon) == 12
        && offset_of!(AdamStep, weight_decay) == 16
        && offset_of!(AdamStep, correction) == 20
);

impl AdamStep {
    /// Step `number`, counted from 1.
    pub fn new(options: &AdamOptions, number: u64, learning_rate: f64) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(number as f64);
        AdamStep {
            rate: (learning_rate / correction(options.beta1)) as f32,
            beta1: options.beta1 as f32,
            beta2: options.beta2 as f32,
            epsilon: options.epsilon as f32,
            weight_decay: options.weight_decay as f32,
            correction: correction(options.beta2).sqrt().recip() as f32,
        }
    }
}

impl UpdateRule<2> for AdamStep {
    /// Of some values, the running means of their gradients, and those of the squared gradients.
    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        gradient: S::f32s,
        value: S::f32s,
        [mean, square]: [S::f32s; 2],
    ) -> (S::f32s, [S::f32s; 2]) {
        let all = |number: f32| simd.splat_f32s(number);
        let gradient = simd.mul_add_e_f32s(all(self.weight_decay), value, gradient);
        let mean = simd.mul_add_e_f32s(all(1.0 - self.beta1), simd.sub_f32s(gradient, mean), mean);
        let square_of_gradient = simd.mul_f32s(simd.mul_f32s(all(1.0 - self.beta2), gradient), gradient);
        let square = simd.mul_add_e_f32s(all(self.beta2), square, square_of_gradient);
        let (mean, square) = (normal(simd, mean), normal(simd, square));
        let deviation = simd.mul_add_e_f32s(simd.sqrt_f32s(square), all(self.correction), all(self.epsilon));
        let value = simd.sub_f32s(value, simd.div_f32s(simd.mul_f32s(all(self.rate), mean), deviation));
        (value, [mean, square])
    }
}

/// The numbers of one step of AdamW on f32 values.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdamwStep {
    adam: AdamStep,
    /// The part of a weight that the step takes away.
    decay: f32,
}

impl AdamwStep {
    /// Step `number`, counted from 1.
    pub(super) fn new(options: &AdamwOptions, number: u64, learning_rate: f64) -> Self {
        let adam = AdamStep::new(&options.adam(), number, learning_rate);
        AdamwStep { adam, decay: (learning_rate * options.weight_decay) as f32 }
    }
}

impl UpdateRule<2> for AdamwStep {
    /// As of Adam.
    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        gradient: S::f32s,
        value: S::f32s,
        state: [S::f32s; 2],
    ) -> (S::f32s, [S::f32s; 2]) {
        let decayed = simd.mul_add_e_f32s(simd.splat_f32s(-self.decay), value, value);
        self.adam.apply(simd, gradient, decayed, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn means_without_a_gradient_come_to_rest_at_zero() {
        let step = AdamStep::new(&AdamOptions::default(), 1, 1e-3);
        let (mut value, mut mean, mut square) = (1.0f32, 0.0f32, 0.0f32);
        for number in 0..80_000 {
            let gradient = if number == 0 { 1e-3 } else { 0.0 };
            (value, [mean, square]) = step.apply(Scalar::new(), gradient, value, [mean, square]);
            assert!(!mean.is_subnormal() && !square.is_subnormal(), "step {number}: {mean:e}, {square:e}");
        }
        assert_eq!((mean, square), (0.0, 0.0));
    }
}
