//! Multi-layer perceptrons on the CPU, by our kernel: forward, backward and Adam without libtorch.

use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::Result;
use crate::kernels::adam_step::AdamStep;
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
        let adam = AdamStep::new(optimizer.options(), number, learning_rate);
        let mut parameters = model.flat()?.shallow_clone();
        let (means, squares) = optimizer.moments();
        let flat = [&mut parameters, &mut means.all, &mut squares.all];
        let mut lists = values_mut(flat.into_iter().chain(buffers))?.into_iter();
        let [parameters, means, squares] = [(); 3].map(|()| lists.next().unwrap_or_default());
        let state = TrainingState { parameters, means, squares, buffers: lists.collect() };
        let batch = BatchSlices {
            features: values(batch.features.numbers()?)?,
            labels: values(batch.labels)?,
            rows: batch.rows,
            coefficients: batch.coefficients,
        };
        let loss = self.kernel.step(state, &batch, &adam, &Team::gather())?;
        if loss.is_finite() {
            optimizer.set_steps(number);
        }
        Ok(StepLoss::Known(loss))
    }
}
