//! What a device keeps to decide by itself whether a step counts: one whose loss is not finite does not.

use super::Weights;
use crate::Result;
use tch::{Device, Kind, Tensor};

/// f32 scalars on the device.
#[derive(Debug)]
pub(super) struct FiniteGuard {
    /// 1 from the first loss on that is not finite, until [`FiniteGuard::reset`]: steps change nothing then.
    found_inf: Tensor,
    /// How many steps counted.
    steps: Tensor,
    learning_rate: Tensor,
    /// The same in the host's memory.
    host_learning_rate: f64,
}

impl FiniteGuard {
    pub(super) fn new(device: Device) -> Result<Self> {
        let zero = || Tensor::f_zeros([], (Kind::Float, device));
        Ok(FiniteGuard { found_inf: zero()?, steps: zero()?, learning_rate: zero()?, host_learning_rate: 0.0 })
    }

    pub(super) fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        if learning_rate != self.host_learning_rate {
            let _ = self.learning_rate.f_fill_(learning_rate)?;
            self.host_learning_rate = learning_rate;
        }
        Ok(())
    }

    /// Moves the parameters of `weights` against the gradients of `loss`. Where that is not finite, nothing moves, and
    /// the running statistics become what they were `before`.
    pub(super) fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &[Tensor],
        before: &[Tensor],
        loss: &Tensor,
    ) -> Result<()> {
        tch::no_grad(|| {
            let finite = loss.f_isfinite()?;
            let _ = self.found_inf.f_logical_or_(&finite.f_logical_not()?)?;
            let _ = self.steps.f_add_(&self.found_inf.f_rsub_scalar(1.0)?)?;
            let found_inf = self.found_inf.f_ne(0.0)?;
            for (buffer, before) in weights.buffers.iter().zip(before) {
                let _ = before.f_where_self_out(buffer, &found_inf, buffer)?;
            }
            let Weights { parameters, optimizer, .. } = weights;
            optimizer.guarded_step(parameters, gradients, &self.steps, &self.learning_rate, &self.found_inf)
        })
    }

    /// Lets steps count again, the next one being number `steps + 1`.
    pub(super) fn reset(&mut self, steps: u64) -> Result<()> {
        let _ = self.found_inf.f_zero_()?;
        let _ = self.steps.f_fill_(steps as f64)?;
        Ok(())
    }
}
