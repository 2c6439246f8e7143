//! Steps over libtorch's operations that the host waits for.

use super::gradients::{Gradients, SavedStatistics};
use super::inputs::Selection;
use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::Result;
use crate::base::fault;
use crate::model::Networks;

/// See the file.
#[derive(Debug)]
pub(super) struct Synchronous {
    gradients: Gradients,
}

impl Synchronous {
    /// Gets its gradients from `gradients`.
    pub(super) fn new(gradients: Gradients) -> Self {
        Synchronous { gradients }
    }
}

impl StepStrategy for Synchronous {
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
        let saved = SavedStatistics::of(&weights.buffers)?;
        let selection = Selection::new(batch, networks.device())?;
        let (loss, gradients) = self.gradients.compute(networks, weights, batch, &selection)?;
        fault::point();
        let loss = loss.f_double_value(&[])?;
        if loss.is_finite() {
            weights.optimizer.step(&weights.parameters, &gradients, learning_rate)?;
            saved.forget();
        }
        Ok(StepLoss::Known(loss))
    }
}
