//! Adam (Kingma and Ba 2015) over libtorch's fused kernel, with a state that can be saved.

use crate::kernels::adam_step::AdamOptions;
use crate::model::archive::{Archive, StoredArray};
use crate::torch::adam::{AdamConstants, AdamTensors, GuardedAdam, fused_adam, guarded_adam};
use crate::torch::flat::Flat;
use crate::{Error, Result};
use tch::{Kind, Tensor};

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
        let tensors = AdamTensors { parameters, gradients, means, squares, steps: &steps };
        fused_adam(&tensors, self.constants(), learning_rate)?;
        self.steps += 1;
        Ok(())
    }

    /// As [`Adam::step`], with the step's number and the learning rate on the parameters' device. Where `found_inf`
    /// is 1 there, nothing changes. The caller counts the step.
    pub(crate) fn guarded_step(
        &mut self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        steps: &Tensor,
        learning_rate: &Tensor,
        found_inf: &Tensor,
    ) -> Result<()> {
        let (means, squares) = (&self.means.parts[..], &self.squares.parts[..]);
        let tensors = GuardedAdam { parameters, gradients, means, squares, steps, learning_rate, found_inf };
        guarded_adam(&tensors, self.constants())
    }

    fn constants(&self) -> AdamConstants {
        let AdamOptions { beta1, beta2, epsilon, weight_decay } = self.options;
        AdamConstants { beta1, beta2, weight_decay, epsilon }
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
