//! An optimiser over libtorch's fused kernels, with a state that can be saved.

use crate::kernels::adam_step::{AdamOptions, AdamwOptions};
use crate::kernels::optimizer::{CLIP_EPSILON, OptimizerOptions};
use crate::kernels::sgd_step::SgdOptions;
use crate::model::archive::{Archive, StoredArray};
use crate::torch::flat::Flat;
use crate::torch::optimizer::{
    AdamConstants, AdamTensors, GuardedAdam, SgdConstants, SgdRate, SgdTensors, fused_adam, fused_sgd, guarded_adam,
};
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// How the weights are moved along a gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateOptions {
    /// Which optimiser, with its constants.
    pub optimizer: OptimizerOptions,
    /// The greatest norm of the whole gradient: one that is longer is shortened to it.
    pub clip_norm: Option<f64>,
}

/// The optimiser's state for one list of parameters.
#[derive(Debug)]
pub struct Optimizer {
    options: UpdateOptions,
    /// The lists of [`OptimizerOptions::state`].
    state: Vec<Flat>,
    steps: u64,
}

/// An [`Optimizer`], for steps that are taken elsewhere.
#[derive(Debug)]
pub(crate) struct OptimizerParts<'a> {
    pub options: &'a UpdateOptions,
    /// The lists that it keeps: [`OptimizerOptions::state`].
    pub state: &'a mut [Flat],
    /// How many steps were taken.
    pub steps: &'a mut u64,
}

impl Optimizer {
    /// A fresh state for `parameters`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(options: &UpdateOptions, parameters: &[Tensor]) -> Result<Self> {
        let state = options.optimizer.state().iter().map(|_| Flat::zeros(parameters)).collect::<Result<_>>()?;
        Ok(Optimizer { options: options.clone(), state, steps: 0 })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How the weights are moved.
    pub fn options(&self) -> &UpdateOptions {
        &self.options
    }

    /// The lists that it keeps, for a step that is taken elsewhere: [`OptimizerOptions::state`].
    pub(crate) fn state(&mut self) -> &mut [Flat] {
        &mut self.state
    }

    /// Its parts, for steps that are taken elsewhere.
    pub(crate) fn parts(&mut self) -> OptimizerParts<'_> {
        OptimizerParts { options: &self.options, state: &mut self.state, steps: &mut self.steps }
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
        let clipped = self.clipped(gradients)?;
        let gradients = clipped.as_deref().unwrap_or(gradients);
        match (self.rule(), &self.state[..]) {
            (Constants::Adam(constants), [means, squares]) => {
                let step = Tensor::f_full([], (self.steps + 1) as f64, (Kind::Float, first.device()))?;
                let steps: Vec<Tensor> = parameters.iter().map(|_| step.shallow_clone()).collect();
                let (means, squares) = (&means.parts[..], &squares.parts[..]);
                let tensors = AdamTensors { parameters, gradients, means, squares, steps: &steps };
                fused_adam(&tensors, constants, learning_rate)?;
            }
            (Constants::Sgd(constants), [momenta]) => {
                let tensors = SgdTensors { parameters, gradients, momenta: &momenta.parts };
                fused_sgd(&tensors, constants, &SgdRate::Host(learning_rate), self.steps == 0)?;
            }
            _ => return Err(self.foreign()),
        }
        self.steps += 1;
        Ok(())
    }

    /// As [`Optimizer::step`], with the step's number and the learning rate on the parameters' device. Where `found_inf`
    /// is 1 there, nothing changes. The caller counts the step.
    pub(crate) fn guarded_step(
        &mut self,
        parameters: &[Tensor],
        gradients: &[Tensor],
        steps: &Tensor,
        learning_rate: &Tensor,
        found_inf: &Tensor,
    ) -> Result<()> {
        let clipped = self.clipped(gradients)?;
        let gradients = clipped.as_deref().unwrap_or(gradients);
        match (self.rule(), &self.state[..]) {
            (Constants::Adam(constants), [means, squares]) => {
                let (means, squares) = (&means.parts[..], &squares.parts[..]);
                let tensors = GuardedAdam { parameters, gradients, means, squares, steps, learning_rate, found_inf };
                guarded_adam(&tensors, constants)
            }
            (Constants::Sgd(constants), [momenta]) => {
                let tensors = SgdTensors { parameters, gradients, momenta: &momenta.parts };
                fused_sgd(&tensors, constants, &SgdRate::Guarded(learning_rate, found_inf), self.steps == 0)
            }
            _ => Err(self.foreign()),
        }
    }

    /// The gradients, shortened to the greatest norm where there is one (as PyTorch's `clip_grad_norm_`).
    fn clipped(&self, gradients: &[Tensor]) -> Result<Option<Vec<Tensor>>> {
        let Some(clip_norm) = self.options.clip_norm else { return Ok(None) };
        tch::no_grad(|| {
            let norms = gradients.iter().map(|gradient| Ok(gradient.f_norm()?)).collect::<Result<Vec<_>>>()?;
            let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
            let factor = norm.f_add_scalar(CLIP_EPSILON)?.f_reciprocal()?.f_mul_scalar(clip_norm)?.f_clamp_max(1.0)?;
            gradients.iter().map(|gradient| Ok(gradient.f_mul(&factor)?)).collect::<Result<_>>().map(Some)
        })
    }

    fn rule(&self) -> Constants {
        match self.options.optimizer.clone() {
            OptimizerOptions::Adam(AdamOptions { beta1, beta2, epsilon, weight_decay }) => {
                Constants::Adam(AdamConstants { beta1, beta2, weight_decay, epsilon, decoupled: false })
            }
            OptimizerOptions::Adamw(AdamwOptions { beta1, beta2, epsilon, weight_decay }) => {
                Constants::Adam(AdamConstants { beta1, beta2, weight_decay, epsilon, decoupled: true })
            }
            OptimizerOptions::Sgd(SgdOptions { momentum, dampening, nesterov, weight_decay }) => {
                Constants::Sgd(SgdConstants { momentum, dampening, weight_decay, nesterov })
            }
        }
    }

    fn foreign(&self) -> Error {
        Error::Internal(format!("{} lists are not the state of {:?}", self.state.len(), self.options.optimizer))
    }

    /// Adds the state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        for (name, tensors) in self.options.optimizer.state().iter().zip(&self.state) {
            for (index, tensor) in tensors.parts.iter().enumerate() {
                archive.insert(format!("{name}.{index}"), StoredArray::from_tensor(tensor)?);
            }
        }
        Ok(())
    }

    /// A state from `archive`, for the same parameters and `steps` steps on.
    pub(crate) fn restored(&self, archive: &Archive, steps: u64) -> Result<Self> {
        let parts = &self.state[0].parts;
        let mut optimizer = Optimizer { steps, ..Optimizer::new(&self.options, parts)? };
        for (name, tensors) in self.options.optimizer.state().iter().zip(&mut optimizer.state) {
            for (index, tensor) in tensors.parts.iter_mut().enumerate() {
                let array = archive.get(&format!("{name}.{index}"))?;
                if array.shape().iter().map(|&size| size as i64).ne(tensor.size()) {
                    return Err(Error::Shape(format!("{name}.{index} has shape {:?}", array.shape())));
                }
                tensor.f_copy_(&Tensor::f_from_slice(&array.to_f32()?)?.f_reshape(tensor.size())?)?;
            }
        }
        Ok(optimizer)
    }
}

/// The constants as libtorch's kernels take them.
enum Constants {
    Adam(AdamConstants),
    Sgd(SgdConstants),
}
