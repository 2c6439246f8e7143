//! Steps on a GPU that the host does not wait for; the device decides whether they count.

use super::finite_guard::FiniteGuard;
use super::gradients::{Gradients, SavedStatistics};
use super::inputs::Selection;
use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::Result;
use crate::base::fault;
use crate::model::Networks;
use crate::torch::tensor::to_f32;
use tch::{Device, Tensor};

/// After so many steps the losses are read: few enough that a fit soon sees that it is to end.
const BLOCK: usize = 16;

/// See the file.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) gradients: Gradients,
    guard: FiniteGuard,
}

impl Deferred {
    /// For `device`; gets its gradients from `gradients`.
    pub(super) fn new(gradients: Gradients, device: Device) -> Result<Self> {
        Ok(Deferred { gradients, guard: FiniteGuard::new(device)? })
    }

    /// One step, whose work on the device is what `work` starts. Counts it.
    pub(super) fn take(
        &mut self,
        weights: &mut Weights,
        learning_rate: f64,
        work: impl FnOnce(&mut Self, &mut Weights) -> Result<Tensor>,
    ) -> Result<StepLoss> {
        self.guard.set_learning_rate(learning_rate)?;
        let loss = work(self, weights)?;
        weights.optimizer.set_steps(weights.optimizer.steps() + 1);
        Ok(StepLoss::Pending(loss))
    }

    /// All of a step that happens on the device. Returns its loss.
    pub(super) fn on_device(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        selection: &Selection,
    ) -> Result<Tensor> {
        let saved = SavedStatistics::of(&weights.buffers)?;
        let (loss, gradients) = self.gradients.compute(networks, weights, batch, selection)?;
        fault::point();
        self.guard.step(weights, &gradients, saved.before(), &loss)?;
        saved.forget();
        Ok(loss)
    }
}

impl StepStrategy for Deferred {
    fn name(&self) -> &'static str {
        self.gradients.name()
    }

    fn step(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss> {
        let selection = Selection::new(batch, networks.device())?;
        self.take(weights, learning_rate, |this, weights| this.on_device(networks, weights, batch, &selection))
    }

    fn is_due(&self, unread: usize) -> bool {
        unread >= BLOCK
    }

    fn read(&mut self, _: Networks, weights: &mut Weights, losses: &[StepLoss]) -> Result<Vec<f64>> {
        let pending = losses.iter().map(StepLoss::pending).collect::<Result<Vec<_>>>()?;
        if pending.is_empty() {
            return Ok(vec![]);
        }
        // Read at once.
        let values: Vec<f64> = to_f32(&Tensor::f_stack(&pending, 0)?)?.into_iter().map(f64::from).collect();
        if let Some(first) = values.iter().position(|value| !value.is_finite()) {
            let steps = weights.optimizer.steps() - (values.len() - first) as u64;
            weights.optimizer.set_steps(steps);
            self.guard.reset(steps)?;
        }
        Ok(values)
    }

    fn clear(&mut self, weights: &Weights) -> Result<()> {
        self.guard.reset(weights.optimizer.steps())
    }
}
