//! Multi-layer perceptrons on the CPU, by our kernel: forward, backward and the optimiser's step without libtorch.

use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::base::memory::reserve;
use crate::kernels::mlp::{BatchSlices, Kernel, Plan, TrainingState};
use crate::kernels::optimizer::OptimizerStep;
use crate::kernels::team::Team;
use crate::model::Networks;
use crate::torch::tensor::{values, values_mut};
use crate::train::optimizer::{OptimizerParts, UpdateOptions};
use crate::{Error, Result};
use tch::Tensor;

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

    fn lend<'a>(&'a mut self, flat: &'a mut Tensor, weights: &'a mut Weights) -> Result<Option<Lent<'a>>> {
        let Weights { buffers, optimizer, .. } = weights;
        let OptimizerParts { options, state, steps } = optimizer.parts();
        let count = state.len();
        let lists = std::iter::once(flat).chain(state.iter_mut().map(|list| &mut list.all));
        let mut lists = values_mut(lists.chain(buffers))?.into_iter();
        Ok(Some(Lent {
            kernel: &mut self.kernel,
            parameters: lists.next().unwrap_or_default(),
            optimizer: lists.by_ref().take(count).collect(),
            buffers: lists.collect(),
            options,
            steps,
        }))
    }

    fn step(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss> {
        let mut flat = networks.flat()?.shallow_clone();
        let Some(mut lent) = self.lend(&mut flat, weights)? else {
            return Err(Error::Internal("the kernel lends no network".into()));
        };
        let batch = BatchSlices {
            features: values(batch.features.numbers()?)?,
            labels: values(batch.labels)?,
            rows: batch.rows,
            coefficients: batch.coefficients,
        };
        Ok(StepLoss::Known(lent.step(&batch, learning_rate, &Team::gather())?))
    }
}

/// A network that is lent for some steps, as plain memory: any thread may take them.
#[derive(Debug)]
pub(in crate::train) struct Lent<'a> {
    kernel: &'a mut Kernel,
    parameters: &'a mut [f32],
    optimizer: Vec<&'a mut [f32]>,
    buffers: Vec<&'a mut [f32]>,
    options: &'a UpdateOptions,
    steps: &'a mut u64,
}

/// What steps change, as it was.
#[derive(Debug)]
pub(in crate::train) struct Kept {
    /// One list after the other.
    values: Vec<f32>,
    steps: u64,
}

impl Lent<'_> {
    /// A copy of what steps change.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn keep(&self) -> Result<Kept> {
        let lists = || {
            let kept = self.optimizer.iter().chain(&self.buffers).map(|list| &**list);
            std::iter::once(&*self.parameters).chain(kept)
        };
        let mut values = reserve(lists().map(<[f32]>::len).sum())?;
        lists().for_each(|list| values.extend_from_slice(list));
        Ok(Kept { values, steps: *self.steps })
    }

    /// Goes back to what [`Lent::keep`] kept.
    pub fn put_back(&mut self, kept: &Kept) {
        let others = self.optimizer.iter_mut().chain(&mut self.buffers).map(|list| &mut **list);
        let mut before = &kept.values[..];
        for list in std::iter::once(&mut *self.parameters).chain(others) {
            let (values, rest) = before.split_at(list.len());
            list.copy_from_slice(values);
            before = rest;
        }
        *self.steps = kept.steps;
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        *self.steps
    }

    /// One step, its work divided among `team`. Returns the loss before it: where that is not finite, nothing has changed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]: nothing has changed.
    pub fn step(&mut self, batch: &BatchSlices, learning_rate: f64, team: &Team) -> Result<f64> {
        let UpdateOptions { optimizer, clip_norm } = self.options;
        let step = OptimizerStep::new(optimizer, *self.steps + 1, learning_rate, *clip_norm);
        let state = TrainingState {
            parameters: self.parameters,
            optimizer: self.optimizer.iter_mut().map(|list| &mut **list).collect(),
            buffers: self.buffers.iter_mut().map(|list| &mut **list).collect(),
        };
        let loss = self.kernel.step(state, batch, &step, team)?;
        *self.steps += u64::from(loss.is_finite());
        Ok(loss)
    }
}
