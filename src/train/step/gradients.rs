//! The gradient of a mini-batch's loss, over libtorch's operations.

use super::by_hand::Layers;
use super::inputs::{Inputs, Selection};
use super::{MiniBatch, Weights};
use crate::Result;
use crate::kernels::mlp::Plan;
use crate::model::{Networks, Part, Pass};
use crate::torch::Precision;
use tch::{Kind, Tensor};

/// How the gradient is found.
#[derive(Debug)]
pub(super) struct Gradients {
    /// The work by hand; without it automatic differentiation serves.
    layers: Option<Box<Layers>>,
    precision: Precision,
    /// The beta of a likelihood; without it the loss is a sum of squares.
    likelihood: Option<f64>,
}

impl Gradients {
    /// By hand, for multi-layer perceptrons of the shape `plan` and sums of squares.
    pub(super) fn by_hand(plan: &Plan, precision: Precision) -> Self {
        Gradients { layers: Some(Box::new(Layers::new(plan))), precision, likelihood: None }
    }

    /// By automatic differentiation, for any network; of a likelihood with this beta, or of a sum of squares.
    pub(super) fn by_autograd(precision: Precision, likelihood: Option<f64>) -> Self {
        Gradients { layers: None, precision, likelihood }
    }

    /// The loss, and its gradient for each parameter. Moves the running statistics.
    pub(super) fn compute(
        &mut self,
        networks: Networks,
        weights: &Weights,
        batch: &MiniBatch,
        selection: &Selection,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        self.compute_part(networks, weights, batch, selection, Part::default())
    }

    /// As [`Gradients::compute`], of the rows `batch` that are this part of a mini-batch. By hand, a BatchNorm takes the
    /// statistics of these rows alone.
    pub(super) fn compute_part(
        &mut self,
        networks: Networks,
        weights: &Weights,
        batch: &MiniBatch,
        selection: &Selection,
        part: Part,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let inputs = Inputs::new(batch, selection, self.precision)?;
        match &mut self.layers {
            Some(layers) => layers.gradients(&weights.parameters, &weights.buffers, &inputs),
            None => self.autograd(networks, weights, &inputs, part),
        }
    }

    /// See [`Engine::name`](super::Engine::name).
    pub(super) fn name(&self) -> &'static str {
        if self.layers.is_some() { "operations" } else { "autograd" }
    }

    /// Forgets the memory of earlier steps.
    pub(super) fn clear(&mut self) {
        if let Some(layers) = &mut self.layers {
            layers.clear();
        }
    }

    /// The loss, and its gradient for each of the parameters, by automatic differentiation.
    fn autograd(
        &self,
        networks: Networks,
        weights: &Weights,
        inputs: &Inputs,
        part: Part,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        // The host may have switched gradients off on this thread.
        tch::with_grad(|| {
            let pass = Pass::Training { step: weights.optimizer.steps(), part };
            let output = networks.forward(&inputs.features, pass, self.precision)?;
            let losses = match self.likelihood {
                None => output.f_sub(&inputs.labels)?.f_square()?,
                Some(beta) => negative_log_likelihoods(&output, inputs, beta)?,
            };
            let loss = losses.f_mul(&inputs.coefficients)?.f_sum(Kind::Float)?;
            let gradients = Tensor::f_run_backward(&[&loss], &weights.parameters, false, false)?;
            // A convolution's may come in the channels-last format; Adam walks through memory.
            let gradients = gradients.iter().map(|gradient| Ok(gradient.f_contiguous()?)).collect::<Result<_>>()?;
            Ok((loss.f_detach()?, gradients))
        })
    }
}

/// For each label, `(log s + (mean - label)^2 / s) / 2` with the variance `s` of the label, times `s^beta` as a constant.
fn negative_log_likelihoods(output: &Tensor, inputs: &Inputs, beta: f64) -> Result<Tensor> {
    let outputs = inputs.labels.size()[1];
    let own = output.f_narrow(1, outputs, outputs)?.f_exp()?;
    let total = match &inputs.variances {
        Some(variances) => own.f_add(variances)?,
        None => own,
    };
    let squares = output.f_narrow(1, 0, outputs)?.f_sub(&inputs.labels)?.f_square()?;
    let losses = squares.f_div(&total)?.f_add(&total.f_log()?)?.f_div_scalar(2.0)?;
    Ok(if beta == 0.0 { losses } else { losses.f_mul(&total.f_detach()?.f_pow_tensor_scalar(beta)?)? })
}

/// Running statistics as they were before a step: put back when this is dropped, by an error or a panic too, so that a
/// step changes all or nothing.
#[derive(Debug)]
pub(super) struct SavedStatistics {
    buffers: Vec<Tensor>,
    before: Vec<Tensor>,
}

impl SavedStatistics {
    /// Those in `buffers`.
    pub(super) fn of(buffers: &[Tensor]) -> Result<Self> {
        let before = buffers.iter().map(|buffer| Ok(buffer.f_detach_copy()?)).collect::<Result<_>>()?;
        Ok(SavedStatistics { buffers: buffers.iter().map(Tensor::shallow_clone).collect(), before })
    }

    /// What they were.
    pub(super) fn before(&self) -> &[Tensor] {
        &self.before
    }

    /// The step is complete: the present ones stay.
    pub(super) fn forget(mut self) {
        self.buffers.clear();
    }
}

impl Drop for SavedStatistics {
    fn drop(&mut self) {
        for (buffer, before) in self.buffers.iter_mut().zip(&self.before) {
            let restored = tch::no_grad(|| buffer.f_copy_(before));
            debug_assert!(restored.is_ok(), "a copy of the same shape fits");
        }
    }
}
