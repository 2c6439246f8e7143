//! Multi-layer perceptrons on the CPU, by our kernel: forward, backward and the optimiser's step without libtorch.

use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::Result;
use crate::kernels::mlp::{BatchSlices, Kernel, Plan, TrainingState};
use crate::kernels::team::Team;
use crate::model::Model;
use crate::torch::tensor::{values, values_mut};

/// See the file.
#[derive(Debug)]
pub(super) struct CpuMlp {
    kernel: Kernel,
}

impl CpuMlp {
    /// For networks of the shape `plan`.
    pub(super) fn new(plan: &Plan) -> Self {
        CpuMlp { kernel: Kernel::new(plan) }
    }

    /// With the instructions of `arch`.
    #[cfg(test)]
    pub(super) fn on(plan: &Plan, arch: pulp::Arch) -> Self {
        CpuMlp { kernel: Kernel::on(plan, arch) }
    }
}

impl StepStrategy for CpuMlp {
    fn name(&self) -> &'static str {
        "mlp_cpu"
    }

    fn uses_own_threads(&self) -> bool {
        true
    }

    fn step(
        &mut self,
        model: &Model,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss> {
        let Weights { buffers, optimizer, .. } = weights;
        let number = optimizer.steps() + 1;
        let step = optimizer.kernel_step(number, learning_rate);
        let mut parameters = model.flat()?.shallow_clone();
        let kept = optimizer.state();
        let count = kept.len();
        let flat = std::iter::once(&mut parameters).chain(kept.iter_mut().map(|list| &mut list.all));
        let mut lists = values_mut(flat.chain(buffers))?.into_iter();
        let parameters = lists.next().unwrap_or_default();
        let optimizer_lists = lists.by_ref().take(count).collect();
        let state = TrainingState { parameters, optimizer: optimizer_lists, buffers: lists.collect() };
        let batch = BatchSlices {
            features: values(batch.features.numbers()?)?,
            labels: values(batch.labels)?,
            rows: batch.rows,
            coefficients: batch.coefficients,
        };
        let loss = self.kernel.step(state, &batch, &step, &Team::gather())?;
        if loss.is_finite() {
            optimizer.set_steps(number);
        }
        Ok(StepLoss::Known(loss))
    }
}
