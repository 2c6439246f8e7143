//! Adam (Kingma and Ba 2015) over libtorch's fused kernel, with a state that can be saved.

use crate::archive::{Archive, StoredArray};
use crate::flat::Flat;
use crate::shim::step::{GuardedAdam, guarded_adam};
use crate::shim::{AdamNumbers, AdamTensors, fused_adam};
use crate::{Error, Result};
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Adam's constants other than the learning rate; the defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamOptions {
    /// The decay of the gradient's mean, in [0, 1) (default 0.9).
    pub beta1: f64,
    /// The decay of the squared gradient's mean, in [0, 1) (default 0.999).
    pub beta2: f64,
    /// Added to the denominator, greater than 0 (default 1e-8).
    pub epsilon: f64,
    /// Times the weights, added to the gradient (default 0).
    pub weight_decay: f64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        AdamOptions { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The numbers of one step of Adam on f32 values, in the order in which kernels on a GPU have them.
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

    /// Some values, the running means of their gradients and those of the gradients' squares, a step on.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(
        &self,
        simd: S,
        gradient: S::f32s,
        [value, mean, square]: [S::f32s; 3],
    ) -> [S::f32s; 3] {
        let all = |number: f32| simd.splat_f32s(number);
        let gradient = simd.mul_add_e_f32s(all(self.weight_decay), value, gradient);
        let mean = simd.mul_add_e_f32s(all(1.0 - self.beta1), simd.sub_f32s(gradient, mean), mean);
        let square_of_gradient = simd.mul_f32s(simd.mul_f32s(all(1.0 - self.beta2), gradient), gradient);
        let square = simd.mul_add_e_f32s(all(self.beta2), square, square_of_gradient);
        let (mean, square) = (normal(simd, mean), normal(simd, square));
        let deviation = simd.mul_add_e_f32s(simd.sqrt_f32s(square), all(self.correction), all(self.epsilon));
        let value = simd.sub_f32s(value, simd.div_f32s(simd.mul_f32s(all(self.rate), mean), deviation));
        [value, mean, square]
    }
}

/// 0 for what is next to it. The means of a weight that has no gradient any more (after a ReLU that is never
/// positive) would else shrink to denormal numbers and stay there, with which processors are very slow.
#[inline(always)]
fn normal<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
    let small = simd.less_than_f32s(simd.abs_f32s(values), simd.splat_f32s(1e-30));
    simd.select_f32s(small, simd.splat_f32s(0.0), values)
}

/// The optimiser's state for one list of parameters.
#[derive(Debug)]
pub struct Adam {
    options: AdamOptions,
    means: Flat,
    squares: Flat,
    steps: u64,
}

impl Adam {
    /// A fresh state for `parameters`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(options: AdamOptions, parameters: &[Tensor]) -> Result<Self> {
        Ok(Adam { options, means: Flat::zeros(parameters)?, squares: Flat::zeros(parameters)?, steps: 0 })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Adam's constants.
    pub fn options(&self) -> &AdamOptions {
        &self.options
    }

    /// The running means of the gradients and of their squares, for a step that is taken elsewhere.
    pub(crate) fn moments(&mut self) -> (&mut Flat, &mut Flat) {
        (&mut self.means, &mut self.squares)
    }

    /// Counts steps that were taken elsewhere.
    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Moves `parameters`, those the state was made for, against `gradients`.
    ///
    /// # Errors
    /// [`Error::Internal`] when libtorch fails.
    pub fn step(&mut self, parameters: &[Tensor], gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        let Some(first) = parameters.first() else { return Ok(()) };
        let step = Tensor::f_full([], (self.steps + 1) as f64, (Kind::Float, first.device()))?;
        let steps: Vec<Tensor> = parameters.iter().map(|_| step.shallow_clone()).collect();
        let (means, squares) = (&self.means.parts[..], &self.squares.parts[..]);
        let AdamOptions { beta1, beta2, epsilon, weight_decay } = self.options;
        fused_adam(
            &AdamTensors { parameters, gradients, means, squares, steps: &steps },
            &AdamNumbers { learning_rate, beta1, beta2, weight_decay, epsilon },
        )?;
        self.steps += 1;
        Ok(())
    }

    /// As [`Adam::step`], with the step's number and the learning rate on the parameters' device. Where `failed`
    /// is 1 there, nothing changes. The caller counts the step.
    pub(crate) fn guarded_step(
        &mut self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        steps: &Tensor,
        learning_rate: &Tensor,
        failed: &Tensor,
    ) -> Result<()> {
        let (means, squares) = (&self.means.parts[..], &self.squares.parts[..]);
        guarded_adam(
            &GuardedAdam { parameters, gradients, means, squares, steps, learning_rate, failed },
            &self.options,
        )
    }

    /// Adds the state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        for (name, tensors) in [("mean", &self.means), ("square", &self.squares)] {
            for (index, tensor) in tensors.parts.iter().enumerate() {
                archive.insert(format!("adam.{name}.{index}"), StoredArray::from_tensor(tensor)?);
            }
        }
        Ok(())
    }

    /// A state from `archive`, for the same parameters and `steps` steps on.
    pub(crate) fn restored(&self, archive: &Archive, steps: u64) -> Result<Self> {
        let mut adam = Adam { steps, ..Adam::new(self.options.clone(), &self.means.parts)? };
        for (name, tensors) in [("mean", &mut adam.means), ("square", &mut adam.squares)] {
            for (index, tensor) in tensors.parts.iter_mut().enumerate() {
                let array = archive.get(&format!("adam.{name}.{index}"))?;
                if array.shape().iter().map(|&size| size as i64).ne(tensor.size()) {
                    return Err(Error::Shape(format!("adam.{name}.{index} has shape {:?}", array.shape())));
                }
                tensor.f_copy_(&Tensor::f_from_slice(&array.to_f32()?)?.f_reshape(tensor.size())?)?;
            }
        }
        Ok(adam)
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
            [value, mean, square] = step.apply(Scalar::new(), gradient, [value, mean, square]);
            assert!(!mean.is_subnormal() && !square.is_subnormal(), "step {number}: {mean:e}, {square:e}");
        }
        assert_eq!((mean, square), (0.0, 0.0));
    }
}
